"""Encrypted sums under an RLWE key that all n key holders make and use together: no dealer, no trusted aggregator.

`agree_key`, once for a key:

  commit    every key holder sends the others a signed commitment to its part of the public key
  open      its part
  confirm   its signature of all parts, also to clients, aggregator and result parties, with the key from the first

`take_part`, once a round:

  upload    every client encrypts, signs, and sends both to the aggregator
  relay     the aggregator checks each upload, adds it up, and passes half of it on to every key holder as it comes
  vote      every key holder checks signatures, computes its own sum, and sends the others a digest of what is in it
  answer    if all votes agree, it enters the release in its decryption log and sends its partial decryption to the
            result parties, which have the other half of the sum from the aggregator
  result    each result party adds these up

Threat model: all key holders but one, the aggregator and the result parties may pool what they see and do what
they like. They learn no more than the sum over at least `min_clients` registered clients. Nobody checks which of
these clients are honest. Two things are not enforced. **Clients encrypt honestly**: `secagg.he.rlwe.uploads` says what a
dishonest one can do, and why keys for each round confine it. **Key holders make their parts of the key as told**: one
that does not can also learn the sum of the clients' encryption randomness (`secagg.he.rlwe.key_generation`). Everybody
can spoil the result, and an aggregator can leave clients out. Channels are authenticated and encrypted.

Learns: result parties, the sum and who contributed. Key holders and aggregator, who contributed.

Cost: 4 rounds for a key and 4 for a sum. In a sum each client uploads one ciphertext, and the aggregator sends each key
holder half of every upload. `cost` is exact.

Longer than most modules: what each role sends is read beside what the others check of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from numpy.typing import ArrayLike, NDArray

from secagg import fixed_point
from secagg.cost.operation import Cost
from secagg.errors import RangeError, RemoteProtocolError, TooFewPartiesError, UsageError
from secagg.he.rlwe import key_generation, uploads
from secagg.he.rlwe.decryption_log import DecryptionLog
from secagg.he.rlwe.flooding import ReleasePlan
from secagg.he.rlwe.key_generation import Commitment, Confirmation, KeyHolder, Opening
from secagg.he.rlwe.keys import PublicKey, PublicKeyMessage
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.rlwe.threshold import KeyShare, PartialDecryption, combine
from secagg.he.rlwe.uploads import Collector, HalfUpload, Round, Tally, Upload, Vote, sign_upload
from secagg.he.scheme import Header, HeaderFields
from secagg.party import Party, PartyId
from secagg.protocols.he_sum.terms import EncryptedSum, Terms
from secagg.protocols.he_sum.uploads import collect
from secagg.wire import Message


class Relayed(Message, frozen=True):
    """Relay, aggregator -> key holder: half of one client's upload, or None when there are no more."""

    upload: HalfUpload | None


class OtherHalf(Message, frozen=True):
    """Answer, aggregator -> result party: the sum of c0, and name and ciphertext digest of each client in it."""

    digests: tuple[tuple[str, bytes], ...]
    words: tuple[NDArray[np.unsignedinteger[Any]], ...]


@dataclass(frozen=True, slots=True)
class Identities:
    """Who signs with what; the same at all parties, and registered with each other before.

    Args:
      clients, key_holders: names and public keys, as in the terms.
    """

    clients: Mapping[PartyId, Ed25519PublicKey]
    key_holders: Mapping[PartyId, Ed25519PublicKey]


