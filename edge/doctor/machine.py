"""The doctor looks at the machine: disk, memory, clock, watchdog, rights, network card, GPU.

Judgements take what was read as arguments; the functions without one read it first.
"""

import grp
import os
import shutil
import subprocess
from pathlib import Path

from edge.doctor.finding import Finding, State
from edge.engines.isolation import can_isolate
from edge.errors import BackendFault
from edge.gpu import describe_mismatch, installed, own_sm, rebuild_hint
from edge.kernels.compile import find_compiler
from edge.paths import check_folder
from edge.recipe import load_pair
from edge.remake import KERNEL, is_plan, other_kernel

FULL, FILLING = 0.01, 0.10  # share of a disk that is free; root keeps 5 % of ext4 for itself
LEAST_FREE = 200 << 20  # bytes: a thousand heat maps
LEAST_MEMORY = 500 << 20  # an engine's process and a start beside it
JUMBO = 8000  # bytes: GigE cameras send packets of 8 to 9 kB; at 1500 each picture takes six times as many
LEAST_BUFFER = 4 << 20  # a picture that arrives while the reader is not there
UNIT = "edge-inspect"
ASK_S = 5.0


def disk(folder: Path) -> Finding:
    """Room and rights where pictures go. Raises DataError where nothing can be written."""
    check_folder(folder, "--save")
    place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    usage = shutil.disk_usage(place)
    return disk_finding(folder, usage.free, usage.total)


def disk_finding(folder: Path, free: int, total: int) -> Finding:
    """`free` and `total` are bytes."""
    share = free / total if total else 0.0
    detail = f"{free >> 20} MiB free, {share:.0%} of {total >> 20} MiB"
    what, todo = f"disk {folder}", "Remove old pictures, or give --save another disk."
    if share < FULL or free < LEAST_FREE:
        return Finding(what, State.FAIL, detail, todo)
    return Finding(what, State.WARN, detail, todo) if share < FILLING else Finding(what, State.OK, detail)


def memory() -> Finding:
    """What is free for an engine."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return memory_finding(
        int(lines["MemAvailable"].split()[0]) << 10, int(lines["MemTotal"].split()[0]) << 10
    )


def memory_finding(available: int, total: int) -> Finding:
    """Bytes."""
    detail = f"{available >> 20} of {total >> 20} MiB available"
    if available < LEAST_MEMORY:
        return Finding(
            "memory", State.FAIL, detail, "End other programs: a station that swaps misses deadlines."
        )
    return Finding("memory", State.OK, detail)


def clock() -> Finding:
    """Whether the time of day is right: records have it; verdicts are timed by a clock that never steps."""
    return clock_finding(_answer("timedatectl", "show", "-p", "NTP", "-p", "NTPSynchronized"))


def clock_finding(answer: str) -> Finding:
    """`answer` is timedatectl's; "" where there is none."""
    told = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
    if told.get("NTPSynchronized") == "yes":
        return Finding("clock", State.OK, "synchronised")
    todo = (
        "Set it up: timedatectl set-ntp true, with a time server of the plant in /etc/systemd/timesyncd.conf."
    )
    if not told:
        return Finding("clock", State.WARN, "timedatectl does not say whether it is synchronised", todo)
    why = "not synchronised yet" if told.get("NTP") == "yes" else "runs by itself, NTP is off"
    return Finding("clock", State.WARN, f"{why}: times in records drift, deadlines do not", todo)


def watchdog() -> Finding:
    """Whether somebody starts the station again."""
    return watchdog_finding(
        _answer("systemctl", "show", UNIT, "-p", "LoadState,UnitFileState,WatchdogUSec,Restart")
    )


def watchdog_finding(answer: str) -> Finding:
    """`answer` is systemctl's; "" where there is none."""
    told = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
    todo = "Install deploy/systemd/edge-inspect.service (docs/deploy.md, As a service)."
    if told.get("LoadState") != "loaded":
        return Finding("watchdog", State.WARN, "nobody starts the station again when it ends", todo)
    limit, restart = told.get("WatchdogUSec", "0"), told.get("Restart", "no")
    if limit in ("0", "infinity") or restart not in ("always", "on-failure", "on-abnormal", "on-watchdog"):
        return Finding(
            "watchdog", State.WARN, f"the service has WatchdogSec={limit}, Restart={restart}", todo
        )
    if told.get("UnitFileState") != "enabled":
        detail = "the service does not start with the machine"
        return Finding("watchdog", State.WARN, detail, f"systemctl enable {UNIT}")
    return Finding("watchdog", State.OK, f"systemd, after {limit}")


