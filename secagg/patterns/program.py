"""Patterns that are a program on shared arrays: shared tables in, named columns out.

Such a pattern is one file: its parameters, `local` (what an organisation computes of its own rows), `program` (what is
computed of everybody's, on arrays of `secagg.mpc` that read like numpy's) and `pooled` (the same in the clear). This base
does the rest: row counts are announced and padded, identifiers become pseudonyms, ranges are checked on shares, and
results go to whom they are for. `cost` rehearses the program without values.

    class Idle(ProgramPattern):
        name, summary = "idle", "customers whose balances at all banks add up to less than a limit."
        inputs = {"customers": Schema(customer=Identifier(), balance=Money())}
        results = Schema(customer=Identifier(), total=Money())
        Parameters = Limits
        about = "customers"
        tells = "for each customer that it put in: whether all balances stay below the limit and, only if so, their sum"

        def program(self, parameters, tables):
            rows = tables["customers"]
            total = Groups([rows["customer"]]).sum_each(rows["balance"])
            return Findings({"total": total}, shown=total < parameters.limit_cents)

        def pooled(self, parameters, tables): ...        # {(customer,): (total,)}

Results are about the rows of one table (`about`): each owner is told about its own, and takes the columns that it put in
from its own copy. Or they are the same for all recipients (`about` is None): the parties of the role `result`, or all input
parties.

Threat model: that of the engine. Three computing parties follow the protocol, and one of them may look. Of four, one may
lie. Input parties may put in any rows within the columns' ranges; others end the run and name them.

The module is long because what runs a pattern stands beside what describes it.

Learns: see `opens`. Cost: see `cost`; a sort's messages are random, and what is declared of it is what is expected.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from secagg import mpc
from secagg.cost.operation import Cost
from secagg.errors import PlanError, RemoteProtocolError, UsageError
from secagg.mpc.arrays import Engine, SharedArray
from secagg.mpc.arrays.dtypes import BoolType, DType, boolean
from secagg.mpc.arrays.keeping import Stages
from secagg.mpc.engines import (
    INPUT_KINDS,
    OPENING_KINDS,
    SET_UP_KINDS,
    check_computing,
    check_number,
    share_input_bytes,
)
from secagg.party import SHARED, Party, PartyId
from secagg.patterns.joint_tables import (
    IDENTIFIER_BITS,
    MS,
    Columns,
    JointTable,
    PrivateTables,
    bounds_of,
    columns_of,
    dtypes_of,
    python_value,
    with_decimals,
)
from secagg.patterns.pattern import (
    COMPUTING,
    INPUT,
    Agreed,
    Contribution,
    Disclosure,
    Result,
    Risk,
    RoleSize,
    Tables,
    Terms,
)
from secagg.prg import KEY_BYTES
from secagg.protocols.group_by import Announced, announce_count
from secagg.protocols.pseudonyms import agree_hash_key, log2_collision
from secagg.protocols.row_counts import padded
from secagg.query.schema import Identifier, Schema, Time

RESULT: Final = "result"  # the role of those who are told, where results are not about somebody's rows
PHASES: Final = ("agree", "compute")
_BLUR: Final = 100  # row counts are multiples of ten times the smallest number that is told, of this, or of twice the number
COMPUTED: Final = "compute"  # the mark of checkpoints behind the opening of what is refused

_FOLLOW: Final = (
    "The computing parties are taken to follow the protocol. The ranges of what input parties put in are checked. Then no "
    "computing party learns more than this, even if it pools what it sees with any number of input parties. "
)
_ONE_MAY_LIE: Final = (
    "One of the four computing parties may lie. The ranges of what input parties put in are checked. A lie ends the run "
    "before anything is opened that depends on it. No computing party learns more than this, even if it lies and pools what "
    "it sees with any number of input parties. "
)
_TWO_POOL: Final = (
    "Two computing parties that pool what they hold see every row's numbers under pseudonyms. With an input party's help "
    "they can test guesses of whose they are. "
)
_TWO_POOL_ROWS: Final = (
    "Two computing parties that pool what they hold see the numbers of every row, and which input party put it in. No "
    "identifiers are shared. "
)
_TWO_POOL_COUNTS: Final = (
    "Two computing parties that pool what they hold see the counts and sums that each input party puts in, small ones among "
    "them. No rows and no identifiers are shared. "
)
_LIES: Final = "A computing party that lies is not caught, and can have the others' rows opened to itself. "
_MADE_UP: Final = "An input party that puts in made-up rows learns what the results tell about these."


@dataclass(frozen=True, slots=True)
class Findings:
    """What a program gives, to be opened.

    Attributes:
      columns: the results' columns that are computed, in the results' order. Where results are about a table, one value for
        each of its rows; elsewhere any number of rows. Public columns may be numpy arrays or lists of strings.
      shown: bools, which rows are told; the others are zero when they are opened. None tells all.
      refused: bits, by what is wrong if one is set: then all parties learn which, and nothing else is opened.
    """

    columns: Mapping[str, Any]
    shown: SharedArray | None = None
    refused: Mapping[str, SharedArray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Terms:
    """What announcements have to fit; see `announcement.Asked`.

    Attributes:
      step: what an unaltered program rounds up to, a multiple of `pad_rows_to`.
      least: the smallest count that it announces.
    """

    input_parties: tuple[PartyId, ...]
    computing_parties: tuple[PartyId, ...]
    pad_rows_to: int
    row_limit: int
    step: int
    least: int

    def announced(self, rows: int) -> int:
        """Return a row count rounded up, as far as the limit leaves room."""
        most = self.row_limit // self.pad_rows_to * self.pad_rows_to
        rounded = max(self.least, padded(rows, self.step))
        return min(rounded, most) if rows <= most else rounded


class ProgramPattern(ABC):
    """A pattern that is a program on shared arrays; see the module, and for other attributes `Pattern`.

    Attributes:
      about: the shared table whose rows the results are about, or None. Each owner takes the results' columns that have the
        name of one of this table's from its own copy; the others are computed.
      tells: what a recipient is told, after "learns".
      refusals: what `Findings.refused` may say, in the program's order; its keys.
      summed: columns, as in "transfers.amount", that the program adds up and multiplies by at most `factor`: a job in which
        such a sum could exceed 62 bits is refused.
      hides_below: the parameter below whose number of rows nothing is told, or None. Row counts that depend on rows are
        rounded up then, and nobody announces 0: exact ones would tell what is hidden. See `row_step`.
      named: parameters that list identifiers, and of which field. A job is refused that names what no table can have.
    """

    name: str
    summary: str
    inputs: Mapping[str, Schema]
    results: Schema
    Parameters: type[msgspec.Struct]
    roles: Mapping[str, RoleSize] = {INPUT: RoleSize(2, 255), COMPUTING: RoleSize(3, 4)}
    phases: tuple[str, ...] = PHASES
    keeps_checkpoints: ClassVar[bool] = True
    about: ClassVar[str | None] = None
    tells: str
    refusals: ClassVar[tuple[str, ...]] = ()
    summed: ClassVar[tuple[str, ...]] = ()
    factor: ClassVar[int] = 1
    hides_below: ClassVar[str | None] = None
    named: ClassVar[Mapping[str, str]] = {}

    # What a pattern is made of.

    def shared(self, parameters: Any) -> Mapping[str, Columns]:  # noqa: ARG002  # others' depend on them
        """Return the tables that are shared, with the type of each column; by default the inputs as they are read."""
        return {name: columns_of(schema) for name, schema in self.inputs.items()}

    def sizes(self, parameters: Any) -> Mapping[str, int]:  # noqa: ARG002
        """Return the public row number of each table that is not as long as an input party's announced row count."""
        return {}

    def local(self, parameters: Any, tables: Tables) -> Mapping[str, Mapping[str, Any]]:  # noqa: ARG002
        """Return what an organisation shares, made of its own tables; by default its tables as they are."""
        return tables

    @abstractmethod
    def program(self, parameters: Any, tables: Mapping[str, JointTable]) -> Findings:
        """Return what is found in everybody's rows, as lazy shared arrays; nothing is opened here."""

    @abstractmethod
    def pooled(self, parameters: Any, tables: Mapping[PartyId, Tables]) -> Any:
        """Compute the same in the clear, by other means.

        Returns:
          Where results are about a table: for each tuple of the results' columns that an owner takes from its own copy,
          the tuple of the others; rows that are not told are missing. Elsewhere the results' rows in order.
        """

    def from_opened(self, parameters: Any, columns: Sequence[Any]) -> Sequence[Any]:  # noqa: ARG002
        """Return the results' columns, made in the clear of what was opened to a recipient; by default these as they are."""
        return columns

    # The contract.

    def check(self, parameters: Any, terms: Terms) -> None:
        """Raise `PlanError` where these cannot be computed with."""
        self._asked(parameters, terms)

    def row_limit(self, terms: Terms) -> int:
        """Return the largest row count that one input party may announce."""
        return terms.max_rows

    def row_step(self, parameters: Any, terms: Terms) -> int:
        """Return what row counts are announced in multiples of: `pad_rows_to`, or more where small numbers are hidden."""
        step = terms.pad_rows_to
        smallest = self._smallest(parameters)
        if smallest < 2:  # nothing but "none" is hidden
            return step
        most = self.row_limit(terms) // step * step
        return max(step, min(padded(max(2 * smallest, min(10 * smallest, _BLUR)), step), most))

    def announced(self, parameters: Any, terms: Terms, rows: int) -> int:
        """Return the row count that an input party with so many rows announces."""
        return self._asked(parameters, terms).announced(rows)

    def recipients(self, terms: Terms) -> tuple[PartyId, ...]:
        """Return who gets a result: each input party about its own rows; else the role `result`, or all input parties."""
        if self.about is not None:
            return terms.input_parties
        return tuple(terms.roles.get(RESULT, ())) or terms.input_parties

    def opens(self, parameters: Any, terms: Terms) -> list[Disclosure]:
        """Return everything that a run opens, and to whom."""
        step = self.row_step(parameters, terms)
        rounded = f", rounded up to a multiple of {step}" if step > 1 else ""
        found = []
        if self._counts_rows(parameters):  # else 0 is announced by all
            found.append(Disclosure(f"how many rows each input party has{rounded}", terms.parties))
        found += [
            Disclosure(
                "a salted commitment to each input party's rows, which shows nothing of them without the salt that their "
                "owner keeps",
                terms.parties,
            ),
            Disclosure(
                "which input party put in a number outside its column's range; with an unaltered program nobody does",
                terms.parties,
            ),
        ]
        found += [
            Disclosure(f"whether {reason}; if so, nothing else is opened", terms.parties)
            for reason in self.refusals
        ]
        return [*found, Disclosure(self.tells, self.recipients(terms), each_its_own=self.about is not None)]

    def trust(self, parameters: Any, terms: Terms) -> str:
        """Return what is taken of the computing parties: three follow the protocol, of four one may lie."""
        layout = self._layout(parameters, terms)
        if any(isinstance(kind, Identifier) for columns in layout.values() for kind in columns.values()):
            pooled = _TWO_POOL
        else:
            pooled = _TWO_POOL_COUNTS if set(layout) <= set(self.sizes(parameters)) else _TWO_POOL_ROWS
        if len(terms.roles[COMPUTING]) == 4:
            return _ONE_MAY_LIE + pooled + _MADE_UP
        return _FOLLOW + pooled + _LIES + _MADE_UP

    def warnings(self, parameters: Any, terms: Terms) -> list[str]:  # noqa: ARG002
        """Warn of two input parties, who read each other's figures out of joint ones."""
        if len(terms.input_parties) > 2:
            return []
        first, second = terms.input_parties
        warning = (
            f"only {first} and {second} put in data: each takes its own rows out of a joint result and reads the other's. "
            "Take three input parties or more, or agree that these two may know each other's figures."
        )
        return [warning]

    def cost(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> Cost:
        """Return what a run costs in which these row counts are announced; sorts cost what is expected of them."""
        asked = self._asked(parameters, terms)
        for name in terms.input_parties:
            if rows[name] > asked.row_limit:
                raise PlanError(
                    f"{name} with {rows[name]} rows is above max_rows, which is {asked.row_limit}; set max_rows in the job"
                )
        self._check_sums(parameters, terms, rows)
        computing = terms.roles[COMPUTING]

        async def rehearse(party: Party) -> None:
            await self._compute(party, parameters, terms, rows, None, rehearsal=True)

        rehearsed = mpc.cost(rehearse, dict.fromkeys(terms.parties, ()), computing=computing)
        sent = {name: rehearsed.payload_bytes.get(name, 0) for name in terms.parties}
        outside = [name for name in terms.input_parties if name not in computing]
        for name in outside:
            for table, columns in self._layout(parameters, terms).items():
                size = self._sizes(parameters, terms, rows)[table][name]
                for dtype in dtypes_of(columns):
                    sent[name] += share_input_bytes(computing, _bytes(size, dtype))
        # Before it: announced, and compared. Input parties draw the key. Those that compute set the engine up after that.
        # Those outside share while others set it up: a round where three compute, and at most one where four do.
        inside = len(outside) < len(terms.input_parties)
        rounds = rehearsed.rounds + 2 + inside + bool(outside)
        return Cost(rounds, sent, expected=rehearsed.expected)

    def risks(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> list[Risk]:
        """Return the chance that identifiers are confused, where any are compared."""
        total = sum(
            sum(isinstance(kind, Identifier) for kind in columns.values()) * sum(sizes.values())
            for columns, sizes in zip(
                self._layout(parameters, terms).values(),
                self._sizes(parameters, terms, rows).values(),
                strict=True,
            )
        )
        if not total:
            return []
        return [
            Risk(
                "log2_false_match",
                "two different identifiers are taken for one",
                min(0.0, log2_collision(total, IDENTIFIER_BITS)),
            )
        ]

    def reference(
        self, parameters: Any, terms: Terms, tables: Mapping[PartyId, Tables]
    ) -> dict[PartyId, list[tuple[Any, ...]]]:
        """Return what each recipient is told, computed in the clear from everybody's tables."""
        found = self.pooled(parameters, tables)
        if self.about is None:
            return {name: list(found) for name in self.recipients(terms)}
        told = {}
        for name in terms.input_parties:
            own = self.local(parameters, tables[name])[self.about]
            columns = [[python_value(self.results[c], v) for v in own[c]] for c in self._taken(own)]
            keys = zip(*columns, strict=True)
            told[name] = [(*key, *found[key]) for key in dict.fromkeys(keys) if key in found]
        return told

    def prepare(self, parameters: Any, terms: Terms, tables: Tables) -> PrivateTables:
        """Return what an input party with these tables puts in."""
        layout, caps = self._layout(parameters, terms), self.sizes(parameters)
        made = self.local(parameters, tables)
        rows = max((len(next(iter(made[name].values()))) for name in layout if name not in caps), default=0)
        asked = self._asked(parameters, terms)
        return PrivateTables.of(
            layout, made, caps=caps, announced=asked.announced(rows), row_limit=asked.row_limit
        )

    async def agree(
        self,
        party: Party,
        parameters: Any,
        terms: Terms,
        contribution: Contribution | None,
    ) -> Agreed:
        """Announce row counts and commitments, and compare them with everybody."""
        asked = self._asked(parameters, terms)
        check_computing(party, asked.computing_parties)
        own = contribution if isinstance(contribution, PrivateTables) else None
        if own is not None:
            own.check()

        def commit(salt: bytes) -> bytes:
            return b"" if own is None else own.commitment(salt, session=party.session, owner=party.me)

        announced = await announce_count(party, asked, None if own is None else own.rows, commit)
        return Agreed(
            rows=dict(announced.counts),
            recorded={"commitments": {name: value.hex() for name, value in announced.commitments.items()}},
            private={"commitment_salt": announced.salt.hex()} if announced.salt else {},
            state=(announced, own),
        )

    async def run(self, party: Party, parameters: Any, terms: Terms, agreed: Agreed) -> Result | None:
        """Compute; return the rows that this party is told, None if it is no recipient."""
        announced, own = agreed.state
        self._check_sums(parameters, terms, agreed.rows)
        with party.phase("agree"):
            if party.checkpoints.resumes is None:
                key = await _hash_key(party, announced)
            else:  # what was put in is kept, and nothing is shared again
                key = party.rng.bytes(KEY_BYTES)
        elements = None
        if own is not None:
            sizes = self._sizes(parameters, terms, agreed.rows)
            elements = {t: own.elements(t, sizes[t][party.me], key, party) for t in own.layout}
        with party.phase("compute"):
            if party.me in terms.roles[COMPUTING]:
                opened = await self._compute(party, parameters, terms, agreed.rows, elements)
            else:
                opened = await self._outside(party, parameters, terms, agreed.rows, elements)
        if opened is None:
            return None
        columns, shown = opened
        return self._rows(own, self.from_opened(parameters, columns), shown)

    # What happens underneath.

    def _counts_rows(self, parameters: Any) -> bool:
        """Return whether announced row counts depend on rows."""
        return not set(self.shared(parameters)) <= set(self.sizes(parameters))

    def _smallest(self, parameters: Any) -> int:
        """Return the smallest number that is told, 0 where none is hidden or row counts do not depend on rows."""
        if self.hides_below is None or not self._counts_rows(parameters):
            return 0
        smallest: int = getattr(parameters, self.hides_below)
        return smallest

    def _asked(self, parameters: Any, terms: Terms) -> _Terms:
        computing, limit = terms.roles[COMPUTING], self.row_limit(terms)
        check_number(computing)
        if limit < terms.pad_rows_to:
            raise PlanError(
                f"expected max_rows of at least pad_rows_to, which is {terms.pad_rows_to}, got {limit}"
            )
        step = self.row_step(parameters, terms)
        least = step if self._smallest(parameters) > 1 else 0
        return _Terms(terms.input_parties, computing, terms.pad_rows_to, limit, step, least)

    def _layout(self, parameters: Any, terms: Terms) -> dict[str, Columns]:
        """Return the tables that are shared, with the job's decimals."""
        decimals = terms.currency_decimals
        return {name: with_decimals(of, decimals) for name, of in self.shared(parameters).items()}

    def _sizes(
        self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]
    ) -> dict[str, dict[PartyId, int]]:
        """Return how many rows of each table each input party shares; at least one, so that no array is empty."""
        caps = self.sizes(parameters)
        return {
            table: {name: max(1, caps.get(table, rows[name])) for name in terms.input_parties}
            for table in self._layout(parameters, terms)
        }

    def _check_sums(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> None:
        layout, sizes = self._layout(parameters, terms), self._sizes(parameters, terms, rows)
        for name in self.summed:
            table, _, column = name.partition(".")
            most = max(map(abs, bounds_of(layout[table][column]) or (1,)))
            count = sum(sizes[table].values())
            if most * count * self.factor >= 1 << 62:
                raise PlanError(
                    f"{name}: {count} rows of at most {most} could add up to more than a sum has room for; allow at most "
                    f"{((1 << 62) - 1) // (count * self.factor)} in one row, or fewer rows"
                )

    def _taken(self, own: Mapping[str, Any]) -> list[str]:
        """Return the results' columns that an owner takes from its own copy of the table that results are about."""
        return [column for column in self.results if column in own]

    async def _compute(
        self,
        party: Party,
        parameters: Any,
        terms: Terms,
        rows: Mapping[PartyId, int],
        own: Mapping[str, Sequence[tuple[NDArray[Any], DType]]] | None,
        *,
        rehearsal: bool = False,
    ) -> tuple[list[Any], Any] | None:
        """Compute at a computing party; return the columns that are opened to it and which rows are shown."""
        engine = await Engine.create(party, terms.roles[COMPUTING], label=f"pattern {self.name}")
        layout = self._layout(parameters, terms)
        tables = {
            table: JointTable.share(engine, layout[table], sizes, None if own is None else own[table])
            for table, sizes in self._sizes(parameters, terms, rows).items()
        }
        wrong = [tables[table].out_of_range(columns) for table, columns in layout.items()]
        outside_range = wrong[0]
        for other in wrong[1:]:
            outside_range = outside_range | other
        findings = self.program(parameters, tables)
        if tuple(findings.refused) != self.refusals:
            raise UsageError(
                f"the pattern {self.name} refuses {list(findings.refused)}, and declares {list(self.refusals)}"
            )
        bits = mpc.concat([outside_range, *(bit.reshape(1) for bit in findings.refused.values())])
        columns, shown = self._shown(findings, tables)
        public = [column for column in columns if not isinstance(column, SharedArray)]
        arrays = [column for column in columns if isinstance(column, SharedArray)]
        if shown is not None:
            arrays.append(shown)
        stages = Stages(engine)
        if await stages.share(SHARED, [bits, *arrays]):
            (refused,) = await engine.open(bits, to=terms.parties)
            if not rehearsal:
                self._refuse(terms, refused)
        if not await stages.enter(COMPUTED, arrays):
            raise UsageError(f"the pattern {self.name} does not know where this run goes on; start it anew")
        if public and not arrays:
            return (columns, None) if party.me in self.recipients(terms) else None
        openings: list[tuple[SharedArray, PartyId]] = []
        for name in self.recipients(terms):
            part = slice(None) if self.about is None else tables[self.about].part(name)
            openings += [(x[part], name) for x in arrays]
        opened = await engine.open_each(openings)
        if rehearsal or party.me not in self.recipients(terms):
            return None
        at = self.recipients(terms).index(party.me) * len(arrays)
        return self._merged(columns, opened[at : at + len(arrays)], shown is not None)

    def _shown(
        self, findings: Findings, tables: Mapping[str, JointTable]
    ) -> tuple[list[Any], SharedArray | None]:
        """Return the columns with zeros where nothing is shown, and which rows are shown."""
        shown = findings.shown
        if self.about is not None:
            valid = tables[self.about].valid
            shown = valid if shown is None else shown & valid
        columns = list(findings.columns.values())
        if shown is not None:
            columns = [
                c
                if not isinstance(c, SharedArray)
                else c & shown
                if isinstance(c.dtype, BoolType)
                else c * shown
                for c in columns
            ]
        return columns, shown

    def _merged(self, columns: Sequence[Any], opened: Sequence[Any], flagged: bool) -> tuple[list[Any], Any]:
        values = iter(opened)
        merged = [next(values) if isinstance(c, SharedArray) else c for c in columns]
        return merged, next(values) if flagged else None

    async def _outside(
        self,
        party: Party,
        parameters: Any,
        terms: Terms,
        rows: Mapping[PartyId, int],
        own: Mapping[str, Sequence[tuple[NDArray[Any], DType]]] | None,
    ) -> tuple[list[Any], Any] | None:
        """Take part without computing: share rows, and receive what is opened to this party."""
        computing = terms.roles[COMPUTING]
        resumes = party.checkpoints.resumes
        if resumes is None:
            party.checkpoints.keep(SHARED, {})
            for table in own or {}:
                for values, dtype in (own or {})[table]:
                    await mpc.share_with(party, computing, values, dtype=dtype)
        if resumes is None or resumes.mark == SHARED:
            bits = len(terms.input_parties) + len(self.refusals)
            self._refuse(terms, await mpc.receive(party, computing, (bits,), dtype=boolean))
        if party.me not in self.recipients(terms):
            return None
        columns, shown = await self._forms(party, parameters, terms, rows)
        received = []
        for x in [*(c for c in columns if isinstance(c, tuple)), *([shown] if shown is not None else [])]:
            shape, dtype = x
            received.append(await mpc.receive(party, computing, shape, dtype=dtype))
        left = iter(received)
        merged = [next(left) if isinstance(c, tuple) else c for c in columns]
        return merged, next(left) if shown is not None else None

    async def _forms(
        self, party: Party, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]
    ) -> tuple[list[Any], Any]:
        """Return shape and dtype of what is opened to this party, and public columns as they are, by a rehearsal."""
        found: list[tuple[list[Any], Any]] = []
        layout = self._layout(parameters, terms)
        sizes = self._sizes(parameters, terms, rows)

        async def rehearse(rehearsing: Party) -> None:
            engine = await Engine.create(rehearsing, terms.roles[COMPUTING])
            tables = {t: JointTable.share(engine, layout[t], sizes[t], None) for t in layout}
            columns, shown = self._shown(self.program(parameters, tables), tables)
            part = slice(None) if self.about is None else tables[self.about].part(party.me)
            forms = [(x[part].shape, x.dtype) if isinstance(x, SharedArray) else x for x in columns]
            found.append((forms, None if shown is None else (shown[part].shape, shown.dtype)))

        mpc.cost(rehearse, dict.fromkeys(terms.parties, ()), computing=terms.roles[COMPUTING])
        return found[0]

    def _refuse(self, terms: Terms, bits: NDArray[np.bool_]) -> None:
        inputs = len(terms.input_parties)
        for name, bit in zip(terms.input_parties, bits[:inputs].tolist(), strict=True):
            if bit:
                raise RemoteProtocolError(
                    f"{name} put in a number outside its column's range; nothing is reported; ask {name} what it runs",
                    peer=name,
                )
        for reason, bit in zip(self.refusals, bits[inputs:].tolist(), strict=True):
            if bit:
                raise PlanError(f"{reason}; nothing is reported. Agree on other parameters, and run again")

    def _rows(self, own: PrivateTables | None, columns: Sequence[Any], shown: Any) -> list[tuple[Any, ...]]:
        """Return the rows that a recipient is told, with Python's types."""
        taken: dict[str, list[Any]] = {}
        n = len(columns[0]) if columns else len(shown)
        if self.about is not None and own is not None:
            table = own.tables[self.about]
            n = own.length(self.about)
            taken = {column: list(table[column]) for column in self._taken(table)}
        computed = iter(columns)
        ready = []
        for column, kind in self.results.items():
            values = taken[column] if column in taken else next(computed)[:n]
            if column in taken and isinstance(kind, Time):
                values = [value / MS for value in values]
            ready.append([python_value(kind, value) for value in values])
        kept = range(n) if shown is None else np.flatnonzero(shown[:n]).tolist()
        rows = [tuple(column[i] for column in ready) for i in kept]
        return rows if self.about is None else list(dict.fromkeys(rows))  # rows of one key are told the same


def _bytes(size: int, dtype: DType) -> int:
    return -(-size // 64) * 8 if isinstance(dtype, BoolType) else size * dtype.bits // 8


async def _hash_key(party: Party, announced: Announced) -> bytes:
    """Return the key of the pseudonyms at an input party, b"" elsewhere."""
    if party.me not in announced.counts:
        return b""
    later = (*SET_UP_KINDS, *INPUT_KINDS, *OPENING_KINDS)
    return await agree_hash_key(party, announced.contribution, announced.contributions, sent_before=later)
