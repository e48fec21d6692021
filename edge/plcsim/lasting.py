"""What is wrong only when it lasts, and is told once each time. Pure."""

from edge.plcsim import Complaint, Mistake


class Lasting:
    """Remembers since when each mistake holds."""

    def __init__(self) -> None:
        self._since: dict[Mistake, int | None] = {}  # when it began; None: told already

    def begin_anew(self) -> None:
        """We stood still ourselves: nobody knows what was meanwhile, and patience begins again."""
        self._since = {what: at for what, at in self._since.items() if at is None}

    def look(self, what: Mistake, holds: bool, detail: str, patience_ns: int, now_ns: int) -> list[Complaint]:
        """One complaint when it has held for so long, and no other until it has ended."""
        if not holds:
            self._since.pop(what, None)
            return []
        since = self._since.setdefault(what, now_ns)
        if since is None or now_ns - since < patience_ns:
            return []
        self._since[what] = None
        return [Complaint(what, detail)]
