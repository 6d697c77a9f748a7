"""The campaign behind the gallery of the documentation: small cases of everything that is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from secagg.bench.case import Case

_LATENCIES: Final = tuple(f"{ms}ms/100mbit" for ms in (0.1, 1, 3, 10, 30, 100))


def cases(*, tiny: bool = False) -> Iterator[Case]:
    """Yield the cases; tiny: only to see that they run."""
    repeat = 1 if tiny else 3
    sizes = (10, 20) if tiny else (100, 1000, 10_000, 100_000)
    for name in ("additive", "masked", "bounded"):
        for size in sizes:
            yield Case("protocol", name, 5, size, repeat=repeat, networks=())
    for name in ("multiply", "less", "sort"):
        for size in sizes[:3]:
            yield Case(
                "operation", name, 3, size, 3, repeat=repeat, networks=_LATENCIES if size == sizes[1] else ()
            )
    for name in ("additive", "masked", "rlwe", "bounded"):
        for parties in (3, 4) if tiny else (4, 8, 16, 32):
            yield Case("protocol", name, parties, 100, repeat=1, networks=())
    yield Case("protocol", "masked", 8, sizes[1], repeat=repeat, networks=_LATENCIES)
    if not tiny:
        yield Case("pattern", "collectors", 0, 1000, 3, repeat=repeat, networks=_LATENCIES)
    for name in ("additive", "masked"):
        for bits in (4, 8) if tiny else (4, 8, 12, 16, 20, 24):
            yield Case("protocol", name, 10, 100, repeat=1, networks=(), frac_bits=bits)
