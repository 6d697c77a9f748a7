"""Text from a file, a peer or a job, made fit for a terminal and a log.

A terminal obeys what it is sent. An escape sequence in a certificate's field or in a column's name moves the cursor back
and paints over what stands there. An unseen character turns the reading direction round. A line end in a log starts an
entry that nobody wrote. So whatever is shown passes through `printable`.
"""

from __future__ import annotations

import logging
from typing import Final

# Letters and marks without a shape of their own (Unicode's Default_Ignorable_Code_Point), which Python
# takes for printable.
_UNSEEN: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


def printable(text: str, limit: int | None = None) -> str:
    r"""Return a text on one line, with an escape such as \x1b, \u202e or \n for each character that is not seen.

    Those are control characters, line ends, format characters (reading direction, zero width), lone surrogates,
    characters without a meaning, and spaces other than the usual one. What is printable already stays as it is.

    Args:
      limit: take no more characters than this; "..." stands for the rest.
    """
    if limit is not None and len(text) > limit:
        return printable(text[:limit]) + "..."
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() and c not in _UNSEEN else _escape(c) for c in text)


def printable_lines(text: str) -> str:
    """Return a text with its line ends, each line as `printable` makes it."""
    return "\n".join(printable(line) for line in text.split("\n"))


class PrintableFormatter(logging.Formatter):
    """Formats log records on one line each, the traceback's lines behind it, all of them printable."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def _escape(character: str) -> str:
    return ascii(character)[1:-1]
