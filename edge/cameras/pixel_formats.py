"""Camera bytes to BGR, by the names of GenICam's Pixel Format Naming Convention (PFNC 2.4).

Of 10, 12 and 16 bits the high 8 are kept. OpenCV's plain Bayer names ("BG") begin at the second pixel of the
second row, PFNC's at the first of the first; its long names ("RGGB") say what PFNC says.
"""

import re

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import DataError
from edge.frame import Pixels

_BAYER = {
    "RG": cv2.COLOR_BayerRGGB2BGR,
    "GR": cv2.COLOR_BayerGRBG2BGR,
    "GB": cv2.COLOR_BayerGBRG2BGR,
    "BG": cv2.COLOR_BayerBGGR2BGR,
}
_COLOUR = {  # name: (bytes a pixel, conversion)
    "BGR8": (3, None),
    "RGB8": (3, cv2.COLOR_RGB2BGR),
    "BGRa8": (4, cv2.COLOR_BGRA2BGR),
    "RGBa8": (4, cv2.COLOR_RGBA2BGR),
    "YUV422_8": (2, cv2.COLOR_YUV2BGR_YUYV),
    "YUV422_8_UYVY": (2, cv2.COLOR_YUV2BGR_UYVY),
}
_OLD = {  # GigE Vision 1.x
    "BGR8Packed": "BGR8", "RGB8Packed": "RGB8", "BGRA8Packed": "BGRa8", "RGBA8Packed": "RGBa8",
    "YUV422Packed": "YUV422_8_UYVY", "YUV422_YUYV_Packed": "YUV422_8", "YCbCr422_8": "YUV422_8",
}  # fmt: skip
_RAW = re.compile(r"(?:Mono|Bayer(RG|GR|GB|BG))(8|10|12|14|16)")


def bgr_of(data: npt.NDArray[np.uint8], width: int, height: int, pixel_format: str) -> Pixels:
    """Bytes as the camera sends them -> uint8 (height, width, 3) BGR, a copy.

    Raises DataError for a format that is not known, and for a number of bytes that does not fit the size.
    """
    name = _OLD.get(pixel_format, pixel_format)
    raw = _RAW.fullmatch(name)
    if raw is None and name not in _COLOUR:
        hint = "Set pixel_format=Mono8 or BayerRG8, or the like: one that is not packed."
        raise DataError(f"the pixel format {pixel_format} is not known", "camera", hint)
    bits = int(raw[2]) if raw else 8
    depth = (1 if bits == 8 else 2) if raw else _COLOUR[name][0]
    if data.size != width * height * depth:
        what = f"{data.size} bytes are no {width}x{height} picture in {pixel_format}"
        raise DataError(what, "camera", "Set another pixel_format, without padding.")
    if raw is None:
        return _colour(data.reshape(height, width, depth), _COLOUR[name][1])
    plane = data if bits == 8 else (data.view("<u2") >> (bits - 8)).astype(np.uint8)
    code = _BAYER[raw[1]] if raw[1] else cv2.COLOR_GRAY2BGR
    return np.asarray(cv2.cvtColor(plane.reshape(height, width), code), np.uint8)


def _colour(pixels: npt.NDArray[np.uint8], code: int | None) -> Pixels:
    return pixels.copy() if code is None else np.asarray(cv2.cvtColor(pixels, code), np.uint8)
