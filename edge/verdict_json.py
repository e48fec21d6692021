"""A verdict as one JSON object: what a file gets, what MQTT carries. Pure."""

import math
from typing import Any

from edge.verdict import Verdict


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict for people's programs; the keys are documented in docs/outputs.md and stay.

    Times are milliseconds; `captured_ns` and `decided_ns` are the monotonic clock, for differences only.
    A number that JSON cannot hold (infinite, not a number) is null.
    """
    return {
        "frame_id": verdict.frame_id,
        "part_id": verdict.part_id,
        "outcome": verdict.outcome.value,
        "reason": verdict.reason.name,
        "reason_code": int(verdict.reason),
        "score": _finite(verdict.score),
        "threshold": _finite(verdict.threshold),
        "recipe": verdict.recipe,
        "recipe_number": verdict.recipe_number,
        "lot": verdict.lot,
        "total_ms": round(verdict.total_ms, 3),
        "preprocess_ms": round(verdict.preprocess_ms, 3),
        "infer_ms": round(verdict.infer_ms, 3),
        "captured_ns": verdict.captured_ns,
        "decided_ns": verdict.decided_ns,
        "label": verdict.label,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
