"""A table's identifiers, spelt as the parties agreed, with the owner's own spelling kept.

Each distinct text is spelt once. What is refused is told by place. What only looks wrong, as numbers whose leading zeros
may be lost, becomes a warning that holds no identifier.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.patterns.counts import Categorical, factorize
from secagg.query.identifier_rules import Rule, escaped, looks_like_iban

__all__ = ["Spelt", "joined", "spell", "warnings"]

# An identifier of many is suspicious in a fifth of the rows; one of few, in half of them.
_MANY, _OFTEN = 20, 5
_SAMPLE: Final = 1000
_NUMBER_SAMPLE: Final = 20_000
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{4}")
_DECIMAL: Final = re.compile(r"[+-]?[0-9]+[.,][0-9]+")
_EXCEL_DIGITS: Final = 15  # a spreadsheet keeps so many of a number and writes zeros for the rest


@dataclass(frozen=True, slots=True, eq=False)
class Spelt:
    """The identifiers of a column, or of columns that are joined.

    Attributes:
      codes: the canonical texts, all of which occur; -1 where there is none.
      own: the owner's spelling of each canonical text that has another, the first in the table.
      merged: canonical texts that the table spells in several ways.
    """

    codes: Categorical
    own: dict[str, str] = field(repr=False)
    merged: frozenset[str] = field(repr=False)

    def taken(self, rows: NDArray[np.bool_]) -> Spelt:
        """Return the identifiers of the rows that a mask has, shape (n,)."""
        if rows.all():
            return self
        codes = self.codes.taken(rows)
        left = frozenset(codes.categories.tolist())
        own = {name: text for name, text in self.own.items() if name in left}
        return Spelt(codes, own, self.merged & left)

    def among(self, rows: NDArray[np.bool_]) -> Spelt:
        """Return the identifiers as those of the rows that a mask has, shape (n,), with none in the others."""
        if rows.all():
            return self
        codes = np.full(len(rows), -1, np.int64)
        codes[rows] = self.codes.codes
        return Spelt(Categorical(self.codes.categories, codes), self.own, self.merged)


def spell(
    columns: Sequence[NDArray[np.object_]], rule: Rule
) -> tuple[Spelt, list[dict[str, NDArray[np.bool_]]]]:
    """Spell an identifier's texts.

    Args:
      columns: one array of strings a column, all of one length.

    Returns:
      The identifiers, and for each column by reason a mask of the rows whose text is refused. The canonical text of such
      a row has no meaning.
    """
    refused: list[dict[str, NDArray[np.bool_]]] = []
    parts: list[tuple[Categorical, list[str], list[str]]] = []
    for column in columns:
        codes = factorize(column)
        own = list(map(str.strip, codes.categories.tolist()))
        canonical, faults = rule.spell(own)
        refused.append(_rows_of(codes, faults))
        parts.append((codes, own, canonical))
    if len(parts) == 1:
        codes, own, canonical = parts[0]
    else:
        codes, own, canonical = _join(parts)
    first: dict[str, str] = {}
    merged = set()
    if own != canonical:
        for spelt, text in zip(canonical, own, strict=True):
            if first.setdefault(spelt, text) != text:
                merged.add(spelt)
    different = {spelt: text for spelt, text in first.items() if spelt != text}
    return Spelt(_renamed(codes, canonical), different, frozenset(merged)), refused


def _renamed(codes: Categorical, canonical: Sequence[str]) -> Categorical:
    """Return the codes under other names, of which some may be equal."""
    if canonical == codes.categories.tolist() and len(set(canonical)) == len(canonical):
        return codes
    renamed = factorize(np.array(canonical, object))
    if len(renamed.categories) == len(codes.categories):
        return Categorical(renamed.categories, codes.codes)
    return Categorical(renamed.categories, renamed.codes[codes.codes])


def _rows_of(codes: Categorical, faults: dict[int, str]) -> dict[str, NDArray[np.bool_]]:
    by_reason: dict[str, NDArray[np.bool_]] = {}
    for place, reason in faults.items():
        by_reason.setdefault(reason, np.zeros(len(codes.categories), bool))[place] = True
    return {reason: places[codes.codes] for reason, places in by_reason.items()}


def _join(
    parts: Sequence[tuple[Categorical, list[str], list[str]]],
) -> tuple[Categorical, list[str], list[str]]:
    codes, own, canonical = parts[0][0].codes, *(list(map(escaped, texts)) for texts in parts[0][1:])
    for column, texts, spelt in parts[1:]:
        width = len(column.categories)
        pairs, codes = np.unique(codes * width + column.codes, return_inverse=True)
        order, codes = _in_order(codes, len(pairs))
        left, right = (places.tolist() for places in np.divmod(pairs[order], width))
        same = own == canonical and texts == spelt
        own = _pairs(own, left, texts, right)
        canonical = own if same else _pairs(canonical, left, spelt, right)
    return Categorical(np.array(own, object), codes), own, canonical


def _pairs(one: Sequence[str], left: Sequence[int], other: Sequence[str], right: Sequence[int]) -> list[str]:
    following = list(map(escaped, other))
    return [f"{one[i]}:{following[j]}" for i, j in zip(left, right, strict=True)]


def _in_order(codes: NDArray[np.int64], count: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return which of so many numbers occur, in the order in which they first come, and the codes numbered so."""
    first = np.full(count, len(codes))
    first[codes[::-1]] = np.arange(len(codes))[
        ::-1
    ]  # of several places the last one stays, which is the first
    order = np.argsort(first)[: np.count_nonzero(first < len(codes))]
    number = np.empty(count, np.int64)
    number[order] = np.arange(len(order))
    return order, number[codes]


