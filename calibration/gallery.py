"""Pictures inside a report, as large as they need to be; the worst mistakes, each beside its heat map."""

import base64
from html import escape

import cv2

from calibration.figures import Evaluation, Judged
from edge.errors import PartNotFound
from edge.frame import Pixels
from edge.picture.images import read_image
from edge.picture.overlay import heatmap_overlay
from edge.picture.view import view_of
from edge.verdict import Outcome

THUMBNAIL = 300  # pixels of the longer side; sixteen pairs stay well below 1 MB, thirty-two below 2
JPEG_QUALITY = 82


def gallery(e: Evaluation, images: list[Judged], title: str, hint: str) -> str:
    """A section of pictures in the order given; empty without pictures. Raises DataError when one is gone."""
    if not images:
        return ""
    figures = "".join(_figure(e, image) for image in images)
    scale = "Orange, outlined: hotter than good parts are; red: twice as hot."
    head = f"<h2>{title}</h2><p class='hint'>{hint} {scale}</p>"
    return f"<section>{head}<div class='gallery'>{figures}</div></section>"


def _figure(e: Evaluation, image: Judged) -> str:
    pixels = aligned(e, read_image(image.path))
    hot = heatmap_overlay(pixels, e.maps[image.path], e.map_limit, e.recipe.roi)
    wrong = image.is_good != (image.outcome is Outcome.PASS)
    name = f"{image.kind}/{image.path.name}"
    pair = thumbnail(pixels, name) + thumbnail(hot, f"{name}, heat map")
    tag = f"<span class='tag {image.outcome.value}'>{image.outcome.value}</span>"
    caption = f"<b>{escape(image.kind)}</b> {escape(image.path.name)}<br>score {image.score:.3g} {tag}"
    kind = "wrong" if wrong else ""
    return f"<figure class='{kind}'><div>{pair}</div><figcaption>{caption}</figcaption></figure>"


def aligned(e: Evaluation, pixels: Pixels) -> Pixels:
    """As the map lies; as it came, where the part is not where it should be."""
    try:
        return view_of(e.recipe).aligned(pixels)
    except PartNotFound:
        return pixels


def thumbnail(pixels: Pixels, name: str) -> str:
    """The picture itself inside the page, shrunk to THUMBNAIL."""
    scale = min(1.0, THUMBNAIL / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    source = base64.b64encode(data).decode()
    return f"<img alt='{escape(name)}' src='data:image/jpeg;base64,{source}'>"
