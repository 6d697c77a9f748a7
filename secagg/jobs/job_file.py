"""Job files: what several organisations agree to compute, in TOML.

    name = "collectors-2026-09"
    pattern = "collectors"
    pad_rows_to = 1000            # optional: row counts are announced as multiples of this
    max_rows = 2000000              # optional: the largest row count that may be announced; 10 million unless given
    shards = 8                      # optional: 2, 4, 8, ...: the work is divided among workers of each party

    [parameters]                    # what is left out has its default; see `secagg patterns`
    min_senders = 6
    min_total = 20000               # amounts in units, with at most the currency's decimals

    [data]                          # optional: how every party's table is read; these are the defaults
    identifiers = "exact"           # or folded, iban, digits, stdnum:nl.bsn; or {beneficiary = "iban", ...}
    real_identifiers = []           # texts such as "NA" that stand for no missing value here
    currency_decimals = 2           # 0 to 4
    largest_amount = 1000000000000  # in units; a larger one is refused as a mistake
    time_zone = "UTC"               # of timestamps that name no zone, here and in the tables

    [window]                        # half-open, either end may be missing; numbers or ISO timestamps
    start = 2026-09-01
    end = 2026-10-01

    [[parties]]                     # one for each party, in the same order at all
    name = "north"
    address = "mpc.north.example:7400"
    certificate = "north.crt"       # a path from this file's directory, or the PEM text itself
    workers = ["m1.north.example:7401", "m2.north.example:7401"]  # with shards: as many of each party

    [roles]                         # the pattern's, in words of ISO/IEC 4922-1; see `secagg patterns`
    input = ["north", "south"]
    computing = ["north", "south", "west"]

    [generalise.transfers]          # optional: values made coarser before anything is shared; see `data.generalise`
    amount = {band = 100}

    [timeouts]                      # optional, seconds
    connect_s = 60
    silence_s = 15
    message_s = 600

Amounts are converted to the currency's smallest unit exactly. What is wrong is named by file, line and field. A
job file comes from other organisations in part, so its size, nesting and numbers are bounded before anything is
made of them.

What stands about approval, and what each run may choose, is in `agreement_fields`. Who loads a job may know the parties,
such as by a consortium: then `address` and `certificate` may be left out.

In place of `pattern`, a job file may have a query; see `query`. Both are paths from the file's directory:

    sql = "query.sql"               # `[parameters]` gives values to parameters such as $since in it; see `query_values`
    tables = "tables.toml"          # the declaration of the tables that it reads
    reveal = "result"               # or "owners": each input party gets the rows about its own identifiers

    [rules]                         # optional: the rule file of each owner of a table; without them nothing is suppressed
    north = "north-rules.toml"
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from secagg.data.conventions import Conventions
from secagg.data.generalise import Recipe, read_recipe
from secagg.errors import JobError, UsageError
from secagg.jobs.agreement import REQUIRED
from secagg.jobs.agreement_fields import AgreementField, check_approval, check_vary
from secagg.jobs.computed import query_of
from secagg.jobs.job import Job, Member
from secagg.jobs.job_parties import (
    NOBODY,
    PartyField,
    TimeoutsField,
    WindowField,
    check_members,
    check_roles,
    check_shards,
    check_timeouts,
    check_window,
)
from secagg.jobs.parameters import read_parameters
from secagg.jobs.query_fields import RESULT, QueryParameters, Reveal
from secagg.jobs.shards import Divisible
from secagg.party import PartyId
from secagg.patterns.parameters import parameter_fields
from secagg.patterns.pattern import INPUT, Pattern
from secagg.patterns.registry import Installed, find
from secagg.protocols.row_counts import MAX_ROWS
from secagg.toml_files import FieldFault, check_values, convert, parse_toml, read_toml

if TYPE_CHECKING:
    from secagg.jobs.query import QueryPattern

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_OF_EVERY_QUERY: Final = frozenset(parameter_fields(QueryParameters))
_DATA: Final = Conventions()


class _Data(msgspec.Struct, forbid_unknown_fields=True):
    identifiers: str | dict[str, str] = {}
    real_identifiers: list[str] = []
    currency_decimals: int = _DATA.currency_decimals
    largest_amount: int = _DATA.largest_amount
    time_zone: str = _DATA.time_zone


class _JobFile(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parties: list[PartyField]
    roles: dict[str, Any]
    pattern: str | None = None
    sql: str | None = None
    tables: str | None = None
    rules: dict[str, str] = {}
    reveal: Reveal = "result"
    parameters: dict[str, Any] = {}
    data: _Data = msgspec.field(default_factory=_Data)
    window: WindowField = msgspec.field(default_factory=WindowField)
    pad_rows_to: int = 1
    max_rows: int = MAX_ROWS
    shards: int = 1
    timeouts: TimeoutsField = msgspec.field(default_factory=TimeoutsField)
    approval: str = REQUIRED
    agreement: AgreementField | None = None
    vary: dict[str, Any] = {}
    generalise: dict[str, Any] = {}


def load_job(
    path: Path | str, *, with_certificates: bool = True, known: Mapping[PartyId, Member] = NOBODY
) -> Job:
    """Read and check a job file.

    Args:
      with_certificates: read the parties' certificates, and check that each is its party's and valid now. A job without
        them can be explained and moved, but not run.
      known: parties whose address and certificate the file need not give.

    Raises:
      JobError: the file cannot be read, or a field is wrong; the message names file, line and field.
    """
    path = Path(path)
    text = read_toml(path, what="the job file", kind=JobError)
    return parse_job(text, file=path, with_certificates=with_certificates, known=known)


def parse_job(
    text: str, *, file: Path, with_certificates: bool = True, known: Mapping[PartyId, Member] = NOBODY
) -> Job:
    """Check the text of a job file; arguments and errors as in `load_job`."""
    tables = parse_toml(text, file=file, kind=JobError)
    # Amounts must not pass through binary fractions; everything else may.
    exact = parse_toml(text, file=file, kind=JobError, parse_float=_decimal)
    try:
        check_values(exact.get("parameters", {}), "parameters")
        check_values(exact.get("vary", {}), "vary")
        check_values(exact.get("generalise", {}), "generalise")
        check_values(tables, "")
        fields = convert(
            tables, _JobFile, hint="a field of the job itself must stand before the first [table]"
        )
        return _check(fields, exact, file.parent, known, with_certificates=with_certificates)
    except FieldFault as fault:
        raise fault.error(file, text, JobError) from None


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except decimal.InvalidOperation:  # an exponent of more than 18 digits
        return Decimal("nan")


def _check(
    fields: _JobFile,
    exact: Mapping[str, Any],
    folder: Path,
    known: Mapping[PartyId, Member],
    *,
    with_certificates: bool,
) -> Job:
    if not _NAME.fullmatch(fields.name):
        raise FieldFault(
            "name",
            f"expected 1 to 63 letters, digits, '-' and '_', the first a letter or digit, got {fields.name!r:.80}",
        )
    given = exact.get("parameters", {})
    values = {} if fields.sql is None else {n: v for n, v in given.items() if n not in _OF_EVERY_QUERY}
    installed = _installed(fields, folder, values)
    pattern = installed.pattern
    if fields.pad_rows_to < 1:
        raise FieldFault("pad_rows_to", f"expected 1 or more, got {fields.pad_rows_to}")
    if fields.max_rows < fields.pad_rows_to:
        raise FieldFault(
            "max_rows",
            f"expected at least pad_rows_to, which is {fields.pad_rows_to}, got {fields.max_rows}",
        )
    data = _data(fields.data, pattern)
    members = check_members(fields.parties, folder, known, with_certificates=with_certificates)
    check_shards(fields.shards, members)
    if fields.shards > 1 and not isinstance(pattern, Divisible):
        raise FieldFault(
            "shards",
            f"{pattern.name} is no query on groups and no SQL, and cannot be divided into shards; leave shards out",
        )
    names = [member.name for member in members]
    roles = check_roles(fields.roles, names, pattern)
    given = {name: value for name, value in given.items() if name not in values}
    parameters = read_parameters(pattern, given, decimals=data.currency_decimals)
    window = check_window(fields.window, data.zone, pattern)
    job = Job(
        name=fields.name,
        installed=installed,
        parameters=parameters,
        window=window,
        members=members,
        roles=roles,
        pad_rows_to=fields.pad_rows_to,
        max_rows=fields.max_rows,
        timeouts=check_timeouts(fields.timeouts),
        data=data,
        approval=fields.approval,
        agreement=check_approval(fields.approval, fields.agreement),
        vary=check_vary(
            exact.get("vary", {}),
            pattern,
            parameters,
            window,
            decimals=data.currency_decimals,
            zone=data.zone,
        ),
        generalise=_recipe(exact.get("generalise", {}), pattern, data),
        shards=fields.shards,
    )
    _check_named(pattern, parameters, data)
    try:
        pattern.check(job.parameters, job.terms)
    except UsageError as error:
        raise FieldFault("parameters" if fields.sql is None else "sql", str(error)) from None
    return job


def _check_named(pattern: Pattern, parameters: Any, data: Conventions) -> None:
    """Refuse identifiers that a job names, such as groups, and that no table could have by the job's rules."""
    named: Mapping[str, str] = getattr(pattern, "named", {})
    for parameter, field in named.items():
        texts = list(getattr(parameters, parameter))
        _, refused = data.rule(field).spell(texts)
        for place, why in refused.items():
            raise FieldFault(
                f"parameters.{parameter}",
                f"{texts[place]!r:.80} {why}; if it is a real one, all parties list it as real_identifiers in [data]",
            )


