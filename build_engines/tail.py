"""What an exported detector has between feature maps and score: read backwards out of its graph.

Found by structure, from the few names that the export gives, in FP32, FP16 and INT8 graphs alike; without
torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from build_engines.graph import OUTPUTS, consumers, producers
from edge.errors import BackendFault
from edge.kernels.constants import SCALES, Constants, Floats
from edge.kernels.problem import map_name

Sizes = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Sheet:
    """Errors of one branch at one scale: between which maps; of an affinity, a context place's sides.

    cosine: whether it is squared error plus 1 - cosine, or the squared error alone.
    """

    teacher: str
    student: str
    gain: Floats  # (height, width)
    offset: Floats
    cosine: bool
    cell: tuple[int, ...] = ()


class Tail:
    """Of one graph. Raises BackendFault, there or later, where the kernel does not compute what it does."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._behind, self._readers = producers(model), consumers(model)
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        graph = onnx.shape_inference.infer_shapes(model).graph
        self._types = {v.name: v.type.tensor_type for v in (*graph.input, *graph.output, *graph.value_info)}
        sheets = [*self._sheets()]
        self._local, pairs = sheets[: -2 * SCALES], sheets[-2 * SCALES :]
        self._global, self._affinity = pairs[:SCALES], pairs[SCALES:]
        maps, of_affinity = ([(s.teacher, s.student) for s in of] for of in (self._global, self._affinity))
        targets = {s.teacher for s in self._local}
        kinds = [bool(s.cell) for s in sheets] == [False] * len(sheets[SCALES:]) + [True] * SCALES
        if not (kinds and maps == of_affinity and targets and targets <= {teacher for teacher, _ in maps}):
            raise _refused("its branches are not local, global and affinity at three scales")
        if [s.cosine for s in sheets] != [sheets[0].cosine] * len(sheets[SCALES:]) + [False] * SCALES:
            raise _refused("its students' errors are not all of one measure")

    @cached_property
    def maps(self) -> dict[str, str]:
        """What the kernel reads, in its order: a name for it -> the tensor."""
        scales = {sheet.teacher: k for k, sheet in enumerate(self._global)}
        maps = {map_name("teacher", k): self._narrow(s.teacher) for k, s in enumerate(self._global)}
        maps |= {map_name("global", k): self._narrow(s.student) for k, s in enumerate(self._global)}
        return maps | {map_name("local", scales[s.teacher]): self._narrow(s.student) for s in self._local}

    @cached_property
    def parts(self) -> dict[str, int]:
        """The score's parts that the kernel makes -> the column of its scores: map, local branch."""
        blurred = self._reader(self._blur.output[0])
        parts = {}
        for top in self._tops:
            source = self._back(top.input[0], "Reshape").input[0]
            if local := source != blurred.output[0]:
                branch = self._back(source, "Gather")
                if branch.input[0] != self._ranged.output[0] or self._value(branch.input[1]) != 0:
                    raise _refused("a part of its score is neither the map's nor the local branch's")
            parts[self._reader(top.output[0]).output[0]] = int(local)
        return parts

    @cached_property
    def constants(self) -> Constants:
        """As `build_engines.kernel.kernel_constants` takes them out of torch's module."""
        of_local = {sheet.teacher: sheet for sheet in self._local}
        own = [of_local.get(sheet.teacher) for sheet in self._global]
        sizes = tuple(sheet.gain.shape for sheet in self._global)
        scales = [*zip(own, self._global, self._affinity, strict=True)]
        return Constants(
            self._shape(OUTPUTS[0])[1:], tuple(self._shape(s.teacher)[1] for s in self._global), sizes,
            local=tuple(sheet is not None for sheet in own),
            gains=[_table(scale, "gain") for scale in scales],
            offsets=[_table(scale, "offset") for scale in scales],
            low=self._value(self._back(self._ranged.input[0], "Sub").input[1]).ravel(),
            span=self._value(self._ranged.input[1]).ravel(),
            blur=self._value(self._blur.input[1])[0, 0].sum(axis=0),
            grid=_grid(sizes, [sheet.cell for sheet in self._affinity]),
            top=int(self._value(self._tops[0].input[1]).item()),
            cosine=self._global[0].cosine,
        )  # fmt: skip

    def _sheets(self) -> Iterator[Sheet]:
        for i in count():
            gain = f"fusion.gain{i}"
            if gain not in self._readers:
                return
            scaled = self._reader(gain)
            shifted = self._reader(scaled.output[0])
            (error,) = {*scaled.input} - {gain}
            tables = self._value(gain)[0], self._value(shifted.input[1])[0]
            (one, other), cosine = self._of_error(error)
            if one in self._behind and self._behind[one].op_type == "Reshape":
                (one, cell), (other, _) = self._of_affinity(one), self._of_affinity(other)
                yield Sheet(one, other, *tables, cosine, cell)
            else:
                yield Sheet(one, other, *tables, cosine)

    def _of_error(self, error: str) -> tuple[Sequence[str], bool]:
        """The two tensors that it is between, and whether it is squared error plus 1 - cosine."""
        node = self._behind.get(error)
        if node is None or node.op_type != "Add":
            return self._back(error, "ReduceMean", "Pow", "Sub").input, False
        squared, of_cosine = node.input
        maps = self._back(squared, "ReduceMean", "Pow", "Sub").input
        if self._of_cosine(of_cosine) != [*maps] * 2:
            raise _refused("squared and cosine error are not of the same maps")
        return maps, True

    def _of_cosine(self, error: str) -> list[str]:
        """Of 1 - cosine: the maps in its product, then those in its norms."""
        rest = self._back(error, "Sub")
        if not np.array_equal(self._value(rest.input[0]).ravel(), [1]):
            raise _refused("a cosine is not taken from 1")
        cosine = self._back(rest.input[1], "Div")
        norms = self._back(cosine.input[1], "Clip", "Mul").input
        of_norms = [self._back(norm, "Sqrt", "Clip", "ReduceSum", "Pow").input[0] for norm in norms]
        return [*self._back(cosine.input[0], "ReduceSum", "Mul").input, *of_norms]

    def _of_affinity(self, cosines: str) -> tuple[str, tuple[int, ...]]:
        """The map that these are of, and its cells' (height, width)."""
        product = self._back(cosines, "Reshape", "MatMul")
        pooling = self._back(product.input[0], "Transpose", "Div", "Reshape", "AveragePool")
        places = self._back(product.input[1], "Reshape", "Div").input[0]
        if pooling.input[0] != places:
            raise _refused("its context places are not of the map itself")
        (kernel,) = (helper.get_attribute_value(a) for a in pooling.attribute if a.name == "kernel_shape")
        return places, tuple(kernel)

    @cached_property
    def _blur(self) -> onnx.NodeProto:
        return self._reader("fusion.blur")

    @cached_property
    def _ranged(self) -> onnx.NodeProto:
        """What brings the branches to one range, before the largest is taken and blurred."""
        return self._back(self._back(self._blur.input[0], "Pad", "ReduceMax").input[0], "Div")

    @cached_property
    def _tops(self) -> list[onnx.NodeProto]:
        return [node for node in self._behind.values() if node.op_type == "TopK"]

    def _reader(self, name: str) -> onnx.NodeProto:
        """The one node that reads it."""
        readers = self._readers.get(name, [])
        if len(readers) != 1:
            raise _refused(f"{name} is read {len(readers)} times, not once")
        return readers[0]

    def _back(self, name: str, *operations: str) -> onnx.NodeProto:
        """From a tensor back through first inputs, if the nodes on the way are these: the last of them."""
        for operation in operations:
            node = self._behind.get(name)
            if node is None or node.op_type != operation:
                raise _refused(f"{name} is not made by {operation}")
            name = node.input[0]
        return node

    def _narrow(self, name: str) -> str:
        """What a map was in FP16, if it was and is FP32 for the plain operations alone."""
        node = self._behind[name]
        half = node.op_type == "Cast" and self._types[node.input[0]].elem_type == TensorProto.FLOAT16
        return node.input[0] if half else name

    def _value(self, name: str) -> npt.NDArray[np.float32]:
        if name not in self._weights:
            raise _refused(f"{name} is no constant")
        return np.asarray(numpy_helper.to_array(self._weights[name]))

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(dimension.dim_value for dimension in self._types[name].shape.dim)


def _table(scale: Sequence[Sheet | None], name: str) -> Floats:
    """(branches, height, width): of local, where it has a target here, global, affinity."""
    tables = [None if sheet is None else getattr(sheet, name) for sheet in scale]
    return np.stack([np.zeros_like(tables[-1]) if table is None else table for table in tables])


def _grid(sizes: Sizes, cells: Sizes) -> int:
    """The first raster that cuts maps of these sizes so, as distillation/affinity.py does."""
    for grid in range(1, max(map(max, sizes)) + 1):
        if all(tuple(max(1, side // grid) for side in s) == c for s, c in zip(sizes, cells, strict=True)):
            return grid
    raise _refused(f"no raster cuts maps of {sizes} into cells of {cells}")


def _refused(why: str) -> BackendFault:
    hint = "Run it as it is, or train with the default detector."
    return BackendFault(f"the affinity kernel does not compute what this graph does: {why}", "ONNX", hint)
