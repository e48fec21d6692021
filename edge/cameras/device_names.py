"""The name of a camera on this machine that stays the same after a replug: its number does not."""

import re
from pathlib import Path

BY_ID = Path("/dev/v4l/by-id")
BY_PATH = Path(
    "/dev/v4l/by-path"
)  # by the socket it is plugged into: for two cameras of one kind without serial


def number_note(uri: str, folders: tuple[Path, ...] = (BY_ID, BY_PATH)) -> str:
    """What to say where a camera is named by its number, as `0` or /dev/video0; else "".

    One reboot or replug later another camera may have that number, and other parts would be judged.
    """
    found = re.fullmatch(r"(?:/dev/video)?(\d+)(\?.*)?", uri)
    if found is None:
        return ""
    better = _stable_name(f"video{found[1]}", folders)
    advice = f"write {better}{found[2] or ''}" if better else "see `ls -l /dev/v4l/by-id /dev/v4l/by-path`"
    return f"the camera's number {found[1]} may change when it is plugged in anew: {advice}"


def _stable_name(device: str, folders: tuple[Path, ...]) -> Path | None:
    links = [link for folder in folders if folder.is_dir() for link in sorted(folder.iterdir())]
    return next((link for link in links if link.resolve().name == device), None)
