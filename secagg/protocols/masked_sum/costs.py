"""What a masked sum costs."""

from __future__ import annotations

from typing import NamedTuple

from secagg.cost.operation import Cost
from secagg.party import SESSION_BYTES, PartyId
from secagg.protocols.masked_sum.messages import SEALED_BYTES
from secagg.protocols.masked_sum.shamir import SHARE_BYTES
from secagg.protocols.masked_sum.terms import KEY_BYTES, Terms
from secagg.signing import DIGEST_BYTES, SIGNATURE_BYTES


class Stayed(NamedTuple):
    """Who sent keys, shares, a vector, a signature (against a malicious server) and an answer; each of those before."""

    keyed: frozenset[int]
    shared: frozenset[int]
    included: frozenset[int]
    consented: frozenset[int]
    answered: frozenset[int]


def cost(
    me: PartyId, *, terms: Terms, stayed: Stayed | None = None, session: bytes = bytes(SESSION_BYTES)
) -> Cost:
    """Return what a masked sum costs one party, exactly.

    Args:
      stayed: who stayed, where others left between rounds; by default everybody did.
      session: tells who is whose neighbour in a sparse graph, which matters only if somebody left.
    """
    where, n = terms.in_session(session), len(terms.roles.clients)
    if stayed is None:
        stayed = Stayed(*[frozenset(range(n))] * 5)
    bits = -(-n // 8)

    def near(client: int, members: frozenset[int]) -> int:
        return len(members.intersection(where.graph.neighbours(client)))

    if me == terms.server:
        neighbours = [near(i, stayed.keyed) for i in sorted(stayed.keyed)]
        payload = sum(bits + m * (2 * KEY_BYTES + SIGNATURE_BYTES) for m in neighbours)
        payload += sum(bits + near(i, stayed.shared) * SEALED_BYTES for i in stayed.shared)
        payload += bits * len(stayed.included)
        messages = len(stayed.keyed) + len(stayed.shared) + len(stayed.included)
        if terms.malicious:
            told = len(stayed.consented)
            payload += told * (bits + terms.parameters.quorum * SIGNATURE_BYTES)
            messages += told
        return Cost.of(me, 9 if terms.malicious else 7, payload, messages)
    i = where.number_of(me)
    sent = [2 * KEY_BYTES + SIGNATURE_BYTES] if i in stayed.keyed else []
    if i in stayed.shared:
        sent.append(DIGEST_BYTES + near(i, stayed.keyed) * SEALED_BYTES)
    if i in stayed.included:
        sent.append(terms.packed_bytes)
    if terms.malicious and i in stayed.consented:
        sent.append(SIGNATURE_BYTES)
    if i in stayed.answered:
        sent.append((near(i, stayed.shared) + 1) * SHARE_BYTES)
    # It reads the answer to each message but the last one of all.
    rounds = 2 * (len(sent) - (i in stayed.answered))
    return Cost.of(me, rounds, sum(sent), len(sent))
