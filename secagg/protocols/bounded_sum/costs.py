"""What a bounded sum costs."""

from __future__ import annotations

from collections.abc import Sequence

from secagg.cost.operation import Cost
from secagg.mpc.three.costs import COMPUTING, COSTS, computing_cost, same_cost
from secagg.party import PartyId
from secagg.prg import KEY_BYTES
from secagg.protocols.bounded_sum.check import violations_cost
from secagg.protocols.bounded_sum.terms import Terms


def cost(me: PartyId, *, terms: Terms, roster: Sequence[PartyId], n_uploads: int | None = None) -> Cost:
    """Return what a bounded sum costs one party, exactly, if enough uploads are within bounds.

    Args:
      roster: everybody, in the order of the run.
      n_uploads: how many clients upload (this one, if it is a client); by default all.

    Rounds are exact for one batch, if all aggregators or a party outside are result parties. A further batch may begin
    before the slowest aggregator has ended the one before. Digests and contributions to keys travel in message headers
    and do not count as payload.
    """
    bounds, n = terms.bounds, len(terms.roles.clients)
    n_uploads = n if n_uploads is None else n_uploads
    vector = bounds.columns * bounds.ring.dtype.itemsize
    outside = [peer for peer in terms.roles.results if peer not in terms.roles.aggregators]
    steps = [computing_cost(2, (2 * n, 2 * n, 0))]  # who is there, digests
    for start in range(0, n_uploads, terms.rows_at_once):
        m = min(terms.rows_at_once, n_uploads - start)
        steps.append(computing_cost(1, (2 * KEY_BYTES * m, m * vector, 0)))
        steps.append(violations_cost(m, bounds))
        steps.append(COSTS.open(8 * -(-m // 64)))
    to = [i for i, peer in enumerate(terms.roles.aggregators) if peer in terms.roles.results]
    steps.append(COSTS.open(vector, to, outside=[list(roster).index(peer) for peer in outside]))
    verdicts = n * len(outside)
    whole = same_cost(1, verdicts).then(*steps)
    if me in terms.roles.aggregators:
        return Cost.of(me, whole.rounds, whole.payload_bytes[COMPUTING[terms.roles.aggregators.index(me)]])
    return Cost.of(me, whole.rounds, vector + 2 * KEY_BYTES if me in terms.roles.numbers else 0)
