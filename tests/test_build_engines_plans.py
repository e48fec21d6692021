"""From ONNX, recipe and calibration pictures to plans; bad input in one sentence, nothing half-made."""

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from mounts import mounted
from plans import camera_pictures, carried_folder, good_pictures, made, needs_rtx, own_cache, refused, reseal
from typer.testing import CliRunner

from build_engines.cache import _read, _write
from build_engines.cli import _Interrupt, app
from build_engines.pictures import open_calibration
from calibration.dataset import dataset_digest
from edge.backends import open_backend
from edge.cli import app as edge_app
from edge.errors import BackendFault, InspectError, RecipeError
from edge.gpu import own_sm
from edge.picture.view import view_of
from edge.recipe import find_engine, load_pair, load_recipe, recipe_path, save_recipe, sha256_of

pytestmark = [needs_rtx, pytest.mark.timeout(300)]
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None\nfrom build_engines.cli import main\nmain()"
# The disk is so slow that a signal meets a half-written file.
SLOW_DISK = """
import os, time
def slow(handle):
    print("writing", flush=True)
    time.sleep(100)
os.fsync = slow
from build_engines.cli import main
main()
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from own_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return carried_folder(tmp_path / "carried")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, dict[str, object]]:
    """The folder of FP16 plans for two GPUs, built by a process that cannot import torch; the gate's JSON."""
    engine = carried_folder(tmp_path_factory.mktemp("plans"))
    done = process(WITHOUT_TORCH, str(engine), "--fp16", "--sm", "86,120", "--json")
    assert done.returncode == 0, done.stderr
    assert "FP16, but for these" in done.stderr and "65,504" in done.stderr
    return engine.parent, json.loads(done.stdout)


def process(
    code: str, *arguments: str, file_bytes: int | None = None, cache: Path | None = None
) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False,
        preexec_fn=limit, cwd=Path(__file__).parents[1], timeout=280,
        env={**os.environ, **({"XDG_CACHE_HOME": str(cache)} if cache else {})},
    )  # fmt: skip


def test_plans_and_recipes_stand_beside_the_onnx(built: tuple[Path, dict[str, object]]) -> None:
    folder, gate = built
    assert made(folder) == [f"demo.fp16.sm{sm}.{end}" for sm in (120, 86) for end in ("plan", "recipe.json")]
    for sm in (86, 120):
        engine, recipe, artefact = load_pair(folder / f"demo.fp16.sm{sm}.plan")
        assert (artefact.precision, artefact.sm) == ("fp16", sm)
        assert artefact.builder.startswith("tensorrt-rtx 1.")
        assert recipe.made_with["gate"].startswith("passed: score correlation ")
        assert recipe.made_with["of"].endswith(sha256_of(folder / "demo.onnx"))
        assert 1 < recipe.review < recipe.fail and engine.stat().st_size > 10_000_000
    assert (
        gate["passed"] is True
        and gate["precision"] == "fp16"
        and float(str(gate["score_correlation"])) > 0.9999
    )
    assert gate["flip_rate"] <= 0.005 and gate["int8_mac_share"] == 0
    assert gate["pictures"] == 6 + 17 * 12  # of 12 held-out pictures, the gate's half and its anomalies


def test_a_plan_on_a_machine_that_cannot_run_it_names_both_sides(
    built: tuple[Path, dict[str, object]],
) -> None:
    plan = built[0] / "demo.fp16.sm86.plan"
    with pytest.raises(BackendFault) as caught:
        open_backend(plan, load_recipe(recipe_path(plan)))
    text = str(caught.value)
    assert "the plan is for SM 86 and tensorrt-rtx 1." in text and "; here: " in text
    if own_sm() is None:
        builder = "--sm 86 --runtime tensorrt-rtx"
        assert f"On the machine with the GPU: build-engines {built[0] / 'demo.onnx'} --fp16 {builder}" in text
    result = CliRunner().invoke(edge_app, ["run", "--camera", "conveyor:?count=1", "--engine", str(plan)])
    assert result.exit_code == 3 and "here: " in " ".join(result.output.split())


