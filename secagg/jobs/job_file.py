"""Job files: what several organisations agree to compute, in TOML.

    name = "collectors-2026-09"
    pattern = "collectors"
    pad_rows_to = 1000            # optional: row counts are announced as multiples of this
    max_rows = 2000000              # optional: the largest row count that may be announced; 10 million unless given

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

    [roles]                         # the pattern's, in words of ISO/IEC 4922-1; see `secagg patterns`
    input = ["north", "south"]
    computing = ["north", "south", "west"]

    [timeouts]                      # optional, seconds
    connect_s = 60
    silence_s = 15
    message_s = 600

Amounts are converted to the currency's smallest unit exactly. What is wrong is named by file, line and field. A
job file comes from other organisations in part, so its size, nesting and numbers are bounded before anything is
made of them.
"""

from __future__ import annotations

import codecs
import decimal
import re
import tomllib
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from secagg.data.conventions import Conventions
from secagg.errors import JobError, UsageError
from secagg.files import read_file
from secagg.jobs.fields import FieldFault
from secagg.jobs.job import Job
from secagg.jobs.job_parties import (
    PartyField,
    TimeoutsField,
    WindowField,
    check_members,
    check_roles,
    check_timeouts,
    check_window,
)
from secagg.jobs.parameters import read_parameters
from secagg.patterns.pattern import Pattern
from secagg.patterns.registry import find
from secagg.protocols.row_counts import MAX_ROWS

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_DATA: Final = Conventions()
_MAX_FILE_BYTES: Final = 1 << 20
_MAX_LINE: Final = 4096  # characters; time for a key of many parts grows with the square of its length
_MAX_DEPTH: Final = 8  # tables in tables; a job needs three
_MAX_EXPONENT: Final = 400  # of a fraction; more is no amount, and slow to compute with
_LARGEST_INTEGER: Final = (1 << 63) - 1  # as TOML has them


class _Data(msgspec.Struct, forbid_unknown_fields=True):
    identifiers: str | dict[str, str] = {}
    real_identifiers: list[str] = []
    currency_decimals: int = _DATA.currency_decimals
    largest_amount: int = _DATA.largest_amount
    time_zone: str = _DATA.time_zone