def joined(several: Sequence[Spelt]) -> Spelt:
    """Return the identifiers of several files, one after the other."""
    if len(several) == 1:
        return several[0]
    own: dict[str, str] = {}
    merged: set[str] = set()
    for spelt in several:
        merged |= spelt.merged
        for name in spelt.codes.categories.tolist():
            text = spelt.own.get(name, name)
            if own.setdefault(name, text) != text:
                merged.add(name)
    different = {name: text for name, text in own.items() if name != text}
    number = {name: i for i, name in enumerate(own)}
    codes = np.concatenate(
        [
            np.array([*(number[name] for name in one.codes.categories.tolist()), -1], np.int64)[
                one.codes.codes
            ]
            for one in several
        ]
    )
    return Spelt(Categorical(np.array(list(own), object), codes), different, frozenset(merged))


def warnings(
    field: str, spelt: Spelt, rule: Rule, *, whole_numbers: bool, repeated: bool = False
) -> list[str]:
    """Return what looks wrong with identifiers and may be right.

    Args:
      field: what the identifiers are.
      whole_numbers: the column's type is one of whole numbers.
      repeated: few of them stand for many rows, as the schema says.
    """
    names = spelt.codes.categories.tolist()
    there = spelt.codes.codes[spelt.codes.codes >= 0]
    rows = len(there)
    most = int(np.bincount(there, minlength=1).max())
    found = []
    if rule.name in ("exact", "folded"):
        sample = [spelt.own.get(name, name) for name in names[:_SAMPLE]]
        ibans = sum(map(looks_like_iban, sample))
        if ibans:
            found.append(
                f"{ibans} of the first {len(sample)} different ones are IBANs, whose check digits the rule {rule.name} "
                'does not check; agree on identifiers = "iban" in the job\'s [data]'
            )
        marked = sum(1 for name in names if spelt.own.get(name, name).startswith("'"))
        if marked:
            found.append(
                f"{marked} of {len(names)} different ones begin with an apostrophe, as a spreadsheet marks text, and "
                "meet nobody else's without it; export the column as text"
            )
        for pattern, what in ((_DATE, "dates"), (_DECIMAL, "decimal numbers")):
            like = sum(1 for name in sample if pattern.fullmatch(name))
            if 2 * like > len(sample):
                found.append(f"most of them look like {what}; see that the right column is mapped")
    if rule.name == "exact":
        found += _alike_warnings(names[:_NUMBER_SAMPLE], rule)
    if rule.name in ("exact", "folded", "digits"):
        found += _number_warnings(names[:_NUMBER_SAMPLE], whole_numbers=whole_numbers)
    often = (len(names) >= _MANY and 5 * most > rows) or (most >= _OFTEN and 2 * most > rows)
    if often and not repeated:
        found.append(f"one of them stands in {most} of {rows} rows; see that it is no placeholder")
    return [f"{field}: {text}" for text in found]


def _alike_warnings(names: Sequence[str], rule: Rule) -> list[str]:
    folded, refused = Rule("folded", rule.real).spell(names)
    alike = len(names) - len(refused) - len({name for name in folded if name})
    if not alike:
        return []
    like = f"{alike} of the first {len(names)} different ones are like another but for case, width or spaces"
    return [f'{like}; mend them, or agree on identifiers = "folded" in the job\'s [data]']


def _number_warnings(names: Sequence[str], *, whole_numbers: bool) -> list[str]:
    numbers = [name for name in names if name.isascii() and name.isdigit()]
    long = [name for name in numbers if len(name) > _EXCEL_DIGITS and name[0] != "0"]
    found = []
    if len(long) >= 3 and not any(name[_EXCEL_DIGITS:].strip("0") for name in long):
        found.append(
            f"all {len(long)} numbers of more than {_EXCEL_DIGITS} digits end in zeros, as a spreadsheet leaves them "
            "when it has lost the last digits; export the column as text"
        )
    lengths = Counter(map(len, numbers))
    longest = max(lengths, default=0)
    if whole_numbers:
        found.append("they are whole numbers, in which leading zeros are lost if there were any")
    elif (
        len(numbers) >= 100
        and len(numbers) == len(names)
        and longest >= 6
        and not any(name[0] == "0" for name in numbers)
        # Of random digits, a tenth begins with a zero, and a tenth of those with two.
        and 0.03 <= 1 - lengths[longest] / len(numbers) <= 0.2
        and lengths[longest - 1] >= 0.7 * (len(numbers) - lengths[longest])
    ):
        found.append(
            f"they are numbers of {longest} digits, of which about a tenth is shorter and none begins with a zero; "
            "leading zeros may be lost, so export the column as text"
        )
    return found
