"""A party that alters one of the messages that it sends, and all ways in which it can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

WAYS = ("bit", "constant", "other session", "halves", "addend", "withheld")


class Liar:
    """Stands for a `Party`: what it sends as message `number` goes through `alter`; `sent` keeps all as they were."""

    def __init__(self, party: Any, number: int | None = None, alter: Any = None) -> None:
        self.party = party
        self.number = number
        self.alter = alter
        self.sent: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.party, name)

    def send(self, to: str, message: Any) -> None:
        number = len(self.sent)
        self.sent.append((to, copied(message)))
        self.party.send(to, self.alter(message) if number == self.number else message)


def copied(message: Any) -> Any:
    """Return a message whose arrays nobody changes."""
    return _mapped(message, lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf)


def _mapped(message: Any, change: Any) -> Any:
    parts = {
        name: tuple(map(change, value)) if isinstance(value, tuple) else change(value)
        for name, value in msgspec.structs.asdict(message).items()
    }
    return type(message)(**parts)


def leaves(message: Any) -> Iterator[tuple[str, int | None, Any]]:
    """Yield field, place in it, and value of everything that can be altered."""
    for name, value in msgspec.structs.asdict(message).items():
        if isinstance(value, tuple):
            yield from ((name, i, part) for i, part in enumerate(value))
        elif value is not None:
            yield name, None, value


def altered(message: Any, field: str, place: int | None, way: str, other: Any) -> Any | None:
    """Return a message with one leaf altered, or None where the way does nothing to it.

    Args:
      other: the same message of another session.
    """
    if way == "withheld":
        return _without(message, field, place)
    value = getattr(message, field)
    theirs = getattr(other, field)
    if place is not None:
        value, theirs = value[place], theirs[place]
    if isinstance(value, bytes):
        changed: Any = _bytes(value, way, theirs)
    else:
        flat = _elements(value.reshape(-1), way, theirs.reshape(-1))
        changed = (
            None if flat is None or np.array_equal(flat, value.reshape(-1)) else flat.reshape(value.shape)
        )
    if changed is None or (isinstance(changed, bytes) and changed == value):
        return None
    if place is not None:
        whole = list(getattr(message, field))
        whole[place] = changed
        changed = tuple(whole)
    return type(message)(**{**msgspec.structs.asdict(message), field: changed})


def _without(message: Any, field: str, place: int | None) -> Any | None:
    """Return a message without one of several values, or with an empty one; None if it is empty already."""
    value = getattr(message, field)
    if place is not None:
        value = tuple(part for i, part in enumerate(value) if i != place)
    elif isinstance(value, bytes) and value:
        value = b""
    else:
        return None
    return type(message)(**{**msgspec.structs.asdict(message), field: value})


def _bytes(value: bytes, way: str, theirs: bytes) -> bytes | None:
    if not value:
        return None
    middle = len(value) // 2
    return {
        "bit": value[:-1] + bytes([value[-1] ^ 1]),
        "constant": bytes(len(value)),
        "other session": theirs,
        "halves": value[middle:] + value[:middle],
        "addend": bytes((b + 1) % 256 for b in value),
    }[way]


def _elements(value: Any, way: str, theirs: Any) -> Any:
    if not value.size:
        return None
    changed = value.copy()
    if way == "bit":
        changed[-1] ^= 1
    elif way == "constant":
        changed[:] = 0
    elif way == "other session":
        changed = theirs.copy()
    elif way == "halves":
        changed = np.roll(changed, changed.size // 2)
    else:
        changed += 1
    return changed
