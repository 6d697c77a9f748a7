"""The contract between a pattern and whatever runs it.

A pattern is a joint computation that organisations agree on by name. A job, the command line and the run record know only
what stands here. So a pattern may read any tables, give parties any roles, and use any protocol over `Party`.

What happens at one party, in this order:

  check       the agreed parameters and terms can be computed with
  prepare     at an input party: the rows of its tables become its contribution; nothing is sent
  agree       everybody learns the row counts; what follows depends on nothing else
  run         the computation; a party that is told something returns its rows, the others None

A pattern whose attribute `keeps_checkpoints` is true keeps checkpoints in `run` (`Party.checkpoints`), so that an
interrupted run goes on. It keeps the first, of mark `share`, at every party and before it opens anything. Computing
parties keep one before each opening and call `checkpoints.ready_to_open` (`secagg.mpc`). Noise that it releases is in its
first checkpoint: `prepare` draws it, or its coins, so that a run that goes on releases the same. A run of another pattern
that was interrupted begins anew.

`opens` declares what a run opens to whom. Nothing can hold a program to such a declaration. So parties compare the
distribution, the version and the module of the pattern before they read data, and the run record names them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import msgspec

from secagg.cost.operation import Cost
from secagg.errors import UsageError
from secagg.party import Party, PartyId
from secagg.protocols.row_counts import MAX_ROWS, padded
from secagg.query.schema import Columns, Schema

INPUT: Final = "input"  # the role of those who put in rows, which every pattern has
COMPUTING: Final = "computing"

Tables: TypeAlias = Mapping[str, Columns]  # by the names of a pattern's inputs
Result: TypeAlias = Sequence[tuple[Any, ...]]  # rows with a value for each column of a pattern's results


class RoleSize(NamedTuple):
    """How many parties may have a role."""

    min: int
    max: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What the parties agreed on besides the parameters; equal at all of them.

    Attributes:
      parties: all of them, in the order in which they know each other.
      roles: who has which role.
      pad_rows_to: row counts are announced as the next multiple of this, or of more: see `RoundsUp`.
      max_rows: the largest row count that one input party may announce.
      currency_decimals: an amount of 1 is 10**-currency_decimals units.
      shards: into how many shards the work is divided; more than one only where `jobs.shards` can divide it.
    """

    parties: tuple[PartyId, ...]
    roles: Mapping[str, tuple[PartyId, ...]]
    pad_rows_to: int = 1
    max_rows: int = MAX_ROWS
    currency_decimals: int = 2
    shards: int = 1

    @property
    def input_parties(self) -> tuple[PartyId, ...]:
        """Who puts in rows."""
        return self.roles[INPUT]

    def padded(self, rows: int) -> int:
        """Return the row count that an input party with so many rows announces."""
        return padded(rows, self.pad_rows_to)


@dataclass(frozen=True, slots=True)
class Disclosure:
    """Something that is opened, and who learns it.

    Attributes:
      each_its_own: each party of `to` learns it about its own rows and nobody else's.
    """

    what: str
    to: tuple[PartyId, ...]
    each_its_own: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest number of one kind in a party's contribution, and the largest that the parameters allow.

    Attributes:
      money: whether both are amounts in the currency's smallest unit.
    """

    name: str
    largest: int
    max: int
    money: bool = False


@dataclass(frozen=True, slots=True)
class Risk:
    """What may go wrong by chance in a run in which everybody keeps to the protocol.

    Attributes:
      name: what a run record calls its logarithm.
      what: a clause, such as "two different identifiers are taken for one".
      log2: of a bound on its probability; negative infinity where it cannot happen.
    """

    name: str
    what: str
    log2: float


@dataclass(frozen=True, slots=True)
class Spending:
    """What one release with noise costs those whose rows are in some tables, in differential privacy.

    Attributes:
      tables: the inputs whose rows the noise hides.
      epsilon, delta: of the release, for tables that differ in one unit. Under basic composition they are added up.
      unit: what is hidden: one row, or all rows of one person.
      rho: of zero-concentrated differential privacy [BS16], where the noise has one: s**2 / (2 * sigma**2) for (discrete)
        Gaussian noise of standard deviation sigma and a sensitivity of s. Where delta is 0, epsilon**2 / 2 is one.

    Raises:
      UsageError: no tables, or numbers that no release has.
    """

    tables: tuple[str, ...]
    epsilon: float
    delta: float = 0.0
    unit: Literal["row", "person"] = "person"
    rho: float | None = None

    def __post_init__(self) -> None:
        numbers = (self.epsilon, 0.0 if self.rho is None else self.rho)
        if not all(0 <= x < math.inf for x in numbers) or not 0 <= self.delta < 1:
            raise UsageError(f"expected a finite epsilon and rho from 0, and a delta below 1, got {self}")
        if not self.tables or self.unit not in ("row", "person"):
            raise UsageError(f'expected tables, and "row" or "person" as the unit, got {self}')


class Contribution(Protocol):
    """What an input party puts in, made of its tables and not sent yet. Its `repr` shows no value."""

    @property
    def rows(self) -> int:
        """The number of rows, before it is rounded up."""

    def limits(self) -> Sequence[Limit]:
        """Return its largest numbers beside those that are allowed, to be shown to its owner."""

    def check(self) -> None:
        """Raise `UsageError` where the parameters or terms do not allow it."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What `Pattern.agree` came to.

    Attributes:
      rows: the row count that each input party announced, the same at all parties.
      recorded: what the run record says of it besides, such as commitments; the same at all parties, and plain data.
      private: what this party alone may keep of it, such as the salt of its commitment; plain data.
      state: what `Pattern.run` goes on with.
    """

    rows: Mapping[PartyId, int]
    recorded: Mapping[str, Any] = field(default_factory=dict)
    private: Mapping[str, Any] = field(default_factory=dict, repr=False)
    state: Any = field(default=None, repr=False)


@runtime_checkable
class RoundsUp(Protocol):
    """A pattern that may announce row counts in larger multiples than the job's `pad_rows_to`."""

    def row_step(self, parameters: Any, terms: Terms) -> int:
        """Return the number whose multiples are announced, a multiple of `terms.pad_rows_to` itself."""

    def announced(self, parameters: Any, terms: Terms, rows: int) -> int:
        """Return the row count that an input party with so many rows announces."""


