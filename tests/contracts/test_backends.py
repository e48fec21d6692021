"""One body for all backends: what `edge.backends.Backend` promises."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from host_gpu import HostGpu, HostKernel, HostPlan
from toy import SIDE, toy_pair

from edge.backends import Backend, open_backend
from edge.backends.trt import TensorRtBackend
from edge.engines.isolation import IsolatedBackend
from edge.errors import BackendFault
from edge.frame import Pixels
from edge.gpu import own_sm
from edge.picture.preprocess import resize
from edge.recipe import Artefact, load_pair, sha256_of

BACKENDS = ["onnxruntime", "openvino", "tensorrt", "tensorrt on the host", "a process of its own"]
OPENERS = {
    "tensorrt": lambda engine, name: on_the_gpu(engine, name),
    "tensorrt on the host": lambda engine, name: on_the_host(engine, name),
    "a process of its own": lambda engine, name: IsolatedBackend(*load_pair(engine)[:2]),
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    engine = toy_pair(tmp_path)
    opened = OPENERS.get(request.param, on_the_cpu)(engine, request.param)
    yield opened
    opened.close()
    opened.close()


def on_the_cpu(engine: Path, name: str) -> Backend:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return open_backend(*load_pair(engine)[:2], name)


def on_the_host(engine: Path, name: str) -> Backend:
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the host build")
    return TensorRtBackend(HostGpu(), HostPlan(engine), HostKernel(), name)


def on_the_gpu(engine: Path, name: str) -> Backend:
    """A real plan on a real GPU."""
    sm = own_sm()
    if sm is None or find_spec("pycuda") is None:
        pytest.skip("no NVIDIA GPU with pycuda here")
    from build_engines.builder import open_builder

    try:
        builder = open_builder()
    except BackendFault as error:
        pytest.skip(error.what)
    plan = engine.with_suffix(".plan")
    plan.write_bytes(builder.build(engine.read_bytes(), sm, 8)[0])
    artefact = Artefact(plan.name, sha256_of(plan), "fp32", sm, builder.name)
    return open_backend(plan, replace(load_pair(engine)[1], artefacts=(artefact,)), name)


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_a_map_and_a_score_come_back(backend: Backend) -> None:
    assert backend.name and tuple(backend.input_size) == (SIDE, SIDE)
    picture = noise(SIDE, SIDE)
    anomaly_map, score = backend.infer(picture)
    assert anomaly_map.shape == (SIDE, SIDE) and anomaly_map.dtype == np.float32 and type(score) is float
    np.testing.assert_allclose(anomaly_map, picture.mean(axis=2) / 100, atol=1e-4)
    assert score == pytest.approx(picture.mean() / 100, rel=1e-4)


def test_a_batch_of_any_size_says_what_its_pictures_say_alone(backend: Backend) -> None:
    pictures = noise(11, SIDE, SIDE)
    maps, scores = backend.infer_batch(pictures)
    assert maps.shape == (11, SIDE, SIDE) and maps.dtype == scores.dtype == np.float32
    alone = [backend.infer(picture) for picture in pictures]
    np.testing.assert_allclose(maps, [of for of, _ in alone], atol=1e-5)
    np.testing.assert_allclose(scores, [score for _, score in alone], atol=1e-5)


def test_an_answer_is_the_caller_s_own(backend: Backend) -> None:
    first, _ = backend.infer(noise(SIDE, SIDE))
    kept = first.copy()
    backend.infer(255 - noise(SIDE, SIDE))
    np.testing.assert_array_equal(first, kept)


def test_a_picture_of_another_size_is_resized_where_it_says_so_and_refused_else(backend: Backend) -> None:
    picture = noise(200, 333)[7:180, 20:301]
    if not backend.resizes:
        with pytest.raises(BackendFault):
            backend.infer(picture)
        return
    anomaly_map, _ = backend.infer(picture)
    np.testing.assert_allclose(anomaly_map, backend.infer(resize(picture, (SIDE, SIDE)))[0], atol=0.011)
