"""From model folder to engine and recipe: the graph says what the network says."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from affinity_cases import fitted_detector
from plans import Told
from rich.console import Console
from test_train import SMALL, Quiet, parts  # noqa: F401  (a fixture)
from typer.testing import CliRunner

from build_engines.build import build_engines, compare_with_torch
from build_engines.cli import _show, app
from build_engines.export import export_onnx, fold_batch_norms
from build_engines.graph import IR_VERSION, OPSET
from build_engines.kernel import kernel_constants
from build_engines.listener import Listener
from build_engines.seal import check_limit, made_of
from build_engines.tail import Tail
from distillation.detector import Detector, DetectorConfig
from distillation.learn import learn
from distillation.model import load_model
from distillation.train import TrainConfig
from distillation.weights import load_teacher
from edge.backends import open_backend
from edge.cameras.parts import render_part
from edge.cli import app as edge_inspect
from edge.errors import InspectError
from edge.recipe import METADATA_KEY, load_pair, load_recipe, recipe_path, save_recipe, stale_note
from edge.settings import change_recipe, restore_recipe


@pytest.fixture(scope="module")
def model(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp("build") / "tray"
    learn(parts, folder, Quiet(), SMALL, TrainConfig(steps=30))
    list(build_engines(folder, 0.003, int8=False, listener=Listener()))
    return folder


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_graph_agrees_with_torch(model: Path, batch: int) -> None:
    detector, _, _ = load_model(model)
    rng = np.random.default_rng(batch)
    pixels = rng.integers(0, 256, (batch, *SMALL.input_size, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(model / "tray.onnx", providers=["CPUExecutionProvider"])
    anomaly_map, score = session.run(["anomaly_map", "score"], {"pixels": pixels})
    with torch.inference_mode():
        expected_map, expected_score = detector(torch.from_numpy(pixels))
    scale = max(
        1.0, float(expected_map.abs().max())
    )  # noise is far from good: its map runs into the hundreds
    assert np.abs(anomaly_map - expected_map.numpy()).max() / scale < 1e-4
    assert np.allclose(score, expected_score.numpy(), rtol=1e-4)


def test_on_real_parts_the_map_agrees_to_1e_4_absolute(model: Path) -> None:
    detector, _, held_out = load_model(model)
    graph = onnx.load(model / "tray.onnx")
    map_error, score_error = compare_with_torch(detector, graph, held_out)
    assert map_error < 1e-4 and score_error < 1e-4
    detector.score.weights.mul_(1.01)  # what is in the score alone is compared too
    assert compare_with_torch(detector, graph, held_out)[1] > 1e-3


def test_the_graph_is_pinned_checked_and_casts_first(model: Path) -> None:
    graph = onnx.load(model / "tray.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert graph.ir_version == IR_VERSION
    assert [(o.domain, o.version) for o in graph.opset_import if not o.domain] == [("", OPSET)]
    assert [i.name for i in graph.graph.input] == ["pixels"]
    assert graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    consumers = [n.op_type for n in graph.graph.node if "pixels" in n.input and n.op_type != "Shape"]
    assert consumers == ["Cast"]
    assert "BatchNormalization" not in {n.op_type for n in graph.graph.node}


def test_the_graph_tells_nothing_about_the_machine_that_made_it(model: Path) -> None:
    assert str(Path(__file__).parents[1]).encode() not in (model / "tray.onnx").read_bytes()


def test_folding_changes_no_number() -> None:
    detector = Detector(load_teacher("efficientnet-lite0"), DetectorConfig(input_size=(64, 64))).eval()
    pixels = torch.randint(0, 256, (2, 64, 64, 3)).to(torch.uint8)
    with torch.inference_mode():
        before = detector(pixels)
        after = fold_batch_norms(detector)(pixels)
    assert torch.allclose(before[0], after[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("measure", ["both", "squared"])
@pytest.mark.parametrize("teacher", ["resnet18"])
def test_other_teachers_export(teacher: str, measure: str) -> None:
    small = {"input_size": SMALL.input_size, "width": SMALL.width, "context": SMALL.context}
    other = {"context_grid": 5, "top_share": 0.02, "deep_distance": True, "measure": measure}
    detector = fitted_detector(teacher, **small, **other)
    graph = export_onnx(detector)
    onnx.checker.check_model(graph)
    assert_tells_the_kernel_the_same(graph, detector)


def test_the_graph_tells_the_kernel_what_the_network_does(model: Path) -> None:
    assert_tells_the_kernel_the_same(onnx.load(model / "tray.onnx"), load_model(model)[0])


def assert_tells_the_kernel_the_same(graph: onnx.ModelProto, detector: Detector) -> None:
    found, wanted = Tail(graph).constants, kernel_constants(detector)
    for name in ("input_size", "channels", "sizes", "local", "cells", "top", "cosine"):
        assert getattr(found, name) == getattr(wanted, name), name
    for k, has in enumerate(wanted.local):
        used = slice(None if has else 1, None)  # a table of a target that is not there is never looked at
        for name in ("gains", "offsets"):
            np.testing.assert_array_equal(getattr(found, name)[k][used], getattr(wanted, name)[k][used])
    for name in ("low", "span", "blur"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-6)


def test_the_recipe_travels_with_the_engine_and_inside_it(model: Path) -> None:
    engine, recipe, artefact = load_pair(model)
    assert (engine.name, artefact.precision, recipe.name) == ("tray.onnx", "fp32", "tray")
    assert recipe.review < recipe.fail
    assert recipe.training_set["picture"] == [320, 320]
    metadata = {p.key: p.value for p in onnx.load(engine).metadata_props}
    assert json.loads(metadata[METADATA_KEY])["review"] == recipe.review


def test_an_engine_older_than_its_model_is_said(model: Path) -> None:
    """The story: trained again, build-engines forgotten; the old engine went on silently."""
    engine = model / "tray.onnx"
    assert stale_note(engine) == ""
    before = (model / "model.pt").stat()
    os.utime(model / "model.pt", (before.st_atime, engine.stat().st_mtime + 10))
    assert "Run: build-engines" in stale_note(engine)
    os.utime(model / "model.pt", (before.st_atime, before.st_mtime))


def test_a_build_leaves_only_engines_that_were_made_of_it(model: Path, tmp_path: Path) -> None:
    """The story: --int8, and then --fp16, and the INT8 engine was gone without a word."""
    folder = tmp_path / "tray"
    shutil.copytree(model, folder)
    shutil.copy(folder / "tray.onnx", folder / "tray.int8.onnx")
    recipe = load_recipe(folder / "tray.recipe.json")
    of = recipe.made_with | made_of(folder / "tray.onnx")
    save_recipe(replace(recipe, made_with=of), folder / "tray.int8.recipe.json")
    listener = Told()
    (folder / "checkpoint.pt").write_bytes(b"of a training that was interrupted")
    next(build_engines(folder, 0.003, int8=False, listener=listener))
    assert "this is the model from before it" in listener.notes.pop(0)
    (folder / "checkpoint.pt").unlink()
    (folder / "tray.fp16.sm86.plan").write_bytes(b"nobody knows of what")
    assert [r.changed for r in build_engines(folder, 0.003, int8=False, listener=listener)] == [False]
    assert others_in(folder) == ["tray.int8.onnx", "tray.int8.recipe.json"]
    assert listener.notes == ["removed, for they were built from another tray.onnx: tray.fp16.sm86.plan"]
    # other limits: another FP32 engine
    assert [r.changed for r in build_engines(folder, 0.002, int8=False, listener=listener)] == [True]
    assert others_in(folder) == []
    assert listener.notes[1:] == ["removed, for they were built from another tray.onnx: tray.int8.onnx"]


def test_limits_that_were_told_are_not_told_again(model: Path) -> None:
    """Plans for six GPUs have the same limits: six times three lines said so."""
    (result,) = build_engines(model, 0.003, int8=False, listener=Listener())
    screen = Console(file=io.StringIO(), width=300)
    told = _show(screen, replace(result, changed=True), [])
    told = _show(screen, result, told)
    _show(screen, result, told[1:])
    heads = [line.split()[0] for line in screen.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    limits = ["limits:", "expected", *["note"] * len(result.thresholds.notes)]
    assert heads == ["built", *limits, "unchanged", "unchanged", *limits]


def test_a_wrong_calibration_set_is_told_before_anything_takes_time(model: Path, tmp_path: Path) -> None:
    """The story: two minutes went by before an empty folder was noticed."""
    told = Told()
    with pytest.raises(InspectError, match="there are no pictures of good parts"):
        list(build_engines(model, 0.003, int8=True, listener=told, calibration_set=tmp_path))
    assert told.said == []


def test_ctrl_c_in_a_build_says_what_is_left(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("build_engines.build.export_onnx", interrupted)
    result = CliRunner().invoke(app, [str(model)])
    assert result.exit_code == 130 and "stopped. What was built before is whole" in result.output


def others_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if ".int8" in path.name or path.suffix == ".plan")


def test_a_calibration_set_sets_the_limits_of_an_onnx_engine_but_for_what_was_learnt(
    model: Path,
    parts: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """The story: the option was taken and ignored without a word, unless a plan was asked for, too."""
    folder, pictures = tmp_path / "tray", tmp_path / "pictures"
    shutil.copytree(model, folder)
    shutil.copytree(parts, pictures)
    for i in range(9):
        cv2.imwrite(str(pictures / f"new{i}.png"), render_part(99, i))
    _, about, held_out = load_model(folder)
    result = CliRunner().invoke(app, [str(folder), "--calibration-set", str(pictures)])
    assert result.exit_code == 0, result.output
    said = f"{about.trained_on} of {about.trained_on + len(held_out) + 9} pictures were learnt"
    assert said in " ".join(result.output.split())
    assert load_pair(folder)[1].expected_false_rejects["pictures"] == len(held_out) + 9


def test_a_folder_for_plans_without_a_plan_is_refused(model: Path, tmp_path: Path) -> None:
    """The story: the option was taken and ignored without a word."""
    result = CliRunner().invoke(app, [str(model), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and "ONNX engines stay in the model folder" in result.output
    assert not (tmp_path / "out").exists()


def test_a_limit_that_would_stop_nothing_is_refused() -> None:
    """The story: a hardly trained model got a limit of ten million, and every defective part passed."""
    check_limit(1.4, Path("loco"))
    with pytest.raises(InspectError, match="it stops nothing"):
        check_limit(1e7, Path("loco"))


def test_a_new_build_tells_which_settings_made_by_hand_it_took_away(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tray"
    shutil.copytree(model, folder)
    assert "by hand" not in CliRunner().invoke(app, [str(folder)]).output
    change_recipe(folder, {"fail": 99.0, "deadline_ms": 800.0})
    output = CliRunner().invoke(app, [str(folder)]).output
    assert f"recipe {folder / 'tray.onnx'} --fail 99.0 --deadline-ms 800.0" in output
    assert load_pair(folder)[1].fail < 99.0


def test_limits_are_changed_under_seal_and_restored(model: Path) -> None:
    before = load_pair(model)[1]
    said: list[str] = []
    change_recipe(model, {"deadline_ms": before.deadline_ms, "fail": None}, said.append)
    assert not said
    change_recipe(model, {"review": before.review / 2, "fail": None}, said.append)
    assert ["expected false rejects" in text for text in said] == [True]
    assert load_pair(model)[1].review == before.review / 2
    assert load_pair(model)[1].expected_false_rejects == {}  # that promise was made for the old limits
    with pytest.raises(InspectError, match="Nothing was changed"):
        change_recipe(model, {"on_fault": "pass"})
    with pytest.raises(InspectError, match="nothing is wrong with it"):
        restore_recipe(model)
    recipe_path(model / "tray.onnx").unlink()
    restore_recipe(model)
    assert load_pair(model)[1] == before


@pytest.mark.parametrize("spoil", [lambda text: text[:99], lambda text: text.replace("500.0", "900.0")])
def test_the_way_out_of_an_unusable_recipe_is_the_one_its_error_names(
    model: Path, spoil: Callable[[str], str]
) -> None:
    """The story: the error said --restore, and --restore said that there is a recipe already."""
    path = recipe_path(model / "tray.onnx")
    good = path.read_text()
    path.write_text(spoil(good))
    with pytest.raises(InspectError, match=r"tray\.onnx --restore") as error:
        load_pair(model)
    words = str(error.value).rpartition("edge-inspect ")[2].split()
    assert CliRunner().invoke(edge_inspect, words).exit_code == 0
    assert path.read_text() == good
    assert path.with_name("tray.recipe.json.old").read_text() == spoil(good)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_backends_agree(model: Path, backend: str) -> None:
    if find_spec(backend) is None:  # not importorskip: only our own import keeps OpenVINO's reports at home
        pytest.skip(f"{backend} is not installed")
    engine, recipe, _ = load_pair(model)
    _, _, held_out = load_model(model)
    reference, other = open_backend(engine, recipe), open_backend(engine, recipe, backend)
    for picture in held_out:
        (map_a, score_a), (map_b, score_b) = reference.infer(picture), other.infer(picture)
        assert map_a.shape == map_b.shape == recipe.input_size and map_b.dtype == np.float32
        assert np.abs(map_a - map_b).max() < 1e-2
        assert score_a == pytest.approx(score_b, rel=1e-2)


def test_openvino_reports_nothing_to_anybody() -> None:
    """Its Python package comes with a usage reporter that sends at import, without asking."""
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    code = (
        "import sys, threading; from pathlib import Path\n"
        "from edge.backends.openvino import OpenVinoBackend\n"
        "from edge.errors import BackendFault\n"
        "try: OpenVinoBackend(Path('none.onnx'), (64, 64))\n"
        "except BackendFault: pass\n"
        "assert sys.modules['openvino_telemetry'] is None and threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def off_every_network(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Python whose reports reach nobody: no network where that may be done, and a proxy that nobody is."""
    apart = ["unshare", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True).returncode:
        apart = []
    proxies = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "all")}
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1]), **proxies, **environ}
    command = [*apart, sys.executable, "-c", code]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)