async def agree_key(
    party: Party,
    *,
    terms: Terms,
    release_plan: ReleasePlan,
    identities: Identities,
    identity: Ed25519PrivateKey | None = None,
    log: DecryptionLog | None = None,
) -> KeyShare | PublicKey:
    """Return a share of a new key at key holders, and the public key at all others.

    Args:
      terms: who takes part; the same at all parties.
      release_plan: what the key is for (`secagg.he.rlwe.flooding.plan_release`); the same at all parties.
      identities: the same at all parties.
      identity: at a key holder its own signing key.
      log: at a key holder its decryption log, into which the key is entered.

    Raises:
      UsageError: what is given does not fit this party.
      RemoteProtocolError: a peer sent what the protocol forbids.
      AuthenticationError: a signature that is not its owner's.
      PeerMissingError: a key holder is missing.
    """
    # A session may make several keys: each has terms of its own by the round it is first for.
    session = party.session + terms.round.to_bytes(8, "big")
    agreed = key_generation.Terms(
        session, release_plan, _only(terms.roles.key_holders, identities.key_holders)
    )
    with party.phase("keys"):
        if party.me in terms.roles.key_holders:
            if identity is None or log is None:
                raise UsageError("a key holder needs its signing key and its decryption log")
            return await _make_key(party, terms, agreed, identity, log)
        first = terms.roles.key_holders[0]
        message = await party.receive(PublicKeyMessage, first, max_bytes=_polynomials_bytes(release_plan, 1))
        public_key = PublicKey.from_message(message, peer=first)
        confirmations = await party.gather(Confirmation, terms.roles.key_holders)
        try:
            key_generation.check_key(agreed, public_key, confirmations)
        except UsageError as error:
            raise RemoteProtocolError(f"the key from {first}: {error}", peer=first) from None
        return public_key


async def _make_key(
    party: Party,
    terms: Terms,
    agreed: key_generation.Terms,
    identity: Ed25519PrivateKey,
    log: DecryptionLog,
) -> KeyShare:
    others = [holder for holder in terms.roles.key_holders if holder != party.me]
    holder = KeyHolder(party.me, agreed, identity, rng=party.rng)
    commitment = holder.commit()
    for peer in others:
        party.send(peer, commitment)
    opening = holder.open(await party.gather(Commitment, others))
    for peer in others:
        party.send(peer, opening)
    max_bytes = _polynomials_bytes(agreed.release_plan, 1)
    confirmation = holder.confirm(await party.gather(Opening, others, max_bytes=max_bytes))
    for peer in others:
        party.send(peer, confirmation)
    share = holder.finish(await party.gather(Confirmation, others), log)
    for peer in _users(terms):
        if party.me == terms.roles.key_holders[0]:
            party.send(peer, share.public_key.to_message())
        party.send(peer, confirmation)
    return share


async def take_part(
    party: Party,
    x: ArrayLike | None = None,
    *,
    terms: Terms,
    release_plan: ReleasePlan,
    identities: Identities,
    key: KeyShare | PublicKey,
    identity: Ed25519PrivateKey | None = None,
    log: DecryptionLog | None = None,
    executor: Executor | None = None,
) -> EncryptedSum | None:
    """Return the sum of the clients' arrays at the result parties, None elsewhere.

    Args:
      x: at a client its array, numbers within +-clip, of `terms.shape`; None elsewhere.
      terms: the same at all parties; `round` has not been summed under this key before.
      release_plan, identities: as given to `agree_key`.
      key: what `agree_key` returned at this party.
      identity: at clients and key holders, the own signing key.
      log: at key holders, their own decryption log.
      executor: threads for this party's heavy work.

    Raises:
      UsageError: what is given does not fit this party, or the log refuses the release.
      RangeError, ShapeError, PlanError: the array or the plan cannot be encrypted.
      RemoteProtocolError: a peer sent what the protocol forbids.
      AuthenticationError: a signature that is not its owner's.
      TooFewPartiesError: fewer clients than needed uploaded.
      PeerMissingError: the aggregator or a key holder is missing.
    """
    terms.enter(party, x)
    public_key = key.public_key if isinstance(key, KeyShare) else key
    if isinstance(key, KeyShare) != (party.me in terms.roles.key_holders):
        raise UsageError("expected a key share at the key holders and the public key elsewhere")
    if x is not None and identity is None:
        raise UsageError("a client needs its signing key")
    if isinstance(key, KeyShare) and (identity is None or log is None):
        raise UsageError("a key holder needs its signing key and its decryption log")
    round_ = Round(
        party.session,
        terms.round,
        public_key,
        release_plan,
        terms.shape,
        _only(terms.roles.clients, identities.clients),
        _only(terms.roles.key_holders, identities.key_holders),
        terms.min_clients,
    )
    if round_.release_plan.plan != terms.plan:
        raise UsageError(f"the key was made for {round_.release_plan.plan}, not for {terms.plan}")
    upload = None
    with party.phase("upload"):
        if x is not None and identity is not None:
            encoded = fixed_point.encode(x, terms.plan).values
            own = public_key.encrypt_encoded(encoded, terms.plan, rng=party.rng, executor=executor)
            upload = sign_upload(round_, party.me, own, identity)
            if party.me != terms.aggregator:
                party.send(terms.aggregator, upload)
    half: tuple[uploads.Outcome, Polynomials] | None = None
    with party.phase("relay"):
        tally = None
        if party.me == terms.aggregator:
            half = await _collect(party, terms, round_, upload)
        elif isinstance(key, KeyShare):
            tally = await _tally(party, terms, round_)
    answers: dict[PartyId, PartialDecryption] = {}
    if tally is not None and isinstance(key, KeyShare) and identity is not None and log is not None:
        with party.phase("vote"):
            votes = await _vote(party, terms, tally, identity)
        with party.phase("answer"):
            answers[party.me] = key.partial_decrypt(tally, votes, log, executor=executor)
            for peer in terms.roles.results:
                if peer != party.me:
                    party.send(peer, answers[party.me])
    with party.phase("result"):
        if party.me not in terms.roles.results:
            return None
        half_bytes = _polynomials_bytes(release_plan, round_.blocks)
        if half is None:
            max_bytes = terms.names_bytes + half_bytes
            message = await party.receive(OtherHalf, terms.aggregator, max_bytes=max_bytes)
            half = _read_half(message, terms, round_)
        others = [holder for holder in terms.roles.key_holders if holder != party.me]
        answers |= await party.gather(PartialDecryption, others, max_bytes=half_bytes)
        if party.me != terms.aggregator:
            _check_announced(half[0], answers, peer=terms.aggregator)
        return _combine(terms, public_key, *half, answers)


