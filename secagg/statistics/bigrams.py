"""Records of people as sets of bigrams, and the code by which names that sound alike share a block; all in the clear.

A record's *features* are the pairs of neighbouring characters of its given name, its family name and its birth date, each
with a boundary before and behind it. They are one set: so swapped names have the features of those in order. The date counts
as eight digits. Letters are a to z after accents are taken off, as in "Zoë" for "zoe"; other characters end no pair and
begin none.

Dice's coefficient of two sets is 2 |A & B| / (|A| + |B|) [Dic45]. It is computed of the sets themselves, and not of Bloom
filters that stand for them.
"""

from __future__ import annotations

import datetime
import itertools
import string
import unicodedata
from collections.abc import Iterable
from typing import Final

_BOUNDARY: Final = "_"
_LETTERS, _DIGITS = string.ascii_lowercase, string.digits


def _universe() -> dict[str, int]:
    pairs = [
        a + b
        for symbols in (_LETTERS, _DIGITS)
        for a, b in itertools.product(_BOUNDARY + symbols, repeat=2)
        if a + b != _BOUNDARY * 2
    ]
    return {pair: place for place, pair in enumerate(pairs)}


PLACES: Final = _universe()  # of all bigrams that there are
UNIVERSE: Final = len(PLACES)
MOST: Final = 64  # features of a record

# What NFKD does not take apart.
_SPELT: Final = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "ð": "d", "þ": "th", "ı": "i"}
)
_SOUNDS: Final = {
    letter: digit
    for digit, letters in enumerate(("bfpv", "cgjkqsxz", "dt", "l", "mn", "r"), 1)
    for letter in letters
}


def letters(name: str) -> str:
    """Return a name's letters, a to z, without accents."""
    plain = unicodedata.normalize("NFKD", name.casefold().translate(_SPELT))
    return "".join(letter for letter in plain if letter in _LETTERS)


def features(names: Iterable[str], born: datetime.date) -> frozenset[int]:
    """Return the places of a record's bigrams, below `UNIVERSE`."""
    words = [letters(name) for name in names]
    padded = [f"_{word}_" for word in (*words, f"{born:%Y%m%d}") if word]
    return frozenset(PLACES[a + b] for word in padded for a, b in itertools.pairwise(word))


def dice(one: frozenset[int], other: frozenset[int]) -> float:
    """Return Dice's coefficient of two sets, of which one at least has an element."""
    return 2 * len(one & other) / (len(one) + len(other))


def soundex(name: str) -> str:
    """Return the American Soundex code of a name, as the US National Archives define it; "0000" of one without letters."""
    word = letters(name)
    if not word:
        return "0000"
    code, last = word[0].upper(), _SOUNDS.get(word[0])
    for letter in word[1:]:
        sound = _SOUNDS.get(letter)
        if sound is not None and sound != last:
            code += str(sound)
        if letter not in "hw":  # which do not part equal sounds, as vowels do
            last = sound
    return code[:4].ljust(4, "0")
