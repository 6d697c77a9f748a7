"""A program under way at one party, advanced by whatever carries its messages."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from secagg.errors import SecaggError, UsageError
from secagg.party.party import Computation, Party
from secagg.party.roster import PartyId

T = TypeVar("T")


class Run(Generic[T]):
    """A party's program, advanced by whatever carries its messages.

    After `start` and each `step` the driver carries what is in `party.outbox`. When `done`, `result()` returns
    what the program returned or raises what it raised.
    """

    __slots__ = ("_computation", "_error", "_result", "_started", "done", "party")

    def __init__(self, party: Party, computation: Computation[T]) -> None:
        self.party = party
        self.done = False
        self._started = False
        self._computation = computation
        self._error: BaseException | None = None
        self._result: list[T] = []

    def start(self) -> None:
        """Run the program up to its first wait."""
        self._started = True
        self._resume(None)

    def step(self, *, late: bool = False) -> bool:
        """Run the program on to its next wait, if what it waits for is there; return whether it went on.

        What was in the outbox must have been sent or copied: the program may now change those arrays.

        Args:
          late: the time is over: go on with what is there, or fail where it is not enough.
        """
        if self.done or not self._started or not (late or self.party.ready):
            return False
        try:
            got = self.party._collect()
        except SecaggError as error:
            self._resume(error)
        else:
            self._resume(got)
        return True

    def advance(self, *, late: bool = False) -> None:
        """Run the program on as far as the messages that are there allow.

        Frames that a driver did not carry since the last step are copied before the program goes on.

        Args:
          late: as in `step`.
        """
        while not self.done and self._started and (late or self.party.ready):
            self.party._own_outbox()
            self.step(late=late)
            late = False

    def abort(self, error: SecaggError) -> None:
        """End the program with an error, at the point where it waits."""
        if not self.done:
            self._resume(error)

    def result(self) -> T:
        """Return what the program returned, or raise what it raised.

        Raises:
          UsageError: the program has not ended.
        """
        if self._error is not None:
            raise self._error
        if not self.done:
            raise UsageError(f"{self.party.me} is still waiting for {', '.join(self.party.waiting_for)}")
        return self._result[0]

    @property
    def error(self) -> BaseException | None:
        """What the program raised, if it did."""
        return self._error

    def _resume(self, value: SecaggError | list[dict[PartyId, Any]] | None) -> None:
        ledger = self.party.ledger
        ledger.resume()
        try:
            wait = (
                self._computation.throw(value)
                if isinstance(value, SecaggError)
                else self._computation.send(value)  # type: ignore[arg-type]  # the first send takes None
            )
        except StopIteration as stop:
            self.done = True
            self._result.append(stop.value)
        except Exception as error:  # noqa: BLE001  # kept, and raised again by result()
            self.done = True
            self._error = error
        else:
            self.party._begin(wait)
        finally:
            ledger.pause()
