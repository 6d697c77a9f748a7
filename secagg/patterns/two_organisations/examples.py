"""Example data of the patterns of two organisations: a bank and a clinic with 40 people in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from secagg.party import PartyId
from secagg.patterns.example import Example, FileTable
from secagg.patterns.pattern import COMPUTING

RECORDS: Final = "records"
_NAMES: Final = ("bank", "clinic")
_COMMON: Final = 40
_ALONE: Final = {"bank": 200, "clinic": 120}


def _lists(seed: int) -> tuple[list[str], dict[PartyId, list[str]]]:
    """Return who is in common, and both lists in random order."""
    rng = np.random.default_rng(seed)
    people = [f"AT{n:09}" for n in rng.choice(10**9, _COMMON + sum(_ALONE.values()), replace=False).tolist()]
    common, rest = people[:_COMMON], people[_COMMON:]
    lists = {}
    for name in _NAMES:
        own, rest = rest[: _ALONE[name]], rest[_ALONE[name] :]
        lists[name] = rng.permutation([*common, *own]).tolist()
    return common, lists


def _example(
    story: str,
    lists: Mapping[PartyId, FileTable],
    planted: Sequence[tuple[Any, ...]],
    **roles: Sequence[PartyId],
) -> Example:
    tables = {name: {RECORDS: columns} for name, columns in lists.items()}
    return Example(story, tables, planted=planted, roles={COMPUTING: (), **roles})


def private_intersection(seed: int) -> Example:
    """Return two lists with people in common; both are told who."""
    common, lists = _lists(seed)
    story = f"{_COMMON} people are known to both the bank and the clinic; one of them is {common[0]}."
    return _example(story, {name: {"identifier": own} for name, own in lists.items()}, [(common[0],)])


def intersection_count(seed: int) -> Example:
    """Return two lists with people in common; both are told how many."""
    story = f"{_COMMON} people are known to both the bank and the clinic."
    return _example(story, {n: {"identifier": own} for n, own in _lists(seed)[1].items()}, [(_COMMON,)])


def intersection_sum_two(seed: int) -> Example:
    """Return two lists with people in common; the bank holds amounts, and the clinic is told a sum."""
    common, lists = _lists(seed)
    known, total = set(common), _COMMON * 25
    story = f"{_COMMON} people are known to both; the bank holds 25 for each of them, {total} together."
    amounts = {
        "bank": [25 if who in known else 400 for who in lists["bank"]],
        "clinic": [0] * len(lists["clinic"]),
    }
    tables: dict[PartyId, FileTable] = {
        name: {"identifier": own, "amount": amounts[name]} for name, own in lists.items()
    }
    return _example(story, tables, [(_COMMON,)], amounts=["bank"], result=["clinic"])