def _only(
    names: tuple[PartyId, ...], identities: Mapping[PartyId, Ed25519PublicKey]
) -> dict[PartyId, Ed25519PublicKey]:
    if missing := [name for name in names if name not in identities]:
        raise UsageError(
            f"expected the identities of {', '.join(names)}; those of {', '.join(missing)} are missing"
        )
    return {name: identities[name] for name in names}


def _polynomials_bytes(release_plan: ReleasePlan, blocks: int) -> int:
    """Return how many bytes so many polynomials take in a message."""
    return blocks * release_plan.parameters.degree * release_plan.parameters.coefficient_bytes


def _users(terms: Terms) -> list[PartyId]:
    """Return who needs the key and makes none of it."""
    return sorted(
        {*terms.roles.clients, terms.aggregator, *terms.roles.results} - set(terms.roles.key_holders)
    )


async def _collect(
    party: Party, terms: Terms, round_: Round, own: Upload | None
) -> tuple[uploads.Outcome, Polynomials]:
    """Add up and relay uploads; return what is in the sum, and its c0."""
    collector = Collector(round_)

    def add(client: PartyId, upload: Upload) -> None:
        _check_weight(upload.ciphertext.header, client)
        half = Relayed(collector.add(client, upload))
        for holder in terms.roles.key_holders:
            party.send(holder, half)

    if own is not None:
        add(party.me, own)
    max_bytes = 2 * _polynomials_bytes(round_.release_plan, round_.blocks)
    await collect(party, terms, Upload, add, own=own is not None, max_bytes=max_bytes)
    for holder in terms.roles.key_holders:
        party.send(holder, Relayed(None))
    outcome, c0 = collector.close(), collector.total.c0
    for peer in terms.roles.results:
        if peer != party.me:
            party.send(peer, OtherHalf(outcome.digests, c0.words))
    return outcome, c0


async def _tally(party: Party, terms: Terms, round_: Round) -> Tally:
    """Return this key holder's own sum of what the aggregator relays."""
    tally, aggregator = Tally(round_), terms.aggregator
    max_bytes = _polynomials_bytes(round_.release_plan, round_.blocks)
    while (upload := (await party.receive(Relayed, aggregator, max_bytes=max_bytes)).upload) is not None:
        try:
            _check_weight(upload.header, upload.client)
            tally.add(upload)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(
                f"{aggregator} passed on an upload that it should have refused: {error}", peer=aggregator
            ) from None
    try:
        tally.close()
    except TooFewPartiesError as error:
        raise RemoteProtocolError(
            f"{aggregator} passed on too few uploads: {error}", peer=aggregator
        ) from None
    return tally


