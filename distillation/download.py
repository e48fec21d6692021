"""Files that are fetched once and kept: pinned by sha256, checked before every use, written atomically."""

import hashlib
import tempfile
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from edge.errors import InspectError
from edge.recipe import sha256_of

CHUNK = 1 << 20
TIMEOUT_S = 30.0  # without a byte

Progress = Callable[[int, int], None]  # bytes done, bytes in total (0: the server does not say)


@dataclass(frozen=True)
class Pinned:
    """One published file: where it lies and what it must be."""

    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        """`resnet18-f37072fd.pth`"""
        return self.url.rsplit("/", 1)[1]


def fetch(file: Pinned, folder: Path, progress: Progress | None = None) -> Path:
    """Path of the file in `folder`, downloaded where it is not there or was changed.

    Raises InspectError when it cannot be had, or when what arrives is not the pinned file; then nothing of
    it is left in the folder.
    """
    path = folder / file.file_name
    if path.exists() and sha256_of(path) == file.sha256:
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:  # two runs never share one
            arrived = Path(part) / file.file_name
            _download(file, arrived, progress)
            arrived.replace(path)
    except OSError as error:
        hint = "Make room, or name another folder in the variable XDG_CACHE_HOME."
        raise InspectError(f"a download cannot be kept: {error}", str(folder), hint) from error
    return path


def _download(file: Pinned, path: Path, progress: Progress | None) -> None:
    digest, done = hashlib.sha256(), 0
    with path.open("wb") as out, closing(_chunks(file)) as chunks:
        for chunk, total in chunks:
            out.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress:
                progress(done, total)
    if digest.hexdigest() != file.sha256:
        found = f"{done} bytes, sha256 {digest.hexdigest()}, not {file.sha256}"
        what = f"what arrived is not the published file: {found}"
        raise InspectError(what, file.url, _bring(file))


def _chunks(file: Pinned) -> Generator[tuple[bytes, int], None, None]:
    """Pieces of the file with the size of the whole. Only what the network does is translated here."""
    try:
        with urlopen(file.url, timeout=TIMEOUT_S) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(CHUNK):
                yield chunk, total
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise InspectError(f"the download failed: {error}", file.url, _bring(file)) from error


def _bring(file: Pinned) -> str:
    name = file.file_name
    return f"Without a network: bring {name} from that address and give it as --teacher-weights {name}."