def _installed(fields: _JobFile, folder: Path, values: Mapping[str, Any]) -> Installed:
    """Return what is computed: a pattern that is installed, or a query with values for its own parameters."""
    if fields.sql is None and fields.tables is None:
        if fields.pattern is None:
            raise FieldFault("pattern", "this field is missing, or `sql` and `tables` in its place")
        if fields.rules:
            raise FieldFault(
                "rules", "owners' rules are about a query, and this job has a pattern; leave them out"
            )
        if fields.reveal != "result":
            raise FieldFault(
                "reveal", "the pattern says who is told; this field is about a query, leave it out"
            )
        try:
            return find(fields.pattern)
        except UsageError as error:
            raise FieldFault("pattern", str(error)) from None
    if fields.pattern is not None:
        raise FieldFault("pattern", "expected a pattern, or `sql` and `tables`; got both")
    if fields.sql is None or fields.tables is None:
        missing = "sql" if fields.sql is None else "tables"
        raise FieldFault(missing, "this field is missing; a query needs `sql` and `tables`")
    if fields.max_rows != MAX_ROWS:
        raise FieldFault("max_rows", "the declaration says how many rows each table has; leave it out")
    from secagg.jobs.query import read_query  # with the parser of SQL, which other jobs do without

    # Roles are checked below, as all are.
    named, owners = (_names(fields.roles.get(role)) for role in (RESULT, INPUT))
    receivers = [*named, *owners] if fields.reveal == "owners" else named or owners
    return read_query(fields.sql, fields.tables, fields.rules, receivers, fields.reveal, folder, values)


