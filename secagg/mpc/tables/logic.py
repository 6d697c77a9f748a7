"""Computed columns: SQL's three-valued logic on bools, and functions of values that are NULL where an argument is.

A column of bools is True, False or NULL. NULL & False is False and NULL | True is True; what else NULL meets is NULL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from secagg.errors import UsageError
from secagg.mpc.arrays import comparison, logic
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import BoolType
from secagg.mpc.tables.table import Column, holds


def lifted(function: Callable[..., Any], *columns: Column) -> Column:
    """Return a function of the columns' values, NULL where one of them is, as most of SQL's are."""
    null: SharedArray | None = None
    for column in columns:
        if column.null is not None:
            null = column.null if null is None else logic.disjunction(null, column.null)
    return Column(function(*(column.values for column in columns)), null)


def negation(x: Column) -> Column:
    """Return NOT x. Free."""
    return Column(logic.invert(_bools(x).values), x.null)


def conjunction(x: Column, y: Column) -> Column:
    """Return x AND y."""
    if _bools(x).null is None and _bools(y).null is None:
        return Column(logic.conjunction(x.values, y.values))
    true, false = (
        logic.conjunction(holds(x), holds(y)),
        logic.disjunction(holds(negation(x)), holds(negation(y))),
    )
    return Column(true, logic.invert(logic.exclusive_or(true, false)))


def disjunction(x: Column, y: Column) -> Column:
    """Return x OR y."""
    return negation(conjunction(negation(x), negation(y)))


def is_null(x: Column) -> Column:
    """Return x IS NULL, which is never NULL. Free."""
    return Column(x.is_null)


def equal_or_both_null(x: Column, y: Column) -> Column:
    """Return x IS NOT DISTINCT FROM y, which is never NULL."""
    same = comparison.equal(x.filled, y.filled)
    return Column(logic.conjunction(same, logic.invert(logic.exclusive_or(x.is_null, y.is_null))))


def case(branches: Sequence[tuple[Column, Column]], otherwise: Column | None = None) -> Column:
    """Return for each row the value that stands with the first condition that holds, else that of `otherwise`, or NULL.

    Args:
      branches: at least one pair of a condition and a value; values are of one dtype.
    """
    if not branches:
        raise UsageError("expected at least one condition with its value, got none")
    result = otherwise
    for condition, value in reversed(branches):
        bit = holds(condition)
        if result is None:
            alone = logic.invert(bit)
            result = Column(
                value.values, alone if value.null is None else logic.disjunction(alone, value.null)
            )
        else:
            result = _chosen(bit, value, result)
    if result is None:
        raise TypeError("expected a result of at least one branch")
    return result


def coalesce(*columns: Column) -> Column:
    """Return for each row the first value that is not NULL, or NULL."""
    if not columns:
        raise UsageError("expected at least one column for coalesce, got none")
    result = columns[-1]
    for column in reversed(columns[:-1]):
        result = _chosen(logic.invert(column.is_null), column, result)
    return result


def _chosen(bit: SharedArray, x: Column, y: Column) -> Column:
    if x.dtype != y.dtype:
        raise UsageError(
            f"expected values of one dtype, got {x.dtype} and {y.dtype}; convert one with astype"
        )
    values: SharedArray = comparison.where(bit, x.values, y.values)
    if x.null is None and y.null is None:
        return Column(values)
    return Column(values, comparison.where(bit, x.is_null, y.is_null))


def _bools(x: Column) -> Column:
    if not isinstance(x.dtype, BoolType):
        raise UsageError(f"expected a column of bools, got {x.dtype}; compare it first, as in (x != 0)")
    return x
