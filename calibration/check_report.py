"""One page that shows what `edge-inspect check-data` found: the pictures themselves, worst first."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from calibration.check import Finding
from calibration.gallery import thumbnail
from calibration.style import page
from calibration.unusual import FAR
from edge.atomic import write_atomically
from edge.errors import DataError
from edge.picture.images import read_image

SHOWN = (
    24  # pictures of one finding, and of the most unusual ones: what a person looks at; the rest is counted
)


@dataclass(frozen=True, slots=True)
class Checked:
    """A set of good pictures and what was found; `unusual` holds (file, steps), most unusual first."""

    name: str
    pictures: int
    findings: list[Finding]
    unusual: list[tuple[Path, float]]

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "pictures": self.pictures,
            "findings": [
                {"kind": f.kind, "what": f.what, "next": f.next_step,
                 "groups": [[str(path) for path in group] for group in f.groups]}
                for f in self.findings
            ],
            "unusual": [{"file": str(path), "steps": round(steps, 2)} for path, steps in self.unusual],
            "far": FAR,
        }  # fmt: skip


def write_check_report(checked: Checked, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    sections = [_header(checked), *map(_section, checked.findings), _unusual(checked)]
    write_atomically(path, page(f"Pictures of {checked.name}", sections).encode())


def _header(c: Checked) -> str:
    lead = (
        "; ".join(escape(f.what) for f in c.findings)
        or "Nothing was found that stands against learning from them"
    )
    return (
        f"<header><p class='kicker'>Picture check</p><h1>{escape(c.name)}</h1>"
        f"<p class='facts'>{c.pictures} pictures of good parts</p><p class='lead'>{lead}.</p></header>"
    )


def _section(finding: Finding) -> str:
    files = [(path, number) for number, group in enumerate(finding.groups, 1) for path in group]
    together = any(len(group) > 1 for group in finding.groups)
    captions = [(path, f"{escape(path.name)}{f'<br>group {n}' if together else ''}") for path, n in files]
    hint = escape(finding.next_step)
    return f"<section><h2>{escape(finding.what)}</h2><p class='hint'>{hint}</p>{_gallery(captions)}</section>"


def _unusual(c: Checked) -> str:
    if not c.unusual:
        return ""
    captions = [
        (path, f"{escape(path.name)}<br>{steps:.1f}{' <b>unlike the others</b>' if steps > FAR else ''}")
        for path, steps in c.unusual[:SHOWN]
    ]
    hint = (
        "Worst first, as the teacher network sees the whole picture: steps from the usual distance, "
        f"{FAR} is far. A scratch is too small to show here. Is every one a good part?"
    )
    return (
        f"<section><h2>The most unusual pictures</h2><p class='hint'>{hint}</p>{_gallery(captions)}</section>"
    )


def _gallery(captions: Sequence[tuple[Path, str]]) -> str:
    figures = "".join(
        f"<figure><div>{_picture(path)}</div><figcaption>{caption}</figcaption></figure>"
        for path, caption in captions[:SHOWN]
    )
    more = f"<p class='hint'>and {len(captions) - SHOWN} more</p>" if len(captions) > SHOWN else ""
    return f"<div class='gallery single'>{figures}</div>{more}"


def _picture(path: Path) -> str:
    try:
        return thumbnail(read_image(path), path.name)
    except DataError as error:
        return f"<p class='hint'>{escape(error.what)}</p>"