def isolation() -> Finding:
    """Whether the engine can have a process of its own."""
    if can_isolate():
        return Finding("engine's process", State.OK, "can be killed and started again")
    detail = (
        "this system cannot keep the engine in a process of its own: one that hangs ends with the station"
    )
    return Finding("engine's process", State.WARN, detail, "Linux can.")


def rights(device: Path) -> Finding:
    """Whether this user may use a device file."""
    what = f"rights {device}"
    if not device.exists():
        names = "/dev/v4l/by-id" if "video" in device.name or "v4l" in str(device) else "/dev/serial/by-id"
        return Finding(
            what, State.FAIL, "there is no such device", f"Plugged in? ls -l {names}; dmesg | tail"
        )
    if os.access(device, os.R_OK | os.W_OK):
        return Finding(what, State.OK, "may be read and written")
    group = _group(device.stat().st_gid)
    todo = f"sudo usermod -aG {group} $USER, then log in again; or install deploy/udev."
    return Finding(what, State.FAIL, f"belongs to the group {group}, which you are not in", todo)


def network(interface: str, system: Path = Path("/sys/class/net")) -> Finding:
    """The card that a GigE camera hangs on."""
    what, place = f"network {interface}", system / interface
    if not place.exists():
        there = ", ".join(sorted(p.name for p in system.iterdir()))
        return Finding(what, State.FAIL, "there is no such card", f"There are: {there}")
    up = (place / "operstate").read_text().strip() not in ("down", "lowerlayerdown")
    buffer = int(Path("/proc/sys/net/core/rmem_max").read_text())
    return network_finding(interface, up, int((place / "mtu").read_text()), buffer)


def network_finding(interface: str, up: bool, mtu: int, buffer: int) -> Finding:
    """`mtu` and the largest receive `buffer` in bytes."""
    what = f"network {interface}"
    if not up:
        return Finding(what, State.FAIL, "no link", "Cable, power of the camera, switch?")
    if mtu < JUMBO:
        todo = f"ip link set {interface} mtu 9000, and the same in camera and switch."
        return Finding(
            what, State.WARN, f"MTU {mtu}: no jumbo frames, pictures lose packets under load", todo
        )
    if buffer < LEAST_BUFFER:
        todo = "sysctl -w net.core.rmem_max=33554432; to keep it: /etc/sysctl.d/60-camera.conf"
        return Finding(what, State.WARN, f"MTU {mtu}; receive buffers end at {buffer >> 10} KiB", todo)
    return Finding(what, State.OK, f"MTU {mtu}, receive buffers up to {buffer >> 10} KiB")


def gpu(engine: Path) -> Finding:
    """Whether GPU, driver and TensorRT fit the engine. Raises RecipeError."""
    found, recipe, artefact = load_pair(engine)
    what, sm = f"gpu for {found.name}", own_sm()
    card = "no NVIDIA GPU" if sm is None else f"SM {sm}"
    here = f"{card}, {', '.join(installed()) or 'no TensorRT'}{_driver()}"
    if not is_plan(found):
        return Finding(what, State.OK, f"not needed ({here})")
    if mismatch := other_kernel(recipe.made_with) or describe_mismatch(artefact):
        return Finding(what, State.FAIL, mismatch, rebuild_hint(found, artefact, recipe.made_with))
    if KERNEL in recipe.made_with:
        try:
            find_compiler("nvcc")
        except BackendFault as error:
            return Finding(
                what, State.FAIL, f"{error.what}; the plan has the affinity kernel", error.next_step
            )
    return Finding(what, State.OK, here)


def _driver(version: Path = Path("/proc/driver/nvidia/version")) -> str:
    if not version.exists():
        return ""
    words = version.read_text().split()
    return next((f", driver {word}" for word in words if word[:1].isdigit() and "." in word), "")


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _answer(*words: str) -> str:
    """What a program prints; "" where it is not there, fails or takes too long."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