def _names(told: Any) -> list[str]:
    return [name for name in told if isinstance(name, str)] if isinstance(told, list) else []


def _data(data: _Data, pattern: Pattern) -> Conventions:
    inputs = pattern.inputs.values()
    known = list(dict.fromkeys(name for schema in inputs for name in schema.identifiers))
    if (query := query_of(pattern)) is not None:
        return _query_data(data, query)
    rules = dict.fromkeys(known, data.identifiers) if isinstance(data.identifiers, str) else data.identifiers
    stranger = next((name for name in rules if name not in known), None)
    if stranger is not None:
        raise FieldFault(
            "data.identifiers",
            f"{' and '.join(pattern.inputs)} have no identifier {stranger!r:.80}; they have {', '.join(known)}",
        )
    return _conventions(data, dict.fromkeys(known, "exact") | rules)


def _recipe(written: Mapping[str, Any], pattern: Pattern, data: Conventions) -> Recipe:
    try:
        return read_recipe(written, pattern.inputs, decimals=data.currency_decimals)
    except UsageError as error:
        place, _, what = str(error).partition(": ")
        raise FieldFault(f"generalise.{place}", what) from None


def _query_data(data: _Data, pattern: QueryPattern) -> Conventions:
    """Return how the tables of a query are read, which its declaration says for the most part."""
    if data.identifiers:
        raise FieldFault("data.identifiers", "the declaration says how identifiers are spelt (`spelling`)")
    if data.real_identifiers:
        raise FieldFault("data.real_identifiers", "a query takes none; leave it out")
    try:
        spellings = pattern.spellings
    except UsageError as error:
        raise FieldFault("tables", str(error)) from None
    return _conventions(data, spellings)


def _conventions(data: _Data, identifiers: Mapping[str, str]) -> Conventions:
    try:
        return Conventions(
            identifiers=identifiers,
            real_identifiers=tuple(data.real_identifiers),
            currency_decimals=data.currency_decimals,
            largest_amount=data.largest_amount,
            time_zone=data.time_zone,
        )
    except UsageError as error:
        name, _, what = str(error).partition(": ")
        raise FieldFault(f"data.{name}", what) from None
