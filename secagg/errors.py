"""Every error that secagg raises on purpose.

    SecaggError
    ├── UsageError              the caller's mistake: an argument out of range, a file
    │   ├── RangeError          numbers in the data that do not fit what was planned (also NaN and infinity)
    │   ├── ShapeError          a wrong shape, dtype or length
    │   ├── PlanError           arguments that are each in range, and no ring, width or capacity fits them together
    │   ├── DataError           a table that cannot be read or holds bad rows
    │   │   ├── BadRowsError    rows of a table that cannot be used
    │   │   └── EmptyTableError a table of which no row counts
    │   ├── JobError            a job file that is wrong, incomplete or not what the others agreed to
    │   ├── RuleError           a query that an owner's rules do not allow
    │   └── BudgetError         an owner's budget that is not there, is spent, or went back
    ├── RemoteProtocolError     a peer sent what the protocol forbids at this point
    │   ├── CheatingError       one of the named parties lied, and a check found it
    │   ├── WireError           bytes that are not a message
    │   └── AuthenticationError a peer that is not who it should be, or a frame altered on the way
    ├── RefusedError            a party's own checks do not allow a run, before anything is shared
    ├── PeerMissingError        a peer that should be there is not
    │   ├── PeerVanishedError   the connection ended, or nothing came for too long
    │   ├── TooFewPartiesError  fewer answered than the protocol needs
    │   └── AbortedError        another party ended the run and said why
    └── InexactError            this machine's floating point does not do what exactness rests on

An argument that is out of range whatever the others are is a `UsageError` itself. Its kinds say more: `RangeError` speaks
of the data, `PlanError` of what the arguments ask for together, `ShapeError` of arrays.

The branches tell a caller what to do. In their order: mend the input; find out what the named peer runs; ask who
must allow the run; wait for it, or
go on without it; take another machine or another numpy. A message says what was expected, what came, whose it was and
what to do. It never holds a secret value, and no character that a terminal obeys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from secagg.printable import printable

__all__ = [
    "AbortedError",
    "AuthenticationError",
    "BadRowsError",
    "BudgetError",
    "CheatingError",
    "DataError",
    "EmptyTableError",
    "InexactError",
    "JobError",
    "PeerMissingError",
    "PeerVanishedError",
    "PlanError",
    "RangeError",
    "RefusedError",
    "RemoteProtocolError",
    "RuleError",
    "SecaggError",
    "ShapeError",
    "TooFewPartiesError",
    "UsageError",
    "WireError",
]


def __dir__() -> list[str]:
    return sorted(__all__)


class SecaggError(Exception):
    """Base of all errors that secagg raises on purpose.

    Args:
      message: may quote files, peers and jobs; kept as `printable` makes it.
      lines: what is printed below it, line by line.
    """

    def __init__(self, message: str = "", *lines: str) -> None:
        super().__init__("\n".join(map(printable, (message, *lines))))

    def for_peers(self) -> str:
        """Return what the other parties are told when a party ends with this error.

        Of a mistake in this party's own input or data they are told no more than that there was one. Its text may say how
        many rows there are, or which of them are wrong.
        """
        return "it cannot use its own input; its own output says why"

    def for_record(self) -> str:
        """Return what a run record says, which auditors read."""
        return str(self)


class UsageError(SecaggError, ValueError):
    """The caller passed something that cannot be used, such as an argument out of range."""


class RangeError(UsageError):
    """A number in the data lies outside the planned range, or is NaN or infinite."""


class ShapeError(UsageError):
    """An array has the wrong shape, dtype or length."""


class PlanError(UsageError):
    """No ring, field width or capacity fits what was asked for, though each argument is in range."""


class DataError(UsageError):
    """A table cannot be read or holds rows that cannot be used."""


class BadRowsError(DataError):
    """Rows of a table cannot be used; the lines below the message name them.

    Args:
      message: how many rows there are and what is wrong.
      lines: as in `SecaggError`; they may name a row by its primary key.
      recorded: the message and the lines without such names.
    """

    def __init__(self, message: str, *lines: str, recorded: Sequence[str] = ()) -> None:
        super().__init__(message, *lines)
        self._recorded = "\n".join(map(printable, recorded or (message, *lines)))

    def for_record(self) -> str:
        """Return the text without what names a row by its primary key."""
        return self._recorded


class EmptyTableError(DataError):
    """No row of a table counts, and the caller did not say that this is right."""

    def for_peers(self) -> str:
        """Return what the other parties are told: the kind of the mistake, and nothing of the table."""
        return "no row of its table counts, by the job's window; its own output says why"


class JobError(UsageError):
    """A job file is wrong, incomplete or not the one that the others agreed to."""

    def for_peers(self) -> str:
        """Return the whole text: job files are the same at all parties and hold nothing secret."""
        return str(self)


class RuleError(UsageError):
    """An owner's rules do not allow a query; the message names rule, column and owner."""

    def for_peers(self) -> str:
        """Return the whole text: queries and rules are the same at all parties, and hold nothing secret."""
        return str(self)


