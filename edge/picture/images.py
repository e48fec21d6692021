"""Reading one image file: the folder camera, training and evaluation all come through here."""

import base64
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import DataError
from edge.frame import Pixels

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it would print is in our errors

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

# 10- and 12-bit cameras often store their value in the low bits of a 16-bit file. Taking the high byte of
# such a file leaves a picture that is all but black, so we say so instead.
MIN_16_BIT_PEAK = 1 << 12


def read_image(path: Path) -> Pixels:
    """Read one picture as uint8 (H, W, 3) BGR.

    Grey becomes three equal channels, alpha is dropped, EXIF rotation is applied, of 16 bits the high byte
    is kept. Unicode names work on every system. Raises DataError naming the file when it is not a picture,
    is broken, has another number of channels, or has its 10 or 12 bits in the low part of 16.
    """
    pixels = _eight_bits(_decode(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR), path)
    if pixels.ndim == 2:
        return np.ascontiguousarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    if pixels.shape[2] != 3:
        raise DataError(f"{pixels.shape[2]} channels, not 1 or 3", str(path), "Save as grey or RGB.")
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def read_painted(path: Path) -> npt.NDArray[np.uint8]:
    """Read what was painted, such as a mask, as uint8 (H, W): its brightest channel; transparent is black.

    Raises DataError as `read_image` does.
    """
    pixels = _decode(path, cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 2 or pixels.shape[2] != 4:
        return _brightest(read_image(path))  # which turns it as its EXIF rotation says
    pixels = _eight_bits(pixels, path)
    if not np.array_equal(_brightest(pixels), _brightest(read_image(path))):
        hint = "Save it upright, without an EXIF rotation."
        raise DataError("the picture is stored turned and has transparent places", str(path), hint)
    return np.asarray(cv2.multiply(_brightest(pixels), pixels[..., 3], scale=1 / 255), np.uint8)


def read_labels(path: Path) -> npt.NDArray[np.uint8]:
    """Read a mask or a picture of labels as uint8 (H, W): values as they stand, fractions rounded up, 255 for
    any above.

    Of several channels the largest counts. Raises DataError naming the file.
    """
    values = _decode(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    flat = values if values.ndim == 2 else values.max(axis=2)
    return np.asarray(np.ceil(np.minimum(flat, 255)), np.uint8)


def list_images(folder: Path) -> list[Path]:
    """The picture files of a folder, sorted by name; other files and hidden ones are passed over."""
    return sorted(
        p for p in folder.iterdir()
        if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
    )  # fmt: skip


def _decode(path: Path, flags: int) -> np.ndarray:
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)  # imread cannot open unicode names on Windows
        pixels = cv2.imdecode(data, flags) if data.size else None
    except (OSError, cv2.error) as error:
        raise DataError(f"the picture cannot be read: {error}", str(path), "Remove or replace it.") from error
    if pixels is None:
        raise DataError("the file is not a picture, or is broken", str(path), "Remove or replace it.")
    return pixels


def _brightest(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Of the three colours; ten times as fast as `max` over the last axis."""
    return np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])


def _eight_bits(pixels: np.ndarray, path: Path) -> Pixels:
    if pixels.dtype == np.uint16:
        pixels = _high_byte(pixels, path)
    if pixels.dtype != np.uint8:
        hint = "Save with 8 bits a channel."
        raise DataError(f"pixel type {pixels.dtype} is not supported", str(path), hint)
    return pixels


def _high_byte(pixels: np.ndarray, path: Path) -> np.ndarray:
    peak = int(pixels.max())
    if peak < MIN_16_BIT_PEAK:
        hint = "Save with 8 bits a channel, or scale to the full 16 bits."
        raise DataError(f"16-bit picture that uses only values up to {peak}", str(path), hint)
    return np.asarray(pixels >> 8, dtype=np.uint8)


def pack_grey(grey: npt.NDArray[np.uint8]) -> str:
    """A grey picture (H, W) as text: PNG, base64. For what must travel inside the recipe."""
    return base64.b64encode(cv2.imencode(".png", grey)[1].tobytes()).decode("ascii")


def unpack_grey(text: str) -> npt.NDArray[np.uint8]:
    """What `pack_grey` was given. Raises ValueError for a text that holds no picture."""
    data = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    grey = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
    if grey is None:
        raise ValueError("the text holds no picture")
    return np.asarray(grey, np.uint8)
