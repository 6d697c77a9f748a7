"""Where in a query something stands, for messages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Final

from sqlglot import exp

from secagg.errors import UsageError

_LONGEST_NAME: Final = 128


class PlacedError(UsageError):
    """What is wrong with a query, with line and column in front."""


class Text:
    """A query's text, whose parts are found again by the places that sqlglot keeps of names and constants."""

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def place(self, node: exp.Expr) -> str:
        """Return the line and column of the first name or constant in a part; of what stands around it if it has none."""
        around: exp.Expr | None = node
        while around is not None:
            starts = [one.meta["start"] for one in around.walk() if "start" in one.meta]
            if starts:
                start = min(starts)
                line = self.sql.count("\n", 0, start) + 1
                return f"line {line}, column {start - self.sql.rfind(chr(10), 0, start)}"
            around = around.parent
        return "line 1, column 1"

    def refusal(self, node: exp.Expr, what: str) -> PlacedError:
        """Return the error that something is wrong at a part of the query."""
        return PlacedError(f"{self.place(node)}: {what}")

    def unsupported(self, node: exp.Expr, what: str = "", instead: str = "") -> PlacedError:
        """Return the error that a part of the query is SQL, and not supported."""
        name = what or shown(node)
        return self.refusal(node, f"{name} is not supported{f'; {instead}' if instead else ''}")

    def only(self, node: exp.Expr, supported: Iterable[str]) -> None:
        """Refuse a part with options other than these, which would change what it means."""
        for name, value in node.args.items():
            if name in supported or value in (None, [], False):
                continue
            parts = value if isinstance(value, list) else [value]
            part = parts[0] if isinstance(parts[0], exp.Expr) else node
            raise self.unsupported(part, f"{name.strip('_').upper().replace('_', ' ')} of {shown(node)}")

    def word(self, node: exp.Expr, name: str) -> str:
        """Return a name; refuse one that is no word, which could stand for a column that the plan adds."""
        if name.isidentifier() and len(name) <= _LONGEST_NAME:
            return name
        raise self.refusal(
            node, f"expected a name of at most {_LONGEST_NAME} letters, digits and '_', got {name!r:.80}"
        )

    @contextlib.contextmanager
    def at(self, node: exp.Expr) -> Iterator[None]:
        """Put the place of a part in front of what is found wrong inside."""
        try:
            yield
        except PlacedError:
            raise
        except UsageError as error:
            raise self.refusal(node, str(error)) from None


def shown(node: exp.Expr) -> str:
    """Return a part of a query as its author would name it."""
    if isinstance(node, exp.Anonymous):
        return f"{str(node.this).upper()}()"
    if isinstance(node, exp.Func):
        return f"{node.sql_name()}()"
    return f"`{node.sql('duckdb'):.60}`"