def _check_weight(header: HeaderFields, client: PartyId) -> None:
    """Refuse an upload of more weight than one: numbers are weighted before they are encoded."""
    if header.weight != 1:
        raise RemoteProtocolError(
            f"expected an upload of weight 1 from {client!r:.80}, got {header.weight}", peer=client
        )


async def _vote(party: Party, terms: Terms, tally: Tally, identity: Ed25519PrivateKey) -> dict[PartyId, Vote]:
    vote = tally.vote(identity, party.me)
    others = [holder for holder in terms.roles.key_holders if holder != party.me]
    for peer in others:
        party.send(peer, vote)
    return {party.me: vote, **await party.gather(Vote, others)}


def _read_half(message: OtherHalf, terms: Terms, round_: Round) -> tuple[uploads.Outcome, Polynomials]:
    aggregator = terms.aggregator
    key, count = round_.public_key, len(message.digests)
    try:
        header = Header(key.scheme, key.key_id, terms.plan, terms.shape, summands=count, weight=count)
        outcome = uploads.outcome(round_, header, dict(message.digests))
    except UsageError as error:
        raise RemoteProtocolError(f"the sum from {aggregator}: {error}", peer=aggregator) from None
    return outcome, Polynomials.from_words(key.parameters, message.words, round_.blocks, peer=aggregator)


def _check_announced(
    outcome: uploads.Outcome, answers: Mapping[PartyId, PartialDecryption], *, peer: PartyId
) -> None:
    """Refuse an aggregator's list that all key holders contradict: one of them at least is honest."""
    if {answer.transcript for answer in answers.values()}.isdisjoint({outcome.transcript}):
        raise RemoteProtocolError(
            f"the key holders decrypted another sum than {peer} announced; compare whose uploads reached each",
            peer=peer,
        )


def _combine(
    terms: Terms,
    public_key: PublicKey,
    outcome: uploads.Outcome,
    c0: Polynomials,
    answers: Mapping[PartyId, PartialDecryption],
) -> EncryptedSum:
    try:
        encoded = combine(outcome, c0, public_key, answers)
    except RangeError as error:
        raise RemoteProtocolError(
            f"what {terms.aggregator} and the key holders sent is no sum of {len(outcome.digests)} arrays: {error}"
        ) from None
    weight = outcome.header.weight
    values = fixed_point.decode(encoded, terms.plan, summands=weight)
    uploaded = dict(outcome.digests)
    contributors = tuple(client for client in terms.roles.clients if client in uploaded)
    bound = terms.plan.error(summands=weight)
    dropped = terms.roles.without(contributors)
    return EncryptedSum(values, contributors, dropped, error=bound, encoded=encoded)


def key_cost(me: PartyId, *, terms: Terms, release_plan: ReleasePlan) -> Cost:
    """Return what `agree_key` costs one party."""
    polynomial, users = _polynomials_bytes(release_plan, 1), len(_users(terms))
    if me not in terms.roles.key_holders:
        return Cost.of(me, 4 if me in _users(terms) else 0, 0, 0)
    others, first = len(terms.roles.key_holders) - 1, me == terms.roles.key_holders[0]
    return Cost.of(me, 3, polynomial * (others + users * first), 3 * others + users * (1 + first))


def cost(me: PartyId, *, terms: Terms, release_plan: ReleasePlan, n_uploads: int | None = None) -> Cost:
    """Return what `take_part` costs one party.

    Args:
      n_uploads: how many clients upload (this one, if it is a client); by default all.
    """
    n_uploads = len(terms.roles.clients) if n_uploads is None else n_uploads
    p, holders = release_plan.parameters, len(terms.roles.key_holders)
    half = _polynomials_bytes(release_plan, p.blocks(math.prod(terms.shape)))
    rounds = messages = payload = 0
    if me in terms.roles.numbers and me != terms.aggregator:
        messages, payload = 1, 2 * half
    if me == terms.aggregator:
        told = len(set(terms.roles.results) - {me})
        messages += holders * (n_uploads + 1) + told
        payload += half * (holders * n_uploads + told)
        rounds = 1
    if me in terms.roles.key_holders:
        told = len(set(terms.roles.results) - {me})
        messages += holders - 1 + told
        payload += half * told
        rounds = 3
    if me in terms.roles.results:
        rounds = 4
    return Cost.of(me, rounds, payload, messages)
