"""Findings one below the other: what it is, what was found, what to do. Nothing is cut, words stay whole."""

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table
from rich.text import Text

Row = tuple[str, str, Sequence[str]]  # state with rich's markup, what was looked at, what there is to say


def listing(rows: Iterable[Row]) -> Table:
    """A table as a terminal of 80 columns bears it: addresses and commands are as long as they are."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # an address longer than the line goes on in the next one
    for state, what, texts in rows:
        table.add_row(state, Text.from_markup(f"[bold]{escape(what)}[/]"))
        for text in filter(None, texts):
            table.add_row("", escape(text))
    return table
