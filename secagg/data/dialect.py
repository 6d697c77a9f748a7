"""How one party's files write text, numbers and times; a party's own affair, unlike the job's conventions."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Final

from secagg.errors import UsageError

__all__ = ["EPOCHS", "Dialect"]

# How many of a unit are a second.
EPOCHS: Final = {"epoch-s": 1, "epoch-ms": 1_000, "epoch-us": 1_000_000}

_DECIMALS: Final = (".", ",")
_THOUSANDS: Final = {".": ".", ",": ",", "'": "'", "\u2019": "'", " ": " ", "space": " ", "_": "_"}
_DELIMITERS: Final = {"tab": "\t", "\\t": "\t"}
_DIRECTIVE: Final = re.compile(r"%-?([A-Za-z%])")
_DIRECTIVES: Final = frozenset("YymdbBjHIMSpfgz%")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a party's files are written; None where it is told from the file.

    Args:
      encoding: a text encoding that Python knows.
      delimiter: the character between the columns of a CSV file, or "tab".
      decimal: "." or "," in amounts that are text. Without it and `thousands`, a point is taken for one.
        An amount that could also have a thousands separator, such as 3.000 or 1,234, is refused then.
      thousands: the character between thousands in amounts that are text.
      date_format: "epoch-s", "epoch-ms" or "epoch-us" for times that are numbers, or a format of strptime
        such as "%d.%m.%Y %H:%M". Without it, times are ISO timestamps, compact dates (20260905, with a
        window of timestamps), or numbers that stay as they are.

    Raises:
      UsageError: one of them cannot be, or two exclude each other.
    """

    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    date_format: str | None = None

    def __post_init__(self) -> None:
        if self.encoding is not None:
            object.__setattr__(self, "encoding", _encoding(self.encoding))
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", _delimiter(self.delimiter))
        if self.decimal not in (None, *_DECIMALS):
            raise UsageError(f'a decimal separator is "." or ","; got {self.decimal!r:.80}')
        if self.thousands is not None:
            if self.thousands not in _THOUSANDS:
                raise UsageError(
                    f'a thousands separator is one of . , \' _ or "space"; got {self.thousands!r:.80}'
                )
            object.__setattr__(self, "thousands", _THOUSANDS[self.thousands])
            if self.thousands == self.point:
                raise UsageError(
                    f"{self.thousands!r} separates both decimals and thousands; say the other with the decimal "
                    "separator, on the command line --decimal"
                )
        if self.date_format is not None and self.date_format not in EPOCHS:
            _check_format(self.date_format)

    @property
    def point(self) -> str:
        """Return the decimal separator."""
        return self.decimal or "."

    @property
    def declares_numbers(self) -> bool:
        """Whether the separators of amounts were said."""
        return self.decimal is not None or self.thousands is not None


def _encoding(name: str) -> str:
    try:
        # Encoders from bytes to bytes, such as "hex", fail here; "idna" and the like are no encodings of files.
        codec = codecs.lookup(name)
        "1,;\n".encode(codec.name).decode(codec.name)
    except (LookupError, UnicodeError, ValueError, TypeError):
        raise UsageError(
            f"an encoding such as utf-8, cp1252, latin-1 or utf-16 is expected; got {name!r:.80}"
        ) from None
    return codec.name


def _delimiter(text: str) -> str:
    delimiter = _DELIMITERS.get(text, text)
    if len(delimiter) != 1 or not (delimiter == "\t" or 0x20 <= ord(delimiter) < 0x7F) or delimiter in '"\\':
        raise UsageError(f'a delimiter is one ASCII character or "tab"; got {text!r:.80}')
    if delimiter.isalnum():
        raise UsageError(f"a letter or digit is no delimiter; got {text!r}")
    return delimiter


def _check_format(text: str) -> None:
    directives = set(_DIRECTIVE.findall(text))
    rest = _DIRECTIVE.sub("", text)
    dated = directives & {"Y", "y"} and (
        "j" in directives or ("d" in directives and directives & {"m", "b", "B"})
    )
    if not dated or "%" in rest or not directives <= _DIRECTIVES or not text.isprintable():
        raise UsageError(
            f"a date format is {', '.join(EPOCHS)}, or one of strptime with year, month and day such as "
            f"%d.%m.%Y %H:%M (directives %{' %'.join(sorted(_DIRECTIVES - {'%'}))}); got {text!r:.80}"
        )
