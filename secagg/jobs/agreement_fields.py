"""What a job file says about its approval: by whom, for how long, how often, and what its runs may choose.

    approval = "off"                # optional, before the first [table]: the job runs without anybody's approval

    [agreement]                     # needed where the job is approved; see docs/agreeing.md
    author = "north/anna"           # who wrote the job: party and person
    auditor = "audit-house"         # optional: who reads the audit log, and nothing else
    from = 2026-09-01               # optional; a day begins at 0:00 UTC
    until = 2026-12-31              # to the end of the day, UTC
    runs = 12                       # how often the job may run; 1 unless given
    requester = "south/carl"        # optional, of a template: who chose the values of this run; the author unless given

    [vary]                          # optional: parameters that each run may choose, within these bounds
    min_total = {least = 10000, most = 50000}
    min_senders = [5, 6, 7]
    window = {earliest = 2026-01-01, latest = 2027-01-01}

With `[vary]` the file is a template, and each run a copy of it with values of its own. People approve the template once.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from secagg.jobs.agreement import OFF, REQUIRED, WINDOW, Agreement, Allowed
from secagg.jobs.computed import query_of
from secagg.jobs.job import Window
from secagg.jobs.job_parties import WindowField, check_window
from secagg.jobs.parameters import read_parameters
from secagg.jobs.query_values import check_value, shown_value
from secagg.patterns.parameters import parameter_fields, shown_parameters
from secagg.patterns.pattern import Pattern
from secagg.toml_files import FieldFault

_PERSON: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}/[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_MOST_RUNS: Final = 100_000
_MOST_CHOICES: Final = 1000


class AgreementField(msgspec.Struct, forbid_unknown_fields=True, rename={"start": "from"}):
    """`[agreement]`."""

    author: str
    until: Any
    start: Any = None
    auditor: str = ""
    runs: int = 1
    requester: str = ""


class Bounds(msgspec.Struct, forbid_unknown_fields=True):
    """Of one parameter of `[vary]`."""

    least: Any
    most: Any


class WindowBounds(msgspec.Struct, forbid_unknown_fields=True):
    """Of the window in `[vary]`."""

    earliest: Any
    latest: Any


def check_approval(approval: str, agreement: AgreementField | None) -> Agreement | None:
    """Return what the approvals of a job are about; raises `FieldFault`."""
    if approval not in (REQUIRED, OFF):
        raise FieldFault("approval", f'expected "{REQUIRED}" or "{OFF}", got {approval!r:.80}')
    if agreement is None:
        return None
    if approval == OFF:
        raise FieldFault(
            "agreement", 'a job with approval = "off" has no agreement; leave one of the two out'
        )
    requester = agreement.requester or agreement.author
    for place, person in (("author", agreement.author), ("requester", requester)):
        if not _PERSON.fullmatch(person):
            raise FieldFault(
                f"agreement.{place}", f'expected party and person, such as "north/anna", got {person!r:.80}'
            )
    if not 1 <= agreement.runs <= _MOST_RUNS:
        raise FieldFault("agreement.runs", f"expected 1 to {_MOST_RUNS}, got {agreement.runs}")
    if len(agreement.auditor) > 63 or not agreement.auditor.isprintable():
        raise FieldFault(
            "agreement.auditor", f"expected a name of at most 63 characters, got {agreement.auditor!r:.80}"
        )
    start = None if agreement.start is None else _instant(agreement.start, "agreement.from", end=False)
    until = _instant(agreement.until, "agreement.until", end=True)
    if start is not None and start >= until:
        raise FieldFault("agreement.until", f"expected a time after `from`, got {agreement.until!s:.80}")
    return Agreement(agreement.author, until, start, agreement.auditor, agreement.runs, requester)


def _instant(value: object, place: str, *, end: bool) -> datetime.datetime:
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if isinstance(moment, datetime.datetime):
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    elif isinstance(moment, datetime.date):
        zoned = datetime.datetime.combine(moment, datetime.time(), tzinfo=datetime.UTC)
        zoned += datetime.timedelta(days=1 if end else 0)
    else:
        raise FieldFault(place, f"expected a day such as 2026-12-31 or a time, got {value!r:.80}")
    try:
        return zoned.astimezone(datetime.UTC).replace(microsecond=0)
    except OverflowError:
        raise FieldFault(place, f"expected a time in the years 1 to 9999, got {value!s:.80}") from None


def check_vary(
    given: Mapping[str, Any],
    pattern: Pattern,
    parameters: Any,
    window: Window,
    *,
    decimals: int,
    zone: zoneinfo.ZoneInfo,
) -> dict[str, Allowed]:
    """Return what each run may choose, and check that this one's choices are within it; raises `FieldFault`.

    Args:
      given: `[vary]`, decimal fractions as `Decimal`.
      parameters, window: of this run.
      decimals: of the currency.
      zone: of times that name none.
    """
    fields = parameter_fields(pattern.Parameters)
    query = query_of(pattern)
    of_query = {} if query is None else query.values
    found: dict[str, Allowed] = {}
    for name, bounds in given.items():
        place = f"vary.{name}"
        if name == WINDOW:
            found[name] = _window_bounds(bounds, pattern, window, zone)
            continue
        if name in of_query:
            found[name] = _value_bounds(name, bounds, of_query[name])
            continue
        if name not in fields:
            known = ", ".join([*of_query, *fields, WINDOW])
            raise FieldFault(place, f"there is no such parameter; {pattern.name} has {known}")

        def value(of: object, name: str = name, place: str = place) -> Any:
            try:
                return getattr(read_parameters(pattern, {name: of}, decimals=decimals), fields[name].name)
            except FieldFault as fault:
                raise FieldFault(place, str(fault)) from None

        own = getattr(parameters, fields[name].name)
        if isinstance(bounds, list):
            if not 1 <= len(bounds) <= _MOST_CHOICES:
                raise FieldFault(place, f"expected 1 to {_MOST_CHOICES} values, got {len(bounds)}")
            found[name] = Allowed(choices=tuple(map(value, bounds)))
        else:
            span = _convert(bounds, Bounds, place, "{least = ..., most = ...} or a list of values")
            least, most = value(span.least), value(span.most)
            if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in (least, most)):
                raise FieldFault(place, "expected a list of values, for this parameter is no number")
            if least > most:
                raise FieldFault(place, "expected `least` not above `most`")
            found[name] = Allowed(least=least, most=most)
        if not found[name].holds(own):
            shown = shown_parameters(parameters, decimals=decimals).get(name, "nothing")
            raise FieldFault(
                f"parameters.{name}", f"{shown} is outside what [vary] allows, which is what people approve"
            )
    return found


def _value_bounds(name: str, bounds: object, own: Any) -> Allowed:
    """Return what each run may choose of a query's own parameter; values are of the kind that this run has."""
    place = f"vary.{name}"
    if isinstance(bounds, list):
        if not 1 <= len(bounds) <= _MOST_CHOICES:
            raise FieldFault(place, f"expected 1 to {_MOST_CHOICES} values, got {len(bounds)}")
        given, allowed = bounds, Allowed(choices=tuple(bounds))
    else:
        span = _convert(bounds, Bounds, place, "{least = ..., most = ...} or a list of values")
        given, allowed = [span.least, span.most], Allowed(least=span.least, most=span.most)
        if isinstance(own, str | bool):
            raise FieldFault(place, "expected a list of values, for this parameter is no number and no time")
    for value in given:
        check_value(value, place)
        if type(value) is not type(own):
            kind = type(own).__name__.lower()
            raise FieldFault(
                place, f"expected values of the kind of this run's, which is {kind}, got {value!r:.80}"
            )
    if not allowed.choices and allowed.least > allowed.most:
        raise FieldFault(place, "expected `least` not above `most`")
    if not allowed.holds(own):
        raise FieldFault(
            f"parameters.{name}",
            f"{shown_value(own)} is outside what [vary] allows, which is what people approve",
        )
    return allowed


def _window_bounds(given: object, pattern: Pattern, window: Window, zone: zoneinfo.ZoneInfo) -> Allowed:
    span = _convert(given, WindowBounds, "vary.window", "{earliest = ..., latest = ...}")
    try:
        bounds = check_window(WindowField(span.earliest, span.latest), zone, pattern)
    except FieldFault as fault:
        raise FieldFault("vary.window", str(fault)) from None
    earliest, latest = bounds.bounds
    start, end = window.bounds
    if earliest is None or latest is None:
        raise FieldFault("vary.window", "expected `earliest` and `latest`")
    if (
        start is None
        or end is None
        or bounds.timestamps != window.timestamps
        or not earliest <= start < end <= latest
    ):
        raise FieldFault(
            "window", "expected `start` and `end` within what [vary] allows, which is what people approve"
        )
    return Allowed(least=earliest, most=latest, timestamps=bounds.timestamps)


def _convert(given: object, kind: type[Any], place: str, expected: str) -> Any:
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError:
        raise FieldFault(place, f"expected {expected}, got {given!r:.80}") from None
