"""How far the parties of a run are, and why it failed, shown on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from secagg.cli.exits import status_of
from secagg.cli.show import duration, say, size, stderr
from secagg.errors import SecaggError
from secagg.printable import printable

if TYPE_CHECKING:
    from secagg.jobs.local import OnProgress
    from secagg.jobs.run import Progress

__all__ = ["Style", "describe", "errors_as_asked", "shown_progress"]

_LINES_EVERY_S: Final = 10.0
_WAITING_LINES_EVERY_S: Final = 600.0


class Style(StrEnum):
    """How progress is shown."""

    auto = "auto"
    bars = "bars"
    lines = "lines"
    json = "json"
    none = "none"


@contextmanager
def errors_as_asked(style: Style) -> Iterator[None]:
    """Tell errors as JSON where progress is."""
    from secagg.jobs.local import error_line

    try:
        yield
    except SecaggError as error:
        if style is not Style.json:
            raise
        print(error_line(error), file=sys.stderr, flush=True)  # noqa: T201
        raise typer.Exit(status_of(error)) from None


@contextmanager
def shown_progress(style: Style) -> Iterator[OnProgress]:
    """Show how far parties are while the body runs; on standard error."""
    from secagg.jobs.local import progress_line

    console = stderr()
    if style is Style.auto:
        style = Style.bars if console.is_terminal else Style.lines
    if style is Style.bars:
        with _bars(console) as bars:
            yield _Bars(bars)
    elif style is Style.lines:
        yield _Lines(console)
    elif style is Style.json:
        yield lambda progress: print(progress_line(progress), file=sys.stderr, flush=True)  # noqa: T201
    else:
        yield lambda _progress: None


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[phase]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


class _Bars:
    """A bar for each party."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        _tell_news(self._bars.console, progress)
        name = progress.party
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(escape(printable(name)), total=1.0, phase="")
        self._bars.update(
            self._tasks[name], completed=progress.share, phase=escape(printable(describe(progress)))
        )


class _Lines:
    """A line when the first party reaches a phase or who is there changes, and now and then one in between.

    Who is there is what one party sees: where several run on this machine, each meets the others for itself.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._reached = -1
        self._speaker = ""
        self._present: tuple[str, ...] = ()
        self._when = 0.0
        self._pause = _LINES_EVERY_S

    def __call__(self, progress: Progress) -> None:
        _tell_news(self._console, progress)
        reached, now = progress.step, time.monotonic()
        self._speaker = self._speaker or progress.party
        if reached == 0 and progress.party != self._speaker:
            return
        news = reached > self._reached or (reached == 0 and progress.present != self._present)
        if reached < self._reached or not (news or now - self._when >= self._pause):
            return
        # A wait of hours fills no log.
        self._pause = _LINES_EVERY_S if news or reached else min(2 * self._pause, _WAITING_LINES_EVERY_S)
        self._reached, self._present, self._when = reached, progress.present, now
        sent = f", {size(progress.sent_bytes)} sent, {progress.share:.0%}" if progress.sent_bytes else ""
        say(self._console, f"{time.strftime('%H:%M:%S')} {progress.party}: {describe(progress)}{sent}")


def _tell_news(console: Console, progress: Progress) -> None:
    for news in progress.news:
        say(console, f"{time.strftime('%H:%M:%S')} {progress.party}: {news}")


def describe(progress: Progress) -> str:
    """Return what a party is doing, in words."""
    from secagg.jobs.run import CONNECT, READ

    names = ", ".join(progress.waiting_for)
    if progress.phase == CONNECT:
        there = ", ".join(progress.present) or "nobody yet"
        left = f", {duration(progress.left_s)} left" if progress.left_s is not None else ""
        return f"waits for {names or 'the others to agree'} (there: {there}{left})"
    if progress.phase == READ:
        return f"is ready, waits for {names}" if names else "reads its data"
    return f"{progress.phase} (waits for {names})" if names else progress.phase
