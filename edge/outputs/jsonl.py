"""JSON lines on the standard output or in a file: one object per verdict, one line each."""

import errno
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from edge.errors import OutputLost
from edge.verdict import Verdict
from edge.verdict_json import verdict_json


class JsonLines:
    """`jsonl:-` writes to the standard output, `jsonl:FILE` appends to a file.

    A line is with the operating system when `send` returns, so it outlives the process; one that the disk
    takes only half is taken back, so that every line of the file can be read.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        path = uri.partition(":")[2]
        self._own = path not in ("", "-")
        try:
            self._made = Path(path) if self._own and not Path(path).exists() else None
            self._file: BinaryIO = Path(path).open("ab", buffering=0) if self._own else sys.stdout.buffer  # noqa: SIM115
            self._end_torn_line(path)
        except OSError as error:
            raise self._lost(error) from error

    def send(self, verdict: Verdict) -> None:
        """Write one line. Raises OutputLost when the disk is full or the reader of the pipe has gone."""
        text = json.dumps(verdict_json(verdict), ensure_ascii=False, allow_nan=False)
        line = text.encode("utf-8", "backslashreplace") + b"\n"  # a file's name need not be text
        try:
            self._write(line)
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            raise self._lost(error) from error

    def beat(self, counter: int, healthy: bool) -> None:
        """A file has no heartbeat."""

    def close(self) -> None:
        """Close the file; the standard output stays open, it is not ours.

        A file that we made and wrote nothing into goes: a dry run leaves nothing behind.
        """
        if self._own:
            try:
                self._file.close()
                if self._made is not None and self._made.exists() and not self._made.stat().st_size:
                    self._made.unlink()
            except OSError as error:
                raise self._lost(error) from error

    def _write(self, line: bytes) -> None:
        if not self._own:
            self._file.write(line)
            self._file.flush()
            return
        written = self._file.write(line)
        if written < len(line):
            with suppress(OSError):  # a pipe cannot be cut back
                os.ftruncate(self._file.fileno(), os.fstat(self._file.fileno()).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _end_torn_line(self, path: str) -> None:
        """After a power cut the last line may be half a line: the next one begins on its own."""
        if self._own and Path(path).is_file() and (size := Path(path).stat().st_size):
            with Path(path).open("rb") as file:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    self._file.write(b"\n")

    def _lost(self, error: Exception) -> OutputLost:
        hint = "Check that the folder exists, may be written and has space; or that the reader still runs."
        return OutputLost(f"cannot write verdicts: {error}", self.uri, hint)
