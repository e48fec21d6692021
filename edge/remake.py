"""The command that makes an engine anew: as a hint for a person, and for the station that starts it itself.

loco/loco.onnx           build-engines loco
loco/loco.fp16.sm86.plan build-engines loco/loco.onnx --fp16 --sm 86
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

ENGINE_ENDING = re.compile(r"(\.(fp32|fp16|int8))?(\.sm\d+)?\.(onnx|plan)$")  # loco.fp16.sm86.plan
PLAN_ENDING = re.compile(r"(?:\.(fp32|fp16|int8))?\.sm(\d+)\.(?:plan|recipe\.json)$")  # or its recipe
KERNEL, AFFINITY = "kernel", "affinity 1"  # in a recipe's `made_with`: the plan has it, in this version
NOTHING: Mapping[str, str] = {}


def other_kernel(made_with: Mapping[str, str]) -> str:
    """What is wrong with a plan's affinity kernel; "" for one of this version, or without."""
    found = made_with.get(KERNEL, AFFINITY)
    differs = f"its affinity kernel is of another version ({found}, here {AFFINITY})"
    return "" if found == AFFINITY else differs


def is_plan(path: Path) -> bool:
    """Whether a file is a TensorRT plan, or the recipe of one, by its name."""
    return PLAN_ENDING.search(path.name) is not None


def model_of(plan: Path, made_with: Mapping[str, str] = NOTHING) -> Path:
    """The ONNX that a plan was made from: where its recipe says, or beside it; need not be there."""
    beside = plan.with_name(PLAN_ENDING.sub("", plan.name).removesuffix(".plan") + ".onnx")
    told = plan.parent / made_with.get("onnx", beside.name)
    return told if told.is_file() else beside


def plan_for(plan: Path, sm: int) -> Path:
    """Where build-engines puts the plan of the same model and precision for another GPU."""
    found = PLAN_ENDING.search(plan.name)
    precision = (found and found[1]) or "fp32"
    return plan.with_name(f"{PLAN_ENDING.sub('', plan.name).removesuffix('.plan')}.{precision}.sm{sm}.plan")


def plan_words(
    plan: Path, sm: int | None = None, runtime: str = "", made_with: Mapping[str, str] = NOTHING
) -> list[str]:
    """The arguments of build-engines that make a plan NAME.PRECISION.smSM.plan, or the same for another `sm`.

    `runtime` as `--runtime` takes it; `made_with` of the plan's recipe, where there is one. The calibration
    set is not among what is known: `calibration.npz` is used.
    """
    found, model = PLAN_ENDING.search(plan.name), model_of(plan, made_with)
    precision, named = found.groups() if found else ("", "")
    target = str(sm or named)
    words = [str(model), f"--{precision}" if precision in ("fp16", "int8") else ""]
    words += ["--sm", target] if target else []
    words += ["--runtime", runtime] if runtime else []
    words += ["--out", str(plan.parent)] if plan.parent != model.parent else []
    words += ["--false-rejects", made_with["false_rejects"]] if "false_rejects" in made_with else []
    words += ["--kernel"] if KERNEL in made_with else []
    words += ["--force"] if made_with.get("gate", "").startswith("refused") else []
    return [word for word in words if word]


def as_typed(words: Sequence[str]) -> str:
    """The command line of build-engines with these arguments."""
    return shlex.join(["build-engines", *words])
