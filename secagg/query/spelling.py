"""Identifiers of an owner's table in the spelling that their column's declaration names.

Each distinct text is spelt once. What the rule changes goes into a table of texts and their spellings, which the owner's
table is joined with.
"""

# ruff: noqa: S608  names are quoted

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from secagg.errors import UsageError
from secagg.query.identifier_rules import Rule

# Declared columns are words, so that no column of an owner's table is taken for one of these.
GIVEN = '"#given {}"'
SPELT = '"#spelt {}"'


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a column's texts are spelt.

    Attributes:
      value: SQL of the column's spelling.
      join: SQL that stands behind the owner's table, "" where the rule changes nothing.
      problems: for each reason for which texts are refused, the phrase and how many rows and which is the first.
    """

    value: str
    join: str
    problems: tuple[tuple[str, int, int], ...]


def spelt(
    connection: duckdb.DuckDBPyConnection, numbered: str, text: str, rule: str, number: int
) -> Spelling:
    """Return how the texts of a column are spelt.

    Args:
      numbered: SQL of the owner's table with the column `row`, the number of each row.
      text: SQL of the column as a text.
      rule: see `identifier_rules`.
      number: of the column among those of the table.
    """
    found = connection.execute(f"SELECT DISTINCT {text} FROM {numbered} WHERE trim({text}) <> ''").fetchall()
    texts = [one for (one,) in found]
    canonical, refused = Rule(rule).spell(texts)
    if refused:
        reasons = [refused[i] for i in sorted(refused)]
        _table(connection, number, [texts[i] for i in sorted(refused)], reasons)
        counts = connection.execute(
            f"SELECT {SPELT.format(number)}, count(*), min(row) FROM {numbered} {_join(text, number, '')} "
            "GROUP BY 1 ORDER BY 3"
        ).fetchall()
        return Spelling(text, "", tuple((f"hold a text that {why}", n, first) for why, n, first in counts))
    changed = [(one, other) for one, other in zip(texts, canonical, strict=True) if one != other]
    if not changed:
        return Spelling(text, "", ())
    _table(connection, number, [one for one, _ in changed], [other for _, other in changed])
    return Spelling(f"coalesce({SPELT.format(number)}, {text})", _join(text, number, "LEFT "), ())


def _table(
    connection: duckdb.DuckDBPyConnection, number: int, given: Sequence[str], said: Sequence[str]
) -> None:
    connection.execute(
        f'CREATE OR REPLACE TEMP TABLE "#spelling {number}" AS SELECT unnest(?) AS {GIVEN.format(number)}, '
        f"unnest(?) AS {SPELT.format(number)}",
        [list(given), list(said)],
    )


def _join(text: str, number: int, how: str) -> str:
    return f'{how}JOIN "#spelling {number}" ON {text} = {GIVEN.format(number)}'


def check_constant(text: str, rule: str) -> None:
    """Raise `UsageError` for a constant that no identifier of the rule is equal to."""
    (canonical,), refused = Rule(rule).spell([text])
    if refused:
        raise UsageError(f"no identifier of the rule {rule} is equal to this constant, which {refused[0]}")
    if canonical != text:
        raise UsageError(f"the rule {rule} spells this constant {canonical!r:.80}; write it so")
