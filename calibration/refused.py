"""Pictures that cannot be used, by what to do about them: so that no cause hides another."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from edge.errors import DataError

FILES_NAMED = 10  # in one sentence

Group = tuple[list[Path], DataError]  # files with one next step, and the error of the first


def by_advice(errors: Mapping[Path, DataError]) -> list[Group]:
    """Those with the same next step together, in the order of the files."""
    files: dict[str, list[Path]] = {}
    for path, error in errors.items():
        files.setdefault(error.next_step, []).append(path)
    return [(paths, errors[paths[0]]) for paths in files.values()]


def cause(group: Group) -> str:
    """The first files, and what the very first said."""
    paths, first = group
    return f"{few(paths)}: {first.what}"


def few(paths: Sequence[Path]) -> str:
    """The names of the first ones; with their folders, where they lie in several."""
    alone = len({path.parent for path in paths}) == 1
    names = [path.name if alone else f"{path.parent.name}/{path.name}" for path in paths[:FILES_NAMED]]
    return ", ".join([*names, "..."] if len(paths) > FILES_NAMED else names)
