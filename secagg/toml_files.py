"""Files in TOML that come from other organisations in part: read with bounds, each fault named by file, line and field.

Each may say `format = 1` before its first table, the format that all of them have. A later one is refused by its number.
Size, nesting and numbers are bounded before anything is made of them.
"""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from secagg.errors import UsageError
from secagg.files import check_format, read_file
from secagg.printable import printable

T = TypeVar("T")

FORMAT: Final = 1
_MAX_FILE_BYTES: Final = 1 << 20
_MAX_LINE: Final = 4096  # characters; time for a key of many parts grows with the square of its length
_MAX_DEPTH: Final = 8  # tables in tables; a job needs three
_MAX_EXPONENT: Final = 400  # of a fraction; more is no amount, and slow to compute with
_LARGEST_INTEGER: Final = (1 << 63) - 1  # as TOML has them
_LONGEST_SHOWN: Final = 1000  # characters of a field's name, and of what is wrong with it
_TABLE: Final = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"""\s*([A-Za-z0-9_.\s'"-]+?)\s*=""")


class FieldFault(Exception):  # noqa: N818  # whoever reads a file makes an error of its own of it
    """A field, such as `parties[1].address`, and what is wrong with it."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(what)
        self.field = field

    def error(self, file: Path | str, text: str, kind: type[UsageError]) -> UsageError:
        """Return the error of this kind that names file, line and field."""
        line = line_of(text, self.field)
        place = f"{file}:{line}" if line else str(file)
        field = f"{printable(self.field, _LONGEST_SHOWN)}: " if self.field else ""
        return kind(f"{place}: {field}{printable(str(self), _LONGEST_SHOWN)}")


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


def read_toml(path: Path, *, what: str, kind: type[UsageError]) -> str:
    """Return the text of a file, of at most 1 MiB.

    Args:
      what: the file, as errors call it.
      kind: the error that is raised.
    """
    try:
        content = read_file(path, what=what, max_bytes=_MAX_FILE_BYTES)
    except UsageError as error:
        raise kind(str(error)) from None
    if content.startswith(codecs.BOM_UTF8):
        raise kind(
            f"{path}: expected a TOML file in UTF-8 without a byte order mark at its start; save it without "
            f"(some editors say 'UTF-8 with BOM')"
        )
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise kind(f"{path}: expected a TOML file in UTF-8") from None


def parse_toml(
    text: str, *, file: Path, kind: type[UsageError], parse_float: Callable[[str], Any] = float
) -> dict[str, Any]:
    """Return the values of a TOML text; `check_values` comes next.

    Raises:
      UsageError: of the given kind; the text is not TOML, has lines or nesting beyond what is read, or is of a later
        format.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _MAX_LINE:
            raise kind(f"{file}:{number}: expected lines of at most {_MAX_LINE} characters")
    try:
        values = tomllib.loads(text, parse_float=parse_float)
    except tomllib.TOMLDecodeError as error:
        raise kind(f"{file}: this is not TOML: {error}") from None
    except RecursionError:
        raise kind(f"{file}: expected lists and tables inside each other at most {_MAX_DEPTH} deep") from None
    except ValueError:  # Python converts no number of thousands of digits
        raise kind(f"{file}: expected whole numbers of at most 63 bits, got one of far more digits") from None
    number = values.pop("format", FORMAT)
    try:
        check_format(number, FORMAT, what=str(file))
    except UsageError as error:
        raise kind(str(error)) from None
    if type(number) is not int or number != FORMAT:
        raise kind(f"{file}:{line_of(text, 'format')}: format: expected {FORMAT}, or no such field")
    return values


def check_values(value: object, place: str = "", depth: int = 0) -> None:
    """Refuse nesting, and numbers of a size, that no field has and that would be slow to show or to compute with.

    Raises:
      FieldFault: names the field.
    """
    if depth > _MAX_DEPTH:
        raise FieldFault(place, f"expected lists and tables inside each other at most {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        for key, inside in value.items():
            check_values(inside, f"{place}.{key}" if place else key, depth + 1)
    elif isinstance(value, list):
        for i, inside in enumerate(value):
            check_values(inside, f"{place}[{i}]", depth + 1)
    elif isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise FieldFault(place, "expected a whole number of at most 63 bits, got a longer one")
    elif isinstance(value, Decimal) and value and value.is_finite() and abs(value.adjusted()) > _MAX_EXPONENT:
        raise FieldFault(
            place, f"expected a number with an exponent of at most {_MAX_EXPONENT}, got a larger one"
        )


def convert(values: object, struct: type[T], *, hint: str = "") -> T:
    """Return the values as a struct.

    Args:
      hint: what a reader may have meant, where a field inside a table is unknown.

    Raises:
      FieldFault: a field that is missing, unknown or of another type.
    """
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as error:
        raise _fault(str(error), hint) from None


def _fault(message: str, hint: str) -> FieldFault:
    """Return msgspec's complaint with the field's place in front."""
    what, _, where = message.partition(" - at ")
    field = where.strip("`").removeprefix("$").removeprefix(".")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        inside = f"{field}.{unknown[1]}" if field else unknown[1]
        return FieldFault(inside, f"there is no such field{f'; {hint}' if field and hint else ''}")
    if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        return FieldFault(f"{field}.{missing[1]}" if field else missing[1], "this field is missing")
    what = what.replace("`", "").replace("object", "a table").replace("array", "a list")
    return FieldFault(field, what[:1].lower() + what[1:])
