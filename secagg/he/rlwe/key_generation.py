"""One public key, whose secret key is the sum of shares that n key holders draw and none of them ever sees whole.

    a         a common random polynomial: AES-256-CTR under the digest of session and sorted identities
    commit    key holder i draws ternary s_i and noise e_i, b_i = -a s_i + e_i, and publishes, signed,
              c_i = H(terms, i, b_i, nonce)
    open      after all c_i have come: b_i and nonce; everybody checks all signatures and commitments
    confirm   after all openings: a signature of the transcript (all c_i, b_i, nonces) and of the key's id
    finish    after all confirmations of the same transcript: the key is sum b_i = -a sum s_i + sum e_i

Why commit: without commitments the last key holder could publish b' - (sum of the others' b_i), with b' of its own
making. The sum would be b', and this key holder alone would decrypt everything. A commitment made before any honest
key holder opens does not depend on what is opened. So the sum is an honest share, which looks uniform under RLWE, plus
something fixed before. A key holder that sends different commitments makes transcripts differ, and no honest key
holder confirms two transcripts.

Threat model: up to n - 1 key holders are malicious and pool what they have. The public key hides without proofs of
knowledge. **A part that is not of the form -a s + e** is not detected here. Such a part makes sums decrypt wrong,
which the combiner mostly finds. If its owner answers last, the owner can adapt its partial decryption so that nobody
notices. The owner then learns, besides the sum of the numbers, at most the sum of the honest clients' encryption
randomness. The honest ciphertexts are RLWE samples with that hint, which is worse for two honest clients than for
many. Shares of honest key holders stay under flooding. Only proofs that the parts are well formed would exclude this;
there are none here.

The key is that of [AJL+12] and [MTBH21], whose parties follow the protocol. The commitments are added here.

Learns: everybody, the public key. A key holder, its own share.

Cost, for n key holders and polynomials of N coefficients of w bits: 3 rounds. Each key holder sends each of the others
a commitment with a signature, an opening of N w / 8 bytes, and a signature. Clients receive the key with all
confirmations, which `check_key` verifies: an aggregator cannot give them another key.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from numpy.typing import NDArray

from secagg import signing
from secagg.errors import RemoteProtocolError, UsageError
from secagg.he.rlwe.decryption_log import DecryptionLog
from secagg.he.rlwe.flooding import ReleasePlan
from secagg.he.rlwe.keys import PublicKey, draw_secret, public_part
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.rlwe.threshold import KeyShare
from secagg.prg import Stream, system_stream
from secagg.wire import Message

NONCE_BYTES: Final = 32
_LABEL: Final = "secagg.he.rlwe.key_generation"


class Commitment(Message, frozen=True):
    """Commit, key holder -> key holders: what binds the key holder to its part of the key without showing it."""

    digest: bytes
    signature: bytes


class Opening(Message, frozen=True):
    """Open, key holder -> key holders: the part of the key, b_i, as words of one polynomial, and the nonce."""

    words: tuple[NDArray[np.unsignedinteger[Any]], ...]
    nonce: bytes


class Confirmation(Message, frozen=True):
    """Confirm, key holder -> key holders and clients: a signature of the transcript and of the public key's id."""

    transcript: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Terms:
    """What all key holders and clients agree on before a key is made.

    Attributes:
      session: identifier that no other key generation has, at least 16 bytes.
      release_plan: the ring, what it will decrypt and how often.
      holders: names and identities.

    Raises:
      UsageError: a short session, two key holders with one identity, or another number of key holders than planned.
    """

    session: bytes
    release_plan: ReleasePlan
    holders: Mapping[str, Ed25519PublicKey]

    def __post_init__(self) -> None:
        if len(self.session) < 16:
            raise UsageError(f"a session identifier has at least 16 bytes, not {len(self.session)}")
        if len({key.public_bytes_raw() for key in self.holders.values()}) != len(self.holders):
            raise UsageError("two key holders have the same identity; each needs a key of its own")
        if len(self.holders) != self.release_plan.holders or not all(self.holders):
            raise UsageError(
                f"expected the names of {self.release_plan.holders} key holders as planned, got {sorted(self.holders)}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The key holders in the order in which digests list them."""
        return tuple(sorted(self.holders))

    @property
    def digest(self) -> bytes:
        """SHA-256 of all of it."""
        r = self.release_plan
        numbers = (
            r.parameters.degree,
            r.parameters.modulus_bits,
            r.holders,
            r.releases,
            r.length,
            r.flood_bits,
            r.plan.bits,
            r.plan.frac_bits,
            r.plan.parties,
            r.plan.max_weight,
        )
        parts = [self.session, *(str(n).encode() for n in numbers), struct.pack(">d", r.plan.clip)]
        for name in self.names:
            parts += [name.encode(), self.holders[name].public_bytes_raw()]
        return signing.digest(f"{_LABEL}/terms", parts)

    @property
    def seed(self) -> bytes:
        """What the common random polynomial a expands from: nobody's choice, for it is a digest."""
        return signing.digest(f"{_LABEL}/a", [self.digest])


class KeyHolder:
    """A holder's part in making a key: `commit`, `open`, `confirm` and `finish`, each once and in this order.

    Args:
      me: this key holder's name.
      terms: as agreed.
      identity: this key holder's signing key.
      rng: where the share comes from; without it, the operating system.

    Raises:
      UsageError: the terms have another identity for this name, or none.
    """

    def __init__(
        self, me: str, terms: Terms, identity: Ed25519PrivateKey, *, rng: Stream | None = None
    ) -> None:
        known = terms.holders.get(me)
        if known is None or known.public_bytes_raw() != identity.public_key().public_bytes_raw():
            raise UsageError(f"the terms do not have {me!r:.80} with the identity given as a key holder")
        rng = system_stream() if rng is None else rng
        self._me, self._terms, self._identity = me, terms, identity
        self._parameters = parameters = terms.release_plan.parameters
        self._secret = draw_secret(parameters, rng)
        self._part = public_part(parameters, terms.seed, self._secret, rng)
        self._nonce, self._flood_seed = rng.bytes(NONCE_BYTES), rng.bytes(NONCE_BYTES)
        self._digests: dict[str, bytes] = {}
        self._public: PublicKey | None = None
        self._transcript = b""
        self._done = 0

    def __repr__(self) -> str:
        return f"<key holder {self._me}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key holder cannot be copied or pickled: it holds a secret share")

    def commit(self) -> Commitment:
        """Return the signed commitment to this key holder's part."""
        self._step(1, "commit")
        digest = commitment(self._terms, self._me, self._part, self._nonce)
        self._digests[self._me] = digest
        return Commitment(
            digest, signing.sign(self._identity, f"{_LABEL}/commitment", self._signed(self._me, digest))
        )

    def open(self, commitments: Mapping[str, Commitment]) -> Opening:
        """Return what this key holder committed to, now that all others have committed.

        Raises:
          UsageError: not every other key holder's commitment is there, or this is not the round for it.
          AuthenticationError: a commitment is not signed by its owner for these terms.
          RemoteProtocolError: two commitments are the same.
        """
        self._check_others(commitments, "commitments")
        digests = dict(self._digests)
        for name, message in commitments.items():
            if message.digest in digests.values():
                raise RemoteProtocolError(
                    f"{name} sent the commitment of another key holder; each draws its own", peer=name
                )
            digests[name] = message.digest
            signing.verify(
                self._terms.holders[name],
                message.signature,
                f"{_LABEL}/commitment",
                self._signed(name, message.digest),
                peer=name,
            )
        self._step(2, "open")
        self._digests = digests
        return Opening(self._part.words, self._nonce)

    def confirm(self, openings: Mapping[str, Opening]) -> Confirmation:
        """Return this key holder's signature of the transcript, now that all others have opened.

        Raises:
          UsageError: not every other key holder's opening is there, or this is not the round for it.
          RemoteProtocolError: an opening is not what its owner committed to, or two are the same.
        """
        self._check_others(openings, "openings")
        parts = {self._me: self._part}
        nonces = {self._me: self._nonce}
        for name, message in openings.items():
            part = Polynomials.from_words(self._parameters, message.words, 1, peer=name)
            if commitment(self._terms, name, part, message.nonce) != self._digests[name]:
                raise RemoteProtocolError(
                    f"{name} opened something else than it committed to; do not use this key", peer=name
                )
            if any(part == other for other in parts.values()):
                raise RemoteProtocolError(f"{name} opened the part of another key holder", peer=name)
            parts[name], nonces[name] = part, message.nonce
        self._step(3, "confirm")
        total = Polynomials.zeros(self._parameters, 1)
        transcript = [self._terms.digest]
        for name in self._terms.names:
            total += parts[name]
            transcript += [name.encode(), self._digests[name], parts[name].digest(), nonces[name]]
        plan = self._terms.release_plan
        self._public = PublicKey(
            self._parameters,
            self._terms.seed,
            total,
            holders=plan.holders,
            flood_bits=plan.flood_bits,
        )
        self._transcript = signing.digest(f"{_LABEL}/transcript", transcript)
        return Confirmation(
            self._transcript,
            signing.sign(
                self._identity,
                f"{_LABEL}/confirmation",
                _confirmed(self._terms, self._transcript, self._public, self._me),
            ),
        )

    def finish(self, confirmations: Mapping[str, Confirmation], log: DecryptionLog) -> KeyShare:
        """Return this key holder's share, with the public key, now that all others confirm the same transcript.

        Args:
          log: this key holder's; the key is entered there.

        Raises:
          UsageError: not every other key holder's confirmation is there, this is not the round for it, or the log
            cannot be written.
          RemoteProtocolError: a key holder saw other messages.
          AuthenticationError: a confirmation is not signed by its owner.
        """
        self._check_others(confirmations, "confirmations")
        public = self._public
        if public is None:
            raise UsageError("a key holder confirms before it finishes")
        _check_confirmations(self._terms, self._transcript, public, confirmations)
        self._step(4, "finish")
        plan = self._terms.release_plan
        log.add_key(public.key_id, releases=plan.releases, blocks=plan.blocks)
        return KeyShare(self._me, public, plan, self._secret, self._flood_seed)

    def _signed(self, name: str, digest: bytes) -> list[bytes]:
        return [self._terms.digest, name.encode(), digest]

    def _check_others(self, messages: Mapping[str, Message], what: str) -> None:
        others = set(self._terms.holders) - {self._me}
        if set(messages) != others:
            raise UsageError(f"expected {what} of {sorted(others)}, got those of {sorted(messages)}")

    def _step(self, number: int, name: str) -> None:
        if self._done != number - 1:
            raise UsageError(
                f"commit, open, confirm and finish are called once each, in this order; {name} came after "
                f"{self._done} of them"
            )
        self._done = number