class BudgetError(UsageError):
    """An owner's budget does not allow a run: there is none, it is spent, or its record went back."""

    def for_peers(self) -> str:
        """Return the whole text: it is about runs and numbers that owners agree on, and not about data."""
        return str(self)


class _AboutAPeerError(SecaggError):
    """An error about what happened between parties, which all of them may read.

    Args:
      message: what was expected, what came or was waited for, and what to do.
      lines: as in `SecaggError`.
      peer: the name of the peer whose doing it was; "" where it cannot be told.
    """

    def __init__(self, message: str, *lines: str, peer: str = "") -> None:
        super().__init__(message, *lines)
        self.peer = peer

    def for_peers(self) -> str:
        return str(self)


class RemoteProtocolError(_AboutAPeerError):
    """A peer sent what the protocol forbids at this point."""


class CheatingError(RemoteProtocolError):
    """A check among computing parties failed: one of the suspects lied.

    Args:
      suspects: the one or two parties of which one lied; `peer` is the first where there is one alone.
    """

    def __init__(self, message: str, *lines: str, suspects: tuple[str, ...] = ()) -> None:
        super().__init__(message, *lines, peer=suspects[0] if len(suspects) == 1 else "")
        self.suspects = suspects

    @classmethod
    def naming(cls, suspects: Iterable[str], what: str) -> CheatingError:
        """Return the error that names who may have lied, and what was found.

        Args:
          suspects: the one or two parties of which one lied.
          what: what was found, as a clause about them.
        """
        named = tuple(dict.fromkeys(suspects))
        who = f"{named[0]} lied" if len(named) == 1 else f"one of {' and '.join(named)} lied"
        return cls(f"{who}: {what}; nothing was opened after that, and the run is over", suspects=named)


class WireError(RemoteProtocolError):
    """Bytes that are not a message of this version."""


class AuthenticationError(RemoteProtocolError):
    """A peer is not who it should be, or a frame was altered on the way."""


class RefusedError(_AboutAPeerError):
    """A party's own checks do not allow a run; nothing was shared.

    Args:
      peer: whose doing it is that they do not; the refusing party itself where it is nobody else's.
      told: what the other parties are told; the message where it is "".
    """

    def __init__(self, message: str, *lines: str, peer: str = "", told: str = "") -> None:
        super().__init__(message, *lines, peer=peer)
        self._told = told

    def for_peers(self) -> str:
        return self._told or str(self)


class PeerMissingError(_AboutAPeerError):
    """A peer that should be there is not."""


class PeerVanishedError(PeerMissingError):
    """The connection to a peer ended, or nothing came from it for too long."""


class TooFewPartiesError(PeerMissingError):
    """Fewer parties answered than the protocol needs."""


class AbortedError(PeerMissingError):
    """Another party ended the run; the message carries its reason.

    Args:
      peer: the party that ended the run, as seen by this one.
      accused: whom that party accuses, which nothing but its word shows; "" for nobody but itself.
      relayed: what others are told when this party ends for it; the message where it is "".
      passed_on: whether all that `peer` says is that `accused` ended the run.
    """

    def __init__(
        self,
        message: str,
        *lines: str,
        peer: str = "",
        accused: str = "",
        relayed: str = "",
        passed_on: bool = False,
    ) -> None:
        super().__init__(message, *lines, peer=peer)
        self.accused = accused
        self.passed_on = passed_on
        self._relayed = relayed

    def for_peers(self) -> str:
        """Return who ended the run and why, without a name that the reason says already."""
        return self._relayed or str(self)


class InexactError(SecaggError, ArithmeticError):
    """A product that must be exact was not, and was not used; no input should lead here."""
