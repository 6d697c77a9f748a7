"""Bits 64 a word, and one a byte: packing, unpacking, and joining what is packed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np

from secagg.mpc.groups import Array
from secagg.mpc.primitives import Shares

LANES: Final = 64


def words_of(n: int) -> int:
    """Return how many words hold n bits."""
    return -(-n // LANES)


def pack(bits: Array) -> Array:
    """Return bits, one an element and of any shape, as words in C order; lanes beyond them are zero."""
    flat = np.packbits(bits.reshape(-1), bitorder="little")
    words = np.zeros(words_of(bits.size), np.uint64)
    words.view(np.uint8)[: flat.size] = flat
    return words


def unpack(words: Array, n: int) -> Array:
    """Return n bits from words, one a byte."""
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), count=n, bitorder="little")


def cleared(bits: Shares, n: int) -> Shares:
    """Return packed bits whose lanes beyond n are zero."""
    if n % LANES == 0:
        return bits
    keep = np.full(bits.shape[-1], 2**LANES - 1, np.uint64)
    keep[-1] = (1 << n % LANES) - 1
    return bits.each(lambda part: part & keep)


def join_bits(parts: Sequence[Shares], sizes: Sequence[int]) -> Shares:
    """Return packed bits of arrays of these sizes, one array behind the other without gaps."""
    if len(parts) == 1:
        return parts[0]
    if all(n % LANES == 0 for n in sizes[:-1]):
        joined = [np.concatenate(of_each) for of_each in zip(*(p.parts for p in parts), strict=True)]
    else:
        joined = [
            pack(np.concatenate([unpack(part, n) for part, n in zip(of_each, sizes, strict=True)]))
            for of_each in zip(*(p.parts for p in parts), strict=True)
        ]
    return Shares(parts[0].engine, parts[0].group, joined)


def split_bits(bits: Shares, sizes: Sequence[int]) -> list[Shares]:
    """Return the arrays of these sizes of which `join_bits` would make the packed bits."""
    if len(sizes) == 1:
        return [bits]
    n = sum(sizes)
    loose = [unpack(part, n) for part in bits.parts]
    ends = np.cumsum([0, *sizes]).tolist()
    return [
        Shares(bits.engine, bits.group, [pack(part[a:b]) for part in loose])
        for a, b in itertools.pairwise(ends)
    ]