def commitment(terms: Terms, name: str, part: Polynomials, nonce: bytes) -> bytes:
    """Return what binds a key holder to its part: SHA-256 of terms, name, part and nonce, which hides the part."""
    return signing.digest(f"{_LABEL}/part", [terms.digest, name.encode(), part.digest(), nonce])


def check_key(terms: Terms, public_key: PublicKey, confirmations: Mapping[str, Confirmation]) -> None:
    """Check that all key holders made this key under these terms; clients do before they encrypt.

    Raises:
      UsageError: the confirmation of a key holder is missing, or the key is not one for these terms.
      RemoteProtocolError: key holders confirmed different transcripts.
      AuthenticationError: a confirmation is not its owner's signature of this key.
    """
    if set(confirmations) != set(terms.holders):
        raise UsageError(
            f"expected confirmations of {list(terms.names)}, got those of {sorted(confirmations)}"
        )
    plan = terms.release_plan
    if (public_key.parameters, public_key.holders, public_key.flood_bits) != (
        plan.parameters,
        plan.holders,
        plan.flood_bits,
    ):
        raise UsageError(f"{public_key!r} is no key for the agreed {plan}")
    transcript = confirmations[terms.names[0]].transcript
    _check_confirmations(terms, transcript, public_key, confirmations)


def _check_confirmations(
    terms: Terms, transcript: bytes, public_key: PublicKey, confirmations: Mapping[str, Confirmation]
) -> None:
    for name, message in confirmations.items():
        if message.transcript != transcript:
            raise RemoteProtocolError(
                f"{name} confirms another transcript: some key holder sent different messages to different key holders; "
                "do not use this key",
                peer=name,
            )
        signing.verify(
            terms.holders[name],
            message.signature,
            f"{_LABEL}/confirmation",
            _confirmed(terms, transcript, public_key, name),
            peer=name,
        )


def _confirmed(terms: Terms, transcript: bytes, public_key: PublicKey, name: str) -> list[bytes]:
    return [terms.digest, transcript, public_key.key_id, name.encode()]
