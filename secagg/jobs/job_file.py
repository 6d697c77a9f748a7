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
import datetime
import decimal
import math
import re
import tomllib
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography import x509

from secagg.data.conventions import Conventions
from secagg.errors import JobError, UsageError
from secagg.files import read_file
from secagg.jobs.fields import FieldFault
from secagg.jobs.job import Address, Job, Member, Window
from secagg.jobs.parameters import read_parameters
from secagg.network.identity import check_certificate, check_name, load_certificate, read_certificate
from secagg.network.tcp import Timeouts
from secagg.party import PartyId
from secagg.patterns.pattern import Pattern
from secagg.patterns.registry import find
from secagg.protocols.row_counts import MAX_ROWS

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_PEM: Final = "-----BEGIN"
_HOST: Final = re.compile(r"[\w.:%][\w.:%-]{0,252}")
_TIMEOUTS: Final = Timeouts()
_DATA: Final = Conventions()
_MAX_FILE_BYTES: Final = 1 << 20
_MAX_LINE: Final = 4096  # characters; time for a key of many parts grows with the square of its length
_MAX_DEPTH: Final = 8  # tables in tables; a job needs three
_MAX_EXPONENT: Final = 400  # of a fraction; more is no amount, and slow to compute with
_LARGEST_INTEGER: Final = (1 << 63) - 1  # as TOML has them
LONGEST_S: Final = 30 * 86_400.0  # for any timeout


class _Window(msgspec.Struct, forbid_unknown_fields=True):
    start: Any = None
    end: Any = None


