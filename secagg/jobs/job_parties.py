"""Who takes part in a job file, in which roles, when, and for how long they wait: checked field by field."""

from __future__ import annotations

import datetime
import math
import re
import zoneinfo
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec
from cryptography import x509

from secagg.errors import UsageError
from secagg.jobs.job import Address, Member, Window
from secagg.network.identity import check_certificate, check_name, load_certificate, read_certificate
from secagg.network.tcp import Timeouts
from secagg.party import PartyId
from secagg.patterns.pattern import Pattern
from secagg.protocols.group_by.layout import MOST_SHARDS
from secagg.toml_files import FieldFault

_PEM: Final = "-----BEGIN"
_HOST: Final = re.compile(r"[\w.:%][\w.:%-]{0,252}")
_TIMEOUTS: Final = Timeouts()
NOBODY: Final[Mapping[PartyId, Member]] = MappingProxyType({})
NOWHERE: Final[Address] = ("", 0)  # where a party is that nobody needs to reach
LONGEST_S: Final = 30 * 86_400.0  # for any timeout


class WindowField(msgspec.Struct, forbid_unknown_fields=True):
    """`[window]`."""

    start: Any = None
    end: Any = None


class PartyField(msgspec.Struct, forbid_unknown_fields=True):
    """One of `[[parties]]`."""

    name: str
    address: str | None = None
    certificate: str | None = None
    workers: list[str] = []


class TimeoutsField(msgspec.Struct, forbid_unknown_fields=True):
    """`[timeouts]`."""

    connect_s: float = _TIMEOUTS.connect_s
    silence_s: float = _TIMEOUTS.silence_s
    message_s: float = _TIMEOUTS.message_s


def check_members(
    parties: Sequence[PartyField], folder: Path, known: Mapping[PartyId, Member], *, with_certificates: bool
) -> tuple[Member, ...]:
    """Return the parties, each with its own name, address and certificate; raises `FieldFault`.

    Args:
      known: whose address and certificate need not be given; what is given comes first.
    """
    members: list[Member] = []
    for i, party in enumerate(parties):
        place = f"parties[{i}]"
        try:
            check_name(party.name)
        except UsageError as error:
            raise FieldFault(f"{place}.name", str(error)) from None
        address = _address(party, known, f"{place}.address", needed=with_certificates)
        certificate = None
        if with_certificates:
            certificate = _certificate(party, known, folder, f"{place}.certificate")
        for other in members:
            if other.name == party.name:
                raise FieldFault(f"{place}.name", f"there is another party of the name {party.name}")
            if other.address == address != NOWHERE:
                raise FieldFault(f"{place}.address", f"{other.name} has the same address")
            if certificate is not None and other.certificate == certificate:
                raise FieldFault(f"{place}.certificate", f"{other.name} has the same certificate")
        members.append(Member(party.name, address, certificate, _workers(party, f"{place}.workers")))
    return tuple(members)


def check_shards(shards: int, members: Sequence[Member]) -> None:
    """Raise `FieldFault` where shards and workers do not go together."""
    places = {member.name: len(member.workers) for member in members}
    if shards != 1 and (not 1 < shards <= MOST_SHARDS or shards & shards - 1):
        raise FieldFault(
            "shards", f"expected 2, 4, 8, ... up to {MOST_SHARDS}, or this field left out, got {shards}"
        )
    if shards == 1 and any(places.values()):
        raise FieldFault(
            "shards", "parties have workers, and the work is not divided; set shards to 2, 4, 8, ..."
        )
    if shards > 1 and (len(set(places.values())) != 1 or not all(places.values())):
        told = ", ".join(f"{name} has {count}" for name, count in places.items())
        raise FieldFault(
            "shards", f"expected with shards as many `workers` of each of the parties, one at least; {told}"
        )
    taken = [at for member in members for at in (member.address, *member.workers) if at != NOWHERE]
    twice = next((at for at in taken if taken.count(at) > 1), None)
    if twice is not None:
        raise FieldFault("parties", f"two parties or workers have the address {twice[0]}:{twice[1]}")


def _workers(party: PartyField, place: str) -> tuple[Address, ...]:
    try:
        return tuple(parse_address(text) for text in party.workers)
    except UsageError as error:
        raise FieldFault(place, str(error)) from None


def _missing(name: PartyId, known: Mapping[PartyId, Member]) -> str:
    if not known:
        return f"this field is missing, and no consortium here has a party {name}"
    return (
        f"this field is missing, and {name} is no member of the consortium here: it was removed, or not added yet; see "
        "`secagg consortium show`"
    )


def _address(party: PartyField, known: Mapping[PartyId, Member], place: str, *, needed: bool) -> Address:
    if party.address is not None:
        try:
            return parse_address(party.address)
        except UsageError as error:
            raise FieldFault(place, str(error)) from None
    if party.name in known:
        return known[party.name].address
    if needed:
        raise FieldFault(place, _missing(party.name, known))
    return NOWHERE


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


def _certificate(
    party: PartyField, known: Mapping[PartyId, Member], folder: Path, place: str
) -> x509.Certificate:
    member = known.get(party.name)
    try:
        if party.certificate is None:
            if member is None or member.certificate is None:
                raise FieldFault(place, _missing(party.name, known))
            certificate = member.certificate
        elif party.certificate.lstrip().startswith(_PEM):
            certificate = load_certificate(party.certificate.encode())
        else:
            path = folder / party.certificate
            try:
                certificate = read_certificate(path, what=f"{party.name}'s certificate")
            except UsageError as error:
                if path.exists():
                    raise
                raise UsageError(
                    f"{error}; put the file that {party.name} made with `secagg identity new {party.name}` there"
                ) from None
        check_certificate(certificate, name=party.name)
    except UsageError as error:
        raise FieldFault(place, str(error)) from None
    return certificate


def check_roles(
    given: Mapping[str, Any], names: Sequence[str], pattern: Pattern
) -> dict[str, tuple[PartyId, ...]]:
    """Return who has which of the pattern's roles; raises `FieldFault` where a role or a party has none or too many."""
    for role in given:
        if role not in pattern.roles:
            known = ", ".join(pattern.roles)
            raise FieldFault(
                f"roles.{role}",
                f"there is no such role; {pattern.name} has {known}; a field of the job itself must stand before the first "
                "[table]",
            )
    # A role that nobody needs to have is had by nobody where a job does not say who.
    given = {**{role: [] for role, size in pattern.roles.items() if size.min == 0}, **given}
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


def check_window(window: WindowField, zone: zoneinfo.ZoneInfo, pattern: Pattern) -> Window:
    """Return which rows count; raises `FieldFault` for a window that is none, or for tables without times."""
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


def check_timeouts(timeouts: TimeoutsField) -> Timeouts:
    """Return for how long parties wait; raises `FieldFault` for what is no time."""
    for name in timeouts.__struct_fields__:
        seconds = getattr(timeouts, name)
        if not 0 < seconds <= LONGEST_S:
            raise FieldFault(
                f"timeouts.{name}",
                f"expected a number of seconds above 0 and at most {LONGEST_S:.0f} (30 days), got {seconds:g}",
            )
    return Timeouts(timeouts.connect_s, timeouts.silence_s, timeouts.message_s)
