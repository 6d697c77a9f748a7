"""Encrypted sums under a Paillier key that t of n key holders share.

  upload    every client sends its encrypted array to the aggregator
  sum       the aggregator adds uploads up as they come, and sends the sum to key holders and result parties
  answer    every key holder sends its decryption share, with a proof, to the result parties
  result    each result party checks the proofs and combines t right shares; wrong ones are named

The key was dealt before (`secagg.he.paillier.threshold`), by a dealer who knew all of it and whom all trust to have
forgotten it. Key holder number i of the terms has the share of party i, from 1.

Threat model: up to t - 1 key holders may do what they like, and n - t of them be missing. The aggregator is semi-honest and
colludes with no result party. Key holders decrypt what it sends, so one that sends a single client's ciphertext has that
shown to the result parties. `threshold_rlwe` is for those who cannot rule this out. Clients may be missing, and encrypt as
agreed (`single_key` says what one that does not can do). Channels are authenticated and encrypted.

Learns: result parties, the sum, who contributed, and who sent a wrong share. Key holders and aggregator, who
contributed.

Cost: 3 rounds; `cost` is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor

from numpy.typing import ArrayLike

from secagg import signing
from secagg.cost.operation import Cost
from secagg.errors import RangeError, RemoteProtocolError, UsageError
from secagg.he.paillier.ciphertexts import Ciphertext
from secagg.he.paillier.threshold import DecryptionShare, KeyShare, ThresholdPublicKey
from secagg.party import Party, PartyId
from secagg.protocols.he_sum.terms import EncryptedSum, Terms
from secagg.protocols.he_sum.uploads import add_up, receive_sum


async def take_part(
    party: Party,
    x: ArrayLike | None = None,
    *,
    terms: Terms,
    public_key: ThresholdPublicKey,
    key_share: KeyShare | None = None,
    executor: Executor | None = None,
) -> EncryptedSum | None:
    """Return the sum of the clients' arrays at the result parties, None elsewhere.

    Args:
      x: at a client its array, numbers within +-clip, of `terms.shape`; None elsewhere.
      terms: the same at all parties, with as many key holders as the key has shares.
      public_key: the same at all parties.
      key_share: at a key holder; None elsewhere.
      executor: threads for this party's heavy work.

    Raises:
      UsageError: terms, array or key do not fit this party.
      RangeError, ShapeError, PlanError: the array or the plan cannot be encrypted.
      RemoteProtocolError: a peer sent what the protocol forbids.
      TooFewPartiesError: fewer clients than needed uploaded, or fewer than t key holders sent right shares.
      PeerMissingError: the aggregator is missing.
    """
    _check(party, x, terms, public_key, key_share)
    own = None
    with party.phase("upload"):
        if x is not None:
            own = public_key.encrypt(x, terms.plan, rng=party.rng, executor=executor)
            if party.me != terms.aggregator:
                party.send(terms.aggregator, own.to_message())
    with party.phase("sum"):
        if party.me == terms.aggregator:
            contributors, total = await add_up(party, terms, public_key, own, _receivers(terms))
        elif party.me in {*terms.roles.key_holders, *terms.roles.results}:
            contributors, total = await receive_sum(party, terms, public_key)
        else:
            return None
    # Bound to the sum: a share is for this key, this ciphertext, these contributors, in this session and round.
    parts = [party.session, terms.round.to_bytes(8, "big"), *(name.encode() for name in contributors)]
    context = signing.digest("secagg.protocols.he_sum.threshold_paillier", parts)
    shares: dict[int, DecryptionShare] = {}
    with party.phase("answer"):
        if key_share is not None:
            share = key_share.partial_decrypt(total, context=context, rng=party.rng, executor=executor)
            shares[key_share.party] = share
            for peer in terms.roles.results:
                if peer != party.me:
                    party.send(peer, share)
    with party.phase("result"):
        if party.me not in terms.roles.results:
            return None
        holders = [holder for holder in terms.roles.key_holders if holder != party.me]
        needed = max(0, public_key.threshold - len(shares))
        max_bytes = _residues(terms, public_key) * public_key.modulus.residue_bytes
        answers = await party.gather(DecryptionShare, holders, quorum=needed, max_bytes=max_bytes)
        numbers = {name: number for number, name in enumerate(terms.roles.key_holders, start=1)}
        shares |= {numbers[peer]: share for peer, share in answers.items()}
        return _combine(party, terms, public_key, contributors, total, shares, context, executor)


def _check(
    party: Party,
    x: ArrayLike | None,
    terms: Terms,
    public_key: ThresholdPublicKey,
    key_share: KeyShare | None,
) -> None:
    terms.enter(party, x)
    if len(terms.roles.key_holders) != public_key.parties:
        raise UsageError(
            f"expected {public_key.parties} key holders for this key, got {len(terms.roles.key_holders)}"
        )
    if (key_share is not None) != (party.me in terms.roles.key_holders):
        raise UsageError("expected a key share at the key holders and nowhere else")
    if key_share is not None:
        number = terms.roles.key_holders.index(party.me) + 1
        if key_share.party != number or key_share.public_key.key_id != public_key.key_id:
            raise UsageError(f"expected share {number} of {public_key!r} at {party.me}, got {key_share!r}")
    # Whoever waits for key holders waits for t of them.
    party.optional |= frozenset(terms.roles.key_holders) - {terms.aggregator, *terms.roles.results}


def _residues(terms: Terms, public_key: ThresholdPublicKey) -> int:
    """Return in how many residues a sum lies."""
    return -(-terms.length // public_key.numbers_together(terms.plan))


def _receivers(terms: Terms) -> list[PartyId]:
    return sorted({*terms.roles.key_holders, *terms.roles.results} - {terms.aggregator})


def _combine(
    party: Party,
    terms: Terms,
    public_key: ThresholdPublicKey,
    contributors: tuple[PartyId, ...],
    total: Ciphertext,
    shares: Mapping[int, DecryptionShare],
    context: bytes,
    executor: Executor | None,
) -> EncryptedSum:
    peers = dict(enumerate(terms.roles.key_holders, start=1))
    try:
        combined = public_key.combine(total, shares, context=context, peers=peers, executor=executor)
    except RangeError as error:
        raise RemoteProtocolError(
            f"the sum that {terms.aggregator} sent is none of {len(contributors)} arrays: {error}. It sent something else, "
            "or a client did not encrypt as agreed",
            peer=terms.aggregator,
        ) from None
    for number, reason in combined.refused.items():
        party.fail(peers[number], reason)
    bound = terms.plan.error(summands=total.header.weight)
    dropped = terms.roles.without(contributors)
    return EncryptedSum(combined.values, contributors, dropped, error=bound, encoded=combined.encoded)


def cost(me: PartyId, *, terms: Terms, public_key: ThresholdPublicKey) -> Cost:
    """Return what `take_part` costs one party, whoever of the other clients and key holders drops out."""
    residues = _residues(terms, public_key)
    ciphertext = public_key.ciphertext_bytes(terms.plan, terms.length)
    rounds = messages = payload = 0
    if me in terms.roles.numbers and me != terms.aggregator:
        messages, payload = 1, ciphertext
    if me == terms.aggregator:
        receivers = len(_receivers(terms))
        rounds, messages, payload = 1, messages + 2 * receivers, payload + ciphertext * receivers
    if me in terms.roles.key_holders:
        told = len(set(terms.roles.results) - {me})
        rounds, messages, payload = (
            2,
            messages + told,
            payload + residues * public_key.modulus.residue_bytes * told,
        )
    if me in terms.roles.results:
        rounds = 3
    return Cost.of(me, rounds, payload, messages)