class _Party(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    address: str
    certificate: str


class _Timeouts(msgspec.Struct, forbid_unknown_fields=True):
    connect_s: float = _TIMEOUTS.connect_s
    silence_s: float = _TIMEOUTS.silence_s
    message_s: float = _TIMEOUTS.message_s


class _Data(msgspec.Struct, forbid_unknown_fields=True):
    identifiers: str | dict[str, str] = {}
    real_identifiers: list[str] = []
    currency_decimals: int = _DATA.currency_decimals
    largest_amount: int = _DATA.largest_amount
    time_zone: str = _DATA.time_zone


class _JobFile(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    pattern: str
    parties: list[_Party]
    roles: dict[str, Any]
    parameters: dict[str, Any] = {}
    data: _Data = msgspec.field(default_factory=_Data)
    window: _Window = msgspec.field(default_factory=_Window)
    pad_rows_to: int = 1
    max_rows: int = MAX_ROWS
    timeouts: _Timeouts = msgspec.field(default_factory=_Timeouts)


def load_job(path: Path | str, *, with_certificates: bool = True) -> Job:
    """Read and check a job file.

    Args:
      with_certificates: read the parties' certificates, and check that each is its party's and valid now;
        without, the job can be explained and moved, but not run.

    Raises:
      JobError: the file cannot be read, or a field is wrong; the message names file, line and field.
    """
    path = Path(path)
    try:
        content = read_file(path, what="the job file", most_bytes=_MAX_FILE_BYTES)
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
    members = _members(fields.parties, folder, with_certificates=with_certificates)
    names = [member.name for member in members]
    roles = _roles(fields.roles, names, pattern)
    job = Job(
        name=fields.name,
        installed=installed,
        parameters=read_parameters(pattern, parameters, decimals=data.currency_decimals),
        window=_window(fields.window, data.zone, pattern),
        members=members,
        roles=roles,
        pad_rows_to=fields.pad_rows_to,
        max_rows=fields.max_rows,
        timeouts=_timeouts(fields.timeouts),
        data=data,
    )
    try:
        pattern.check(job.parameters, job.terms)
    except UsageError as error:
        raise FieldFault("parameters", str(error)) from None
    return job


def _data(data: _Data, pattern: Pattern) -> Conventions:
    inputs = pattern.inputs.values()
    roles = list(dict.fromkeys(role for schema in inputs for role in schema.identifiers))
    rules = dict.fromkeys(roles, data.identifiers) if isinstance(data.identifiers, str) else data.identifiers
    stranger = next((role for role in rules if role not in roles), None)
    if stranger is not None:
        raise FieldFault(
            "data.identifiers",
            f"{' and '.join(pattern.inputs)} have no identifier {stranger!r:.80}; they have {', '.join(roles)}",
        )
    try:
        return Conventions(
            identifiers=dict.fromkeys(roles, "exact") | rules,
            real_identifiers=tuple(data.real_identifiers),
            currency_decimals=data.currency_decimals,
            largest_amount=data.largest_amount,
            time_zone=data.time_zone,
        )
    except UsageError as error:
        name, _, what = str(error).partition(": ")
        raise FieldFault(f"data.{name}", what) from None


def _members(parties: Sequence[_Party], folder: Path, *, with_certificates: bool) -> tuple[Member, ...]:
    members: list[Member] = []
    for i, party in enumerate(parties):
        place = f"parties[{i}]"
        try:
            check_name(party.name)
        except UsageError as error:
            raise FieldFault(f"{place}.name", str(error)) from None
        try:
            address = parse_address(party.address)
        except UsageError as error:
            raise FieldFault(f"{place}.address", str(error)) from None
        certificate = _read_certificate(party, folder, f"{place}.certificate") if with_certificates else None
        for other in members:
            if other.name == party.name:
                raise FieldFault(f"{place}.name", f"there is another party of the name {party.name}")
            if other.address == address:
                raise FieldFault(f"{place}.address", f"{other.name} has the same address")
            if certificate is not None and other.certificate == certificate:
                raise FieldFault(f"{place}.certificate", f"{other.name} has the same certificate")
        members.append(Member(party.name, address, certificate))
    return tuple(members)


def parse_address(text: str) -> Address:
    """Read host:port or [IPv6 address]:port.

    Raises:
      UsageError: it is neither.
    """
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not _HOST.fullmatch(bare) or (":" in host and bare == host) or not 1 <= number <= 65535:
        raise UsageError(f"expected host:port, such as bank.example:7400 or [::1]:7400, got {text!r:.80}")
    return bare, number


def _read_certificate(party: _Party, folder: Path, place: str) -> x509.Certificate:
    try:
        if party.certificate.lstrip().startswith(_PEM):
            certificate = load_certificate(party.certificate.encode())
        else:
            path = folder / party.certificate
            certificate = read_certificate(path, what=f"{party.name}'s certificate")
        check_certificate(certificate, name=party.name)
    except UsageError as error:
        raise FieldFault(place, str(error)) from None
    return certificate


def _roles(
    given: Mapping[str, Any], names: Sequence[str], pattern: Pattern
) -> dict[str, tuple[PartyId, ...]]:
    for role in given:
        if role not in pattern.roles:
            known = ", ".join(pattern.roles)
            raise FieldFault(
                f"roles.{role}",
                f"there is no such role; {pattern.name} has {known}; a field of the job itself must stand before the first "
                "[table]",
            )
    for role, size in pattern.roles.items():
        if role not in given:
            raise FieldFault(f"roles.{role}", "this field is missing")
        parties = given[role]
        if not isinstance(parties, list) or not all(isinstance(name, str) for name in parties):
            raise FieldFault(f"roles.{role}", f"expected a list of names, got {parties!r:.80}")
        for name in parties:
            if name not in names:
                raise FieldFault(f"roles.{role}", f"{name!r:.80} is not among the parties {', '.join(names)}")
        if len(set(parties)) != len(parties):
            raise FieldFault(f"roles.{role}", f"expected each party once, got {', '.join(parties)}")
        if not size.min <= len(parties) <= size.max:
            count = str(size.min) if size.min == size.max else f"{size.min} to {size.max}"
            raise FieldFault(f"roles.{role}", f"expected {count} parties, got {len(parties)}")
    busy = {name for parties in given.values() for name in parties}
    idle = [name for name in names if name not in busy]
    if idle:
        raise FieldFault("roles", f"{', '.join(idle)} has no role; give it one, or take it off the parties")
    return {role: tuple(given[role]) for role in pattern.roles}


def _window(window: _Window, zone: zoneinfo.ZoneInfo, pattern: Pattern) -> Window:
    start, start_is_number = _moment(window.start, "window.start", zone)
    end, end_is_number = _moment(window.end, "window.end", zone)
    bounded = start is not None or end is not None
    if bounded and all(schema.time is None for schema in pattern.inputs.values()):
        raise FieldFault("window", f"{' and '.join(pattern.inputs)} have no times; leave the window out")
    if start is not None and end is not None:
        if start_is_number != end_is_number:
            raise FieldFault("window", "expected two numbers or two timestamps, got one of each")
        if start >= end:
            raise FieldFault("window", f"expected an end after the start, got {window.start} to {window.end}")
    return Window(start, end, timestamps=not (start_is_number or end_is_number))


def _moment(value: object, place: str, zone: zoneinfo.ZoneInfo) -> tuple[float | None, bool]:
    """Return a time as the tables have it, and whether it was given as a number."""
    if value is None:
        return None, False
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value), True
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if isinstance(moment, datetime.date):  # datetime.datetime is one too
        if not isinstance(moment, datetime.datetime):
            moment = datetime.datetime.combine(moment, datetime.time())
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=zone)
        try:
            if zoned.astimezone(datetime.UTC).astimezone(zoned.tzinfo) != zoned:
                raise FieldFault(place, f"{moment} does not exist in {zone}, whose clocks skip it")
            return zoned.timestamp(), False
        except OverflowError:
            raise FieldFault(
                place, f"expected a time in the years 1 to 9999 in UTC, got {value!s:.80}"
            ) from None
    raise FieldFault(
        place, f"expected a number or a timestamp such as 2026-09-01T00:00:00Z, got {value!r:.80}"
    )


def _timeouts(timeouts: _Timeouts) -> Timeouts:
    for name in timeouts.__struct_fields__:
        seconds = getattr(timeouts, name)
        if not 0 < seconds <= LONGEST_S:
            raise FieldFault(
                f"timeouts.{name}",
                f"expected a number of seconds above 0 and at most {LONGEST_S:.0f} (30 days), got {seconds:g}",
            )
    return Timeouts(timeouts.connect_s, timeouts.silence_s, timeouts.message_s)
