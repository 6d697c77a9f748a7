"""Two organisations' people in blocks, and the program that links them; what the patterns of linkage have in common.

Each organisation lays its people into blocks by a digest of what `block_on` names. A block has `block_size` slots, empty
ones among them. Slots are shared as bits. So how many people there are, and in which blocks, nobody else learns.

The people of a block are compared, each with each (`statistics.linkage`). Those in different blocks are never linked.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import DataError, PlanError, RangeError
from secagg.mpc.arrays import SharedArray
from secagg.party import PartyId
from secagg.patterns.joint_tables import Columns, JointTable
from secagg.patterns.pattern import COMPUTING, INPUT, Risk, RoleSize, Tables, Terms
from secagg.patterns.program import ProgramPattern
from secagg.query.schema import Boolean, Date, Identifier, Schema
from secagg.statistics import linkage
from secagg.statistics.bigrams import MOST, features, letters, soundex
from secagg.statistics.linkage import WIDTH, Links

SLOTS: Final = "slots"
_BITS: Final = "bits"
_MOST_PAIRS: Final = 1 << 26
_LOOSE: Final = 70

Block = Literal["year", "month", "given", "family", "names"]


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How people are laid into blocks, and how alike two have to be.

    Attributes:
      blocks: how many; 1 compares everybody with everybody.
      block_size: the most people of one organisation in a block.
      block_on: what people of one block agree in: the year or month of birth, the Soundex code of the given or family name,
        or that of the two which comes first in the alphabet ("names"), which does not change when the two are swapped.
      threshold_percent: the smallest Dice coefficient of a link.
    """

    blocks: Annotated[int, Meta(ge=1, le=1 << 16)] = 64
    block_size: Annotated[int, Meta(ge=1, le=1 << 10)] = 32
    block_on: tuple[Block, ...] = ("year", "names")
    threshold_percent: Annotated[int, Meta(ge=1, le=100)] = 80


@dataclass(frozen=True, slots=True)
class Laid:
    """People in blocks: who is in each slot, "" in an empty one, and which bigrams it has."""

    persons: list[list[str]]
    features: list[list[frozenset[int]]]


