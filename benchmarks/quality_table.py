"""The figures of benchmarks/quality.py as tables: mean and deviation over seeds, for terminal and Markdown.

AU-PRO is AU-sPRO for sets with MVTec LOCO AD's layout, whose logical and structural anomalies stand apart in
the second table. "good stopped" is the count of each seed, with what the recipes promised in brackets; a dash
where there are no good pictures that were not learnt from. "largest" is that of the 57 pictures of a race.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

BySeed = Mapping[int, Mapping[str, Any]]
AVERAGED = ("image_auroc", "pixel_auroc", "au_pro", "au_spro", "recall_at_1_percent", "training_minutes")
HEADS = ("set", "detector", "image AUROC", "pixel AUROC", "AU-PRO", "recall at 1 %", "good stopped",
         "minutes", "ms, median (largest)", "time against ours")  # fmt: skip


def summary(by_seed: BySeed) -> dict[str, Any]:
    """{figure: {"mean", "sd", "n"}}; the deviation is over seeds (n - 1), null with one seed."""
    runs = list(by_seed.values())
    kinds = sorted({kind for run in runs for kind in run["per_type"]})
    return {
        **{name: _spread([run.get(name) for run in runs]) for name in AVERAGED},
        "per_type": {kind: _spread([run["per_type"].get(kind) for run in runs]) for kind in kinds},
        "false_rejects": _false_rejects(runs),
    }


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "sd": None, "n": 0}
    sd = round(float(np.std(known, ddof=1)), 5) if len(known) > 1 else None
    return {"mean": round(float(np.mean(known)), 5), "sd": sd, "n": len(known)}


def _false_rejects(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Observed counts of each seed, and the widest of what the recipes promised, as shares."""
    promised = [run["expected_false_rejects"] for run in runs]
    return {
        "observed": [run["false_rejects"] for run in runs],
        "of": max(run["n_good"] for run in runs),
        "expected_low": min(p["low"] for p in promised),
        "expected_high": max(p["high"] for p in promised),
    }


def rows(results: Mapping[str, Any]) -> list[list[str]]:
    """One row for each set and detector, then the mean over the sets that have a figure."""
    found = [_row(name, detector, r) for name, by in results.items() for detector, r in by.items()]
    detectors = list(dict.fromkeys(detector for by in results.values() for detector in by))
    judged = [by for by in results.values() if any(_auroc(by, detector) is not None for detector in by)]
    for detector in detectors:
        known = [mean for by in judged if (mean := _auroc(by, detector)) is not None]
        if (
            len(known) == len(judged) > 1
        ):  # a mean over fewer sets than the others' would compare with nothing
            name = f"mean of {len(known)} sets"
            found.append([name, detector, f"{np.mean(known):.3f}", *[""] * (len(HEADS) - 3)])
    return found


def _auroc(by_detector: Mapping[str, Any], detector: str) -> float | None:
    """Mean image AUROC of a detector on one set, where it has been judged and the set can tell."""
    found = by_detector.get(detector)
    return None if found is None else found["summary"]["image_auroc"]["mean"]


def _row(name: str, detector: str, result: Mapping[str, Any]) -> list[str]:
    s, times = result["summary"], result.get("infer_ms")
    return [
        name, detector, text(s["image_auroc"]),
        text(s["pixel_auroc"]), text(s["au_spro"] if s["au_spro"]["n"] else s["au_pro"]),
        text(s["recall_at_1_percent"]),
        stopped(s["false_rejects"]),
        text(s["training_minutes"], digits=1),
        f"{times['median']:.1f} ({times['max']:.1f})" if times else "",
        f"{times['of_ours_median']:.1f} x" if times else "",
    ]  # fmt: skip


def stopped(rejects: Mapping[str, Any]) -> str:
    """ "0, 1 of 60 (0 to 2)": good parts stopped with each seed, what was promised; a dash for none."""
    known = [str(count) for count in rejects["observed"] if count is not None]
    low, high = (rejects[f"expected_{end}"] * rejects["of"] for end in ("low", "high"))
    return f"{', '.join(known)} of {rejects['of']} ({math.floor(low)} to {math.ceil(high)})" if known else "-"


def text(figure: Mapping[str, Any] | None, digits: int = 3) -> str:
    """ "0.985 ± 0.003", "0.985" for one seed, a dash where there is none."""
    if figure is None or figure["mean"] is None:
        return "-"
    spread = "" if figure["sd"] is None else f" ± {figure['sd']:.{digits}f}"
    return f"{figure['mean']:.{digits}f}{spread}"


def type_rows(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the second table: one row for each type of defect, one column for each detector."""
    detectors = list(dict.fromkeys(detector for by in results.values() for detector in by))
    found = []
    for name, by in results.items():
        per = {detector: by[detector]["summary"]["per_type"] for detector in detectors if detector in by}
        for kind in sorted({kind for types in per.values() for kind in types}):
            found.append([name, kind, *(text(per.get(d, {}).get(kind)) for d in detectors)])
    return ["set", "type", *detectors], found


def rich_tables(results: Mapping[str, Any]) -> list[Table]:
    """Both tables for the terminal."""
    tables = []
    for heads, lines in ((list(HEADS), rows(results)), type_rows(results)):
        table = Table(*heads)
        for line in lines:
            table.add_row(*line)
        tables.append(table)
    return tables


def markdown(results: Mapping[str, Any], peer_json: Path | None = None) -> str:
    """Both tables, as docs/method.md can take them, and the peer's figures where given."""
    peer = [] if peer_json is None else json.loads(peer_json.read_text("utf-8"))["rows"]
    lines = rows(results) + [[str(row.get(head, "")) for head in HEADS] for row in peer]
    heads, types = type_rows(results)
    return _pipes(HEADS, lines) + "\nImage AUROC by type of defect:\n\n" + _pipes(heads, types)


def _pipes(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    table = [heads, ["---"] * len(heads), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in table)
