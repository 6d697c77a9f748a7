"""Sorting in secret, and permutations.

Modules, each of which stands on those before it:

  keys            what columns may be sorted by, and the numbers that they make
  comparisons     of shuffled rows, opened
  quicksort       the order of rows by them; `expectation` says how many there are
  permutations    in secret: applied to columns, and inverted
  radix           ranks by counting digits
  methods         `sort`, and which of the two costs less

Nothing here knows how many parties compute.
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["Key", "Method", "cheapest", "invert", "place", "sort", "sort_cost", "take"]

if TYPE_CHECKING:
    from secagg.mpc.sorting.keys import Key
    from secagg.mpc.sorting.methods import Method, cheapest, sort, sort_cost
    from secagg.mpc.sorting.permutations import invert, place, take
else:
    __getattr__, __dir__ = face(
        "secagg.mpc.sorting",
        {
            "secagg.mpc.sorting.keys": "Key",
            "secagg.mpc.sorting.methods": "Method cheapest sort sort_cost",
            "secagg.mpc.sorting.permutations": "invert place take",
        },
    )
