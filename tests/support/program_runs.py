"""A pattern that is a program, run in the simulator on made-up tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bank_tables import terms_of
from secagg.network.simulated import simulate
from secagg.patterns.pattern import Pattern, Terms


def strings(values: Sequence[str]) -> np.ndarray[Any, Any]:
    """Return strings as tables of identifiers are read."""
    return np.array([*values, None], object)[:-1]


def played(
    pattern: Pattern,
    parameters: Any,
    tables: Mapping[str, Any],
    computing: tuple[str, ...],
    terms: Terms | None = None,
) -> Any:
    """Return what a run of the pattern gave: results, ledgers and errors by party."""
    terms = terms or terms_of(tuple(tables), computing)

    async def take_part(party: Any) -> Any:
        mine = tables.get(party.me)
        contribution = None if mine is None else pattern.prepare(parameters, terms, mine)
        agreed = await pattern.agree(party, parameters, terms, contribution)
        return await pattern.run(party, parameters, terms, agreed)

    return simulate(dict.fromkeys(terms.parties, take_part))
