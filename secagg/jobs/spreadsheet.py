"""Result tables that a spreadsheet opens as they are.

A spreadsheet takes a cell that begins with =, +, - or @ for a formula, also after white space. A formula can send what
stands beside it to somebody else, or start a program. Whoever chooses an account's name chooses such a cell's text. So
these rules hold for every cell of a result table:

- Some texts get a ' in front: those that begin with a tab, a line end or ', and those whose first character other than
  white space is one of = + - @ or their full-width forms. A plain number such as -5 or +49301234 does not.
- A text that holds a separator of whatever kind, a quote, a line end or white space at an end stands in quotes.

`text_of` is the way back: it takes one leading ' off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

_FORMULA: Final = re.compile(r"[\t\r\n']|\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)*")
_QUOTED: Final = re.compile(r"[,;|\t\"\r\n']|^\s|\s$")


def cell_of(text: str) -> str:
    """Return the text of a cell that no spreadsheet takes for a formula."""
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def text_of(cell: str) -> str:
    """Return the text for which `cell_of` returned this."""
    return cell.removeprefix("'")


def csv_of(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a CSV table (RFC 4180, with line feeds) of texts and numbers."""
    lines = [",".join(columns)]
    lines += [",".join(_quoted(cell_of(text)) for text in row) for row in rows]
    return "\n".join(lines) + "\n"


def _quoted(cell: str) -> str:
    if cell and not _QUOTED.search(cell):
        return cell
    return '"' + cell.replace('"', '""') + '"'