class _JobFile(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    pattern: str
    parties: list[PartyField]
    roles: dict[str, Any]
    parameters: dict[str, Any] = {}
    data: _Data = msgspec.field(default_factory=_Data)
    window: WindowField = msgspec.field(default_factory=WindowField)
    pad_rows_to: int = 1
    max_rows: int = MAX_ROWS
    timeouts: TimeoutsField = msgspec.field(default_factory=TimeoutsField)


def load_job(path: Path | str, *, with_certificates: bool = True) -> Job:
    """Read and check a job file.

    Args:
      with_certificates: read the parties' certificates, and check that each is its party's and valid now. A job without
        them can be explained and moved, but not run.

    Raises:
      JobError: the file cannot be read, or a field is wrong; the message names file, line and field.
    """
    path = Path(path)
    try:
        content = read_file(path, what="the job file", max_bytes=_MAX_FILE_BYTES)
    except UsageError as error:
        raise JobError(str(error)) from None
    if content.startswith(codecs.BOM_UTF8):
        raise JobError(
            f"{path}: expected a TOML file in UTF-8 without a byte order mark at its start; save it without "
            f"(some editors say 'UTF-8 with BOM')"
        )
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise JobError(f"{path}: expected a TOML file in UTF-8") from None
    return parse_job(text, file=path, with_certificates=with_certificates)


def parse_job(text: str, *, file: Path, with_certificates: bool = True) -> Job:
    """Check the text of a job file; arguments and errors as in `load_job`."""
    tables = _parse_toml(text, float, file)
    # Amounts must not pass through binary fractions; everything else may.
    exact = _parse_toml(text, _decimal, file).get("parameters", {})
    try:
        _check_values(exact, "parameters")
        _check_values(tables, "")
        try:
            fields = msgspec.convert(tables, _JobFile)
        except msgspec.ValidationError as error:
            raise _fault(str(error)) from None
        return _check(fields, exact, file.parent, with_certificates=with_certificates)
    except FieldFault as fault:
        raise fault.error(file, text) from None


def _parse_toml(text: str, parse_float: Callable[[str], Any], file: Path) -> dict[str, Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _MAX_LINE:
            raise JobError(f"{file}:{number}: expected lines of at most {_MAX_LINE} characters")
    try:
        return tomllib.loads(text, parse_float=parse_float)
    except tomllib.TOMLDecodeError as error:
        raise JobError(f"{file}: this is not TOML: {error}") from None
    except RecursionError:
        raise JobError(
            f"{file}: expected lists and tables inside each other at most {_MAX_DEPTH} deep"
        ) from None
    except ValueError:  # Python converts no number of thousands of digits
        raise JobError(
            f"{file}: expected whole numbers of at most 63 bits, got one of far more digits"
        ) from None


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except decimal.InvalidOperation:  # an exponent of more than 18 digits
        return Decimal("nan")


def _check_values(value: object, place: str, depth: int = 0) -> None:
    """Refuse nesting, and numbers of a size, that no field has and that would be slow to show or to compute with."""
    if depth > _MAX_DEPTH:
        raise FieldFault(place, f"expected lists and tables inside each other at most {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        for key, inside in value.items():
            _check_values(inside, f"{place}.{key}" if place else key, depth + 1)
    elif isinstance(value, list):
        for i, inside in enumerate(value):
            _check_values(inside, f"{place}[{i}]", depth + 1)
    elif isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise FieldFault(place, "expected a whole number of at most 63 bits, got a longer one")
    elif isinstance(value, Decimal) and value and value.is_finite() and abs(value.adjusted()) > _MAX_EXPONENT:
        raise FieldFault(
            place, f"expected a number with an exponent of at most {_MAX_EXPONENT}, got a larger one"
        )


def _fault(message: str) -> FieldFault:
    """Return msgspec's complaint with the field's place in front."""
    what, _, where = message.partition(" - at ")
    field = where.strip("`").removeprefix("$").removeprefix(".")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        inside = f"{field}.{unknown[1]}" if field else unknown[1]
        hint = "" if not field else "; a field of the job itself must stand before the first [table]"
        return FieldFault(inside, f"there is no such field{hint}")
    if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        return FieldFault(f"{field}.{missing[1]}" if field else missing[1], "this field is missing")
    what = what.replace("`", "").replace("object", "a table").replace("array", "a list")
    return FieldFault(field, what[:1].lower() + what[1:])


def _check(fields: _JobFile, parameters: Mapping[str, Any], folder: Path, *, with_certificates: bool) -> Job:
    if not _NAME.fullmatch(fields.name):
        raise FieldFault(
            "name",
            f"expected 1 to 63 letters, digits, '-' and '_', the first a letter or digit, got {fields.name!r:.80}",
        )
    try:
        installed = find(fields.pattern)
    except UsageError as error:
        raise FieldFault("pattern", str(error)) from None
    pattern = installed.pattern
    if fields.pad_rows_to < 1:
        raise FieldFault("pad_rows_to", f"expected 1 or more, got {fields.pad_rows_to}")
    if fields.max_rows < fields.pad_rows_to:
        raise FieldFault(
            "max_rows",
            f"expected at least pad_rows_to, which is {fields.pad_rows_to}, got {fields.max_rows}",
        )
    data = _data(fields.data, pattern)
    members = check_members(fields.parties, folder, with_certificates=with_certificates)
    names = [member.name for member in members]
    roles = check_roles(fields.roles, names, pattern)
    job = Job(
        name=fields.name,
        installed=installed,
        parameters=read_parameters(pattern, parameters, decimals=data.currency_decimals),
        window=check_window(fields.window, data.zone, pattern),
        members=members,
        roles=roles,
        pad_rows_to=fields.pad_rows_to,
        max_rows=fields.max_rows,
        timeouts=check_timeouts(fields.timeouts),
        data=data,
    )
    try:
        pattern.check(job.parameters, job.terms)
    except UsageError as error:
        raise FieldFault("parameters", str(error)) from None
    return job


def _data(data: _Data, pattern: Pattern) -> Conventions:
    inputs = pattern.inputs.values()
    known = list(dict.fromkeys(name for schema in inputs for name in schema.identifiers))
    rules = dict.fromkeys(known, data.identifiers) if isinstance(data.identifiers, str) else data.identifiers
    stranger = next((name for name in rules if name not in known), None)
    if stranger is not None:
        raise FieldFault(
            "data.identifiers",
            f"{' and '.join(pattern.inputs)} have no identifier {stranger!r:.80}; they have {', '.join(known)}",
        )
    try:
        return Conventions(
            identifiers=dict.fromkeys(known, "exact") | rules,
            real_identifiers=tuple(data.real_identifiers),
            currency_decimals=data.currency_decimals,
            largest_amount=data.largest_amount,
            time_zone=data.time_zone,
        )
    except UsageError as error:
        name, _, what = str(error).partition(": ")
        raise FieldFault(f"data.{name}", what) from None
