"""Ctrl-C, and the system's request to end: a run stops where nothing is half sent, and says whom it told.

While the network is driven, an exception at any point could part a frame from the note that it was sent. The others would
be told of a broken frame then, and not of who stopped. So a signal is noted, and the run ends at its next
report, a quarter of a second later at most. A long computation reports nothing: after half a second it ends where it is.

Once the run has ended well, a signal loses nobody a result: the program writes what came of the run, and then ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from secagg.cli.exits import STOPPED

_PATIENCE_S: Final = 0.5  # for the next report
_LAST_S: Final = 2.0  # for whoever is told, before another signal ends everything
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")


class Stop:
    """Whether this program was asked to stop, and how far it is in doing so.

    Attributes:
      asked: whether a signal came.
      line: the last words.
    """

    def __init__(self) -> None:
        self.asked = False
        self.line = "stopped"
        self._driven = False
        self._keeping = False
        self._ending_since = 0.0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals; those that are ignored, as under nohup, stay so."""
        before = {n: signal.getsignal(n) for n in (*_SIGNALS, signal.SIGALRM)}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._signal)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def driving(self) -> Iterator[None]:
        """Within, the network is driven, and `before` is what stops it. If it ends well, signals stop nothing any more."""
        self._driven = True
        try:
            yield
        except KeyboardInterrupt as error:
            self.line = "; ".join([self.line, *getattr(error, "__notes__", ())])
            raise
        else:
            self.keep()  # before `_driven` changes: no signal comes between them
        finally:
            self._driven = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def keep(self) -> None:
        """Let signals stop nothing any more: the run has ended well, and its result is there."""
        self._keeping = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def before(self, on_progress: Callable[[T], None]) -> Callable[[T], None]:
        """Return a callback for the network that stops if it was asked to, and else reports progress."""

        def report(progress: T) -> None:
            if self.asked and not self._ending_since:
                self._interrupt()
            on_progress(progress)

        return report

    def _signal(self, _number: int, _frame: object) -> None:
        if self._ending_since:
            if time.monotonic() - self._ending_since >= _LAST_S:
                # Whoever is told takes nothing, or the disk does, and somebody waits at the keyboard.
                os._exit(STOPPED)
        elif self._keeping:
            self.asked = True
            self._ending_since = time.monotonic()
        elif self.asked or not self._driven:
            self.asked = True
            self._interrupt()
        else:
            self.asked = True
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)

    def _interrupt(self) -> None:
        self._ending_since = time.monotonic()
        raise KeyboardInterrupt
