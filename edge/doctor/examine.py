"""`edge-inspect doctor`: is this machine fit to be a station, and what is to be done where it is not?

Each check is one function that looks at one thing and gives one Finding; what it raises is its finding, too.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from edge.cameras import safe_uri
from edge.doctor import line, machine
from edge.doctor.finding import COLOURS, Finding, State
from edge.errors import InspectError
from edge.listing import listing


@dataclass(frozen=True)
class Patient:
    """What the user typed: what is not given is not looked at."""

    engine: Path | None = None
    backend: str = "auto"
    camera: str = ""
    outputs: Sequence[str] = ()
    save: Path | None = None
    interface: str = ""  # that a GigE camera hangs on


def examine(patient: Patient) -> Iterable[Finding]:
    """All checks that fit, one after the other."""
    folders = [folder for folder in (patient.save, Path.cwd()) if folder is not None]
    checks: list[tuple[str, Callable[[], Finding]]] = [
        *((f"disk {folder}", partial(machine.disk, folder)) for folder in folders),
        ("memory", machine.memory),
        ("clock", machine.clock),
        ("watchdog", machine.watchdog),
        ("engine's process", machine.isolation),
    ]
    if patient.engine is not None:
        checks.append((f"gpu for {patient.engine.name}", partial(machine.gpu, patient.engine)))
        checks.append(
            (f"engine {patient.engine.name}", partial(line.engine, patient.engine, patient.backend))
        )
    checks += [(f"rights {device}", partial(machine.rights, device)) for device in devices_of(patient)]
    if patient.interface:
        checks.append((f"network {patient.interface}", partial(machine.network, patient.interface)))
    if patient.camera:
        checks.append((f"camera {safe_uri(patient.camera)}", partial(line.camera, patient.camera)))
    checks += [(f"output {safe_uri(uri)}", partial(line.output, uri)) for uri in patient.outputs]
    for what, check in checks:
        yield _looked(what, check)


def devices_of(patient: Patient) -> list[Path]:
    """Device files that the camera and the serial lines need."""
    camera = patient.camera.partition("?")[0]
    if camera.isdigit():
        camera = f"/dev/video{camera}"
    lines = [urlsplit(uri).path for uri in patient.outputs]
    return [Path(name) for name in (camera, *lines) if name.startswith("/dev/")]


def _looked(what: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except InspectError as error:
        return Finding(what, State.FAIL, f"{error.what} ({error.where})", error.next_step)
    except Exception as error:  # a check that breaks has found something, too
        return Finding(what, State.FAIL, repr(error), "Look at this by hand, and tell us: the check broke.")


def exit_code(findings: Iterable[Finding]) -> int:
    """1 where something fails; warnings alone are 0."""
    return int(any(finding.state is State.FAIL for finding in findings))


def show(findings: Iterable[Finding], console: Console) -> None:
    """Print what was found, and below it what to do."""
    rows = (
        (
            f"[{COLOURS[each.state]}]{each.state.value}[/]",
            each.what,
            [each.detail, each.todo and f"-> {each.todo}"],
        )
        for each in findings
    )
    console.print(listing(rows), highlight=False)
