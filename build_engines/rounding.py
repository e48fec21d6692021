"""Weights in INT8 so that what a convolution gives moves least on real pictures.

Rounding each weight to the nearest step spoils this detector more than rounding all activations does. GPTQ
(arXiv 2210.17323) rounds one input after the other and lets those still to come make up for the error, as far
as they move together on real pictures. What is left in the mean goes into the bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from numpy.lib.stride_tricks import sliding_window_view

from build_engines.graph import convolutions, weights_of
from build_engines.probe import look
from edge.frame import Pixels

PLACES = 128  # of each picture that a convolution's inputs are drawn from
DAMPING = 0.05  # of the mean variance, added to each: few pictures tell little of inputs that hardly move
STEPS = 127  # to each side; -128 is left out, as TensorRT has it

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Rounded:
    """One convolution: weights int8 as in the graph, scale float32 (out,), bias float32 (out,) or None."""

    weights: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32] | None


class Inputs:
    """Mean (groups, d) and covariance (groups, d, d) of what one convolution multiplies with its weights."""

    def __init__(self) -> None:
        self._count, self._origin, self._sum, self._square = 0, None, 0.0, 0.0

    def add(self, rows: Floats) -> None:
        """rows (groups, n, d)."""
        if self._origin is None:  # near the mean, so that no digits are lost in differences
            self._origin = rows.mean(axis=1, keepdims=True)
        rows = rows - self._origin
        self._count += rows.shape[1]
        self._sum = self._sum + rows.sum(axis=1, dtype=np.float64)
        self._square = self._square + (rows.transpose(0, 2, 1) @ rows).astype(np.float64)

    @property
    def mean(self) -> Floats:
        return self._sum / self._count + self._origin[:, 0]

    @property
    def covariance(self) -> Floats:
        offset = self._sum / self._count
        return self._square / self._count - offset[:, :, None] * offset[:, None, :]


def rounded(model: onnx.ModelProto, pictures: Pixels) -> dict[str, Rounded]:
    """Every convolution of the FP32 graph by its name; pictures uint8 (N, H, W, 3)."""
    nodes, rng = convolutions(model), np.random.default_rng(0)
    inputs = {node.name: Inputs() for node in nodes}
    for values in look(model, pictures, [node.input[0] for node in nodes]):
        for node in nodes:
            shape = weights_of(model, node.input[1]).shape
            inputs[node.name].add(_rows(values[node.input[0]], node, shape, rng))
    return {node.name: _rounded(model, node, inputs[node.name]) for node in nodes}


def _rounded(model: onnx.ModelProto, node: onnx.NodeProto, inputs: Inputs) -> Rounded:
    weights = weights_of(model, node.input[1])
    groups = len(inputs.mean)
    flat = weights.reshape(groups, len(weights) // groups, -1).astype(np.float64)
    scale = held_by_half(np.abs(flat).max(axis=2) / STEPS)
    whole = gptq(flat / scale[:, :, None], inputs.covariance)
    bias = None
    if len(node.input) > 2:
        missing = ((flat - whole * scale[:, :, None]) * inputs.mean[:, None, :]).sum(axis=2).ravel()
        bias = (weights_of(model, node.input[2]) + missing).astype(np.float32)
    return Rounded(whole.reshape(weights.shape).astype(np.int8), scale.ravel(), bias)


def held_by_half(scale: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """From each number up the first that FP16 holds exactly: around INT8 a plan computes in FP16, and scales
    that it had to round would move the map as much again as half of INT8's own rounding does."""
    exact = np.asarray(scale, np.float64)
    half = exact.astype(np.float16)
    up = np.where(half < exact, np.nextafter(half, np.float16(np.inf)), half)
    return np.maximum(up, np.finfo(np.float16).smallest_subnormal).astype(np.float32)


def gptq(weights: Floats, covariance: Floats) -> Floats:
    """Weights (groups, out, d) in steps -> whole ones within STEPS; covariance (groups, d, d) of the inputs.

    Inputs that move most are rounded first: most are then left to make up for it.
    """
    size = weights.shape[2]
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    order = np.argsort(-variance, axis=1)
    damping = np.maximum(DAMPING * variance.mean(axis=1), 1e-9)[:, None, None] * np.eye(size)
    damped = np.take_along_axis(covariance + damping, order[:, :, None], axis=1)
    inverse = np.linalg.inv(np.take_along_axis(damped, order[:, None, :], axis=2))
    share = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2).transpose(0, 2, 1)
    left = np.take_along_axis(weights, order[:, None, :], axis=2)
    whole = np.empty_like(left)
    for i in range(size):
        whole[:, :, i] = left[:, :, i].round().clip(-STEPS, STEPS)
        error = (left[:, :, i] - whole[:, :, i]) / share[:, i, i, None]
        left[:, :, i + 1 :] -= error[:, :, None] * share[:, i, None, i + 1 :]
    result = np.empty_like(whole)
    np.put_along_axis(result, np.broadcast_to(order[:, None, :], whole.shape), whole, axis=2)
    return result


def _rows(values: Floats, node: onnx.NodeProto, shape: Sequence[int], rng: np.random.Generator) -> Floats:
    """What the weights meet at some places of (1, C, H, W): (groups, places, inputs of a group)."""
    options = {attribute.name: list(attribute.ints) or attribute.i for attribute in node.attribute}
    (top, left, bottom, right), (down, along) = options["pads"], options["strides"]
    padded = np.pad(values[0], ((0, 0), (top, bottom), (left, right)))
    windows = sliding_window_view(padded, shape[2:], axis=(1, 2))[:, ::down, ::along]
    places = windows.shape[1] * windows.shape[2]
    drawn = rng.permutation(places)[:PLACES]
    rows = windows[:, drawn // windows.shape[2], drawn % windows.shape[2]]  # (C, n, kh, kw)
    groups = options.get("group", 1)
    rows = rows.reshape(groups, len(rows) // groups, len(drawn), -1).transpose(0, 2, 1, 3)
    return rows.reshape(groups, len(drawn), -1)
