"""Tables in pages of documentation, each between two lines that say what writes it."""

from __future__ import annotations

import re
from pathlib import Path

from secagg.errors import UsageError


def check_page(page: Path, name: str) -> None:
    """Check that a page has a place for a table, so that nobody finds out after measuring.

    Raises:
      UsageError: the page cannot be read, or lacks the two lines.
    """
    _parts(page, name)


def put(page: Path, name: str, text: str) -> None:
    """Write a text to its place in a page; what stood there goes.

    Raises:
      UsageError: as `check_page`, or the page cannot be written.
    """
    before, after = _parts(page, name)
    try:
        page.write_text(f"{before}\n{text}\n{after}", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {page}: {error.strerror}") from None


def _parts(page: Path, name: str) -> tuple[str, str]:
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {page}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"expected a page in UTF-8, got other bytes in {page}") from None
    begin = re.search(rf"^<!-- {re.escape(name)}: written by .*-->\n", text, re.MULTILINE)
    end = re.search(rf"^<!-- {re.escape(name)}: end -->$", text, re.MULTILINE)
    if begin is None or end is None or end.start() < begin.end():
        raise UsageError(
            f"expected two lines in {page} between which the table goes: <!-- {name}: written by COMMAND --> and "
            f"<!-- {name}: end -->"
        )
    return text[: begin.end()], text[end.start() :]
