"""Fields of a job file: what is wrong with one, and on which line it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from secagg.errors import JobError
from secagg.printable import printable

_LONGEST_SHOWN: Final = 1000  # characters of a field's name, and of what is wrong with it
_TABLE: Final = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"""\s*([A-Za-z0-9_.\s'"-]+?)\s*=""")


class FieldFault(Exception):  # noqa: N818  # never leaves the jobs package: load_job makes a JobError of it
    """A field, such as `parties[1].address`, and what is wrong with it."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(what)
        self.field = field

    def error(self, file: Path | str, text: str) -> JobError:
        """Return the error that names file, line and field."""
        line = line_of(text, self.field)
        place = f"{file}:{line}" if line else str(file)
        field = f"{printable(self.field, _LONGEST_SHOWN)}: " if self.field else ""
        return JobError(f"{place}: {field}{printable(str(self), _LONGEST_SHOWN)}")


def line_of(text: str, field: str) -> int:
    """Return the line, from 1, on which a field of a TOML text stands, or the table it is missing from; 0 if neither.

    Lines are matched one by one. So a field inside an inline table is found as that table, and a text of several lines that
    looks like TOML can mislead. It is a help for a reader, and nothing depends on it.
    """
    best, found = 0, 0
    table = ""
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if head := _TABLE.match(line):
            table = _plain(head[2])
            if head[1] == "[[":
                seen[table] = seen.get(table, -1) + 1
                table = f"{table}[{seen[table]}]"
            here = table
        elif key := _KEY.match(line):
            here = f"{table}.{_plain(key[1])}" if table else _plain(key[1])
        else:
            continue
        if _within(field, here) and len(here) > best:
            best, found = len(here), number
    return found


def _plain(key: str) -> str:
    return ".".join(part.strip().strip("'\"") for part in key.split("."))


def _within(field: str, part: str) -> bool:
    return field == part or (field.startswith(part) and field[len(part)] in ".[")
