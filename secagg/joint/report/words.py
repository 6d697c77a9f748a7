"""Numbers and sentences as a page says them."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def size(count: float) -> str:
    """Return a number of bytes for people, in powers of 1000."""
    power = 0
    while count >= 999.5 and power < len(_UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.0f} {_UNITS[power]}" if power == 0 or count >= 99.95 else f"{count:.3g} {_UNITS[power]}"


def grouped(count: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{count:,}"


def span(seconds: float) -> str:
    """Return a time for people."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def spoken_trust(text: str) -> list[str]:
    """Return the sentences of who is trusted with what, to be listed."""
    return [sentence for sentence in re.split(r"(?<=[.!?]) +(?=[A-Z])", text.strip()) if sentence]
