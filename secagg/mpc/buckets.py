"""Where rows go in a bit-sliced table: public buckets by hash prefix, padded so that nothing shows.

Rows are spread over B buckets by a prefix of their hashed key. How many rows of one organisation fall into a
bucket would tell something of its keys. So each of its buckets is padded to a capacity that depends on its
announced row count alone. With hashes that behave as uniform, by the Chernoff bound

  Pr[some bucket overflows] <= lists * B * exp(-n * KL(c/n || 1/B)) <= 2**-40,

n rows, capacity c, KL the divergence of two coins. An overflow ends the run with an error that tells the others one bit
about the rows. It has at most that probability over the hash key, which is drawn after the rows are fixed.

Rows of one key fall into one bucket. Where a key has at most m rows, the exponent is n / m times the divergence
(docs/soundness-shards.md); in a table each key of an organisation has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from secagg.errors import PlanError, UsageError
from secagg.mpc.bits import LANES
from secagg.mpc.merge import merge_gates

OVERFLOW_BITS: Final = 40
LARGEST_TABLE: Final = (1 << 31) - 1  # rows of all lists together
_MAX_BUCKETS: Final = 1 << 16
# ANDs that cost as much as a round: what a gigabit line carries in half a millisecond
_ROUND_GATES: Final = 500_000


@dataclass(frozen=True, slots=True)
class Buckets:
    """The public shape of a table that several lists are merged into.

    Attributes:
      counts: announced rows of each list.
      buckets: how many there are; 64 * `words`, a power of two.
      capacities: rows kept for each list in every bucket.
      block: positions that short strides of a merge work on together; divides every capacity.
    """

    counts: tuple[int, ...]
    buckets: int
    capacities: tuple[int, ...]
    block: int

    @property
    def words(self) -> int:
        """Words of a plane for one position of all buckets."""
        return self.buckets // LANES

    @property
    def prefix_bits(self) -> int:
        return self.buckets.bit_length() - 1

    @property
    def length(self) -> int:
        """Rows in each bucket, of all lists."""
        return sum(self.capacities)

    @property
    def rows(self) -> int:
        """Rows of the whole table, padding included."""
        return self.length * self.buckets

    def merges(self) -> list[tuple[int, int]]:
        """Return the lengths of the lists of each merge when they are merged one after the other."""
        return [(sum(self.capacities[:i]), self.capacities[i]) for i in range(1, len(self.capacities))]


def plan_buckets(
    counts: Sequence[int], *, key_planes: Callable[[int], int], other_planes: int, least: int = LANES
) -> Buckets:
    """Return the number of buckets that makes merging the lists cheapest.

    Args:
      counts: announced rows of each list.
      key_planes: from prefix bits to the key planes of the table; the longer the prefix, the fewer.
      other_planes: planes that move with the key.
      least: the least number of buckets; a power of two.

    Raises:
      UsageError: no list, a negative count, or more buckets than there may be.
      PlanError: more than `LARGEST_TABLE` rows.
    """
    if not counts or min(counts) < 0:
        raise UsageError(f"expected lists of 0 rows or more, got {list(counts)}")
    if sum(counts) > LARGEST_TABLE:
        raise PlanError(f"expected lists of 0 to {LARGEST_TABLE} rows in all, got {list(counts)}")
    if not LANES <= least <= _MAX_BUCKETS or least & least - 1:
        raise UsageError(
            f"expected a power of two from {LANES} to {_MAX_BUCKETS} buckets at least, got {least}"
        )
    best: tuple[int, Buckets] | None = None
    buckets = least
    while buckets <= _MAX_BUCKETS and (buckets == least or buckets <= max(counts)):
        capacities = [capacity(n, buckets, len(counts)) for n in counts]
        block = 1
        while 4 * block * block <= sum(capacities):
            block *= 2
        padded = tuple(-(-c // block) * block for c in capacities)
        plan = Buckets(tuple(counts), buckets, padded, block)
        keys = key_planes(plan.prefix_bits)
        planes = keys + other_planes
        merges = [merge_gates(lengths, planes, keys) for lengths in plan.merges()]
        cost = sum(gates * buckets + rounds * _ROUND_GATES for gates, rounds in merges)
        cost += plan.rows * 8 * planes  # roughly what grouping, testing and shuffling a row costs
        if best is None or cost < best[0]:
            best = (cost, plan)
        buckets *= 2
    if best is None:
        raise PlanError(f"no number of buckets fits lists of {list(counts)} rows")
    return best[1]


def capacity(n: int, buckets: int, lists: int, most: int = 1) -> int:
    """Return the least capacity that n rows overflow with probability at most 2**-40 over all lists.

    Args:
      buckets: among which hashes spread the rows of a list.
      lists: as many as are spread.
      most: rows of one key in a list.
    """
    enough = most * (math.log(lists * buckets) + OVERFLOW_BITS * math.log(2))
    low, high = n // buckets, max(n, 1)  # a list of no rows still has one place, so that nothing is special
    while high - low > 1:
        middle = (low + high) // 2
        if _chernoff(n, middle + 1, 1 / buckets) >= enough:
            high = middle
        else:
            low = middle
    return high


def _chernoff(n: int, k: int, p: float) -> float:
    """Return -log of the Chernoff bound on Pr[Binomial(n, p) >= k]."""
    a = k / n
    if a <= p:
        return 0.0
    if a > 1:
        return math.inf
    rest = 0.0 if a == 1 else (1 - a) * math.log((1 - a) / (1 - p))
    return n * (a * math.log(a / p) + rest)
