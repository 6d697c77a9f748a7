"""Rows on shares: a table, and which of its columns are quotients that are kept as two parts until few rows are left."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from secagg.errors import PlanError
from secagg.mpc.arrays import SharedArray
from secagg.mpc.tables import Column, Table
from secagg.query.algebra import Call, Domain
from secagg.query.expressions import bits_of, ratio
from secagg.query.quotients import quotient


@dataclass(frozen=True)
class Ratio:
    """A column that is a quotient, kept as two columns of its table.

    Attributes:
      of: the division.
    """

    numerator: str
    denominator: str
    of: Call


@dataclass(frozen=True)
class Rows:
    """A table, and which columns it has as quotients besides."""

    table: Table
    ratios: Mapping[str, Ratio] = dataclasses.field(default_factory=dict)

    def with_table(self, table: Table) -> Rows:
        """Return another table with the same quotients."""
        return Rows(table, self.ratios)


def parts_of(table: Table, of: Ratio) -> tuple[SharedArray, SharedArray, SharedArray | None, int, int]:
    """Return numerator and denominator, where the quotient is NULL, and in how many bits both fit."""
    up, down = ratio(of.of)
    first, second = (one.domain for one in of.of.args)
    above, below = table[of.numerator], table[of.denominator]
    nulls = [null for null in (above.null, below.null) if null is not None]
    if not _is_positive(second):
        nulls.append(below.values == 0)
    null = reduce(lambda a, b: a | b, nulls) if nulls else None
    bits = bits_of(first) + up.bit_length() * (up > 1), bits_of(second) + down.bit_length() * (down > 1)
    return above.values * up, below.values * down, null, *bits


def _is_positive(domain: Domain) -> bool:
    low, high = domain.bounds
    return low > 0 or high < 0


def quotient_column(table: Table, of: Ratio) -> Column:
    """Return a quotient as a column, to compute with.

    Raises:
      PlanError: it could overflow.
    """
    above, below, null, bits, denominator_bits = parts_of(table, of)
    domain = of.of.domain
    if bits_of(domain) > 62:
        raise PlanError(
            "a quotient whose denominator may be next to 0 could overflow 64 bits where it is computed or ordered with; "
            "open it as it is, or compare a > c * b in place of a / b > c"
        )
    found = quotient(
        above, below, bits=bits, denominator_bits=denominator_bits, fraction_bits=domain.frac_bits
    )
    return Column(found, null)
