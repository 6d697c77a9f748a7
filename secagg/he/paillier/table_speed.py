"""How much longer a product takes with an entry of a large table, measured on this machine once and remembered.

A table of 128 MB saves products, but where it leaves the caches of a machine with slow main memory each product waits for
its entry. So before a table above 16 MB is made, products are timed with entries at random places of 16, 48 and 128 MB,
which takes less than a second. `$XDG_CACHE_HOME/secagg/tables.json` (or `~/.cache/secagg`) remembers it for each kind of
processor and each length of a modulus. What cannot be read or does not fit is measured again; what cannot be written is
measured by each process.

The file holds three ratios and no more. They choose how large a table is, and results are the same for every choice.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
from gmpy2 import mpz

from secagg.errors import UsageError
from secagg.files import read_file

FITS: Final = 16  # megabytes that are taken to fit a cache
SIZES: Final = (FITS, 48, 128)
_PRODUCTS: Final = 300  # timed at a time
_TURNS: Final = 20  # of which the fastest counts: other work can only slow one down
_MAX_BYTES: Final = 1 << 16
_OVERHEAD: Final = 48  # bytes of an entry beside its digits

_Factor = Annotated[float, msgspec.Meta(ge=1, le=1000)]


class _Remembered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Factors of SIZES by kind of machine and bits of the modulus."""

    version: int
    factors: dict[str, tuple[_Factor, _Factor, _Factor]]


_known: dict[str, tuple[float, float, float]] = {}


def table_bytes(exponent_bits: int, window: int, modulus: mpz) -> int:
    """Return the memory of a table."""
    return -(-exponent_bits // window) * (1 << window) * (int(modulus.bit_length()) // 8 + _OVERHEAD)


def slowdown(nbytes: int, modulus: mpz) -> float:
    """Return how many times as long a product takes with a random entry of such a table as with one from a cache."""
    megabytes = nbytes / 1e6
    return 1.0 if megabytes <= FITS else float(np.interp(megabytes, SIZES, factors(modulus)))


def factors(modulus: mpz, *, anew: bool = False) -> tuple[float, float, float]:
    """Return the slowdowns of SIZES, remembered or measured.

    Args:
      anew: measure, whatever is remembered.
    """
    kind = f"{_machine()}, {modulus.bit_length()} bits"
    if not anew and kind not in _known:
        _known.update(_read())
    if anew or kind not in _known:  # two threads may both measure, which does no harm
        _known[kind] = _measure(int(modulus.bit_length()))
        _write({**_read(), kind: _known[kind]})
    return _known[kind]


def _measure(bits: int) -> tuple[float, float, float]:
    """Time products with entries of tables of random numbers, which are no secret."""
    entry = bits // 8 + _OVERHEAD
    count = SIZES[-1] * 1_000_000 // entry
    modulus = mpz(secrets.randbits(bits)) | (mpz(1) << bits - 1) | 1
    first = mpz(secrets.randbits(bits - 1))
    table = [first + i for i in range(count)]  # each in memory of its own
    best = [float("inf")] * len(SIZES)
    for _ in range(_TURNS):
        for k, megabytes in enumerate(SIZES):
            size = megabytes * count // SIZES[-1]
            places = np.frombuffer(secrets.token_bytes(8 * _PRODUCTS), np.uint64) % np.uint64(size)
            entries = [table[i] for i in places.tolist()]
            power = table[0]
            begun = time.perf_counter()
            for x in entries:
                power = power * x % modulus
            best[k] = min(best[k], time.perf_counter() - begun)
    middle = max(1.0, best[1] / best[0])
    return 1.0, middle, max(middle, best[2] / best[0])


def _machine() -> str:
    model = "unknown"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    return f"{model} x {os.cpu_count()}"


def _place() -> Path | None:
    named = os.environ.get("XDG_CACHE_HOME", "")
    if named and Path(named).is_absolute():  # others are to be ignored, as its specification says
        return Path(named) / "secagg" / "tables.json"
    try:
        return Path.home() / ".cache" / "secagg" / "tables.json"
    except RuntimeError:
        return None


def _read() -> dict[str, tuple[float, float, float]]:
    place = _place()
    if place is None:
        return {}
    try:
        found = msgspec.json.decode(
            read_file(place, what="measured speeds", max_bytes=_MAX_BYTES), type=_Remembered
        )
    except (UsageError, msgspec.DecodeError):  # none yet, broken, or somebody else's
        return {}
    return found.factors if found.version == 1 else {}


def _write(found: dict[str, tuple[float, float, float]]) -> None:
    """Replace the file whole; without a place to write to, the process alone remembers."""
    place = _place()
    if place is None:
        return
    content = msgspec.json.format(msgspec.json.encode(_Remembered(1, found)))
    with contextlib.suppress(OSError):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = place.with_name(f".{place.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            unfinished.replace(place)
        finally:
            unfinished.unlink(missing_ok=True)
