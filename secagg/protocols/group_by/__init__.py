"""Groups that no organisation sees alone: join by key, add up, test, and tell each data owner about its own rows.

Every input party holds rows (identifier, fields), each identifier once. Rows with the same identifier form a
group; a group is flagged if every field's sum passes its test. Each input party learns, for the rows that it put in,
whether the group is flagged. If it is, the party learns the sums of the fields that are declared open.

After [HEK12] (sort, compare, shuffle), on three-party replicated shares of bits [AFLNO16]:

  agree      row counts and commitments to the rows are announced and compared; the input parties draw a hash key
             and hash their identifiers
  share      rows go into public buckets by hash prefix, padded; sorted by hash; shared
  check      that each list is well-formed: sorted, within bounds, no longer than announced
  merge      the sorted lists are merged obliviously [Bat68], one after the other
  group      neighbours are tested for equality; each row gets the sums over its group
  test       sums are compared with the thresholds; sums of groups that fail are zeroed
  shuffle    the rows of each bucket are shuffled by a permutation that nobody knows
  open       which list each place came from is opened to the computing parties, then each row, to the
             party that put it in and to nobody else

Threat model: the computing parties follow the protocol; one of them may look. Input parties outside the three may do what
they like. What they put in is a list of rows with any identifiers and any values within bounds; else the run ends and
names them. They may pool what they see with that one computing party.
Deviation from [HEK12]: every list keeps its padding and every row its origin until the end. So opening the origins shows
a random arrangement of public numbers. Proofs in docs/soundness.md, sections 7 and 8.

Learns: everybody, the announced row counts, commitments to the rows, and whether the run must be repeated with a new hash
key. `Layout.log2_abort` bounds the probability of that. An input party learns of its own rows which are flagged, and of
these the open sums. A sum less its own part is what the others hold. Computing parties: one bit a list, which is zero for
a party that keeps to the protocol; nothing more. Input parties share the hash key.

Cost: see `cost`; in words, about 2 * (key bits + row bits) ANDs for each of R log R comparisons.
"""

from __future__ import annotations

from secagg.protocols.group_by.announcement import Announced, announce, announce_count, commitment
from secagg.protocols.group_by.engine import cost
from secagg.protocols.group_by.layout import Layout
from secagg.protocols.group_by.program import PHASES, find_announced, find_groups
from secagg.protocols.group_by.query import (
    Field,
    Findings,
    Query,
    Rows,
    flagged_rows,
    in_order,
    reference,
    row_limit,
)

__all__ = [
    "PHASES",
    "Announced",
    "Field",
    "Findings",
    "Layout",
    "Query",
    "Rows",
    "announce",
    "announce_count",
    "commitment",
    "cost",
    "find_announced",
    "find_groups",
    "flagged_rows",
    "in_order",
    "reference",
    "row_limit",
]


def __dir__() -> list[str]:
    return sorted(__all__)