@runtime_checkable
class Pattern(Protocol):
    """A joint computation; see the module for what happens in which order."""

    @property
    def name(self) -> str:
        """What a job file calls it."""

    @property
    def summary(self) -> str:
        """One line about what it finds or computes."""

    @property
    def inputs(self) -> Mapping[str, Schema]:
        """The schema of each table that an input party puts in."""

    @property
    def results(self) -> Schema:
        """The columns of a result, by type."""

    @property
    def Parameters(self) -> type[msgspec.Struct]:  # noqa: N802  # a class
        """A frozen struct whose fields all have defaults, and which forbids unknown fields.

        A field whose name ends in `_cents` or holds `_cents_` is an amount; see `parameters`.
        """

    @property
    def roles(self) -> Mapping[str, RoleSize]:
        """How many parties may have each role; `input` is one of them."""

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases of `run`, in order, as `Party.phase` names them; `agree` counts as reading data."""

    def check(self, parameters: Any, terms: Terms) -> None:
        """Raise `PlanError` where these cannot be computed with; the message says what would do."""

    def row_limit(self, terms: Terms) -> int:
        """Return the largest row count that one input party may announce, `terms.max_rows` or less."""

    def recipients(self, terms: Terms) -> tuple[PartyId, ...]:
        """Return who gets a result."""

    def opens(self, parameters: Any, terms: Terms) -> Sequence[Disclosure]:
        """Return everything that a run opens, and to whom."""

    def trust(self, parameters: Any, terms: Terms) -> str:
        """Return who is trusted with what, and what those who are not could learn, in whole sentences."""

    def warnings(self, parameters: Any, terms: Terms) -> Sequence[str]:
        """Return a sentence for each term that protects nobody, or fewer than it seems."""

    def cost(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> Cost:
        """Return what a run costs in which these row counts are announced; `PlanError` for counts above the limit."""

    def risks(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> Sequence[Risk]:
        """Return what may go wrong by chance in such a run."""

    def reference(
        self, parameters: Any, terms: Terms, tables: Mapping[PartyId, Tables]
    ) -> Mapping[PartyId, Result]:
        """Compute in the clear, from everybody's tables, what each recipient is told; for tests and demonstrations."""

    def prepare(self, parameters: Any, terms: Terms, tables: Tables) -> Contribution:
        """Return what an input party with these tables puts in."""

    async def agree(
        self, party: Party, parameters: Any, terms: Terms, contribution: Contribution | None
    ) -> Agreed:
        """Announce this party's row count, if it is an input party, and learn everybody's."""

    async def run(self, party: Party, parameters: Any, terms: Terms, agreed: Agreed) -> Result | None:
        """Compute; return the rows that this party is told, None if it is no recipient."""


@runtime_checkable
class Noisy(Protocol):
    """A pattern that releases something with noise; the owners' privacy budgets pay for it."""

    def spends(self, parameters: Any, terms: Terms) -> Sequence[Spending]:
        """Return what one run costs; nothing where these parameters ask for no noise."""