@pytest.mark.skipif(own_sm() is not None, reason="the hint is for this machine's own GPU")
def test_the_command_that_rebuilds_a_plan_works(engine: Path, tmp_path: Path) -> None:
    """The story: the hint named no GPU, no runtime, not where the ONNX lies: typed as it stood, it failed."""
    out = tmp_path / "plans here"
    typed = [str(engine), "--sm", "86", "--out", str(out), "--false-rejects", "0.01"]
    assert CliRunner().invoke(app, typed).exit_code == 0
    plan = out / "demo.fp32.sm86.plan"
    recipe = load_pair(plan)[1]
    with pytest.raises(BackendFault) as caught:
        open_backend(plan, recipe)
    plan.unlink()
    words = shlex.split(str(caught.value).rpartition("build-engines ")[2].partition(";")[0])
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0, again.output
    assert load_pair(plan)[1] == recipe


def kept_in(cache: Path) -> list[Path]:
    return list((cache / "edge-inspect" / "plans").iterdir())


def test_a_build_that_is_killed_leaves_nothing_and_can_be_repeated(engine: Path, tmp_path: Path) -> None:
    """The story: killed before it wrote anything it left nothing; killed while it wrote, 30 MB for ever."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", SLOW_DISK, str(engine), "--sm", "86", "--runtime", "tensorrt-rtx"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          env=environment, cwd=Path(__file__).parents[1]) as child:  # fmt: skip
        assert child.stdout is not None and child.stdout.readline() == "writing\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL and made(engine.parent) == []
    (left,) = kept_in(tmp_path)
    assert left.name.endswith(f".plan.{child.pid}.part") and left.stat().st_size > 1_000_000
    os.utime(left, (0, 0))  # before an hour is over, a process of another container may be writing it
    done = process(WITHOUT_TORCH, *command[3:], cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert load_pair(engine.with_name("demo.fp32.sm86.plan"))[2].sm == 86
    assert [path.suffix for path in kept_in(tmp_path)] == [".plan"]


def test_a_full_disk_leaves_nothing(engine: Path, tmp_path: Path) -> None:
    """Where a file can be no longer than most of a plan. The story: the test filled up long before a plan was
    built, with a copy of the graph that nobody needs, and the error named no file."""
    done = process(WITHOUT_TORCH, str(engine), "--sm", "89", file_bytes=20_000_000, cache=tmp_path)
    note, error = [line for line in done.stderr.splitlines() if line.startswith(("note ", "error "))]
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"cannot be kept: File too large ({tmp_path / 'edge-inspect' / 'plans'}" in note
    plan = engine.with_name("demo.fp32.sm89.plan")
    assert f"error File too large ({plan}). Check the path, its permissions and the free space." in error
    assert made(engine.parent) == [] and kept_in(tmp_path) == []


def test_a_full_file_system_leaves_nothing(engine: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    out.mkdir()
    cache.mkdir()
    build = [sys.executable, "-c", WITHOUT_TORCH, str(engine), "--sm", "89", "--out", str(out)]
    done = mounted(build, full=[out, cache], environ={"XDG_CACHE_HOME": str(cache)})
    assert done.returncode == 2 and done.stdout == "", done  # no file is left in either
    assert f"error No space left on device ({out / 'demo.fp32.sm89.plan'})" in done.stderr
    assert f"No space left on device ({cache / 'edge-inspect' / 'plans'}" in done.stderr


def test_the_wrong_gpu_list_or_runtime_is_refused(engine: Path) -> None:
    assert "'8.6' is not a list of compute capabilities" in refused(str(engine), "--sm", "8.6")[1]
    assert "not for SM 87" in refused(str(engine), "--sm", "87", "--runtime", "tensorrt-rtx")[1]
    assert "unknown runtime 'cuda'" in refused(str(engine), "--runtime", "cuda")[1]
    assert made(engine.parent) == []


def test_an_onnx_that_is_cut_off_is_refused(engine: Path) -> None:
    engine.write_bytes(engine.read_bytes()[:-1000])
    assert refused(str(engine), "--sm", "86")[0] == 3
    reseal(engine)  # even where the recipe was made for it
    assert "the ONNX file is cut off or broken" in refused(str(engine), "--sm", "86")[1]


def test_an_operation_that_tensorrt_has_not_is_named(engine: Path) -> None:
    model = onnx.load(engine)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type, node.domain = "QuickGelu", "com.microsoft"  # ONNX Runtime has it
    onnx.save(model, engine)
    reseal(engine)
    code, text = refused(str(engine), "--sm", "86")
    assert code == 3 and f"node {node.name} (QuickGelu) cannot be built" in text
    assert made(engine.parent) == []


def test_an_opset_that_is_too_new_is_refused(engine: Path) -> None:
    model = onnx.load(engine)
    model.opset_import[0].version = 21
    onnx.save(model, engine)
    reseal(engine)
    assert "has opset 21; TensorRT is asked for at most 20" in refused(str(engine), "--sm", "86")[1]


def test_calibration_pictures_that_do_not_fit_are_refused(engine: Path, tmp_path: Path) -> None:
    file = engine.with_name("calibration.npz")
    np.savez_compressed(file, images=good_pictures(4)[:, :64, :64])
    assert "are 64 x 64 x 3, not 256 x 256 x 3" in refused(str(engine), "--sm", "86")[1]
    np.savez_compressed(file, images=good_pictures(4), training_set=np.array("of another set"))
    assert "another model's" in refused(str(engine), "--sm", "86")[1]
    file.write_bytes(b"PK not a zip")
    assert "the calibration pictures cannot be read" in refused(str(engine), "--sm", "86")[1]
    file.unlink()
    assert "--calibration-set DIR" in refused(str(engine), "--sm", "86")[1]
    assert made(engine.parent) == []


def test_a_calibration_set_that_is_empty_or_too_small_is_refused(engine: Path, tmp_path: Path) -> None:
    empty, few = tmp_path / "empty", tmp_path / "few"
    empty.mkdir()
    few.mkdir()
    call = (str(engine), "--sm", "86", "--calibration-set")
    assert "there are no pictures of good parts" in refused(*call, str(empty))[1]
    cv2.imwrite(str(few / "one.png"), good_pictures(1)[0])
    assert "only 1 picture of good parts" in refused(*call, str(few))[1]
    assert "the folder does not exist" in refused(*call, str(tmp_path / "none"))[1]


def test_a_calibration_set_of_another_camera_is_refused(engine: Path, tmp_path: Path) -> None:
    """The story: pictures of 97x31 for a model of 320x320 were stretched, and limits of 87 came of them."""
    pictures = camera_pictures(tmp_path / "pictures", 8)
    for path in pictures.iterdir():
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (97, 31)))
    code, text = refused(str(engine), "--sm", "86", "--calibration-set", str(pictures))
    assert code == 2 and "pictures of 97x31, but the model learnt from 320x320" in text
    assert made(engine.parent) == []


def test_a_calibration_set_takes_the_place_of_the_file(engine: Path, tmp_path: Path) -> None:
    engine.with_name("calibration.npz").unlink()
    pictures, out = camera_pictures(tmp_path / "pictures", 10), tmp_path / "out"
    arguments = [str(engine), "--sm", "89", "--calibration-set", str(pictures), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert made(out) == ["demo.fp32.sm89.plan", "demo.fp32.sm89.recipe.json"]
    assert load_pair(out / "demo.fp32.sm89.plan")[1].expected_false_rejects["pictures"] == 10


def test_limits_are_not_set_on_the_pictures_that_were_learnt(engine: Path, tmp_path: Path) -> None:
    """The story: --calibration-set with the training set made limits of learnt pictures: too low."""
    pictures = camera_pictures(tmp_path / "pictures", 10)
    recipe = load_recipe(recipe_path(engine))
    learnt = {**recipe.training_set, "sha256": dataset_digest(list(pictures.iterdir()))}
    save_recipe(replace(recipe, training_set=learnt), recipe_path(engine))
    result = CliRunner().invoke(app, [str(engine), "--sm", "89", "--calibration-set", str(pictures)])
    assert result.exit_code == 0, result.output
    sealed = load_pair(engine.with_name("demo.fp32.sm89.plan"))[1]
    assert sealed.expected_false_rejects["pictures"] == 12  # of the calibration file, not the 10 of the set


def test_single_pictures_that_were_learnt_are_left_out(engine: Path, tmp_path: Path) -> None:
    """The story: with one more picture in the folder the set was another one, and all that was learnt from
    set the limits again."""
    pictures = camera_pictures(tmp_path / "pictures", 13)
    learnt = [bytes.fromhex(sha256_of(pictures / f"{i}.png")) for i in range(3)]
    digests = np.frombuffer(b"".join(learnt), np.uint8).reshape(3, 32)
    of = np.array(load_recipe(recipe_path(engine)).training_set["sha256"])
    file = engine.with_name("calibration.npz")
    np.savez_compressed(file, images=good_pictures(12), training_set=of, learnt=digests)
    call = [str(engine), "--sm", "89", "--calibration-set", str(pictures)]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    assert "3 of 13 pictures were learnt and are left out" in " ".join(result.output.split())
    sealed = load_pair(engine.with_name("demo.fp32.sm89.plan"))[1]
    assert sealed.expected_false_rejects["pictures"] == 10


def test_a_calibration_file_with_any_byte_changed_is_refused_or_gives_the_same_pictures(
    engine: Path,
) -> None:
    """Some bytes of a zip file, such as its dates, mean nothing."""
    recipe, file = load_recipe(recipe_path(engine)), engine.with_name("calibration.npz")
    of = np.array(recipe.training_set["sha256"])
    right = good_pictures(2)
    np.savez_compressed(file, images=right, training_set=of, learnt=np.zeros((1, 32), np.uint8))
    data = file.read_bytes()
    places = {*range(120), *range(len(data) - 400, len(data)), *range(0, len(data), len(data) // 200)}
    refused = 0
    for place in sorted(places):
        for mask in (0x01, 0x80, 0xFF):
            file.write_bytes(data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
            try:
                found = open_calibration(engine, recipe, view_of(recipe), None).images
            except InspectError as error:
                refused += 1
                assert "\n" not in str(error) and error.exit_code in (2, 3)
            else:
                assert np.array_equal(found, right)
    assert refused > len(places)


def test_an_old_pair_stays_where_the_new_recipe_cannot_be_written(engine: Path) -> None:
    """The story: the old plan was replaced, then removed: a station that had one had none."""
    plan = engine.with_name("demo.fp32.sm86.plan")
    plan.write_bytes(b"old")
    recipe_path(plan).write_text("old")
    before = {path: path.read_bytes() for path in (plan, recipe_path(plan))}
    blocked = plan.with_name(f"demo.fp32.sm86.recipe.json.{os.getpid()}.part")
    blocked.mkdir()  # the name that it is written under first
    code, text = refused(str(engine), "--sm", "86")
    assert code == 2 and f"({recipe_path(plan)})" in text
    assert {path: path.read_bytes() for path in before} == before
    blocked.rmdir()
    assert made(engine.parent) == ["demo.fp32.sm86.plan", "demo.fp32.sm86.recipe.json"]


def test_a_plan_whose_recipe_cannot_be_written_is_not_there(engine: Path) -> None:
    recipe_path(engine.with_name("demo.fp32.sm86.plan")).mkdir()
    code, text = refused(str(engine), "--sm", "86")
    assert code == 2 and "demo.fp32.sm86.recipe.json" in text
    assert made(engine.parent) == ["demo.fp32.sm86.recipe.json"]


def test_what_is_no_model_is_named(built: tuple[Path, dict[str, object]], engine: Path) -> None:
    for path in (built[0] / "demo.fp16.sm86.plan", recipe_path(engine)):
        assert "neither a model folder nor an ONNX engine" in refused(str(path), "--fp16", "--sm", "86")[1]


def test_a_plan_is_no_engine_for_the_cpu(built: tuple[Path, dict[str, object]]) -> None:
    plan, recipe, _ = load_pair(built[0] / "demo.fp16.sm86.plan")
    for name in ("onnxruntime", "openvino"):
        with pytest.raises(BackendFault, match=rf"runs on TensorRT alone, not on {name}.*run demo\.onnx"):
            open_backend(plan, recipe, name)


def test_a_missing_engine_is_made_from_its_folder(engine: Path) -> None:
    for name, words in (("demo.int8.onnx", "--int8"), ("dmeo.onnx", "")):
        with pytest.raises(RecipeError, match=rf"build-engines {engine.parent} ?{words}$"):
            find_engine(engine.with_name(name))


def test_learnt_pictures_are_no_calibration_set(engine: Path, tmp_path: Path) -> None:
    """The story: the pictures were given, and it asked for pictures, since the other half was missing."""
    folder = camera_pictures(tmp_path / "learnt", 12)
    recipe = load_recipe(recipe_path(engine))
    of = {**recipe.training_set, "sha256": dataset_digest(sorted(folder.iterdir()))}
    save_recipe(replace(recipe, training_set=of), recipe_path(engine))
    (engine.parent / "calibration.npz").unlink()
    said = refused(str(engine), "--fp16", "--sm", "86", "--calibration-set", str(folder))[1]
    assert "the set that was learnt" in said and "Give good pictures that were not learnt" in said


def test_the_runtime_that_is_missing_is_the_one_to_install(engine: Path) -> None:
    if find_spec("tensorrt"):
        pytest.skip("TensorRT is installed here")
    said = refused(str(engine), "--fp16", "--runtime", "tensorrt")[1]
    assert "pip install tensorrt." in said and "leave --runtime away" in said and "tensorrt-rtx" not in said


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_ctrl_c_that_somebody_else_takes_ends_the_build(
    engine: Path, monkeypatch: pytest.MonkeyPatch, swallowed: bool
) -> None:
    """The story: within torch's export it came out as an error of torch, within numpy as nothing at all."""

    def results(*_: object) -> Iterator[object]:
        try:
            _Interrupt.handle(signal.SIGINT, None)
        except KeyboardInterrupt as error:
            if not swallowed:
                raise RuntimeError("of a library") from error
        yield "one engine"
        raise AssertionError("it went on")

    monkeypatch.setattr(_Interrupt, "came", False)
    monkeypatch.setattr("build_engines.cli._results", results)
    monkeypatch.setattr("build_engines.cli._show", lambda *_: [])
    done = CliRunner().invoke(app, [str(engine)])
    assert done.exit_code == 130 and "nothing half-written is left" in done.output


def test_a_plan_of_another_model_is_refused(engine: Path) -> None:
    plan = engine.with_name("demo.fp32.sm86.plan")
    assert CliRunner().invoke(app, [str(engine), "--sm", "86"]).exit_code == 0
    plan.write_bytes(plan.read_bytes()[:-1] + b"?")
    for words in (["run", "--camera", "conveyor:?count=1", "--engine", str(plan)], ["recipe", str(plan)]):
        result = CliRunner().invoke(edge_app, words)
        assert result.exit_code == 3 and "not the one the recipe was made for" in result.output


def test_a_damaged_timing_cache_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "tensorrt-10.3.sm87.timing"
    assert _read(path) == b""
    _write(path, b"timings")
    assert _read(path) == b"timings"
    path.write_bytes(path.read_bytes()[:-1])
    assert _read(path) == b"" and not path.exists()
