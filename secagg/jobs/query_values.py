"""Values that a job gives to the parameters of its query, `$since` in the SQL, so that one text serves many runs.

    [parameters]
    since = 2026-09-01
    channel = "wire"

Each takes the place of its parameter as a literal, before anything is made of the query. So plan and owners' rules are those
of the filled text. A text cannot end its literal: quotes in it are doubled, and it is one line.
"""

from __future__ import annotations

import datetime
import itertools
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from secagg.toml_files import FieldFault

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_LONGEST: Final = 200  # characters of a text

# bool is an int, and datetime a date: the kinds are compared, not asked for.
KINDS: Final = (str, bool, int, Decimal, datetime.date, datetime.datetime)


def parameters_of(sql: str) -> tuple[str, ...]:
    """Return the names of a query's parameters, in the order in which they come; none where it cannot be read."""
    return tuple(dict.fromkeys(token.text for token in _tokens(sql)))


def filled(sql: str, values: Mapping[str, Any]) -> str:
    """Return a query with literals in place of its parameters.

    Raises:
      FieldFault: a parameter without a value, a value without a parameter, or one that is no literal.
    """
    found = _tokens(sql)
    names = dict.fromkeys(token.text for token in found)
    for name in names:
        if name not in values:
            raise FieldFault(f"parameters.{name}", f"the query has ${name}, and the job gives it no value")
    for name, value in values.items():
        if name not in names:
            known = ", ".join(f"${one}" for one in names) or "none"
            raise FieldFault(f"parameters.{name}", f"the query has no ${name}; its parameters are {known}")
        check_value(value, f"parameters.{name}")
    for token in reversed(found):
        # Between spaces: the sign of a negative number must not make a comment of a minus before it.
        sql = f"{sql[: token.start - 1]} {_literal(values[token.text])} {sql[token.end + 1 :]}"
    return sql


def check_value(value: object, place: str) -> None:
    """Check that a value can stand in a query; raises `FieldFault`."""
    if type(value) not in KINDS or (isinstance(value, Decimal) and not value.is_finite()):
        raise FieldFault(
            place, f"expected a text, a number, true or false, a day or a time, got {value!r:.80}"
        )
    if isinstance(value, str) and (len(value) > _LONGEST or not value.isprintable()):
        raise FieldFault(
            place, f"expected a printable text of at most {_LONGEST} characters, got {value!r:.80}"
        )
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        raise FieldFault(place, "expected a time without a zone, as columns of times have them")


def shown_value(value: Any) -> str:
    """Return a value as a job file writes it."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return "'{}'".format(value.replace("'", "''"))
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime.datetime):
        return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
    if isinstance(value, datetime.date):
        return f"DATE '{value.isoformat()}'"
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _tokens(sql: str) -> list[Token]:
    """Return the tokens of parameters' names; a dollar sign stands right before each."""
    # Jobs without a query do without it; see `computed`.
    from sqlglot.dialects.duckdb import DuckDB
    from sqlglot.errors import TokenError
    from sqlglot.tokenizer_core import TokenType

    try:
        tokens = DuckDB.Tokenizer().tokenize(sql)
    except TokenError:
        return []  # whoever plans the query says what is wrong
    return [
        name
        for sign, name in itertools.pairwise(tokens)
        if sign.token_type == TokenType.PARAMETER
        and name.start == sign.end + 1
        and sql[name.start : name.end + 1] == name.text  # neither quoted nor a text
        and _NAME.fullmatch(name.text)
    ]
