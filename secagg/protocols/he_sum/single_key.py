"""Encrypted sums under one key holder's key: Paillier, RLWE or CKKS.

  keys      the key holder sends its public key to clients and aggregator
  upload    every client sends its encrypted array to the aggregator
  sum       the aggregator adds uploads up as they come, and sends the sum to the key holder
  result    the key holder decrypts and sends the numbers to the result parties

Threat model: semi-honest, and the aggregator and the key holder do not collude: together they see every array.
Channels are authenticated and encrypted. The key holder decrypts what the aggregator sends. An aggregator that sends one
client's ciphertext instead of the sum has that client's numbers shown to the key holder and the result parties.
`threshold_rlwe` is for those who cannot rule this out.

Clients encrypt as agreed. One that does not can falsify the sum unnoticed, and can put a multiple of another client's
ciphertext in place of its own: where sums of few clients are published, it reads that client's numbers off the
sum.

Learns: result parties and key holder, the sum and who contributed. The aggregator, who contributed; and the sum
only if it is a result party. Clients, the public key. Under CKKS only the key holder may be a result party,
because a decryption that is passed on can leak the key [LM21].

Cost: 4 rounds, one ciphertext a client and one for the sum, one public key a client; `cost` is exact.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secagg import fixed_point
from secagg.cost.operation import Cost
from secagg.errors import RangeError, RemoteProtocolError, UsageError
from secagg.he.scheme import ExactSecretKey, PublicKey, SecretKey
from secagg.party import Party, PartyId, array_bytes, check_array
from secagg.protocols.he_sum.schemes import public_key_class
from secagg.protocols.he_sum.terms import EncryptedSum, Terms
from secagg.protocols.he_sum.uploads import add_up, check_contributors, receive_sum
from secagg.wire import Message

MAX_KEY_BYTES: Final = 1 << 23  # no scheme's public key is longer


class Total(Message, frozen=True):
    """Result, key holder -> result party: the sum; float64, and for exact schemes ring elements as well."""

    contributors: tuple[str, ...]
    error: float
    values: NDArray[np.float64]
    encoded: NDArray[np.unsignedinteger[Any]] | None


async def take_part(
    party: Party,
    x: ArrayLike | None = None,
    *,
    terms: Terms,
    scheme_name: str,
    secret_key: SecretKey | None = None,
    executor: Executor | None = None,
) -> EncryptedSum | None:
    """Return the sum of the clients' arrays at the result parties, None elsewhere.

    Args:
      x: at a client its array, numbers within +-clip, of `terms.shape`; None elsewhere.
      terms: the same at all parties, with one key holder.
      scheme_name: "paillier", "rlwe" or "ckks", the same at all parties.
      secret_key: at the key holder; None elsewhere.
      executor: threads for this party's heavy work.

    Raises:
      UsageError: terms, array or key do not fit this party.
      RangeError, ShapeError, PlanError: the array or the plan cannot be encrypted.
      RemoteProtocolError: a peer sent what the protocol forbids.
      TooFewPartiesError: fewer clients than needed uploaded.
      PeerMissingError: aggregator or key holder is missing.
    """
    kind = _check(party, x, terms, scheme_name, secret_key)
    (holder,) = terms.roles.key_holders
    with party.phase("keys"):
        public_key = await _share_key(party, terms, kind, secret_key)
    own = None
    with party.phase("upload"):
        if x is not None and public_key is not None:
            own = public_key.encrypt(x, terms.plan, rng=party.rng, executor=executor)
            if party.me != terms.aggregator:
                party.send(terms.aggregator, own.to_message())
    with party.phase("sum"):
        if party.me == terms.aggregator and public_key is not None:
            await add_up(party, terms, public_key, own, [holder])
    with party.phase("result"):
        if secret_key is not None:
            result = await _decrypt(party, terms, secret_key, executor)
            for peer in terms.roles.results:
                if peer != party.me:
                    party.send(peer, Total(result.contributors, result.error, result.total, result.encoded))
            return result if party.me in terms.roles.results else None
        if party.me not in terms.roles.results:
            return None
        max_bytes = terms.names_bytes + 2 * array_bytes(terms.shape, np.dtype(np.float64))
        return _read_total(await party.receive(Total, holder, max_bytes=max_bytes), terms, peer=holder)


def _check(
    party: Party, x: ArrayLike | None, terms: Terms, scheme_name: str, secret_key: SecretKey | None
) -> type[PublicKey]:
    """Return the scheme's public keys, if what is given fits this party."""
    kind = public_key_class(scheme_name)
    terms.enter(party, x)
    if len(terms.roles.key_holders) != 1:
        raise UsageError(f"one key has one key holder, not {len(terms.roles.key_holders)}")
    if (secret_key is not None) != (party.me in terms.roles.key_holders):
        raise UsageError("expected a secret key at the key holder and nowhere else")
    if secret_key is not None and not isinstance(secret_key.public_key, kind):
        raise UsageError(f"expected a secret key of {scheme_name}, got one of {secret_key.public_key.scheme}")
    if not kind.shareable and terms.roles.results != terms.roles.key_holders:
        raise UsageError(
            f"under {scheme_name} only the key holder learns the sum: a decryption passed on can leak the key"
        )
    return kind


