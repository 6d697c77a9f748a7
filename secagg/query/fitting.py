"""Arguments that are brought to one domain: decimals, bits behind the point, lists of texts, dates written as texts."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

from secagg.errors import UsageError
from secagg.query.algebra import (
    NOTHING,
    Call,
    Domain,
    Expression,
    Lineage,
    Literal,
    after,
)
from secagg.query.constants import is_null, literal, null, text
from secagg.query.evaluator import evaluate
from secagg.query.spelling import check_constant
from secagg.query.zones import in_zone

_SIGNS: Final = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "intdiv": "//", "mod": "%", "neg": "-",
    "eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
}  # fmt: skip


def in_one_domain(args: Sequence[Expression], what: str) -> tuple[Expression, ...]:
    """Return the arguments with equal decimals, bits or lists of texts.

    Raises:
      UsageError: they are of kinds that do not fit together.
    """
    known = [arg for arg in args if not is_null(arg)]
    if not known:
        return tuple(args)
    texts = [arg for arg in known if text(arg) is None] or known
    kinds = {arg.domain.kind for arg in texts}
    domains = [arg.domain for arg in known]
    if kinds == {"number"}:
        target = max((one.domain for one in texts), key=lambda domain: domain.decimals)
    elif kinds <= {"number", "real"}:
        bits = max(arg.domain.frac_bits for arg in texts)
        target = Domain("real", frac_bits=bits)
    elif kinds == {"category"}:
        target = Domain(
            "category", values=tuple(sorted({one for domain in domains for one in domain.values}))
        )
    elif kinds <= {"date", "timestamp"} and "timestamp" in kinds:
        stamps = [arg.domain for arg in texts if arg.domain.kind == "timestamp"]
        zones = {domain.zone for domain in stamps}
        if len(zones) > 1:
            raise UsageError(
                f"{sign(what)} of timestamps in the zones {' and '.join(sorted(zones))}; declare one zone for both"
            )
        target = max(stamps, key=lambda domain: domain.decimals)
    elif len(kinds) == 1:
        target = texts[0].domain
        spellings = sorted({arg.domain.spelling for arg in texts if not isinstance(arg, Literal)})
        if len(spellings) > 1:
            raise UsageError(
                f"{sign(what)} of identifiers that are spelt by the rules {' and '.join(spellings)}; declare one"
            )
    else:
        named = " and ".join(sorted({f"{arg.domain.noun}" for arg in texts}))
        raise UsageError(f"{sign(what)} takes values of one type, and these are {named}")
    # NULL takes the range of a value beside it, and widens none.
    missing = null(_brought(known[0], target).domain)
    return tuple(missing if is_null(arg) else _brought(arg, target) for arg in args)


def _brought(arg: Expression, target: Domain) -> Expression:
    domain = arg.domain
    written = text(arg)
    if written is not None and target.kind != "category":
        return read_text(written, target)
    match target.kind:
        case "number":
            more = target.decimals - domain.decimals
            if not more:
                return arg
            low, high = (bound * 10**more for bound in domain.bounds)
            return fold(
                "rescale", (arg,), replace(domain, lowest=low, highest=high, decimals=target.decimals)
            )
        case "real":
            if domain.kind == "real" and domain.frac_bits == target.frac_bits:
                return arg
            unit = Fraction(2**target.frac_bits, 10**domain.decimals * 2**domain.frac_bits)
            low, high = math.floor(domain.bounds[0] * unit), math.ceil(domain.bounds[1] * unit)
            made = Domain("real", low, high, frac_bits=target.frac_bits, nullable=domain.nullable)
            return fold("to_real", (arg,), made)
        case "category":
            if domain.values == target.values:
                return arg
            places = [target.values.index(one) for one in domain.values] or [0]
            low, high = min(places), max(places)
            if isinstance(arg, Literal) and isinstance(arg.value, int):
                return Literal(
                    places[arg.value], replace(domain, lowest=low, highest=high, values=target.values)
                )
            return fold("recode", (arg,), replace(domain, lowest=low, highest=high, values=target.values))
        case "timestamp":
            if domain.kind == "date":
                return _to_timestamp(arg, target)
            if domain.decimals != target.decimals:
                raise UsageError("timestamps of different precision do not meet; declare equal decimals")
            return arg
        case _:
            return arg


def read_text(written: str, target: Domain) -> Literal:
    """Return a text constant as a value of a domain."""
    if target.kind == "identifier":
        check_constant(written, target.spelling)
        return Literal(written, Domain("identifier", spelling=target.spelling))
    try:
        if target.kind == "date":
            return literal(datetime.date.fromisoformat(written))
        if target.kind == "timestamp":
            return timestamp(written, target)
    except UsageError:  # which is a ValueError too
        raise
    except ValueError:
        example = "2026-01-31" if target.kind == "date" else "2026-01-31 12:00:00"
        raise UsageError(f"expected a {target.kind} such as {example}, got {written!r:.60}") from None
    raise UsageError(f"expected {target.noun}, got the text {written!r:.60}")


def timestamp(written: str, target: Domain) -> Literal:
    """Return a text as a timestamp of a domain; without a zone it is in the domain's.

    Raises:
      ValueError: it is no timestamp.
      UsageError: it is finer than the domain, or clocks skip it.
    """
    moment = in_zone(datetime.datetime.fromisoformat(written), target.zone)
    exact = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) / datetime.timedelta(microseconds=1)
    units = Fraction(int(exact)) / 10**6 * 10**target.decimals
    if units.denominator != 1:
        raise UsageError(
            f"{written!r:.60} is finer than the timestamps it meets, which have {target.decimals} decimals of a second"
        )
    return Literal(int(units), replace(target, lowest=int(units), highest=int(units), nullable=False))


def hull(domains: Sequence[Domain]) -> Domain:
    """Return the first domain with a range that holds all of them."""
    first = domains[0]
    if first.lowest is None:
        return first
    return replace(
        first, lowest=min(one.bounds[0] for one in domains), highest=max(one.bounds[1] for one in domains)
    )


def as_kind(arg: Expression, kind: str, what: str) -> Expression:
    """Return the argument; refuse one of another kind."""
    if arg.domain.kind != kind:
        raise UsageError(f"{sign(what)} takes a {kind}, and this is {arg.domain.noun}")
    return arg


def ordered(args: Iterable[Expression], what: str) -> None:
    """Refuse arguments that have no order."""
    if any(arg.domain.kind == "identifier" for arg in args):
        raise UsageError(f"{sign(what)} needs an order, and identifiers are compared for equality alone")


def any_null(args: Iterable[Expression]) -> bool:
    """Return whether any of them may be NULL."""
    return any(arg.domain.nullable for arg in args)


def together(args: Iterable[Expression]) -> Lineage:
    """Return what any of them depends on."""
    return NOTHING.union(*(arg.lineage for arg in args))


def sign(op: str) -> str:
    """Return what SQL calls an operation."""
    return _SIGNS.get(op, op.upper())


def fold(op: str, args: Sequence[Expression], domain: Domain, step: str | None = None) -> Expression:
    """Return a call, or its value if all arguments are constants."""
    lineage = together(args)
    if step is not None:
        lineage = after(lineage, step)  # type: ignore[arg-type]
    built = Call(op, tuple(args), domain, lineage)
    if not all(isinstance(arg, Literal) for arg in args):
        return built
    value = evaluate(built, {})
    if isinstance(value, int) and domain.kind != "category":
        domain = replace(domain, lowest=value, highest=value)
    return Literal(value, domain.with_null(value is None))


def _to_timestamp(arg: Expression, target: Domain) -> Expression:
    day = 86_400 * 10**target.decimals
    low, high = (bound * day for bound in arg.domain.bounds)
    domain = replace(target, lowest=low - day, highest=high + day, nullable=arg.domain.nullable)
    return fold("to_timestamp", (arg,), domain)
