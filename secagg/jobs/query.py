"""A query as a pattern: what a job computes whose file names SQL and a declaration of tables.

Each input party reads those of its tables that the query reads, checks them, and computes alone what needs its own rows
only. The rest is computed on shares; see `query.joint_run`. The result is told to the parties of the role `result`, or to
all input parties; where the job says so, each input party is told the rows about its own identifiers.

Parties compare the texts of query and declaration, and the version of the parser that makes a plan of them.

The module is long because all that the contract asks of a pattern stands together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final

import duckdb
import msgspec

from secagg import release
from secagg.cost.operation import Cost
from secagg.errors import PlanError, UsageError
from secagg.files import read_file
from secagg.jobs.query_fields import RESULT, QueryParameters, Reveal
from secagg.jobs.query_in_shards import PlanInShards, parser_of_sql, texts_of
from secagg.jobs.query_values import filled
from secagg.mpc.buckets import OVERFLOW_BITS
from secagg.party import Party, PartyId
from secagg.patterns.pattern import (
    COMPUTING,
    INPUT,
    Agreed,
    Contribution,
    Disclosure,
    Limit,
    Result,
    Risk,
    RoleSize,
    Tables,
    Terms,
)
from secagg.patterns.registry import Installed, Origin
from secagg.protocols import group_by
from secagg.protocols.row_counts import MAX_ROWS, padded
from secagg.query import joint_run as queries
from secagg.query.algebra import Domain, Scan, relations
from secagg.query.announcement import Announced
from secagg.query.columns import from_columns
from secagg.query.declaration import Declaration
from secagg.query.division import divided
from secagg.query.own_groups import OwnGroups
from secagg.query.owner import Prepared, prepare
from secagg.query.planner import Plan
from secagg.query.reference import Pool
from secagg.query.rules.rule_file import OwnerRules, parse_rules
from secagg.query.schema import (
    Boolean,
    Category,
    Date,
    Identifier,
    Integer,
    Real,
    Schema,
    Timestamp,
    Type,
)
from secagg.query.terms import QueryTerms
from secagg.toml_files import FieldFault

_MAX_FILE_BYTES: Final = 1 << 20
_MAX_LINE: Final = 2000  # characters; a job file that holds the text has at most 4096 with escapes
_MOST: Final = 10**17  # the largest integer of a schema's range
_REAL_DECIMALS: Final = 6  # what 20 bits behind the point tell

_NO_VALUES: Final[Mapping[str, Any]] = MappingProxyType({})

_FOLLOW: Final = (
    "The computing parties are taken to follow the protocol. Then no computing party learns more than this, even if it "
    "pools what it sees with any number of input parties. "
)
_ONE_MAY_LIE: Final = (
    "One of the four computing parties may lie. A lie ends the run before anything is opened that depends on it. No "
    "computing party learns more than this, even if it lies and pools what it sees with any number of input parties. "
)
_TWO_POOL: Final = (
    "Two computing parties that pool what they hold see what every input party shares, with pseudonyms for identifiers. "
    "With an input party's help they can test guesses of whose they are. "
)
_LIES: Final = "A computing party that lies is not caught, and can have the others' rows opened to itself. "
_MADE_UP: Final = (
    "An input party that puts in made-up rows learns what the result tells about these, and one that alters its program "
    "can make the result wrong."
)
_UNSUPPRESSED: Final = (
    "the job has no owners' rules: small groups and single rows are told as they are. Read the query, and agree "
    "to what it tells."
)


@dataclass(frozen=True, slots=True)
class OwnRows:
    """What an input party puts in; its `repr` shows no value."""

    prepared: Prepared

    @property
    def rows(self) -> int:
        """The number of rows of its longest table."""
        return max(self.prepared.counts(1), default=0)

    def limits(self) -> Sequence[Limit]:
        """Return nothing: each value was checked against its declared range."""
        return ()

    def check(self) -> None:
        """Raise nothing: what the declaration does not allow was refused before."""


@dataclass(frozen=True, slots=True)
class _State:
    """What a party knows once all have announced their rows.

    Attributes:
      mine: what it puts in, None if it puts in nothing.
      groups: of a job in shards that is a query on groups, that query, and what was announced as its protocol knows it.
    """

    announced: Announced
    mine: Prepared | None
    groups: tuple[OwnGroups, group_by.Announced] | None


def _agreed_groups(agreed: Agreed) -> tuple[OwnGroups, group_by.Announced]:
    state: _State = agreed.state
    if state.groups is None:
        raise UsageError("expected a query on groups in shards, got another job")
    return state.groups


@dataclass(frozen=True)
class QueryPattern:
    """A query over declared tables; for what is not said here see `Pattern`.

    Attributes:
      plan: what is computed where.
      sql, declared: the agreed texts of the query and of the declaration.
      rules: the agreed texts of the owners' rule files, by owner; none where nothing is suppressed.
      reveal: "result" opens the result to the role `result`, or to all input parties; "owners" opens to each input party
        the rows about its own identifiers, and to the role `result` the whole.
      values: of the parameters in `sql`, agreed too.
      me: the input party whose tables `inputs` and `prepare` are about; "" for all tables.
    """

    plan: Plan
    sql: str
    declared: str
    rules: Mapping[PartyId, str] = field(default_factory=dict)
    reveal: Reveal = "result"
    values: Mapping[str, Any] = field(default_factory=dict)
    me: PartyId = ""

    name: ClassVar[str] = "query"
    Parameters: ClassVar[type[msgspec.Struct]] = QueryParameters
    phases: ClassVar[tuple[str, ...]] = queries.PHASES
    keeps_checkpoints: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, RoleSize]] = {
        INPUT: RoleSize(1, 255),
        COMPUTING: RoleSize(3, 4),
        RESULT: RoleSize(0, 255),
    }

    def at(self, me: PartyId) -> QueryPattern:
        """Return the pattern as one input party has it.

        Raises:
          UsageError: it holds no table that the query reads.
        """
        owners = ", ".join(self.plan.owners)
        if not me:
            raise UsageError(f"the tables of a query are those of one of {owners}; say whose with --as")
        if me not in self.plan.owners:
            raise UsageError(f"the query reads tables of {owners}, and none of {me}")
        return replace(self, me=me)

    @property
    def agreed(self) -> dict[str, Any]:
        """What parties compare besides the parameters of every query."""
        return {
            **{f"parameters.{name}": value for name, value in self.values.items()},
            "sql": self.sql,
            "tables": self.declared,
            "reveal": self.reveal,
            **{f"rules.{owner}": text for owner, text in self.rules.items()},
            "the parser of SQL": parser_of_sql(),
        }

    @property
    def summary(self) -> str:
        """Say what the query reads."""
        return f"SQL over {', '.join(self._read)}."

    @cached_property
    def _read(self) -> dict[str, tuple[str, ...]]:
        """The columns that the query reads of each table; of a table whose rows it only counts, the first."""
        found: dict[str, dict[str, None]] = {}
        for local in self.plan.locals:
            for scan in relations(local.relation):
                if isinstance(scan, Scan):
                    columns = found.setdefault(scan.table, {})
                    columns |= dict.fromkeys(scan.column_of(column.name) for column in scan.columns)
        declared = self.plan.declaration
        return {
            table: tuple(name for name in declared[table].schema if name in columns)
            or (next(iter(declared[table].schema)),)
            for table, columns in found.items()
        }

    @property
    def inputs(self) -> Mapping[str, Schema]:
        """The columns that the query reads of each table, or of those of `me`."""
        declared = self.plan.declaration
        return {
            table: Schema(**{name: declared[table].schema[name] for name in columns})
            for table, columns in self._read.items()
            if not self.me or self.me in declared[table].holders
        }

    @cached_property
    def results(self) -> Schema:
        """The columns of the result.

        Raises:
          PlanError: a name that no result table can have.
        """
        columns = self.plan.root.columns
        if len({column.name for column in columns}) < len(columns):
            raise PlanError("two columns of the result have the same name; give them others with AS")
        types = {}
        for column in columns:
            try:
                types[column.name] = _type(column.domain)
            except UsageError as error:
                raise PlanError(f"the result's column {column.name}: {error}") from None
        try:
            return Schema(**types)
        except UsageError as error:
            raise PlanError(f"the columns of the result: {error}; name columns with AS") from None

    @property
    def spellings(self) -> dict[str, str]:
        """By column, the rule that spells identifiers.

        Raises:
          PlanError: columns of one name with different rules.
        """
        found: dict[str, str] = {}
        for schema in replace(self, me="").inputs.values():
            for name, kind in schema.items():
                if not isinstance(kind, Identifier):
                    continue
                if found.setdefault(name, kind.spelling) != kind.spelling:
                    raise PlanError(
                        f"two tables spell {name} by the rules {found[name]} and {kind.spelling}; give the columns "
                        "different names or one rule"
                    )
        return found

    # The contract.

    def check(self, parameters: Any, terms: Terms) -> None:
        """Raise `PlanError` where these cannot be computed with."""
        owners = self.plan.owners
        if set(terms.input_parties) != set(owners):
            raise PlanError(
                f"expected as input parties those that hold the tables of the query, {', '.join(owners)}, got "
                f"{', '.join(terms.input_parties)}"
            )
        queries.check(self.plan, self._terms(parameters, terms))
        if self.row_limit(terms) > MAX_ROWS:
            raise PlanError(
                f"expected tables of at most {MAX_ROWS} rows at each party, rounded up to a multiple of pad_rows_to; "
                "declare less max_rows"
            )
        _ = self.results, self.spellings

    def row_limit(self, terms: Terms) -> int:
        """Return the largest row count that one input party may announce, as the declaration has it."""
        return max(self.row_limits(terms).values())

    def row_limits(self, terms: Terms) -> dict[PartyId, int]:
        """Return the largest row count that each input party may announce of one of its tables."""
        declared = self.plan.declaration
        return {
            name: max(
                padded(declared[table].max_rows, terms.pad_rows_to)
                for table in self._read
                if name in declared[table].holders
            )
            for name in self.plan.owners
        }

    def recipients(self, terms: Terms) -> tuple[PartyId, ...]:
        """Return who is told: the role `result`, or all input parties; and owners of rows."""
        return tuple(dict.fromkeys([*self._receivers(terms), *self._about_own(terms)]))

    def _receivers(self, terms: Terms) -> tuple[PartyId, ...]:
        named = tuple(terms.roles.get(RESULT, ()))
        return named if named or self.reveal == "owners" else terms.input_parties

    def _about_own(self, terms: Terms) -> tuple[PartyId, ...]:
        if self.reveal == "result":
            return ()
        named = self._receivers(terms)
        return tuple(name for name in terms.input_parties if name not in named)

    def opens(self, parameters: Any, terms: Terms) -> list[Disclosure]:
        """Return everything that a run opens, and to whom."""
        step = terms.pad_rows_to
        rounded = f", rounded up to a multiple of {step}" if step > 1 else ""
        found = [
            Disclosure(
                "a salted commitment to each input party's rows, which shows nothing of them without the salt that their "
                "owner keeps",
                terms.parties,
            )
        ]
        if any(not local.is_dense for local in self.plan.locals):
            whose = (
                "what the query leaves of each input party's tables before they meet others"
                if parameters.announce_filtered
                else "each input party's tables have"
            )
            found.insert(0, Disclosure(f"how many rows {whose}{rounded}", terms.parties))
        if len(self.plan.locals) > 1:
            found.append(
                Disclosure(
                    "whether declared keys that join tables are unique over all parties; if not, nothing else is opened",
                    terms.parties,
                )
            )
        are_groups = queries.possible_groups(self.plan, self._terms(parameters, terms)) is not None
        if self.plan.has_ranges and not (are_groups and terms.shards > 1):
            found.append(
                Disclosure(
                    "whether the numbers that each input party shares are in the ranges that the plan gives them; with an "
                    "unaltered program they always are",
                    terms.roles[COMPUTING],
                )
            )
        if are_groups:
            found += [
                Disclosure(
                    "where owners' lists are merged and not sorted: whether the run must be repeated with a new hash key",
                    terms.parties,
                ),
                Disclosure(
                    "where they are merged: whether each list is well-formed, and which rows of the shuffled lists are "
                    "whose, a random order of the announced numbers",
                    terms.roles[COMPUTING],
                ),
            ]
        elif terms.shards > 1:
            found += [
                Disclosure(
                    "whether the run must be repeated with a new hash key, as more rows of an input party fell into one "
                    "shard than are kept for it; then nothing was shared",
                    terms.parties,
                ),
                Disclosure(
                    "whether each input party put into all shards together as many rows as it announced, and each row into "
                    "the shard of its identifier; with an unaltered program it always did",
                    terms.roles[COMPUTING],
                ),
            ]
        columns = ", ".join(self.results)
        rules = f", under the rules of {', '.join(self.rules)}" if self.rules else ""
        names = any(isinstance(kind, Identifier) for kind in self.results.values())
        strange = "; an identifier that its own rows have not is shown as a pseudonym" if names else ""
        most = f"at most {self.plan.root.max_rows} rows of {columns}{rules}"
        if whole := self._receivers(terms):
            found.append(Disclosure(f"the result of the query, {most}{strange}", whole))
        if own := self._about_own(terms):
            what = f"of the result of the query, {most}: the rows about identifiers that its own rows have"
            found.append(Disclosure(what, own, each_its_own=True))
        return found

    def trust(self, parameters: Any, terms: Terms) -> str:  # noqa: ARG002
        """Return what is taken of the computing parties: three follow the protocol, of four one may lie."""
        if len(terms.roles[COMPUTING]) == 4:
            return _ONE_MAY_LIE + _TWO_POOL + _MADE_UP
        return _FOLLOW + _TWO_POOL + _LIES + _MADE_UP

    def warnings(self, parameters: Any, terms: Terms) -> list[str]:
        """Warn where nothing is suppressed, shards save little, or two input parties read each other's figures."""
        found = [] if self.rules else [_UNSUPPRESSED]
        if terms.shards > 1 and self._groups(parameters, terms) is None:
            counts = queries.announced_counts(self.plan, self.row_limits(terms), terms.pad_rows_to)
            found += divided(self.plan, self._terms(parameters, terms)).loosely_bound(counts)
        if len(terms.input_parties) != 2:
            return found
        first, second = terms.input_parties
        warning = (
            f"only {first} and {second} put in data: who knows its own rows and the result can read the other's figures out "
            "of joint ones. Take three input parties or more, or agree that these two may know each other's figures."
        )
        return [*found, warning]

    def cost(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> Cost:
        """Return what a run costs in which each table of a party has so many rows, or as many as are declared."""
        for name, limit in self.row_limits(terms).items():
            if rows[name] > limit:
                raise PlanError(
                    f"{name} with {rows[name]} rows is above the {limit} that the declaration allows"
                )
        counts = queries.announced_counts(self.plan, rows, terms.pad_rows_to)
        return queries.expected_cost(self.plan, self._terms(parameters, terms), counts)

    def cost_above_shards(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> Cost:
        """Return what of the cost of a job in shards its main processes have; arguments as of `cost`."""
        counts = queries.announced_counts(self.plan, rows, terms.pad_rows_to)
        return queries.cost_above_shards(self.plan, self._terms(parameters, terms), counts)

    def risks(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> list[Risk]:
        """Return the chance that identifiers are confused, and that a run has to be repeated."""
        if not queries.has_identifiers(self.plan):
            return []
        counts = queries.announced_counts(self.plan, rows, terms.pad_rows_to)
        if (groups := queries.chosen_groups(self.plan, self._terms(parameters, terms), counts)) is not None:
            layout = groups.layout(counts)
            return [
                Risk(
                    "log2_false_match", "two different identifiers are taken for one", layout.log2_false_match
                ),
                Risk("log2_abort", "the run must be repeated with a new hash key", layout.log2_abort),
            ]
        log2 = min(0.0, queries.log2_confused(self.plan, counts))
        found = [Risk("log2_false_match", "two different identifiers are taken for one", log2)]
        if terms.shards > 1:
            found.append(
                Risk("log2_abort", "the run must be repeated with a new hash key", -float(OVERFLOW_BITS))
            )
        return found

    def divided(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> list[str]:
        """Return how the tables of a job in shards are divided; nothing of a job that is one query on groups.

        Args:
          rows: as in `cost`.
        """
        if self._groups(parameters, terms) is not None:
            return []
        counts = queries.announced_counts(self.plan, rows, terms.pad_rows_to)
        return list(divided(self.plan, self._terms(parameters, terms)).said(counts))

    def reference(
        self,
        parameters: Any,
        terms: Terms,
        tables: Mapping[PartyId, Tables],
    ) -> dict[PartyId, list[tuple[Any, ...]]]:
        """Return what each recipient is told, by DuckDB on the pooled tables; identifiers are those, and no pseudonyms.

        Raises:
          PlanError: there are rules, which the pooled tables know nothing of.
        """
        if self.rules:
            raise PlanError("the plaintext of a query under owners' rules cannot be computed here")
        declared = self.plan.declaration
        with Pool(declared) as pool, duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for holder, held in tables.items():
                source = from_columns(declared, held)
                for table in held:
                    found = connection.execute(f"SELECT * FROM {source(connection, table)}")  # noqa: S608  # quoted
                    names = [column[0] for column in found.description]
                    # What the query does not read is NULL.
                    blank = dict.fromkeys(declared[table].schema)
                    pool.add(
                        table,
                        holder,
                        [blank | dict(zip(names, row, strict=True)) for row in found.fetchall()],
                    )
            rows = [self._shown(row) for row in pool.run(self.plan.query)]
        told = {name: list(rows) for name in self._receivers(terms)}
        for name in self._about_own(terms):
            source = from_columns(declared, tables[name])
            mine = prepare(self.plan, name, source, announce_filtered=parameters.announce_filtered)
            own = queries.own_identifiers(self.plan, mine)
            at = self.plan.root.names.index(queries.own_column(self.plan))
            told[name] = [row for row in rows if row[at] in own]
        return told

    def prepare(self, parameters: Any, terms: Terms, tables: Tables) -> OwnRows:  # noqa: ARG002
        """Return what the input party `me` puts in.

        Raises:
          DataError: rows that the declaration does not allow.
          RangeError: more rows than declared.
        """
        source = from_columns(self.plan.declaration, tables)
        filtered = parameters.announce_filtered
        return OwnRows(prepare(self.plan, self.me, source, announce_filtered=filtered))

    async def agree(
        self, party: Party, parameters: Any, terms: Terms, contribution: Contribution | None
    ) -> Agreed:
        """Announce row counts and commitments, and compare them with everybody."""
        mine = contribution.prepared if isinstance(contribution, OwnRows) else None
        announced = await queries.agree(party, self.plan, self._terms(parameters, terms), mine)
        groups = self._groups(parameters, terms) if terms.shards > 1 else None
        tables = {
            owner: [local.table for local in self.plan.of(owner) if not local.is_dense]
            for owner in self.plan.owners
        }
        return Agreed(
            rows={owner: max(counts, default=0) for owner, counts in announced.counts.items()},
            recorded={
                "commitments": {owner: value.hex() for owner, value in announced.commitments.items()},
                "rows": {
                    owner: [[table, n] for table, n in zip(tables[owner], counts, strict=True)]
                    for owner, counts in announced.counts.items()
                },
            },
            private={"commitment_salt": announced.salt.hex()} if announced.salt else {},
            state=_State(
                announced, mine, None if groups is None else (groups, groups.announced(announced, mine))
            ),
        )

    async def run(self, party: Party, parameters: Any, terms: Terms, agreed: Agreed) -> Result | None:
        """Compute; return the rows that this party is told, None if it is no recipient."""
        state: _State = agreed.state
        query_terms = self._terms(parameters, terms)
        rows = await queries.take_part(party, self.plan, query_terms, state.announced, state.mine)
        return self.rows_told(terms, party.me, rows)

    def rows_told(self, terms: Terms, me: PartyId, rows: Sequence[Sequence[Any]] | None) -> Result | None:
        """Return what a party is told of a result, None if it is no recipient.

        Args:
          rows: that were opened to it; None also of a result that can have none.
        """
        return [self._shown(row) for row in rows or ()] if me in self.recipients(terms) else None

    # In shards; see `jobs.shards.Divisible` and `DivisiblePlan`.

    def in_shards(self, parameters: Any, terms: Terms, agreed: Agreed) -> PlanInShards:
        """Return the divided plan, with what was announced.

        Raises:
          PlanError: it cannot be divided.
        """
        state: _State = agreed.state
        query_terms = self._terms(parameters, terms)
        # Without rules nobody asks for whom a plan is.
        receivers = () if self.plan.rules is None else sorted(self.plan.rules.receivers)
        texts = texts_of(filled(self.sql, self.values), self.declared, self.rules, receivers)
        plan = divided(self.plan, query_terms)
        return PlanInShards(plan, query_terms, texts, state.announced, state.mine)

    def groups(self, parameters: Any, terms: Terms) -> group_by.Query | None:
        """Return the query on groups that the plan is, None if it is none."""
        found = self._groups(parameters, terms)
        return None if found is None else found.query

    def announced(self, agreed: Agreed) -> group_by.Announced:
        """Return what was announced, as the protocol on groups knows it."""
        return _agreed_groups(agreed)[1]

    def told(self, agreed: Agreed, findings: group_by.Findings | None) -> Result | None:
        """Return the rows that this party is told, None if it put in none."""
        groups, announced = _agreed_groups(agreed)
        rows = groups.told(self.plan, announced.rows, findings)
        return None if rows is None else [self._shown(row) for row in rows]

    def _groups(self, parameters: Any, terms: Terms) -> OwnGroups | None:
        return queries.possible_groups(self.plan, self._terms(parameters, terms))

    def _terms(self, parameters: Any, terms: Terms) -> QueryTerms:
        return QueryTerms(
            terms.parties,
            terms.roles[COMPUTING],
            self._receivers(terms),
            self._about_own(terms),
            step=terms.pad_rows_to,
            announce_filtered=parameters.announce_filtered,
            shards=terms.shards,
        )

    def _shown(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """Return a row with quotients as decimals."""
        return tuple(
            round(Decimal(value), _REAL_DECIMALS) if isinstance(value, float) else value for value in row
        )


def read_query(
    query: str,
    tables: str,
    rules: Mapping[str, str],
    receivers: Sequence[str],
    reveal: Reveal,
    folder: Path,
    values: Mapping[str, Any] = _NO_VALUES,
) -> Installed:
    """Return the pattern of a job that names a query.

    Args:
      query, tables, rules: paths from the folder of the job file; or the texts themselves, which have a line end.
      receivers: to whom the result is opened, or a part of it.
      reveal, values: see `QueryPattern`.

    Raises:
      FieldFault: a file that cannot be read, or a query or a declaration that cannot be used.
    """
    written = _text(tables, folder, "tables", "the declaration")
    text = _text(query, folder, "sql", "the query")
    try:
        declaration = Declaration.parse(written, file="declaration" if "\n" in tables else folder / tables)
    except UsageError as error:
        raise FieldFault("tables", str(error)) from None
    allowed = {
        owner: _text(given, folder, f"rules.{owner}", "the rule file") for owner, given in rules.items()
    }
    parsed = {owner: _rules(owner, one) for owner, one in allowed.items()}
    try:
        plan = queries.plan_query(filled(text, values), declaration, receivers, parsed or None)
    except UsageError as error:
        raise FieldFault("sql", str(error)) from None
    pattern = QueryPattern(plan, text, written, allowed, reveal, dict(values))
    return Installed(pattern, Origin("secagg", release.RELEASE))


def _rules(owner: str, text: str) -> OwnerRules:
    try:
        rules = parse_rules(text, file="rule file")
    except UsageError as error:
        raise FieldFault(f"rules.{owner}", str(error)) from None
    if rules.owner != owner:
        raise FieldFault(f"rules.{owner}", f"expected the rules of {owner}, got those of {rules.owner}")
    return rules


def _text(given: str, folder: Path, field: str, what: str) -> str:
    """Return an agreed text with the same line ends on every system."""
    if "\n" not in given:
        try:
            given = read_file(folder / given, what=what, max_bytes=_MAX_FILE_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise FieldFault(field, f"expected {what} in UTF-8") from None
        except UsageError as error:
            raise FieldFault(field, str(error)) from None
    text = given.replace("\r\n", "\n").rstrip() + "\n"
    if any(len(line) > _MAX_LINE for line in text.split("\n")):
        raise FieldFault(field, f"expected lines of at most {_MAX_LINE} characters in {what}")
    return text


def _type(domain: Domain) -> Type:
    """Return the type of a column of the result."""
    null = domain.nullable
    low, high = (max(-_MOST, min(_MOST, bound)) for bound in domain.bounds)
    match domain.kind:
        case "identifier":
            return Identifier(nullable=null)
        case "number" if domain.decimals:
            scale = domain.decimals
            return Real(Decimal(low).scaleb(-scale), Decimal(high).scaleb(-scale), scale, nullable=null)
        case "number":
            return Integer(low, high, nullable=null)
        case "real":
            most = Decimal(_MOST).scaleb(-_REAL_DECIMALS)
            return Real(-most, most, _REAL_DECIMALS, nullable=null)
        case "date":
            return Date(nullable=null)
        case "timestamp":
            return Timestamp(domain.zone, domain.decimals, nullable=null)
        case "category":
            return Category(domain.values, nullable=null)
        case "boolean":
            return Boolean(nullable=null)