async def _share_key(
    party: Party, terms: Terms, kind: type[PublicKey], secret_key: SecretKey | None
) -> PublicKey | None:
    (holder,) = terms.roles.key_holders
    if secret_key is not None:
        message, users = secret_key.public_key.to_message(), {*terms.roles.clients, terms.aggregator}
        for peer in party.roster:
            if peer in users and peer != holder:
                party.send(peer, message)
        return secret_key.public_key
    if party.me not in terms.roles.numbers and party.me != terms.aggregator:
        return None
    message = await party.receive(kind.message_type, holder, max_bytes=MAX_KEY_BYTES)
    return kind.from_message(message, peer=holder)


async def _decrypt(
    party: Party, terms: Terms, secret_key: SecretKey, executor: Executor | None
) -> EncryptedSum:
    aggregator, key = terms.aggregator, secret_key.public_key
    contributors, total = await receive_sum(party, terms, key)
    dropped = terms.roles.without(contributors)
    try:
        if isinstance(secret_key, ExactSecretKey):
            encoded = secret_key.decrypt_encoded(total, executor=executor)
            values = fixed_point.decode(encoded, terms.plan, summands=total.header.weight)
            bound = terms.plan.error(summands=total.header.weight)
            return EncryptedSum(values, contributors, dropped, error=bound, encoded=encoded)
        bound = key.error_bound(total.header)
        return EncryptedSum(secret_key.decrypt(total), contributors, dropped, error=bound)
    except RangeError as error:
        raise RemoteProtocolError(
            f"the sum that {aggregator} sent does not decrypt to a sum of {len(contributors)} arrays: {error}. It sent "
            "something else, or a client did not encrypt as agreed",
            peer=aggregator,
        ) from None


def _read_total(total: Total, terms: Terms, *, peer: PartyId) -> EncryptedSum:
    contributors = check_contributors(total.contributors, terms, peer=peer)
    check_array(total.values, terms.shape, what="a sum", peer=peer)
    if total.encoded is not None:
        check_array(total.encoded, terms.shape, what="a sum", peer=peer)
        if total.encoded.dtype != terms.plan.ring.dtype:
            raise RemoteProtocolError(
                f"expected a sum in {terms.plan.ring.dtype} from {peer}, got {total.encoded.dtype}", peer=peer
            )
    dropped = terms.roles.without(contributors)
    return EncryptedSum(total.values, contributors, dropped, error=total.error, encoded=total.encoded)


def cost(me: PartyId, *, terms: Terms, public_key: PublicKey) -> Cost:
    """Return what `take_part` costs one party, whoever of the other clients drops out.

    Rounds are those with an upload that had to wait for the key, if there is a client that has.
    """
    (holder,) = terms.roles.key_holders
    key = public_key.payload_bytes
    ciphertext = public_key.ciphertext_bytes(terms.plan, terms.length)
    # The aggregator's own upload is not sent, and the key holder's does not wait.
    uploaded = 2 if set(terms.roles.clients) - {terms.aggregator, holder} else 1
    numbers = terms.length * (8 + (terms.plan.ring.dtype.itemsize if public_key.exact else 0))
    rounds = messages = payload = 0
    if me == holder:
        users = len({*terms.roles.clients, terms.aggregator} - {holder})
        told = len(set(terms.roles.results) - {holder})
        messages += users + told
        payload += users * key + told * numbers
    if me in terms.roles.numbers:
        rounds = max(rounds, int(me != holder))
        messages += int(me != terms.aggregator)
        payload += ciphertext * (me != terms.aggregator)
    if me == terms.aggregator:
        messages += 2
        payload += ciphertext
        rounds = uploaded
    if me == holder:
        rounds = uploaded + 1
    elif me in terms.roles.results:
        rounds = uploaded + 2
    return Cost.of(me, rounds, payload, messages)
