"""Run a program on an engine in the clear, alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from secagg.mpc.clear import ClearEngine
from secagg.network.simulated import simulate
from secagg.party import Party


def run_clear(program: Callable[[ClearEngine], Awaitable[Any]]) -> Any:
    """Return what `program(engine)` returns."""

    async def start(party: Party) -> Any:
        return await program(ClearEngine(party))

    return simulate({"ada": start}, insecure_seed=1).values()[0]
