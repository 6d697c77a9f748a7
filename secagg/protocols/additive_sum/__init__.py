"""Sums of clients' vectors modulo 2**k by additive sharing among two or more aggregators; clients may vanish.

  upload   a client sends one full share to one of the aggregators (its leader; they take turns) and a 32-byte seed to
           each of the others, and is done. An aggregator that is a client itself holds its own full share, so that it
           is never sent
  agree    aggregators tell each other whose parts came in time and in the right form; the set is the clients of whom
           all have theirs. They compare digests of session, terms and set
  open     every aggregator sends the sum of its shares over the set to every result party, which adds those up if all
           are over the same set

A client that is missing, late, or sent an aggregator something else than a part is left out. It cannot end the run: it
sends each part to one aggregator, and aggregators, not clients, say what the set is. (Over TCP all parties have to be
there when the run begins.) A result party cannot end the run by leaving either. Any parts of the right lengths are a
sharing of exactly one vector; how large it is nobody checks (`secagg.protocols.bounded_sum` does). Where every client is an
aggregator, as in `additive_sum`, nobody is optional: the set is everybody, and there is nothing to agree on. Whoever is
missing ends the run, as an aggregator always does.

Threat model. *Private* as long as one aggregator keeps to the protocol and its session does not come again. All other
aggregators, any clients and result parties may pool what they see and do what they like. In one call of `aggregate` an
aggregator opens at most one sum. It covers at least `min_clients` clients of whom the aggregator was told that all parts
are there. So the others learn no more than the sum of the honest clients among those. They may choose whom to leave out,
and clients of theirs count for `min_clients`. *Correct* if all aggregators keep to the protocol. One that does not can
leave clients out by denying that their parts came. It can spoil the sum by a wrong partial sum, or by a part that it claims
and does not have. Both go unnoticed. If it tells two other aggregators different sets, those find out before either opens
anything; they cannot tell which of the others lied. If it tells result parties another set than was agreed on, they find
out. Channels are authenticated and encrypted.

Learns. Result parties: the sum, and who is in it. Aggregators: whose parts came where. Clients: nothing. With fewer
than `min_clients` clients no aggregator opens anything.

Cost, n clients, m aggregators, d elements of b bits, s = ceil(d b / 8): a client sends s + 32 (m - 1) bytes in m
messages. An aggregator sends n (m - 1) to agree, and n + s to each result party. 4 rounds, 2 where every client is an
aggregator; digests travel in message headers and do not count as payload. `cost` is exact.
Memory of an aggregator: some 0.8 kB a client, and n s / m for the full shares that it got, packed as they came. They are
kept until the set is agreed on, because a client may still fall out of it. After that: two vectors.

Proof in docs/soundness.md, section 11.
"""

from __future__ import annotations

from secagg.protocols.additive_sum.program import (
    additive_sum,
    aggregate,
    contribute,
    receive,
    reference,
    take_part,
)
from secagg.protocols.additive_sum.terms import Terms, cost
from secagg.protocols.roles import Roles, SumResult

__all__ = [
    "Roles",
    "SumResult",
    "Terms",
    "additive_sum",
    "aggregate",
    "contribute",
    "cost",
    "receive",
    "reference",
    "take_part",
]


def __dir__() -> list[str]:
    return sorted(__all__)
