"""Data sets are read from real files: every layout, and every way a folder of pictures can be wrong."""

import json
import shutil
import struct
import zlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.dataset import (
    MIN_GOOD_IMAGES,
    dataset_digest,
    load_images,
    open_dataset,
    split_held_out,
)
from calibration.layouts import folders_beside_good
from edge.errors import DataError, InspectError
from edge.picture.view import View

GREY = np.full((12, 16, 3), 128, np.uint8)


def write(path: Path, pixels: np.ndarray = GREY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def fill(folder: Path, count: int = MIN_GOOD_IMAGES) -> list[Path]:
    rng = np.random.default_rng(count)
    return [
        write(folder / f"{i:03}.png", rng.integers(0, 255, GREY.shape).astype(np.uint8)) for i in range(count)
    ]


def assert_speaks(error: InspectError, what: str, where: object) -> None:
    assert what in error.what
    assert str(where) in error.where
    assert error.next_step.endswith(".")


def refused(root: Path, minimum: int = MIN_GOOD_IMAGES) -> DataError:
    with pytest.raises(DataError) as caught:
        open_dataset(root, minimum)
    return caught.value


def unreadable(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        load_images([path], View((8, 8)))
    return caught.value


def test_mvtec_layout_with_both_ways_of_naming_masks(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "good")
    write(tmp_path / "test" / "good" / "000.png")
    for name in ("000", "001", "002"):
        write(tmp_path / "test" / "scratch" / f"{name}.jpg")
    plain = write(tmp_path / "ground_truth" / "scratch" / "000.png")
    suffixed = write(tmp_path / "ground_truth" / "scratch" / "001_mask.png")

    dataset = open_dataset(tmp_path)

    assert (dataset.layout, len(dataset.train), dataset.validation) == ("mvtec", MIN_GOOD_IMAGES, [])
    assert [(t.kind, t.path.stem, t.masks) for t in dataset.test] == [
        ("good", "000", ()),
        ("scratch", "000", (plain,)),
        ("scratch", "001", (suffixed,)),
        ("scratch", "002", ()),
    ]


def test_loco_layout_has_one_mask_file_per_anomaly(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "good")
    validation = fill(tmp_path / "validation" / "good", 3)
    write(tmp_path / "test" / "logical_anomalies" / "000.png")
    masks = fill(tmp_path / "ground_truth" / "logical_anomalies" / "000", 2)
    (tmp_path / "defects_config.json").write_text(json.dumps([]))

    dataset = open_dataset(tmp_path)

    assert dataset.layout == "loco"
    assert dataset.validation == validation
    assert dataset.test[0].masks == tuple(masks)


def test_other_types_beside_locos_two_make_it_any_other_set(tmp_path: Path) -> None:
    for kind in ("good", "logical_anomalies", "scratch"):
        write(tmp_path / "test" / kind / "000.png")
    (tmp_path / "defects_config.json").write_text(json.dumps([]))
    assert open_dataset(tmp_path, minimum=0).layout == "mvtec"
    shutil.rmtree(tmp_path / "test" / "scratch")
    assert open_dataset(tmp_path, minimum=0).layout == "loco"


@pytest.mark.parametrize("places", [(".", "good"), (".", "train/good"), ("good", "train/ok"),
                                    ("Data/Images/Normal", ".")])  # fmt: skip
def test_good_pictures_in_two_places_are_refused(tmp_path: Path, places: tuple[str, str]) -> None:
    """The story: ten new pictures beside good/ were learnt and its thirty not; beside train/good the reverse.
    Nobody was told."""
    for place, count in zip(places, (10, 30), strict=True):
        fill(tmp_path / place, count)
    error = refused(tmp_path)
    assert_speaks(error, "in several places", tmp_path)
    assert f"30 in {tmp_path / places[1]}" in error.what


def test_pictures_beside_a_set_do_not_keep_it_from_being_judged(tmp_path: Path) -> None:
    write(tmp_path / "overview.png")
    fill(tmp_path / "train" / "good")
    write(tmp_path / "test" / "good" / "000.png")
    assert len(open_dataset(tmp_path, minimum=0).test) == 1


@pytest.mark.parametrize(("good", "mask"), [(".", "."), ("good", "."), ("good", "good"),
                                            ("train/good", "train/good"), ("train/good", ".")])  # fmt: skip
def test_the_mask_is_no_picture_of_a_part(tmp_path: Path, good: str, mask: str) -> None:
    """The story: saved beside the pictures, the mask was learnt as a good part; beside good/, alone."""
    paths = fill(tmp_path / good)
    path = write(tmp_path / mask / "-mask.png")  # the first by name, which --align takes its mark from
    assert open_dataset(tmp_path, mask=tmp_path / mask / "." / "-mask.png").train == paths
    assert path.exists()


@pytest.mark.parametrize("subfolder", [".", "good"])
def test_plain_folder(tmp_path: Path, subfolder: str) -> None:
    paths = fill(tmp_path / subfolder)
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.train, dataset.test) == ("plain", paths, [])


def test_files_that_are_not_pictures_are_passed_over(tmp_path: Path) -> None:
    paths = fill(tmp_path)
    for name in ("notes.txt", "Thumbs.db", "._000.png"):
        (tmp_path / name).write_bytes(b"not a picture")
    (tmp_path / "folder.png").mkdir()
    assert open_dataset(tmp_path).train == paths


def test_missing_folder_and_file_in_its_place(tmp_path: Path) -> None:
    assert_speaks(refused(tmp_path / "gone"), "does not exist", tmp_path / "gone")
    file = write(tmp_path / "picture.png")
    assert_speaks(refused(file), "a file, not a folder", file)


def test_empty_folder(tmp_path: Path) -> None:
    assert_speaks(refused(tmp_path), "no pictures of good parts", tmp_path)


def test_no_good_pictures_among_defects(tmp_path: Path) -> None:
    write(tmp_path / "test" / "scratch" / "000.png")
    assert_speaks(refused(tmp_path), "no pictures of good parts", tmp_path / "train" / "good")
    assert len(open_dataset(tmp_path, minimum=0).test) == 1  # enough to evaluate with


def test_a_folder_of_several_sets_names_them(tmp_path: Path) -> None:
    fill(tmp_path / "bottle" / "train" / "good")
    fill(tmp_path / "cable" / "train" / "good")
    error = refused(tmp_path)
    assert_speaks(error, "2 data sets", tmp_path)
    assert "bottle, cable" in error.next_step


def test_one_picture_is_too_few_and_the_message_says_how_many(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    assert_speaks(refused(tmp_path), f"only 1 picture of good parts, at least {MIN_GOOD_IMAGES}", tmp_path)


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    truncated = write(tmp_path / "truncated.png")
    truncated.write_bytes(truncated.read_bytes()[:40])
    text = tmp_path / "text.jpg"
    text.write_bytes(b"hello")
    empty = tmp_path / "empty.png"
    empty.touch()
    for path in (truncated, text, empty):
        assert_speaks(unreadable(path), "broken", path)
    assert_speaks(unreadable(tmp_path / "gone.png"), "cannot be read", "gone.png")


def test_16_bit_with_low_range_is_refused_full_range_is_read(tmp_path: Path) -> None:
    low = write(tmp_path / "low.png", np.full((4, 4), 1023, np.uint16))
    assert_speaks(unreadable(low), "up to 1023", low)
    full = write(tmp_path / "full.png", np.full((4, 4), 0x8123, np.uint16))
    assert load_images([full], View((4, 4)))[0, 0, 0].tolist() == [0x81] * 3


def test_grey_and_alpha_become_three_channels(tmp_path: Path) -> None:
    grey = write(tmp_path / "grey.png", np.full((4, 4), 77, np.uint8))
    alpha = write(tmp_path / "alpha.png", np.full((4, 4, 4), (10, 20, 30, 0), np.uint8))
    grey_alpha = tmp_path / "grey_alpha.png"
    grey_alpha.write_bytes(grey_alpha_png(4, 4, 77))
    images = load_images([grey, alpha, grey_alpha], View((4, 4)))
    assert images[:, 0, 0].tolist() == [[77] * 3, [10, 20, 30], [77] * 3]


def grey_alpha_png(height: int, width: int, grey: int) -> bytes:
    """A PNG of colour type 4, which OpenCV itself cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = (b"\0" + bytes((grey, 255)) * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 4, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_float_pictures_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "float.tiff", np.zeros((4, 4), np.float32))
    assert_speaks(unreadable(path), "float32", path)


def test_unicode_names(tmp_path: Path) -> None:
    paths = fill(tmp_path / "Prüfteile 検査")
    renamed = paths[0].rename(paths[0].with_name("Gehäuse №1 — 部品.png"))
    dataset = open_dataset(renamed.parent)
    assert renamed in dataset.train
    assert load_images([renamed], View((8, 8))).shape == (1, 8, 8, 3)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    """A handheld camera stores the sensor's rows and a note to turn them: 6 is a quarter turn clockwise."""
    pixels = np.zeros((8, 32, 3), np.uint8)
    pixels[:, :16] = 255  # left half white, so after the turn the top half is
    upright = write(tmp_path / "camera.jpg", pixels)
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(with_orientation(upright.read_bytes(), 6))
    sizes: Counter[tuple[int, int]] = Counter()
    image = load_images([turned], View((32, 8)), sizes=sizes)[0]
    assert sizes == {(32, 8): 1}
    assert image[4].min() > 200
    assert image[28].max() < 50


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Insert an APP1 segment: "Exif", a big-endian TIFF header, one directory with tag 0x0112."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def test_mixed_sizes_are_resized_and_counted(tmp_path: Path) -> None:
    small, large = write(tmp_path / "a.png"), write(tmp_path / "b.png", np.zeros((40, 30, 3), np.uint8))
    sizes: Counter[tuple[int, int]] = Counter()
    images = load_images([small, large, small], View((10, 10)), sizes=sizes)
    assert (images.shape, images.dtype) == ((3, 10, 10, 3), np.uint8)
    assert sizes == {(12, 16): 2, (40, 30): 1}


def test_roi_that_leaves_one_picture_names_that_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "small.png")
    with pytest.raises(DataError) as caught:
        load_images([path], View((8, 8), (10, 0, 10, 10)))
    assert_speaks(caught.value, "leaves the picture", path)


def test_held_out_part_is_a_seeded_seventh_at_least_two() -> None:
    pool = [Path(f"{i:03}.png") for i in range(70)]
    train, held_out = split_held_out(pool, [], seed=3)
    assert (len(train), len(held_out)) == (60, 10)
    assert sorted(train + held_out) == pool
    assert split_held_out(pool, [], seed=3) == (train, held_out)
    assert split_held_out(pool, [], seed=4) != (train, held_out)
    assert [len(part) for part in split_held_out(pool[:8], [], seed=0)] == [6, 2]
    assert [len(part) for part in split_held_out(pool[:2], [], seed=0)] == [1, 1]
    assert split_held_out([], [], seed=0) == ([], [])


@pytest.mark.parametrize(
    ("good", "own", "held_out"),
    [(200, 2, 29), (100, 10, 16), (20, 3, 3), (335, 54, 54), (632, 137, 137), (500, 20, 20), (500, 19, 74)],
)
def test_limits_do_not_rest_on_a_handful_of_validation_pictures(good: int, own: int, held_out: int) -> None:
    """The story: 200 good pictures and two in validation/good: the two alone set all limits."""
    pool, validation = [Path(f"{i:03}") for i in range(good)], [Path(f"v{i:03}") for i in range(own)]
    train, held = split_held_out(pool, validation, seed=0)
    assert len(held) == held_out
    assert sorted([*train, *held]) == [*pool, *validation]
    assert (held == validation) == (held_out == own)


def test_own_validation_pictures_are_used_where_there_are_enough() -> None:
    pool, validation = [Path("a"), Path("b")], [Path("v"), Path("w")]
    assert split_held_out(pool, validation, seed=0) == (pool, validation)
    train, held_out = split_held_out([Path(c) for c in "abcdef"], validation[:1], seed=0)
    assert (len(train), len(held_out)) == (5, 2)  # one picture has no spread: it joins the pool


def test_digest_follows_names_and_contents_not_the_place(tmp_path: Path) -> None:
    paths = fill(tmp_path / "here")
    digest = dataset_digest(paths)
    assert len(digest) == 64
    assert dataset_digest(paths[::-1]) == digest
    copy = shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert dataset_digest(sorted(copy.iterdir())) == digest
    assert dataset_digest(paths[1:]) != digest
    (copy / "000.png").rename(copy / "900.png")
    assert dataset_digest(sorted(copy.iterdir())) != digest
    write(paths[0], GREY)
    assert dataset_digest(paths) != digest


def test_test_pictures_beside_collected_ones_do_not_hide_them(tmp_path: Path) -> None:
    """The story: collect, train, sort some parts into test/ beside them; training again must still work."""
    for name in [f"part-{i:06d}.png" for i in range(8)] + ["test/good/a.png", "test/scratch/b.png"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    dataset = open_dataset(tmp_path)
    assert len(dataset.train) == 8
    assert [image.kind for image in dataset.test] == ["good", "scratch"]


def visa(root: Path, good: int = 20) -> tuple[list[Path], list[Path]]:
    """One product as VisA is downloaded: good pictures, two bad ones of which the first has a mask."""
    normal = fill(root / "Data" / "Images" / "Normal", good)
    bad = [write(root / "Data" / "Images" / "Anomaly" / f"{i:03}.JPG") for i in range(2)]
    write(root / "Data" / "Masks" / "Anomaly" / "000.png")
    return normal, bad


def visa_list(root: Path, text: str) -> Path:
    path = root / "split_csv" / "1cls.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_visa_as_downloaded_follows_its_own_split(tmp_path: Path) -> None:
    normal, bad = visa(tmp_path / "candle")
    rows = ["object,split,label,image,mask"]
    rows += [f"candle,{'test' if i in (3, 5) else 'train'},normal,candle/Data/Images/Normal/{p.name},"
             for i, p in enumerate(normal)]  # fmt: skip
    rows += ["pcb1,test,normal,pcb1/Data/Images/Normal/000.png,"]  # another product's picture of that name
    rows += [f"candle,test,anomaly,candle/Data/Images/Anomaly/{p.name},x.png" for p in bad]
    visa_list(tmp_path, "\n".join(rows))

    dataset = open_dataset(tmp_path / "candle")

    assert (dataset.layout, dataset.name) == ("visa", "candle")
    assert dataset.train == [p for i, p in enumerate(normal) if i not in (3, 5)]
    mask = tmp_path / "candle" / "Data" / "Masks" / "Anomaly" / "000.png"
    assert [(t.path, t.kind, t.masks) for t in dataset.test] == [
        (normal[3], "good", ()),
        (normal[5], "good", ()),
        (bad[0], "anomaly", (mask,)),
        (bad[1], "anomaly", ()),
    ]


def test_visa_without_its_list_keeps_the_same_tenth_for_the_test(tmp_path: Path) -> None:
    normal, _ = visa(tmp_path / "candle", 40)
    first, second = open_dataset(tmp_path / "candle"), open_dataset(tmp_path / "candle")
    good = [t.path for t in first.test if t.kind == "good"]
    assert (len(first.train), len(good)) == (36, 4)
    assert sorted(first.train + good) == normal
    assert first == second and "not comparable" in first.note


def test_visa_under_another_name_than_in_its_list_says_so(tmp_path: Path) -> None:
    visa(tmp_path / "candle_copy")
    visa_list(tmp_path, "object,split,label,image\ncandle,test,normal,candle/Data/Images/Normal/000.JPG")
    assert "not comparable" in open_dataset(tmp_path / "candle_copy").note


@pytest.mark.parametrize(
    "text", ["split,label\ntrain,normal", "object,split,label,image\ncandle,test,normal"]
)
def test_visa_with_a_broken_list_names_it(tmp_path: Path, text: str) -> None:
    visa(tmp_path / "candle")
    path = visa_list(tmp_path, text)
    assert_speaks(refused(tmp_path / "candle"), "list of pictures cannot be read", path)


def test_visa_prepared_for_one_class_is_read_as_mvtec(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "good")
    write(tmp_path / "test" / "good" / "0001.JPG")
    write(tmp_path / "test" / "bad" / "000.JPG")
    mask = write(tmp_path / "ground_truth" / "bad" / "000.png")
    assert [(t.kind, t.masks) for t in open_dataset(tmp_path).test] == [("bad", (mask,)), ("good", ())]


@pytest.mark.parametrize(("picture", "mask"), [("0000.bmp", "0000.png"), ("0000.bmp", "0000.bmp")])
def test_btad_calls_good_parts_ok(tmp_path: Path, picture: str, mask: str) -> None:
    train = fill(tmp_path / "01" / "train" / "ok")
    good = write(tmp_path / "01" / "test" / "ok" / picture)
    bad = write(tmp_path / "01" / "test" / "ko" / picture)
    truth = write(tmp_path / "01" / "ground_truth" / "ko" / mask)

    dataset = open_dataset(tmp_path / "01")

    assert (dataset.layout, dataset.train, dataset.validation) == ("mvtec", train, [])
    assert [(t.path, t.kind, t.masks) for t in dataset.test] == [(bad, "ko", (truth,)), (good, "good", ())]


@pytest.mark.parametrize("good", ["good", "ok", "OK", "Good", "Gut", "iO", "i.O.", "pass"])
def test_good_parts_by_any_usual_name(tmp_path: Path, good: str) -> None:
    """The story: one folder test/ok beside train/good made all other types vanish, without a word."""
    train = fill(tmp_path / "train" / "good")
    for folder in (good, "scratch", "NOK"):
        write(tmp_path / "test" / folder / "0.png")
    dataset = open_dataset(tmp_path)
    assert dataset.train == train
    assert sorted(image.kind for image in dataset.test) == ["NOK", "good", "scratch"]


def test_masks_may_be_any_kind_of_picture(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "good")
    masks = ("0.PNG", "1_mask.tif", "2.bmp")
    for i, name in enumerate(masks):
        write(tmp_path / "test" / "scratch" / f"{i}.png")
        write(tmp_path / "ground_truth" / "scratch" / name)
    found = [image.masks[0].name for image in open_dataset(tmp_path).test]
    assert found == [*masks]


def test_downloads_of_several_products_name_them(tmp_path: Path) -> None:
    visa(tmp_path / "visa" / "candle")
    visa_list(tmp_path / "visa", "object,split,label,image,mask\n")
    assert "Choose one of: candle." in refused(tmp_path / "visa").next_step
    for product in ("01", "02", "03"):
        fill(tmp_path / "btad" / product / "train" / "ok")
    assert "Choose one of: 01, 02, 03." in refused(tmp_path / "btad").next_step


def test_the_test_folder_of_a_set_is_not_learnt_from(tmp_path: Path) -> None:
    """The story: `train parts/test` learnt the good test pictures, `evaluate parts/test` saw no defects."""
    for kind in ("good", "scratch"):
        for i in range(9):
            write(tmp_path / "test" / kind / f"{i}.png")
    with pytest.raises(DataError, match="test pictures") as caught:
        open_dataset(tmp_path / "test")
    assert str(tmp_path) in caught.value.next_step
    assert {image.kind for image in open_dataset(tmp_path, minimum=0).test} == {"good", "scratch"}


def test_folders_beside_good_are_named(tmp_path: Path) -> None:
    for folder in ("good", "scratch", "Test/good"):
        write(tmp_path / folder / "0.png")
    (tmp_path / "notes").mkdir()
    assert folders_beside_good(tmp_path) == ["Test", "scratch"]
