"""Values as rules have them told: top and bottom coding of columns, rounding of sums and counts."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from secagg.errors import RuleError
from secagg.query import inference
from secagg.query.algebra import Expression, Literal, Ref
from secagg.query.rules.strictest import Bound, ColumnRules


def clipped(column: Ref, rules: ColumnRules) -> Expression:
    """Return a column with values below `bottom` or above `top` replaced by these; NULL stays NULL.

    Raises:
      RuleError: the column is no number, or no value of its range would stay.
    """
    branches: list[tuple[Expression, Expression]] = []
    low, high = column.domain.bounds
    for word, bound, op in (("bottom", rules.bottom, "lt"), ("top", rules.top, "gt")):
        if bound is None:
            continue
        unit = _unit(column, rules, word, bound)
        if (unit > high) if op == "lt" else (unit < low):
            raise RuleError(
                f"{bound.owner}'s rule {word} = {bound.value} of {rules.source}: no value of the declared range would stay"
            )
        if low <= unit <= high:
            constant = Literal(unit, replace(column.domain, lowest=unit, highest=unit, nullable=False))
            branches.append((inference.call(op, column, constant), constant))
    if rules.bottom and rules.top and rules.bottom.value >= rules.top.value:
        raise RuleError(
            f"{rules.bottom.owner}'s rule bottom = {rules.bottom.value} of {rules.source} is not below "
            f"{rules.top.owner}'s top = {rules.top.value}"
        )
    return inference.case(branches, column) if branches else column


def rounded(column: Ref, multiple: int) -> Expression:
    """Return a number as the nearest multiple of so many of its units, halves away from zero, inside its range."""
    if multiple == 1:
        return column
    # intdiv takes whole numbers: the unit is one for the moment, and comes back with the product.
    whole = Ref(column.name, replace(column.domain, decimals=0), column.lineage)
    half, by = inference.literal(multiple // 2), inference.literal(multiple)
    up = inference.call("intdiv", inference.call("add", whole, half), by)
    down = inference.call("intdiv", inference.call("sub", whole, half), by)
    negative = inference.call("lt", whole, inference.literal(0))
    nearest = up if (column.domain.lowest or 0) >= 0 else inference.case([(negative, down)], up)
    factor = Literal(multiple, replace(by.domain, decimals=column.domain.decimals))
    low, high = column.domain.bounds
    product = inference.call("mul", nearest, factor)
    ends = [
        Literal(one, replace(column.domain, lowest=one, highest=one, nullable=False)) for one in (low, high)
    ]
    return inference.case(
        [
            (inference.call("lt", product, ends[0]), ends[0]),
            (inference.call("gt", product, ends[1]), ends[1]),
        ],
        product,
    )


def units_of(bound: Bound[Decimal], decimals: int, what: str) -> int:
    """Return a bound in units of 10**-decimals.

    Raises:
      RuleError: it has more decimals.
    """
    unit = bound.value.scaleb(decimals)
    if unit != int(unit):
        raise RuleError(f"{bound.owner}'s rule {what} = {bound.value}: expected at most {decimals} decimals")
    return int(unit)


def _unit(column: Ref, rules: ColumnRules, word: str, bound: Bound[Decimal]) -> int:
    if column.domain.kind == "real":
        return int((bound.value * 2**column.domain.frac_bits).to_integral_value())
    if column.domain.kind != "number":
        raise RuleError(
            f"{bound.owner}'s rule {word} of {rules.source}: expected a number, and the column is a {column.domain}"
        )
    return units_of(bound, column.domain.decimals, f"{word} of {rules.source}")
