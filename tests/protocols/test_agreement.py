"""What aggregators compare before they open a sum is bound to session, terms and set of clients, each by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import transcripts
from secagg.network.simulated import simulate
from secagg.party import Party
from secagg.protocols import additive_sum, bounded_sum
from secagg.protocols.agreement import Agreed
from secagg.protocols.roles import Roles
from secagg.ring import Ring

CLIENTS = ("a", "b", "c", "d")
ROLES = Roles(CLIENTS, ("x", "y", "z"), ("r",))


async def stays_away(party: Party) -> None:
    """A client that takes part in nothing."""


def additive(min_clients: int) -> dict[str, Any]:
    ring = Ring(20)
    terms = additive_sum.Terms(ROLES, (3,), ring, min_clients, timeout_s=5.0)
    x = np.ones(3, ring.dtype)
    names = dict.fromkeys((*CLIENTS, "x", "y", "z", "r"))
    return {n: partial(additive_sum.take_part, x=x if n in CLIENTS else None, terms=terms) for n in names}


def bounded(min_clients: int) -> dict[str, Any]:
    bounds = bounded_sum.Bounds(3, 5, 75)
    terms = bounded_sum.Terms(ROLES, bounds, min_clients, timeout_s=5.0)
    x = np.ones(3, np.uint64)
    names = dict.fromkeys((*CLIENTS, "x", "y", "z", "r"))
    return {n: partial(bounded_sum.take_part, x=x if n in CLIENTS else None, terms=terms) for n in names}


@pytest.mark.parametrize("programs", [additive, bounded])
@pytest.mark.slow
def test_what_is_compared_depends_on_session_terms_and_set(
    programs: Callable[[int], dict[str, Any]],
) -> None:
    def compared(seed: int, min_clients: int = 2, away: str = "") -> bytes:
        run = programs(min_clients) | ({away: stays_away} if away else {})
        outcome = simulate(run, record=True, insecure_seed=seed)
        assert "r" in outcome.results
        told = [m.message for m in transcripts.sent(outcome.transcript) if isinstance(m.message, Agreed)]
        statements = {message.statement for message in told}
        assert len(told) == 6
        assert len(statements) == 1
        return bytes(statements.pop())

    first = compared(1)
    assert compared(1) == first
    others = [compared(2), compared(1, min_clients=3), compared(1, away="b"), compared(1, away="c")]
    assert len({first, *others}) == 5
