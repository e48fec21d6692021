"""The students predict what they should, and nothing local gets through the global student's bottleneck."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from distillation.students import (
    LOCAL_STUDENTS,
    Decoder,
    ForwardStudent,
    Fusion,
    GlobalContextCondensingBlock,
    GlobalStudent,
    ReverseStudent,
)

CHANNELS = (24, 40, 112)  # EfficientNet-Lite0's
SIZES = [(256, 256), (320, 256)]


def teacher_maps(
    height: int, width: int, channels: tuple[int, ...] = CHANNELS, seed: int = 0
) -> list[Tensor]:
    """Random maps at strides 4, 8 and 16 for one picture of height x width pixels."""
    rng = torch.Generator().manual_seed(seed)
    places = [(height // stride, width // stride) for stride in (4, 8, 16)]
    return [torch.randn(1, c, *at, generator=rng) for c, at in zip(channels, places, strict=True)]


def shapes(maps: list[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(m.shape) for m in maps]


# --- shapes


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("student", list(LOCAL_STUDENTS))
@torch.inference_mode()
def test_a_local_student_gives_maps_like_its_targets(student: str, size: tuple[int, int]) -> None:
    maps = teacher_maps(*size)
    local = LOCAL_STUDENTS[student](CHANNELS).eval()
    assert shapes(local(maps)) == [tuple(maps[k].shape) for k in local.targets]


@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_the_global_student_gives_maps_like_all_of_the_teachers(size: tuple[int, int]) -> None:
    maps = teacher_maps(*size)
    student = GlobalStudent(CHANNELS, (size[0] // 32, size[1] // 32), width=64, context=32).eval()
    assert student.targets == (0, 1, 2)
    assert shapes(student(maps)) == shapes(maps)


@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_fusion_condenses_to_stride_32_and_the_decoder_opens_it_again(size: tuple[int, int]) -> None:
    height, width = size
    maps = teacher_maps(*size)
    fused = Fusion(CHANNELS, 64).eval()(maps)
    assert fused.shape == (1, 64, height // 32, width // 32)
    assert shapes(Decoder(CHANNELS, 64).eval()(fused)) == shapes(maps)


@torch.inference_mode()
def test_the_forward_student_sees_only_the_finest_map_it_never_has_to_predict() -> None:
    student = ForwardStudent(CHANNELS).eval()
    maps, others = teacher_maps(64, 64), teacher_maps(64, 64, seed=1)
    assert 0 not in student.targets
    for a, b in zip(student(maps), student([maps[0], *others[1:]]), strict=True):
        assert torch.equal(a, b)


# --- nothing local passes the global context condensing block

WIDTH, CONTEXT, SIZE = 16, 5, (4, 3)


def block() -> GlobalContextCondensingBlock:
    torch.manual_seed(0)
    return GlobalContextCondensingBlock(WIDTH, SIZE, CONTEXT, squeeze=WIDTH).double().eval()


def nothing_but_null_space(gccb: GlobalContextCondensingBlock) -> tuple[Tensor, Tensor]:
    """Two very different inputs (1, WIDTH, 4, 3) that the full-size convolution turns into the same context.

    Their difference after the squeeze is taken from the convolution's null space; the squeeze is linear
    there, because both lie well above zero, and square, so that its inverse leads back to the input.
    """
    _, _, rows = torch.linalg.svd(gccb.condense.weight.detach().flatten(1))  # (CONTEXT, WIDTH * 12)
    hidden = rows[-1].view(1, WIDTH, *SIZE)
    squeezed = [torch.ones_like(hidden), 1 + hidden / hidden.abs().max() / 2]
    conv, norm = gccb.squeeze[0], gccb.squeeze[1]
    back = torch.linalg.inv(conv.weight.detach()[:, :, 0, 0]) * (1 + norm.eps) ** 0.5
    first, second = (torch.einsum("oc,bchw->bohw", back, s) for s in squeezed)
    return first, second


@torch.no_grad()
def test_inputs_with_the_same_context_give_the_same_output() -> None:
    gccb = block()
    first, second = nothing_but_null_space(gccb)
    contexts = [gccb.condense(gccb.squeeze(x)) for x in (first, second)]
    assert contexts[0].shape == (1, CONTEXT, 1, 1)
    torch.testing.assert_close(contexts[0], contexts[1], rtol=0, atol=1e-12)
    assert (first - second).abs().max() > 0.5
    torch.testing.assert_close(gccb(first), gccb(second), rtol=0, atol=1e-12)
    assert (gccb(first) - gccb(1.5 * first)).abs().max() > 1e-3  # another context does give another output


def rank_of_the_answer(student: Callable[[list[Tensor]], list[Tensor]], directions: int = 24) -> int:
    """In how many independent ways the student's maps can answer small changes of its input (at most
    `directions`): the rank of its Jacobian, felt by central differences along random directions."""
    maps = [m.double() for m in teacher_maps(64, 64, (3, 4, 5))]
    answers = []
    for seed in range(1, directions + 1):
        step = [1e-6 * m.double() for m in teacher_maps(64, 64, (3, 4, 5), seed)]
        ahead = student([m + s for m, s in zip(maps, step, strict=True)])
        behind = student([m - s for m, s in zip(maps, step, strict=True)])
        answers.append(torch.cat([(a - b).flatten() / 2e-6 for a, b in zip(ahead, behind, strict=True)]))
    return int(torch.linalg.matrix_rank(torch.stack(answers), rtol=1e-6))


@torch.no_grad()
def test_the_global_student_answers_in_no_more_ways_than_its_context_has_numbers() -> None:
    """A part that is locally wrong cannot be repainted: there is no room for it in the context vector."""
    torch.manual_seed(0)
    student: nn.Module = GlobalStudent((3, 4, 5), (2, 2), width=32, context=CONTEXT).double().eval()
    assert 0 < rank_of_the_answer(student) <= CONTEXT


@torch.no_grad()
def test_a_local_student_answers_in_more_ways_than_that() -> None:
    """What the test above would say about a student without the bottleneck."""
    torch.manual_seed(0)
    assert rank_of_the_answer(ReverseStudent((3, 4, 5), width=32).double().eval()) > 2 * CONTEXT