class LinkingPattern(ProgramPattern):
    """A pattern over the links of two organisations; see the module."""

    inputs: Mapping[str, Schema] = {
        "people": Schema(
            person=Identifier(),
            given_name=Identifier(repeated=True),
            family_name=Identifier(repeated=True),
            born=Date(),
        )
    }
    Parameters: type[msgspec.Struct] = Comparison
    roles: Mapping[str, RoleSize] = {INPUT: RoleSize(2, 2), COMPUTING: RoleSize(3, 4)}

    def check(self, parameters: Any, terms: Terms) -> None:
        """Raise `PlanError` for blocks that cannot be compared."""
        pairs = parameters.blocks * parameters.block_size**2
        if pairs > _MOST_PAIRS:
            raise PlanError(
                f"blocks = {parameters.blocks} of block_size = {parameters.block_size} are {pairs} pairs, and at most "
                f"{_MOST_PAIRS} are compared; take smaller blocks"
            )
        if parameters.blocks > 1 and not parameters.block_on:
            raise PlanError("block_on names nothing, so that everybody is in one block; set blocks = 1")
        if len(set(parameters.block_on)) < len(parameters.block_on):
            raise PlanError(f"block_on names {', '.join(parameters.block_on)}; name each once")
        super().check(parameters, terms)

    def warnings(self, parameters: Any, terms: Terms) -> list[str]:  # noqa: ARG002
        """Warn of a threshold at which different people are linked."""
        if parameters.threshold_percent >= _LOOSE:
            return []
        return [
            f"threshold_percent = {parameters.threshold_percent}: at less than {_LOOSE} many different people are linked"
        ]

    def risks(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> list[Risk]:  # noqa: ARG002
        """Return nothing: names are compared as they are, and no result rests on pseudonyms."""
        return []

    def shared(self, parameters: Any) -> Mapping[str, Columns]:  # noqa: ARG002
        """Return slots, and their bits one after the other."""
        return {SLOTS: {"person": Identifier()}, _BITS: {"bit": Boolean()}}

    def sizes(self, parameters: Any) -> Mapping[str, int]:
        """Return how many slots and bits there are."""
        slots = parameters.blocks * parameters.block_size
        return {SLOTS: slots, _BITS: slots * WIDTH}

    def local(self, parameters: Any, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Lay an organisation's people into blocks."""
        laid = lay(parameters, tables)
        persons = np.array([who for block in laid.persons for who in block], object)
        bits = np.concatenate([linkage.encoded(block).reshape(-1) for block in laid.features])
        return {SLOTS: {"person": persons}, _BITS: {"bit": bits}}

    def links(self, parameters: Any, tables: Mapping[str, JointTable]) -> Links:
        """Return who is linked, in secret."""
        bits: SharedArray = tables[_BITS]["bit"]
        sides = bits.reshape(2, parameters.blocks, parameters.block_size, WIDTH)
        return linkage.link(sides[0], sides[1], threshold=parameters.threshold_percent)

    def linked(self, parameters: Any, tables: Mapping[PartyId, Tables]) -> list[tuple[str, str]]:
        """Return in the clear who is linked, in the order of the first organisation's slots."""
        one, other = (lay(parameters, own) for own in tables.values())
        found = linkage.linked(one.features, other.features, threshold=parameters.threshold_percent)
        return [(one.persons[b][i], other.persons[b][j]) for b, i, j in found]


def lay(parameters: Comparison, tables: Tables) -> Laid:
    """Lay an organisation's people into blocks, in an order that a digest of their own identifiers gives.

    Raises:
      DataError: somebody twice, or without a letter in both names.
      RangeError: more people in a block than it has slots, or somebody with too many bigrams.
    """
    people = tables["people"]
    persons, given, family = (list(people[name]) for name in ("person", "given_name", "family_name"))
    if len(set(persons)) < len(persons):
        raise DataError("a person stands in several rows of people; leave one row each")
    if "" in persons:
        raise DataError("a person of people has an empty identifier; give it one, or leave the row out")
    nameless = sum(not letters(a) + letters(b) for a, b in zip(given, family, strict=True))
    if nameless:
        raise DataError(
            f"{nameless} of {len(persons)} people have names without a letter from a to z; transliterate them, or leave "
            "them out"
        )
    blocks: list[list[tuple[bytes, str, frozenset[int]]]] = [[] for _ in range(parameters.blocks)]
    for who, first, last, day in zip(persons, given, family, people["born"].tolist(), strict=True):
        born = datetime.date(1970, 1, 1) + datetime.timedelta(days=int(day))
        block = _block(parameters, first, last, born)
        blocks[block].append((_digest("slot", who), who, features((first, last), born)))
    _check(parameters, blocks)
    size = parameters.block_size
    ordered = [sorted(block) for block in blocks]
    return Laid(
        [[who for _, who, _ in block] + [""] * (size - len(block)) for block in ordered],
        [[found for _, _, found in block] + [frozenset[int]()] * (size - len(block)) for block in ordered],
    )


def _check(parameters: Comparison, blocks: Sequence[Sequence[tuple[bytes, str, frozenset[int]]]]) -> None:
    largest = max(map(len, blocks))
    if largest > parameters.block_size:
        over = sum(len(block) > parameters.block_size for block in blocks)
        raise RangeError(
            f"{over} of {parameters.blocks} blocks have more people than block_size, which is {parameters.block_size}; the "
            f"largest has {largest}. Agree with the other organisation on larger or more blocks, or on another block_on"
        )
    long = sum(len(found) > MOST for block in blocks for _, _, found in block)
    if long:
        raise RangeError(
            f"{long} people have names of more than {MOST} bigrams with their birth date; shorten them"
        )


def _block(parameters: Comparison, given: str, family: str, born: datetime.date) -> int:
    of: dict[Block, str] = {
        "year": f"{born.year}",
        "month": f"{born.month}",
        "given": soundex(given),
        "family": soundex(family),
        "names": min(soundex(given), soundex(family)),
    }
    key = "|".join(of[name] for name in parameters.block_on)
    return int.from_bytes(_digest("block", key), "big") % parameters.blocks


def _digest(what: str, text: str) -> bytes:
    return hashlib.sha256(f"secagg.patterns.linkage/{what}|{text}".encode(errors="surrogatepass")).digest()