def test_what_runs_off_every_network_reaches_nobody() -> None:
    """What holds the reports of the control below back."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = off_every_network(f"from urllib.request import urlopen; urlopen({url!r}, timeout=2)")
        assert "URLError" in done.stderr
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("module", ["edge.backends.ort", "build_engines.probe", "build_engines.build"])
def test_onnx_runtime_reports_nothing_to_anybody(module: str, tmp_path: Path) -> None:
    """Since 1.29 importing it writes a device id and events into the user's cache, and sends them."""

    def left(code: str, home: Path) -> list[str]:
        home.mkdir()
        done = off_every_network(code, HOME=str(home))
        assert done.returncode == 0, done.stderr
        return sorted(path.name for path in home.rglob("*") if path.is_file())

    if not left("import onnxruntime", tmp_path / "bare"):
        pytest.skip("this version of ONNX Runtime writes nothing: it may have no reports")
    assert left(f"import sys, {module}; assert 'onnxruntime' in sys.modules", tmp_path / "ours") == []


def test_a_folder_without_a_model_is_refused_in_words(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert result.exit_code == 2
    assert "edge-inspect train" in result.output and "Traceback" not in result.output
    assert "no trained model" in result.output
    (tmp_path / "checkpoint.pt").write_bytes(b"of an interrupted run")
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert result.exit_code == 2 and "its training still runs or was interrupted" in result.output
