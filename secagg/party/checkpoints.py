"""What a run keeps at one party, so that after a crash it goes on and does not begin again.

A protocol keeps a checkpoint at a point that all parties pass in one order. A run that goes on is told where: `resumes`
is the same at all parties, and the protocol takes up what it kept there. Where a run keeps nothing, as in the simulator
and in a rehearsal, `keep` does nothing.

Where checkpoints are written, how they are encrypted, and how parties agree where to go on is no affair of protocols; see
`secagg.jobs.resuming`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from secagg.errors import UsageError

# Arrays, bytes, texts, whole numbers, and lists and mappings of them.
Content: TypeAlias = Mapping[str, Any]

SHARED: Final = "share"  # the mark of the first checkpoint, which every party keeps: what goes in is fixed


@dataclass(frozen=True, slots=True)
class Place:
    """Which checkpoint of a run.

    Attributes:
      step: 1 for the first, then counted up.
      mark: the part of the protocol that goes on from it.
      session: in which it was made. Shares of two sessions do not fit together, whatever their step.
      root: the session in which the first one of its line was made.
    """

    step: int
    mark: str
    session: bytes
    root: bytes


class Storage(Protocol):
    """Where a party's checkpoints of one run are."""

    def write(self, place: Place, content: Content) -> None:
        """Keep a content; it is durable when this returns."""

    def read(self, place: Place) -> Content:
        """Return what was kept."""

    def note_opening(self, place: Place) -> None:
        """Note durably that what is computed from a checkpoint is going to be opened."""


class Checkpoints:
    """A party's checkpoints in one session.

    Args:
      storage: None where nothing is kept.
      session: of the run under way.
      resumes: the checkpoint that this session goes on from, the same at all parties; None at the beginning.
      reads: which one this party itself has there; `resumes` by default. Who does not compute has the first one alone.
    """

    __slots__ = ("_last", "_reads", "_session", "_storage", "resumes")

    def __init__(
        self,
        storage: Storage | None = None,
        session: bytes = b"",
        resumes: Place | None = None,
        reads: Place | None = None,
    ) -> None:
        self._storage = storage
        self._reads = reads or resumes
        self._session = session
        self._last = resumes
        self.resumes = resumes

    @property
    def active(self) -> bool:
        """Whether this run keeps checkpoints."""
        return self._storage is not None

    @property
    def last(self) -> Place | None:
        """The latest checkpoint, kept in this session or gone on from."""
        return self._last

    def keep(self, mark: str, content: Content) -> None:
        """Keep a checkpoint; it is durable when this returns."""
        if self._storage is None:
            return
        step = 1 if self._last is None else self._last.step + 1
        root = self._session if self._last is None else self._last.root
        place = Place(step, mark, self._session, root)
        self._storage.write(place, content)
        self._last = place

    def content(self) -> Content:
        """Return what was kept where this run goes on.

        Raises:
          UsageError: it goes on from nothing.
        """
        if self._storage is None or self._reads is None:
            raise UsageError("expected a run that goes on from a checkpoint")
        return self._storage.read(self._reads)

    def note_opening(self) -> None:
        """Note that what is computed from the latest checkpoint is opened: no run goes on from an earlier one."""
        if self._storage is not None and self._last is not None:
            self._storage.note_opening(self._last)
