"""What shows later that somebody was not in a run, to whoever has the run's record.

A run's persons become marks in a row of cells, as in a Bloom filter [Blo70]: each person marks 11 cells, which follow from
the identifier under a key of the run. The cells are committed to, each by itself, by the root of a tree of SHA-256; the root
and the key's digest stand in what the owner states before the run, which all parties sign and keep.

To show that a person was not there, the owner gives the key and opens one of the person's cells that is not marked. A key
that only the owner has says which. The verifier sees one empty cell and, of the rest, digests with fresh random numbers in
them. Those who share this cell were not in the run either. That the person's other cells are marked becomes a little
likelier, and no cell is known to be.

The owner is held to what its program put into the cells at the time. Nothing shows that these are the persons whose rows
were shared; an auditor who reads the tables can compare both commitments.

Not for each absent person there is an empty cell: for one in 2,000 all are marked by others when the filter is full, and for
fewer when it is not. Then absence cannot be shown.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from secagg.errors import AuthenticationError, UsageError
from secagg.prg import Stream, derive_key

__all__ = ["Absence", "Cells", "Opening", "Root", "check_absence"]

_MARKS: Final = 11
_CELLS_EACH: Final = 16
_LEAST: Final = 1 << 10  # persons for which there is room at least, so that small numbers look alike
_MOST: Final = 1 << 40
_BLIND: Final = 16
_ARITY: Final = 16
_CHUNK: Final = _ARITY**4  # cells whose tree is made at once
_LABEL: Final = "secagg.joint.consent/absence"


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an owner states before a run.

    Attributes:
      root: of the tree over all cells, 32 bytes.
      key_digest: SHA-256 of the key under which cells follow from identifiers.
      room: for how many persons there is room, a power of two; the number of cells follows.
    """

    root: bytes
    key_digest: bytes
    room: int


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One cell that is not marked.

    Attributes:
      cell: its place.
      blind: the random number in its leaf.
      path: of each level from the leaves up, the nodes of its group, itself left out.
    """

    cell: int
    blind: bytes
    path: list[bytes]


class Absence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A proof that a person is in none of a run's columns: the key, and an opening for each "table.column"."""

    key: bytes
    openings: dict[str, Opening]


