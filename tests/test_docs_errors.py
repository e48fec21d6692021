"""docs/errors.md is what an electrician has in hand at night: it says what the code says."""

import re
from pathlib import Path

from edge import errors
from edge.errors import InspectError
from edge.verdict import Reason

DOCS = (Path(__file__).parents[1] / "docs" / "errors.md").read_text("utf-8")


def test_the_reason_codes_are_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| (yes|no) \| .+? \| .+? \|$", DOCS, re.M)
    assert rows == [(str(r.value), r.name, "yes" if r.is_fault else "no") for r in Reason]


def test_the_exit_codes_are_the_code() -> None:
    rows = re.findall(r"^\| (\d) \| (\w[\w, ]+) \| .+? \|$", DOCS.partition("## Exit codes")[2], re.M)
    documented = {name: int(code) for code, names in rows for name in names.split(", ")}
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, InspectError)]
    assert documented == {kind.__name__: kind.exit_code for kind in kinds}
