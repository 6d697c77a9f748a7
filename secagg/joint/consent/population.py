"""Who was in a run, as keyed digests that their owner alone keeps and can compare.

Of each table: the digest of each person, 64 bits, in order; and one digest of all rows, in whatever order they stand.
Persons are told apart by the table's identifiers that do not repeat by nature; where there are several, as sender and
beneficiary, all of them are persons. A table without such identifiers has its rows as persons.

Differences are exact but for collisions: of n persons two share a digest with probability below n**2 / 2**65, which is
2**-25 for a million. Then a difference comes out one or two too small, and a run is refused that need not be.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.patterns.counts import factorize
from secagg.query.schema import Columns, Identifier, Schema

__all__ = ["Population", "person_columns", "person_digest", "persons_of"]

_DIGEST: Final = "sha256"
_PERSON_BYTES: Final = 8
_ROW_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Population:
    """Who is in one table.

    Attributes:
      persons: their digests, sorted, each once; uint64.
      held: a digest of all rows, 32 bytes; equal rows in another order have the same.
    """

    persons: NDArray[np.uint64] = field(repr=False)
    held: bytes = field(repr=False)

    @classmethod
    def of(cls, columns: Columns, schema: Schema, key: bytes) -> Population:
        """Return the population of a table under the owner's key."""
        digests = {
            name: _digests(factorize(values).categories.tolist(), key)
            for name, values in columns.items()
            if _is_text(values)
        }
        rows = sorted(_rows(columns, digests, key))
        found = [digests[name] for name in person_columns(schema)]
        if not found:
            found = [np.frombuffer(b"".join(row[:_PERSON_BYTES] for row in rows), "<u8").astype(np.uint64)]
        return cls(
            np.unique(np.concatenate(found)),
            hmac.digest(key, b"held" + b"".join(rows), _DIGEST),
        )

    def difference(self, other: Population) -> int:
        """Return how many persons are in one of two populations and not in the other."""
        return len(np.setxor1d(self.persons, other.persons, assume_unique=True))


def person_columns(schema: Schema) -> tuple[str, ...]:
    """Return the identifiers of persons in a table."""
    return tuple(name for name, kind in schema.items() if isinstance(kind, Identifier) and not kind.repeated)


def persons_of(columns: Columns, schema: Schema) -> Iterator[tuple[str, str]]:
    """Yield each person of a table once for each column that names it: the column, and the identifier."""
    for name in person_columns(schema):
        for text in factorize(columns[name]).categories.tolist():
            yield name, text


def person_digest(text: bytes, key: bytes) -> bytes:
    """Return what stands for a person, 8 bytes."""
    return hmac.digest(key, b"person" + text, _DIGEST)[:_PERSON_BYTES]


def _digests(texts: list[str], key: bytes) -> NDArray[np.uint64]:
    each = b"".join(person_digest(text.encode(errors="surrogatepass"), key) for text in texts)
    return np.frombuffer(each, "<u8").astype(np.uint64)


def _rows(columns: Mapping[str, Any], digests: Mapping[str, NDArray[np.uint64]], key: bytes) -> list[bytes]:
    """Return a digest of each row, of everything that stands in it."""
    words: list[NDArray[np.uint64]] = []
    for name, values in columns.items():
        if name in digests:
            known = np.append(digests[name], np.uint64(0))  # the last place, -1, is that of a missing one
            words.append(known[factorize(values).codes])
        else:
            mask = np.ma.getmaskarray(values)
            data = np.ma.getdata(values)
            whole = data.astype(np.float64 if data.dtype.kind == "f" else np.int64)
            words += [np.where(mask, 0, whole).astype(whole.dtype).view(np.uint64), mask.astype(np.uint64)]
    if not words:
        return []
    table = np.ascontiguousarray(np.stack(words, axis=1))
    width, data_bytes = 8 * len(words), table.tobytes()
    return [
        hmac.digest(key, b"row" + data_bytes[i : i + width], _DIGEST)[:_ROW_BYTES]
        for i in range(0, len(data_bytes), width)
    ]


def _is_text(values: Any) -> bool:
    return not hasattr(values, "dtype") or values.dtype.kind == "O"
