"""TensorRT plans on the GPU (extra `gpu`).

    camera picture -> page-locked memory -> GPU -> resize -> engine -> map and score -> page-locked memory
                      |________________________ one CUDA graph a picture ________________________|

Each size and number of pictures has a Step: memory, stream and graph of its own, made once. A batch goes
through two of them in turn, so that the copy of the next pictures overlaps the engine. On a Jetson the GPU
reads the page-locked memory itself, and there are no copies.
"""

from collections import OrderedDict, deque
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from edge.backends.launched import LaunchedPlan, unpacked
from edge.backends.plan import MAP, PIXELS, SCORE, Plan, TensorRtPlan, check_tensors
from edge.errors import BackendFault
from edge.frame import AnomalyMap, Pixels
from edge.kernels.compile import RESIZE, cubin
from edge.kernels.cuda import Gpu, Kernel
from edge.kernels.launch import PycudaModule
from edge.kernels.resize import THREADS, Resize, ResizePlan
from edge.picture.preprocess import Size, resize

AT_ONCE = 8  # pictures of a batch: enough to fill a GPU, and there are two such steps
IN_FLIGHT = 2  # steps under way at once: one copies, one computes
SAME_RESIZE = 1e-3  # relative, of scores; a wrong resize is far off, rounding is not
MOST_STEPS = 6  # that are kept; a station has one size of pictures, or one number of tiles


class Step:
    """Pictures (n, height, width, 3) of one size through an engine that takes `size`. Raises BackendFault.

    Made, used and closed inside `with gpu.current()`; nothing is allocated on the GPU after it was made.
    """

    def __init__(
        self,
        gpu: Gpu,
        plan: Plan,
        size: Size,
        shape: tuple[int, ...],
        kernel: Kernel | None,
        graph: bool,
    ) -> None:
        self._kernel, self._stream = kernel, gpu.stream()
        self._resizes: list[Resize] = []
        with ExitStack() as owned:
            self._pixels = _freed(owned, gpu.buffer(shape, np.uint8))
            self._map = _freed(owned, gpu.buffer((shape[0], *size), np.float32))
            self._score = _freed(owned, gpu.buffer(shape[:1], np.float32))
            taken = self._pixels.address
            if shape[1:3] != size:
                taken = self._resize_into(gpu, size, shape, owned)
            self._context = plan.context(shape[0])
            memory = _freed(owned, gpu.memory(self._context.memory_bytes))
            named = {PIXELS: taken, MAP: self._map.address, SCORE: self._score.address}
            self._context.bind(int(memory), named)
            self._graph = self._captured(gpu, owned, graph)
            self._owned = owned.pop_all()

    def start(self, pixels: Pixels) -> None:
        """Copy the pictures and begin, without waiting; the caller may then change them."""
        np.copyto(self._pixels.host, pixels)
        if self._graph is None:
            self._enqueue()
        else:
            self._graph.launch(self._stream)

    def finish(self) -> tuple[AnomalyMap, AnomalyMap]:
        """Wait. Maps float32 (n, h, w) and scores float32 (n,), copied: the memory is used again."""
        self._stream.synchronize()
        return self._map.host.copy(), self._score.host.copy()

    def close(self) -> None:
        """Free what it owns, when it has finished."""
        self._owned.close()

    def _resize_into(self, gpu: Gpu, size: Size, shape: tuple[int, ...], owned: ExitStack) -> int:
        """Memory for the resized pictures, which the engine takes -> its address."""
        pictures, height, width, channels = shape
        self._resize_plan = ResizePlan((height, width), size)
        tables = int(_freed(owned, gpu.uploaded(self._resize_plan.tables)))
        made_bytes = size[0] * size[1] * channels
        made = int(_freed(owned, gpu.memory(pictures * made_bytes)))
        stride = width * channels
        for i in range(pictures):
            at = self._pixels.address + i * height * stride
            self._resizes.append(self._resize_plan.problem(at, stride, made + i * made_bytes, tables))
        return made

    def _captured(self, gpu: Gpu, owned: ExitStack, wanted: bool) -> Any:
        """The whole step as a graph, or None where none is wanted or this engine cannot be captured."""
        self._pixels.host.fill(0)
        self._enqueue()  # once without: TensorRT allocates and compiles what a capture must not see
        self._stream.synchronize()
        graph = None
        if wanted and self._context.can_be_captured(self._stream):
            graph = _freed(owned, gpu.capture(self._stream, self._enqueue))
        owned.callback(self._stream.synchronize)  # the first at the end, before anything is freed
        return graph

    def _enqueue(self) -> None:
        self._pixels.upload(self._stream)
        for problem in self._resizes:
            assert self._kernel is not None
            self._kernel.launch(self._resize_plan.grid, THREADS, problem.shared_bytes, problem, self._stream)
        self._context.enqueue(self._stream)
        self._map.download(self._stream)
        self._score.download(self._stream)


