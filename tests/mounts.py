"""Disks that are really full or read-only, for one process and nobody else."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

# $1 folders full, $2 their size, $3 folders read-only; then what is to be run. At its end the files in the
# full ones are printed.
SCRIPT = """
full=$1 size=$2 read_only=$3; shift 3
for folder in $full; do mount -t tmpfs -o size=$size none "$folder" || exit 99; done
for folder in $read_only; do
    mount --bind "$folder" "$folder" && mount -o remount,bind,ro "$folder" || exit 99
done
"$@"; code=$?
for folder in $full; do find "$folder" -type f; done
exit $code
"""


def mounted(
    command: Sequence[str],
    full: Sequence[Path] = (),
    read_only: Sequence[Path] = (),
    environ: Mapping[str, str] | None = None,
    room: str = "10m",
) -> subprocess.CompletedProcess[str]:
    """`command` where `room` is all there is in each folder of `full`, and nothing can be written below
    `read_only`."""
    folders = [" ".join(map(str, full)), room, " ".join(map(str, read_only))]
    try:
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh", *folders, *command],
            env={**os.environ, **(environ or {})}, capture_output=True, text=True, check=False,
            cwd=Path(__file__).parents[1], timeout=110,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("no unshare here (Debian: util-linux)")
    if done.returncode == 99 or done.stderr.startswith("unshare:"):
        pytest.skip(f"no file systems of one's own may be mounted here: {done.stderr.strip()}")
    return done
