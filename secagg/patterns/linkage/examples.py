"""Example data of the patterns of linkage: people of a clinic and a registry, some of them at both, spelt differently."""

from __future__ import annotations

import datetime
from typing import Any, Final

import numpy as np

from secagg.patterns.example import Example, FileTable

_GIVEN: Final = (
    "Anna",
    "Hanna",
    "Johanna",
    "Maria",
    "Marie",
    "Karl",
    "Lukas",
    "Peter",
    "Petra",
    "Zoë",
    "Jörg",
    "René",
)
_FAMILY: Final = (
    "Maier",
    "Meyer",
    "Huber",
    "Bauer",
    "Gruber",
    "Schmid",
    "Schmitt",
    "Weiß",
    "Łukasz",
    "Østergård",
    "Novak",
)
_COMMON: Final = 14
_ALONE: Final = 16
_PLANTED: Final = ("Hildegard", "Wollschläger", datetime.date(1961, 3, 9))


def misspelt(name: str, rng: np.random.Generator) -> str:
    """Return a name with one letter left out, doubled or replaced, or two exchanged."""
    at = int(rng.integers(1, max(2, len(name) - 1)))
    match int(rng.integers(4)):
        case 0:
            return name[:at] + name[at + 1 :]
        case 1:
            return name[:at] + name[at] + name[at:]
        case 2:
            return name[:at] + "aeinrst"[int(rng.integers(7))] + name[at + 1 :]
        case _:
            return name[: at - 1] + name[at : at + 1] + name[at - 1] + name[at + 1 :]


def people(seed: int, common: int, alone: int) -> dict[str, list[tuple[str, str, str, datetime.date]]]:
    """Return two lists of people: identifier, given and family name, birth date; the first `common` of each are the same.

    At the registry one in three is misspelt, one in six has the names exchanged, and one in ten another day of birth.
    """
    rng = np.random.default_rng(seed)

    def person() -> tuple[str, str, datetime.date]:
        born = datetime.date(1940, 1, 1) + datetime.timedelta(days=int(rng.integers(25_000)))
        return str(rng.choice(_GIVEN)), str(rng.choice(_FAMILY)), born

    both = [person() for _ in range(common)]
    clinic = [*both, *(person() for _ in range(alone))]
    registry = []
    for given, family, born in both:
        if rng.random() < 1 / 3:
            family = misspelt(family, rng)
        if rng.random() < 1 / 6:
            given, family = family, given
        if rng.random() < 1 / 10:
            born = born.replace(day=1 + born.day % 28)
        registry.append((given, family, born))
    registry += [person() for _ in range(alone)]
    return {
        "clinic": [(f"C{i:03}", *row) for i, row in enumerate(clinic)],
        "registry": [(f"R{i:03}", *row) for i, row in enumerate(registry)],
    }


def _table(rows: list[tuple[str, str, str, datetime.date]]) -> FileTable:
    columns: tuple[list[Any], ...] = tuple(map(list, zip(*rows, strict=True)))
    return dict(zip(("person", "given_name", "family_name", "born"), columns, strict=True))


def _example(seed: int, story: str, planted: list[tuple[Any, ...]]) -> Example:
    lists = people(seed, _COMMON, _ALONE)
    given, family, born = _PLANTED
    lists["clinic"].append(("C-planted", given, family, born))
    lists["registry"].append(("R-planted", "Wolschlaeger", given, born))
    return Example(
        story,
        {name: {"people": _table(rows)} for name, rows in lists.items()},
        {"blocks": 1, "block_size": 40, "block_on": [], "threshold_percent": 70},
        planted,
        roles={"computing": ["clinic", "registry", "office"]},
    )


def record_linkage(seed: int) -> Example:
    """Return two lists with some people in common, one of them misspelt with names exchanged."""
    story = (
        f"{_COMMON + 1} people are at both; one, C-planted and R-planted, is misspelt with names exchanged."
    )
    return _example(seed, story, [("C-planted",), ("R-planted",)])


def linkage_count(seed: int) -> Example:
    """Return the same lists; only how many are in common is told."""
    story = f"{_COMMON + 1} people are at both, some of them misspelt, some with names exchanged."
    return _example(seed, story, [])
