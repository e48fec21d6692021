"""How fast is the whole graph beside what a user would pick instead?

    python benchmarks/peer.py [ENGINE] [--peer-python PYTHON]

Our engine on ONNX Runtime and OpenVINO against anomalib's EfficientAD-S (256x256, random weights: speed only)
on both, each in its best precision, in turn in one process with the same number of threads. The peer's
export needs an environment of its own, which the script makes (several GB) or is given.
"""

import argparse
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from record import quantiles_ms, save_result
from rich.console import Console
from rich.table import Table

from edge.backends.openvino import OpenVinoBackend
from edge.backends.ort import OnnxRuntimeBackend
from edge.demo.show import ENGINE
from edge.recipe import load_pair

PEER_PACKAGES = ("torch==2.14.1", "torchvision==0.29.1", "anomalib==2.7.0", "onnx")
EXPORT = """
import sys, torch
from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel
model = EfficientAdModel(teacher_out_channels=384).eval()
torch.onnx.export(model, (torch.rand(1, 3, 256, 256),), sys.argv[1], opset_version=18,
                  input_names=["input"], dynamo=False)
"""
SIZE = (256, 256)
PEER = "EfficientAD-S"


def export_peer(folder: Path, python: Path | None) -> Path:
    """EfficientAD-S as ONNX; made once."""
    path = folder / "efficientad-s.onnx"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    if python is None:
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
    subprocess.run([python, "-c", EXPORT, str(path)], check=True, stdout=subprocess.DEVNULL)
    return path


def contestants(engine: Path, peer: Path, threads: int) -> dict[str, Callable[[], object]]:
    """Name -> one inference at batch 1."""
    import onnxruntime  # both report to their makers unless our backends are imported before

    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    picture = np.random.default_rng(0).random((1, 3, *SIZE), np.float32)
    ort_backend = OnnxRuntimeBackend(engine, SIZE, threads)
    runs: dict[str, Callable[[], object]] = {"ours, ONNX Runtime f32": lambda: ort_backend.infer(pixels)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # As in our backend: threads that spin after a run would slow down whoever comes next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(peer), options, providers=["CPUExecutionProvider"])
    runs["EfficientAD-S, ONNX Runtime f32"] = lambda: session.run(None, {"input": picture})
    for precision in ("f32", "bf16"):
        backend = OpenVinoBackend(engine, SIZE, precision)
        runs[f"ours, OpenVINO {precision}"] = lambda backend=backend: backend.infer(pixels)  # type: ignore[misc]
        import openvino

        hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
        request = openvino.Core().compile_model(peer, "CPU", hints).create_infer_request()
        runs[f"EfficientAD-S, OpenVINO {precision}"] = lambda request=request: request.infer([picture])  # type: ignore[misc]
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "engine", type=Path, nargs="?", default=ENGINE, help="256x256; default: the demo engine"
    )
    parser.add_argument("--peer-python", type=Path, help="an environment with anomalib 2.7")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "edge-inspect" / "peer")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    engine, _, _ = load_pair(arguments.engine)
    runs = contestants(engine, export_peer(arguments.work, arguments.peer_python), arguments.threads)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(arguments.rounds + 3):
        for name, run in runs.items():
            for _ in range(5 if name.startswith("ours") else 1):
                begun = time.perf_counter()
                run()
                if round_number >= 3:
                    times[name].append(time.perf_counter() - begun)
    figures = {name: quantiles_ms(values) for name, values in times.items()}
    best = min(f["median"] for name, f in figures.items() if name.startswith(PEER))
    for f in figures.values():
        f["share_of_best_peer"] = round(f["median"] / best, 4)
    same = {
        name.removeprefix("ours, "): round(figures[name.replace("ours", PEER)]["median"] / f["median"], 2)
        for name, f in figures.items()
        if name.startswith("ours")
    }
    conditions = {"threads": arguments.threads, "input": "256x256, batch 1"}
    save_result("peer", conditions | {"figures": figures, "peer_slower_in_same_precision": same})
    table = Table("", "median", "p99", "best peer is slower by")
    for name, f in figures.items():
        table.add_row(name, f"{f['median']:.2f} ms", f"{f['p99']:.2f} ms", f"{best / f['median']:.1f} x")
    Console(stderr=True).print(table)
    for name, ratio in same.items():
        Console(stderr=True).print(f"same library and precision, {name}: {PEER} is slower by {ratio:.1f} x")


if __name__ == "__main__":
    sys.exit(main())
