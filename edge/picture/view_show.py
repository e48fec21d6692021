"""A view in words for a person: what is looked at, and where."""

from edge.picture.view import View


def mask_share(view: View) -> str:
    """How much the mask leaves to look at; "" without one."""
    if view.mask is None:
        return ""
    return f"{(view.mask > 0).mean():.1%} of the {'region' if view.roi else 'picture'} is looked at"


def view_lines(view: View) -> dict[str, str]:
    """What the options of training came to, by name; empty for a plain view. In camera pixels."""
    lines = {"region": _box(view.roi), "mask": mask_share(view)}
    if view.reference is not None:
        lines["align"] = f"to the mark {_box(view.reference.box)} of the first picture"
    if view.canvas is not None and view.tiling is not None:
        height, width = view.canvas
        lines["tiles"] = f"{len(view.chosen_tiles or view.tiling.corners)}, cut from {width}x{height} pixels"
    return {name: text for name, text in lines.items() if text}


def _box(region: tuple[int, int, int, int] | None) -> str:
    return "{2}x{3} at {0},{1}".format(*region) if region else ""
