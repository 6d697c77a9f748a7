"""What the command line shows: texts, tables, sizes and times.

Everything passes through a console of this module, which escapes what a terminal would obey. Texts that must stay
on one line are made `printable` before, line ends included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from secagg.printable import printable, printable_lines

_FILE_WIDTH: Final = 160
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


class PrintableConsole(Console):
    """A console that shows escapes in place of characters that a terminal would obey; its own codes pass."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable_lines(segment.text), segment.style)


def stdout() -> Console:
    """Return a console for results."""
    return PrintableConsole(highlight=False, emoji=False)  # ":CD:" in a fingerprint is no emoji


def stderr() -> Console:
    """Return a console for everything else."""
    return PrintableConsole(stderr=True, highlight=False, emoji=False)


def say(console: Console, text: str) -> None:
    """Print a text to the letter on one line, which a terminal may wrap."""
    console.print(printable(text), markup=False, soft_wrap=True)


def widen(console: Console) -> None:
    """Give tables more room where they go to a file or another program, so that no word is cut."""
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)


def complain(error: Exception) -> None:
    """Print an error below its notes; it has made itself printable, and may be several lines."""
    for note in getattr(error, "__notes__", ()):
        say(stderr(), f"secagg: {note}")
    stderr().print(f"secagg: {printable_lines(str(error))}", markup=False, soft_wrap=True)


def size(count: float) -> str:
    """Return a number of bytes for people, in powers of 1000."""
    power = 0
    while count >= 999.5 and power < len(_UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.0f} {_UNITS[power]}" if power == 0 or count >= 99.95 else f"{count:.3g} {_UNITS[power]}"


def seconds(count: float) -> str:
    """Return a time for people."""
    if count < 1:
        return f"{1000 * count:.3g} ms"
    return f"{count:.1f} s" if count < 120 else f"{count / 60:.0f} min"


def duration(count: float) -> str:
    """Return a whole number of seconds, minutes, or hours and minutes."""
    if count < 120:
        return f"{count:.0f} s"
    minutes = round(count / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, numbers_from: int = 1
) -> RenderableType:
    """Return a table under a title; columns from `numbers_from` on are aligned to the right.

    Cells are shown to the letter.
    """
    made = Table(box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i >= numbers_from else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(printable(str(cell))) for cell in row))
    return Group(Text(title, style="bold"), made)