class TensorRtBackend:
    """A plan, ready: `open_plan` makes one. Owns the plan.

    `resizes` says whether `infer` takes pictures of any size; it does where there is a `kernel` for it.
    Without `graphs` each call is made anew with every picture: for comparison only.
    """

    def __init__(self, gpu: Gpu, plan: Plan, kernel: Kernel | None, name: str, graphs: bool = True) -> None:
        self.name, self.resizes = name, kernel is not None
        _, height, width, _ = next(tensor.shape for tensor in plan.tensors if tensor.name == PIXELS)
        self.input_size = height, width
        self._gpu, self._plan, self._kernel, self._graphs = gpu, plan, kernel, graphs
        self._steps: OrderedDict[tuple[tuple[int, ...], int], Step] = OrderedDict()
        self.infer(np.zeros((*self.input_size, 3), np.uint8))

    def infer(self, pixels: Pixels) -> tuple[AnomalyMap, float]:
        """See `edge.backends.Backend`."""
        maps, scores = self.infer_batch(pixels[None])
        return maps[0], float(scores[0])

    def infer_batch(self, pixels: Pixels) -> tuple[AnomalyMap, AnomalyMap]:
        """See `edge.backends.Backend`; AT_ONCE pictures a step, two steps under way."""
        if pixels.shape[1:3] != self.input_size and not self.resizes:
            what = f"a picture of {pixels.shape[1:3]} for an engine of {self.input_size}"
            raise BackendFault(what, self.name, "Resize it first.")
        at_once = min(AT_ONCE, self._plan.most)
        answers, under_way = [], deque[Step]()
        with self._gpu.current():
            for turn, first in enumerate(range(0, len(pixels), at_once)):
                if len(under_way) == IN_FLIGHT:
                    answers.append(under_way.popleft().finish())
                some = pixels[first : first + at_once]
                under_way.append(self._step(some.shape, turn % IN_FLIGHT))
                under_way[-1].start(some)
            answers += [step.finish() for step in under_way]
        maps, scores = zip(*answers, strict=True)
        return np.concatenate(maps), np.concatenate(scores)

    def check_resize(self, shown: Size | None) -> None:
        """Be ready for pictures (height, width) `shown`, and compare: resized here, and on the CPU.

        Where the scores differ this backend resizes no more, and says so in its name. Raises BackendFault.
        """
        if not self.resizes:
            return
        height, width = self.input_size
        picture = _drawn((shown[0], shown[1]) if shown else (2 * height, 2 * width))  # JSON has lists
        own, wanted = self.infer(picture)[1], self.infer(resize(picture, self.input_size))[1]
        if not abs(own - wanted) <= SAME_RESIZE * abs(wanted):  # nor where either is NaN
            self.resizes = False
            self.name += ", which gave other scores: resize on the CPU"

    def close(self) -> None:
        """Free everything on the GPU; may be called twice."""
        with suppress(BackendFault), self._gpu.current():  # a GPU that failed frees nothing, nor need it
            while self._steps:
                self._steps.popitem()[1].close()
            for name in ("_plan", "_kernel"):  # here, where CUDA finds the context that they are of
                vars(self).pop(name, None)

    def _step(self, shape: tuple[int, ...], turn: int) -> Step:
        """The one for such pictures, made the first time; the one not used for longest makes room."""
        if (shape, turn) not in self._steps:
            while len(self._steps) >= MOST_STEPS:
                self._steps.popitem(last=False)[1].close()
            how = self._kernel, self._graphs
            self._steps[shape, turn] = Step(self._gpu, self._plan, self.input_size, shape, *how)
        self._steps.move_to_end((shape, turn))
        return self._steps[shape, turn]


def open_plan(
    path: Path, input_size: tuple[int, int], builder: str, hint: str, graphs: bool = True
) -> TensorRtBackend:
    """Read a plan that `builder` ("tensorrt 10.3.0") made, onto the first GPU.

    `input_size` is (height, width); `hint` says what to do about a plan that does not fit. Without nvcc
    pictures are resized on the CPU, to the same digits. Raises BackendFault.
    """
    gpu = Gpu()
    with gpu.current():
        plan = _read(gpu, path, builder, hint)
        check_tensors(path, plan.tensors, input_size)
        try:
            kernel, resized = gpu.kernel(cubin(RESIZE), "resize_picture", Resize), "GPU"
        except BackendFault as error:
            kernel, resized = None, f"CPU: {error.what}"
    return TensorRtBackend(gpu, plan, kernel, f"{plan.name} on {gpu.name}, resize on the {resized}", graphs)


def _read(gpu: Gpu, path: Path, builder: str, hint: str) -> Plan:
    """A file's plan, or its pieces around the affinity kernel. Raises BackendFault."""
    content = path.read_bytes()
    pieces = unpacked(content, path, hint)
    if pieces is None:
        return TensorRtPlan(content, path, builder, hint)
    features, rest = (TensorRtPlan(of, path, builder, hint) for of in (pieces.features, pieces.rest))
    try:
        return LaunchedPlan(gpu, features, rest, pieces.constants, PycudaModule())
    except ValueError as error:
        raise BackendFault(f"its pieces are not of one plan: {error}", str(path), hint) from error


def _drawn(size: Size) -> Pixels:
    """Patches and grain, uint8 (H, W, 3): a picture on which a wrong place and a wrong weight both show."""
    draw = np.random.default_rng(0)
    patches, grain = (draw.integers(0, 128, (*shape, 3), np.uint8) for shape in ((9, 9), size))
    drawn: Pixels = resize(patches, size) + grain
    return drawn


def _freed(owned: ExitStack, thing: Any) -> Any:
    """The thing, to be freed with the others, the last one first."""
    owned.callback(thing.free)
    return thing