class Cells:
    """The cells of one run, at its owner.

    Args:
      secret: 32 random bytes of the run.
      marked: bools, one for each cell.
    """

    def __init__(self, secret: bytes, marked: NDArray[np.bool_]) -> None:
        self._key = derive_key(secret, label=f"{_LABEL}/cells")
        self._blinds = derive_key(secret, label=f"{_LABEL}/blinds")
        self._order = derive_key(secret, label=f"{_LABEL}/order")
        self.marked = marked

    @classmethod
    def of(cls, secret: bytes, persons: Iterable[tuple[str, str]]) -> Cells:
        """Return the cells that persons mark.

        Args:
          persons: "table.column" and identifier.
        """
        key = derive_key(secret, label=f"{_LABEL}/cells")
        listed = list(persons)
        room = max(_LEAST, 1 << max(0, len(listed) - 1).bit_length())
        marked = np.zeros(room * _CELLS_EACH, bool)
        for column, text in listed:
            marked[_cells(key, column, text, room)] = True
        return cls(secret, marked)

    def root(self) -> Root:
        """Return what is stated of the cells."""
        levels = self._tops()
        while len(levels) > 1:
            levels = _up(levels)
        return Root(levels[0], hashlib.sha256(self._key).digest(), self._room)

    def absence(self, spelt: Mapping[str, str]) -> Absence:
        """Return the proof that a person is in none of these columns.

        Args:
          spelt: by "table.column", the identifier as the column spells it.

        Raises:
          UsageError: its cells are all marked: it was there, or others' marks cover it.
        """
        openings = {}
        for column, text in spelt.items():
            cells = _cells(self._key, column, text, self._room).tolist()
            free = [cell for cell in cells if not self.marked[cell]]
            if not free:
                raise UsageError(
                    f"this identifier was in {column} of the run, or others hide that it was not (1 of 2,000 absent ones)"
                )
            openings[column] = self._opening(min(free, key=self._order_for(column, text)))
        return Absence(self._key, openings)

    def _order_for(self, column: str, text: str) -> Callable[[int], bytes]:
        """Return the key to sort a person's cells by.

        Only the owner knows the order. The first free cell in a known order would tell that those before it are marked. The
        order is the same for each proof about one person, so that asking again tells nothing more.
        """
        person = hmac.digest(self._order, f"{column} {text}".encode(errors="surrogatepass"), "sha256")
        return lambda cell: hmac.digest(person, cell.to_bytes(8, "big"), "sha256")

    @property
    def _room(self) -> int:
        return len(self.marked) // _CELLS_EACH

    def _leaves(self, chunk: int) -> tuple[list[bytes], bytes]:
        """Return the leaves of a chunk of cells, and their random numbers."""
        marked = self.marked[chunk * _CHUNK : (chunk + 1) * _CHUNK]
        drawn = np.empty(len(marked) * _BLIND, np.uint8)
        Stream(derive_key(self._blinds, label=f"{_LABEL}/chunk", context=chunk.to_bytes(8, "big"))).fill(
            drawn
        )
        blinds = drawn.tobytes()
        heads = [b"\0\1" if one else b"\0\0" for one in marked.tolist()]
        sha256 = hashlib.sha256
        leaves = [
            sha256(head + blinds[i * _BLIND : (i + 1) * _BLIND]).digest() for i, head in enumerate(heads)
        ]
        return leaves, blinds

    def _tops(self) -> list[bytes]:
        """Return the roots of all chunks."""
        tops = []
        for chunk in range(-(-len(self.marked) // _CHUNK)):
            level, _ = self._leaves(chunk)
            while len(level) > 1:
                level = _up(level)
            tops += level
        return tops

    def _opening(self, cell: int) -> Opening:
        chunk, place = divmod(cell, _CHUNK)
        level, blinds = self._leaves(chunk)
        path: list[bytes] = []
        blind = blinds[place * _BLIND : (place + 1) * _BLIND]
        place = _climb(level, place, path)
        if len(self.marked) > _CHUNK:
            _climb(self._tops(), chunk, path)
        return Opening(cell, blind, path)


def check_absence(proof: Absence, stated: Root, spelt: Mapping[str, str]) -> None:
    """Check a proof of absence against what was stated before the run.

    Args:
      spelt: of all columns in which persons were put in, "table.column", the identifier as the column spells it.

    Raises:
      AuthenticationError: it proves nothing.
    """
    if not hmac.compare_digest(hashlib.sha256(proof.key).digest(), stated.key_digest):
        raise AuthenticationError("the proof's key is not the one that was committed to before the run")
    if (
        not 1 <= stated.room <= _MOST
        or stated.room & (stated.room - 1)
        or not spelt
        or proof.openings.keys() != spelt.keys()
    ):
        raise AuthenticationError(
            f"the proof is about {', '.join(proof.openings) or 'no columns'}, and persons stood in {', '.join(spelt)}"
        )
    for column, text in spelt.items():
        opening = proof.openings[column]
        if opening.cell not in _cells(proof.key, column, text, stated.room).tolist():
            raise AuthenticationError(f"the proof opens a cell of {column} that is not this identifier's")
        if _root(opening, stated.room * _CELLS_EACH) != stated.root:
            raise AuthenticationError(f"the cell of {column} that the proof opens is not in what was stated")


def _cells(key: bytes, column: str, text: str, room: int) -> NDArray[np.int64]:
    """Return the cells that a person in a column marks."""
    name = column.encode()
    content = len(name).to_bytes(2, "big") + name + text.encode(errors="surrogatepass")
    drawn = hmac.digest(key, b"0" + content, "sha512") + hmac.digest(key, b"1" + content, "sha256")
    # The number of cells is a power of two, so that each is as likely.
    return (np.frombuffer(drawn, "<u8")[:_MARKS] % np.uint64(room * _CELLS_EACH)).astype(np.int64)


def _up(level: Sequence[bytes]) -> list[bytes]:
    sha256 = hashlib.sha256
    return [sha256(b"\1" + b"".join(level[i : i + _ARITY])).digest() for i in range(0, len(level), _ARITY)]


def _climb(level: list[bytes], place: int, path: list[bytes]) -> int:
    """Go up from a place to the top, and note the others of each group; return the last place."""
    while len(level) > 1:
        first = place - place % _ARITY
        path += [node for i, node in enumerate(level[first : first + _ARITY], first) if i != place]
        level, place = _up(level), place // _ARITY
    return place


def _root(opening: Opening, cells: int) -> bytes | None:
    """Return the root that an opening of an unmarked cell leads to, None for a path of another form."""
    node, place, left = hashlib.sha256(b"\0\0" + opening.blind).digest(), opening.cell, list(opening.path)
    if not 0 <= place < cells or len(opening.blind) != _BLIND:
        return None
    width = cells
    while width > 1:
        group = min(_ARITY, width - (place - place % _ARITY))
        others, left = left[: group - 1], left[group - 1 :]
        if len(others) != group - 1 or any(len(one) != hashlib.sha256().digest_size for one in others):
            return None
        at = place % _ARITY
        node = hashlib.sha256(b"\1" + b"".join([*others[:at], node, *others[at:]])).digest()
        place, width = place // _ARITY, -(-width // _ARITY)
    return node if not left else None
