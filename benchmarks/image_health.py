"""Does image health stop good pictures, and does it catch bad ones? python benchmarks/image_health.py DATA

DATA is a folder with one data set per subfolder. Limits come from train/good alone; counted is how many of
the good test pictures are stopped as they are (false alarms), and how many once the lamp, the lens or the
camera's mount is at fault; and how many anomalous parts are called bad pictures. The cost is measured at
1280x1024 on one thread.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from record import save_result

from calibration.health import health_entries
from edge.frame import Pixels
from edge.picture.image_health import HealthLimits
from edge.picture.images import list_images, read_image
from edge.picture.view import View

Change = Callable[[Pixels], Pixels]
SIZE = (1024, 1280)
REPEATS = 300


def lamp(factor: float) -> Change:
    """The sensor clips at white."""
    return lambda pixels: np.clip(pixels.astype(np.float32) * factor, 0, 255).astype(np.uint8)


def blur(share: float) -> Change:
    """Out of focus: standard deviation as a share of the shorter side."""
    return lambda pixels: np.asarray(
        cv2.GaussianBlur(pixels, (0, 0), share * min(pixels.shape[:2])), np.uint8
    )


def motion(share: float) -> Change:
    """The part moved that far while it was exposed: share of the width."""

    def changed(pixels: Pixels) -> Pixels:
        kernel = np.full((1, max(2, round(share * pixels.shape[1]))), 1.0, np.float32)
        return np.asarray(cv2.filter2D(pixels, -1, kernel / kernel.size), np.uint8)

    return changed


def moved(share: float) -> Change:
    """The camera was knocked: share of the width."""

    def changed(pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        place = np.array([[1, 0, share * width], [0, 1, 0]], np.float32)
        border = cv2.BORDER_REFLECT_101
        return np.asarray(cv2.warpAffine(pixels, place, (width, height), borderMode=border), np.uint8)

    return changed


FAULTS: dict[str, Change] = {
    "lamp at 50 %": lamp(0.5),
    "lamp at 75 %": lamp(0.75),
    "light 60 % too strong": lamp(1.6),
    "black": lamp(0.0),
    "out of focus, 0.5 % of the side": blur(0.005),
    "out of focus, 1 % of the side": blur(0.01),
    "motion, 2 % of the side": motion(0.02),
    "moved by 5 % of the side": moved(0.05),
    "moved by 12 % of the side": moved(0.12),
}


def measured(data: Path) -> dict[str, Any]:
    """One data set."""
    train, good = list_images(data / "train" / "good"), list_images(data / "test" / "good")
    bad = [p for d in sorted((data / "test").iterdir()) if d.name != "good" for p in list_images(d)]
    limits = HealthLimits.from_json(health_entries(train, View((256, 256))))
    pictures = [read_image(path) for path in good]
    return {
        "learnt_from": len(train), "good": len(good), "false_alarms": stopped(limits, pictures),
        "anomalous": len(bad), "anomalous_called_bad_pictures": stopped(limits, map(read_image, bad)),
        "limits": {name: value for name, value in limits.to_json().items() if name != "reference"},
        "caught": {name: stopped(limits, map(change, pictures)) for name, change in FAULTS.items()},
    }  # fmt: skip


def stopped(limits: HealthLimits, pictures: Any) -> int:
    """How many pictures are not judged."""
    return sum(limits.fault(pixels) is not None for pixels in pictures)


def cost_ms() -> dict[str, float]:
    """Of a healthy picture, for which everything is looked at."""
    rng = np.random.default_rng(0)
    picture = np.asarray(cv2.GaussianBlur(rng.integers(0, 256, (*SIZE, 3), np.uint8), (0, 0), 3), np.uint8)
    from edge.picture.image_health import limits_of, look_at

    limits = limits_of([look_at(picture)] * 2)
    times = []
    for _ in range(REPEATS):
        fresh = picture.copy()  # as from a camera: not in the cache of this loop's last turn
        begun = time.perf_counter()
        assert limits.fault(fresh) is None
        times.append((time.perf_counter() - begun) * 1e3)
    return {"median": round(float(np.median(times)), 3), "p99": round(float(np.quantile(times, 0.99)), 3)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    sets = {d.name: measured(d) for d in sorted(options.data.iterdir()) if (d / "train" / "good").is_dir()}
    save_result("image_health", {"cost_ms_1280x1024": cost_ms(), "sets": sets})
    for name, figures in sets.items():
        print(name, {key: value for key, value in figures.items() if key != "caught"})
        for fault, count in figures["caught"].items():
            print(f"    {fault:34} {count} of {figures['good']}")


if __name__ == "__main__":
    main()
