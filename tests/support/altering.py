"""A party that follows its protocol but for what it sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from secagg.party import Party, Program
from secagg.wire import Message


def altering(program: Program[Any], alter: Callable[[Party, str, Any], Message | None]) -> Program[Any]:
    """Return a program that sends what `alter` makes of party, receiver and message; nothing where that is None."""

    async def run(p: Party) -> Any:
        class Altering(Party):
            __slots__ = ()

            def send(self, to: str, message: Message) -> None:
                other = alter(p, to, message)
                if other is not None:
                    Party.send(self, to, other)

        p.__class__ = Altering
        return await program(p)

    return run
