"""What a protection is to this package: something that runs a real protocol over many parties' vectors.

All parties run in one process and thread, in the simulator, with their real messages. **Nothing is hidden from
whoever owns the process**: the protection is that of the same protocol between parties of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeVar

from numpy.typing import NDArray

from secagg.cost.network import Network
from secagg.cost.operation import Cost
from secagg.errors import AbortedError, PeerMissingError, PlanError, UsageError
from secagg.fixed_point import Plan
from secagg.ledger import Ledger
from secagg.network.simulated import Fault, Outcome, simulate
from secagg.party import Computation, Party, PartyId, Program
from secagg.protocols.threat_model import largest_part
from secagg.updates.coding import Coding, FixedPoint, Request, Units

# No time passes but by the protocols' own deadlines, which nobody that is there exceeds.
_IN_PROCESS: Final = Network("in one process", 0.0, 1e15, timeout_s=7200.0)
DEADLINE_S: Final = 3600.0
_PAUSE_S: Final = 1e-3

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SumJob:
    """What is to be added up.

    Args:
      vectors: each client's, int64 or float64, all of one length; not changed.
      plan: of all coordinates, for `plan.parties` vectors; `plan.sum_bits` hold their sums. Each is within +-plan.clip,
        but where the protection is `modular` and they bear noise.
      leaving: clients that vanish for trying out, and instead of which message.
      executor: threads for heavy work.
      coding: what made the vectors, for protocols that check them.
      drive: what runs the parties' programs, with the arguments `network`, `faults` and `starts` of `simulate`.
    """

    vectors: Mapping[PartyId, NDArray[Any]] = field(repr=False)
    plan: Plan
    leaving: Mapping[PartyId, str]
    executor: Executor | None = None
    coding: Coding | None = field(default=None, repr=False)
    drive: Callable[..., Outcome[Any]] = simulate

    @property
    def clients(self) -> tuple[PartyId, ...]:
        """Names, in order."""
        return tuple(self.vectors)

    @property
    def length(self) -> int:
        """Of a vector."""
        return int(next(iter(self.vectors.values())).size)


@dataclass(frozen=True, slots=True)
class SumOutcome:
    """What came out of a protocol.

    Attributes:
      total: the sum, int64 or float64.
      contributors: whose vectors are in it.
      missed: whoever else was found missing or at fault, and why; contributors may be among them.
      error: bound on the error of each coordinate.
      parameters: what the protocol chose.
      learns: who learns what, and who would have to work together to learn more.
      bits: of one number as a client sends it, without what is sent once.
      roles: party names by role.
      ledgers: by party.
      setup_s: seconds for keys that a deployment makes once.
      declared: what the protocol declares that a run costs a party, if nobody leaves.
    """

    total: NDArray[Any] = field(repr=False)
    contributors: tuple[PartyId, ...]
    missed: Mapping[PartyId, str]
    error: float
    parameters: str
    learns: str
    bits: float
    roles: Mapping[str, tuple[PartyId, ...]]
    ledgers: Mapping[PartyId, Ledger] = field(repr=False)
    setup_s: float
    declared: Callable[[PartyId], Cost] = field(repr=False)


class Protection(ABC):
    """A protection with its settings; frozen."""

    __slots__ = ()

    name: ClassVar[str]
    # Sums are taken modulo 2^b from end to end: one vector may be any, if only sums fit.
    modular: ClassVar[bool] = False
    # What is opened is a function of the sum alone, and says nothing of single vectors; so noise inside the sum protects.
    supports_dp: ClassVar[bool] = True
    no_dp_because: ClassVar[str] = ""
    # Whether fewer bits a number make what a client sends shorter, and "" or why not.
    no_compression_because: ClassVar[str] = ""
    # Whether the loss of a client's neighbours can cost its own vector (masked sums alone).
    clients_depend: ClassVar[bool] = False

    @property
    @abstractmethod
    def stages(self) -> Mapping[str, int]:
        """At which of its messages a client may vanish, by name, in order."""

    @property
    @abstractmethod
    def usual_stage(self) -> str:
        """At which it vanishes if nothing else is said."""

    def check(self, clients: int) -> None:
        """Refuse what cannot be run with so many clients.

        Raises:
          UsageError, PlanError: too few clients, or settings that do not go together.
          ImportError: what is missing, and how to install it.
        """
        if clients < 2:
            raise UsageError(f"expected at least 2 clients, got {clients}: the sum of one is its update")

    @property
    def misbehaving(self) -> Collection[PartyId]:
        """Clients that shall send something wrong, for trying out."""
        return ()

    def min_clients(self, clients: int) -> int:
        """Return the fewest clients whose sum is opened; with fewer the run ends with an error.

        Raises:
          PlanError: settings that cannot be run with so many clients.
        """
        return clients

    def colluders(self, clients: int) -> int:  # noqa: ARG002  # for those that plan for some
        """Return how many clients the protection itself takes to work with whoever learns the sum.

        Raises:
          PlanError: settings that cannot be run with so many clients.
        """
        return 0

    def coding(self, request: Request) -> Coding:
        """Return how updates become vectors.

        Raises:
          PlanError: sums that could overflow.
          UsageError: an array without clip.
        """
        return Units(request) if isinstance(request.max_weight, float) else FixedPoint(request)

    @abstractmethod
    def run(self, job: SumJob) -> SumOutcome:
        """Run the protocol.

        Raises:
          PlanError: it has no room for the plan.
          TooFewPartiesError: too few clients stayed.
          PeerMissingError: a party that it cannot do without vanished.
        """


class BearsDropout(Protection):
    """A protection whose sums need the clients that are sure to stay if at most the fraction `max_dropout` leaves."""

    __slots__ = ()

    max_dropout: float

    def check(self, clients: int) -> None:
        Protection.check(self, clients)
        self.min_clients(clients)

    def min_clients(self, clients: int) -> int:
        if not 0 <= self.max_dropout < 1:
            raise UsageError(f"expected max_dropout as a fraction from 0 to below 1, got {self.max_dropout}")
        staying = clients - largest_part(self.max_dropout, clients)
        if staying < 2:
            raise PlanError(
                f"of {clients} clients only {staying} are sure to stay: the sum of one is its update; use a smaller "
                "max_dropout"
            )
        return staying


class _Stop(BaseException):
    """Carries what one party's program raised out of the simulator, which keeps exceptions for its outcome."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Watch:
    """Programs of parties, and what the one that gathers found out about the others.

    In one process a client vanishes because the caller asked for that, and for no other reason. Whatever else a party's
    program raises (a signal, no memory, a mistake in the program) ends the run. Else the sum would lack a client's update.
    """

    def __init__(self) -> None:
        self.programs: dict[PartyId, Program[Any]] = {}
        self._gatherer: list[Party] = []
        self._running: list[Computation[Any]] = []

    def add(self, name: PartyId, program: Program[Any], *, gathers: bool = False) -> None:
        """Add a party."""

        def watched(party: Party) -> Computation[Any]:
            if gathers:
                self._gatherer.append(party)
            running = _watched(party, program)
            self._running.append(running)
            return running

        self.programs[name] = watched

    @property
    def missed(self) -> dict[PartyId, str]:
        """Who was missing or at fault, and why."""
        return {name: str(error) for party in self._gatherer for name, error in party.failed.items()}

    def run(self, learner: PartyId, job: SumJob, stages: Mapping[str, int]) -> tuple[Any, Outcome[Any]]:
        """Run all programs; return what the party that learns the sum returned, and how all ended.

        Raises:
          SecaggError: what ended the run, from the party that found it.
          BaseException: what a party's program raised, as it is, with a note that names the party.
        """
        faults = [Fault("crash", stages[stage], sender=name) for name, stage in job.leaving.items()]
        # One client after the other, so that not everybody's upload lies in memory at once.
        starts = {name: i * _PAUSE_S for i, name in enumerate(job.clients)}
        stopped: BaseException | None = None
        try:
            outcome = job.drive(self.programs, network=_IN_PROCESS, faults=faults, starts=starts)
        except _Stop as stop:
            stopped = stop.error
        finally:
            for program in self._running:
                program.close()
        if stopped is not None:
            raise stopped
        for party in self._gatherer:
            for fault in party.failed.values():
                if not isinstance(fault, PeerMissingError):
                    fault.add_note(f"found by {party.me}")
                    raise fault
        errors = [outcome.errors[name] for name in (learner, *self.programs) if name in outcome.errors]
        for error in errors:
            if not isinstance(error, PeerMissingError):  # a signal's, between two programs
                raise error
        if learner not in outcome.results or (errors and not job.leaving):
            # A party that only heard that another ended the run knows less than that other.
            raise next((error for error in errors if not isinstance(error, AbortedError)), errors[0])
        return outcome.results[learner], outcome


async def _watched(party: Party, program: Program[T]) -> T:
    """Run a party's program, and let nothing that it raises but the loss of a peer be taken for its own loss."""
    try:
        return await program(party)
    except (PeerMissingError, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  # raised again by `Watch.run`
        error.add_note(f"raised in the program of {party.me}")
        raise _Stop(error) from None


def free_names(wanted: Sequence[str], taken: Iterable[PartyId]) -> tuple[PartyId, ...]:
    """Return names for parties that are no clients, changed where a client is called so."""
    taken = set(taken)
    names = []
    for name in wanted:
        while name in taken:
            name += "'"
        names.append(name)
    return tuple(names)
