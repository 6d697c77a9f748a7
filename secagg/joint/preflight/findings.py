"""What a preflight finds: one line for each thing that it looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from secagg.errors import SecaggError

__all__ = ["HERE", "Finding", "Status", "found"]

Status = Literal["PASSED", "WARNING", "FAILED"]
HERE: Final = "here"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
      where: a party's name, or "here".
      what: a word for it, the same in every run.
      said: what was found, and what to do where it did not pass.
    """

    where: str
    what: str
    status: Status
    said: str


def found(what: str, look: Callable[[], str]) -> Iterator[Finding]:
    """Yield what a look at this end gave: its text where it passed, or the error that it raised."""
    try:
        yield Finding(HERE, what, "PASSED", look())
    except SecaggError as error:
        yield Finding(HERE, what, "FAILED", str(error))
