"""Set-up: a key for every three parties, hidden from the fourth, and MAC keys for every two.

1. Every party sends each other one 32 bytes for the pair, and 32 bytes for each of the two triples that hold both.
2. Everybody tells everybody a check value of each contribution to a triple that it made or received.
3. Everybody repeats what it heard. A contributor and a receiver whose check values differ are named: one of them lied.

The key k_m of the three parties but P_m comes from the contributions of all three, P_m's key of a pair from both. So a key
is uniform to outsiders if one of its holders draws honestly. Contributions to pairs are not compared. A party that
contributes differently at its two ends makes MACs fail, and is one of the two that are named.

Who learns what: the check value of a contribution is HKDF of it under a label of its own, and P_m too hears it.

Threat model: that of `engine`.

Cost: 3 rounds, no payload; seeds and check values travel in message headers.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from secagg.errors import CheatingError, RemoteProtocolError, UsageError
from secagg.mpc.four.broadcast import PARTIES, echo, tell
from secagg.mpc.four.vouching import Mac
from secagg.mpc.streams import Streams
from secagg.mpc.terms import check_terms, terms_of_engine
from secagg.party import Party, PartyId
from secagg.prg import KEY_BYTES, derive_key
from secagg.wire import Message

LABEL: Final = "secagg.mpc.four"


class Contribution(Message, frozen=True):
    """Round 1: what a party adds to the secret of a pair, and to those of the two triples with both in them.

    Attributes:
      triples: in the order of the parties that the triples leave out.
      terms: what the sender calls the engine; see `terms.terms_of_engine`.
    """

    pair: bytes
    triples: tuple[bytes, bytes]
    terms: bytes = b""


@enum.unique
class Purpose(enum.Enum):
    """What three parties draw from their key for; each purpose has a stream of its own."""

    INPUT = "input"
    OPEN = "open"
    PRODUCT = "product"
    CONJUNCTION = "conjunction"
    TRUNCATION = "truncation"
    COMPARISON = "comparison"
    CONVERSION = "conversion"
    SHUFFLE = "shuffle"
    SHUFFLE_ORDER = "shuffle/order"


class TripleStreams(Streams[Purpose]):
    """The streams that three parties have in common, one for each `Purpose`, and their key of evidence."""

    __slots__ = ()

    label = f"{LABEL}/triple"
    purposes = Purpose
    whose = "three parties"

    def evidence_key(self) -> bytes:
        """Return the key of the digests by which the three say what a content was; see `blame`."""
        return self._derived("evidence")


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What one party holds after set-up.

    Attributes:
      triples: for each other party P_m, the streams of the three parties but P_m.
      outgoing: for each other party, the MACs by which this one vouches to it.
      incoming: for each other party, the MACs by which it vouches to this one.
    """

    triples: dict[int, TripleStreams]
    outgoing: dict[int, Mac]
    incoming: dict[int, Mac]


def check_computing(party: Party, computing: Sequence[PartyId]) -> None:
    """Refuse anything but four distinct parties of the roster."""
    if len(computing) != PARTIES or len(set(computing)) != PARTIES or not set(computing) <= set(party.roster):
        raise UsageError(
            f"expected four distinct computing parties of {tuple(party.roster)}, got {tuple(computing)}"
        )


async def agree_keys(party: Party, computing: Sequence[PartyId], label: str) -> Keys:
    """Return the keys of one engine.

    Args:
      label: tells apart the engines of one session; equal at all four.

    Raises:
      UsageError: not four distinct parties of the roster, or this party is not among them.
      RemoteProtocolError: a contribution of a wrong length, or with other computing parties, another order or label.
      CheatingError: a party contributed differently to two others, or says so wrongly.
    """
    check_computing(party, computing)
    if party.me not in computing:
        raise UsageError(f"{party.me} is not one of the computing parties {', '.join(computing)}")
    me = list(computing).index(party.me)
    others = [j for j in range(PARTIES) if j != me]
    terms = terms_of_engine(computing, label)
    to_pair = {j: party.rng.bytes(KEY_BYTES) for j in others}
    # held[m][j]: what P_j contributes to the triple without P_m
    held = {m: {me: party.rng.bytes(KEY_BYTES)} for m in others}
    for j in others:
        common = [m for m in range(PARTIES) if m not in (me, j)]
        parts = held[common[0]][me], held[common[1]][me]
        party.send(computing[j], Contribution(to_pair[j], parts, terms))
    messages = await party.gather(Contribution, [computing[j] for j in others])
    from_pair = {}
    for j in others:
        message = messages[computing[j]]
        if {len(part) for part in (message.pair, *message.triples)} != {KEY_BYTES}:
            raise RemoteProtocolError(
                f"expected contributions of {KEY_BYTES} bytes to keys from {computing[j]}", peer=computing[j]
            )
        from_pair[j] = message.pair
        for m, part in zip((m for m in range(PARTIES) if m not in (me, j)), message.triples, strict=True):
            held[m][j] = part
    named = {peer: message.terms for peer, message in messages.items()}
    check_terms(party.me, terms, named, what="the computing parties")
    context = b"".join((party.session, len(label.encode()).to_bytes(4, "big"), label.encode()))
    await _compare(party, computing, me, held, context)
    outgoing, incoming = {}, {}
    for j in others:
        low, high = (to_pair[j], from_pair[j]) if me < j else (from_pair[j], to_pair[j])
        outgoing[j] = Mac(derive_key(low + high, label=f"{LABEL}/mac", context=context + bytes([me, j])))
        incoming[j] = Mac(derive_key(low + high, label=f"{LABEL}/mac", context=context + bytes([j, me])))
    triples = {
        m: TripleStreams(b"".join(held[m][j] for j in sorted(held[m])), context + bytes([m])) for m in others
    }
    return Keys(triples, outgoing, incoming)


def _places(index: int) -> list[tuple[int, int]]:
    """Return (m, j) for each contribution that P_index holds, of P_j to the triple without P_m, in order."""
    return [(m, j) for m in range(PARTIES) if m != index for j in range(PARTIES) if j != m]


async def _compare(
    party: Party, computing: Sequence[PartyId], me: int, held: dict[int, dict[int, bytes]], context: bytes
) -> None:
    """Compare who contributed what to the keys of triples, and name who made two holders differ."""
    mine = b"".join(
        derive_key(held[m][j], label=f"{LABEL}/check", context=context + bytes([m, j]))
        for m, j in _places(me)
    )
    agreement = await echo(party, computing, await tell(party, computing, mine))
    checks: list[dict[tuple[int, int], bytes]] = []
    for index, said in enumerate(agreement.values):
        places = _places(index)
        if said is None or len(said) != KEY_BYTES * len(places):
            raise CheatingError.naming([computing[index]], "it did not say which keys it was given")
        cut = [said[KEY_BYTES * i : KEY_BYTES * (i + 1)] for i in range(len(places))]
        checks.append(dict(zip(places, cut, strict=True)))
    for m in range(PARTIES):
        for j in range(PARTIES):
            for holder in range(PARTIES):
                if m not in (j, holder) and checks[j][m, j] != checks[holder][m, j]:
                    raise CheatingError.naming(
                        [computing[j], computing[holder]],
                        "they differ on a contribution to a key",
                    )
    if agreement.dissent:
        raise CheatingError.naming(
            [computing[j] for j in agreement.dissent], "they differ on what one told the other"
        )
