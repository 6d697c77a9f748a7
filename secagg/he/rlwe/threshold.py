"""Decryption by n key holders of shares s_i of one secret, all of whom are needed.

    key holder i    d_i = c1 s_i + E_i      c1 its own sum of uploads, E_i flooding (`uploads`, `flooding`)
    combiner        c0 + d_1 + ... + d_n = m 2^shift + v + E_1 + ... + E_n, rounded

A key holder answers under three conditions. All key holders have voted for the same set of uploads. The set has at
least `min_clients`. The decryption log has this round for this set and no other (`decryption_log`), on disk
before anything is computed. E_i is expanded from a secret seed, the transcript and the position. The same release
gives the same bytes again, so a resend gives nothing away. Another transcript has independent noise.

Threat model: n - 1 key holders and the aggregator are malicious. Clients encrypt honestly (`uploads` says what happens
if not). All parts of the key were made as told (`key_generation` says what happens if not). Answers then tell the sum
of the numbers, and beyond that at most what the statistical distance in the release plan allows. All key holders are
needed. A missing one, or one that sends anything else, spoils the result and nothing more. The combiner refuses
coefficients further than V + n 2^F from encoded numbers. F is as large as possible, so that distance is between half
and all of the way to the next encoded number. A fault in one coefficient passes as often; a fault that spreads over a
block never passes. A key holder that adds multiples of 2^shift shifts the result unnoticed. **Who spoilt a result
cannot be told**: nobody can check d_i without s_i.

Learns: the combiner, whoever it is, and all who see the c0 sum and all d_i: the sum.

Cost: one product and, in flooding, 32 or 48 bytes of keystream a number; w / 8 bytes a number from each key holder.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RemoteProtocolError, UsageError
from secagg.he.rlwe import flooding
from secagg.he.rlwe.decryption_log import DecryptionLog, Release
from secagg.he.rlwe.flooding import ReleaseFields, ReleasePlan
from secagg.he.rlwe.keys import Opening, PublicKey, PublicKeyMessage
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.rlwe.products import Workspace, share, transform_secret
from secagg.he.rlwe.uploads import Outcome, Tally, Vote
from secagg.he.scheme import check_encoded
from secagg.prg import KEY_BYTES, Stream, derive_key
from secagg.ring import RingArray
from secagg.wire import Message

_LABEL: Final = "secagg.he.rlwe.threshold/flooding"
# How many coefficients' flooding comes from one key. To change it is to answer an old release with new noise.
_COEFFICIENTS: Final = 1 << 15


class KeyShareMessage(Message, frozen=True):
    """A key share; for `key_files` alone."""

    holder: str
    public_key: PublicKeyMessage
    release_plan: ReleaseFields
    secret: NDArray[np.int8]
    flood_seed: bytes


class PartialDecryption(Message, frozen=True):
    """Key holder -> combiner: d_i, for which transcript, and at which epoch of the key holder's decryption log."""

    transcript: bytes
    epoch: int
    words: tuple[NDArray[np.unsignedinteger[Any]], ...]


class KeyShare:
    """One key holder's share of a key; made by `key_generation.KeyHolder.finish`.

    Never shown, never pickled; `to_message` is for `key_files` and nothing else.

    Args:
      holder: whose share it is.
      public_key: of all key holders.
      release_plan: what the key was made for.
      secret: -1, 0 and 1, int8, shape (N,), in stored order.
      flood_seed: 32 secret bytes that all of this share's flooding expands from.

    Raises:
      UsageError: parts that do not go together.
    """

    __slots__ = ("_flood_seed", "_secret", "_transform", "holder", "public_key", "release_plan")

    def __init__(
        self,
        holder: str,
        public_key: PublicKey,
        release_plan: ReleasePlan,
        secret: NDArray[np.int8],
        flood_seed: bytes,
    ) -> None:
        p = public_key.parameters
        if (p, public_key.holders, public_key.flood_bits) != (
            release_plan.parameters,
            release_plan.holders,
            release_plan.flood_bits,
        ):
            raise UsageError(f"{public_key!r} was not made for {release_plan}")
        if secret.shape != (p.degree,) or secret.dtype != np.int8 or int(np.max(np.abs(secret))) > 1:
            raise UsageError(f"expected a share of {p.degree} int8 of -1, 0 and 1")
        if len(flood_seed) != KEY_BYTES:
            raise UsageError(f"expected a seed of {KEY_BYTES} bytes, got {len(flood_seed)}")
        self.holder, self.public_key, self.release_plan = holder, public_key, release_plan
        self._secret, self._flood_seed = secret.copy(), bytes(flood_seed)
        self._transform = transform_secret(secret, p)

    def __repr__(self) -> str:
        return f"<{self.holder}'s share of {self.public_key!r}, hidden>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # rich prints tracebacks with the values of locals

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key share is not pickled or copied; write it with secagg.he.key_files")

    def to_message(self) -> KeyShareMessage:
        """Return the share as a message. It is secret: see `key_files`."""
        return KeyShareMessage(
            self.holder,
            self.public_key.to_message(),
            self.release_plan.to_fields(),
            self._secret,
            self._flood_seed,
        )

    @classmethod
    def from_message(cls, message: KeyShareMessage) -> KeyShare:
        """Return the share that was kept.

        Raises:
          WireError, UsageError: it is not one.
        """
        return cls(
            message.holder,
            PublicKey.from_message(message.public_key),
            ReleasePlan.from_fields(message.release_plan),
            message.secret,
            message.flood_seed,
        )

    def partial_decrypt(
        self,
        tally: Tally,
        votes: Mapping[str, Vote],
        log: DecryptionLog,
        *,
        executor: Executor | None = None,
    ) -> PartialDecryption:
        """Return d_i for the sum that this key holder computed; the same bytes each time.

        Args:
          tally: closed by this key holder's vote.
          votes: of all key holders, this one's too.
          log: this key holder's.
          executor: threads to share the work; without it, the calling thread does all.

        Raises:
          UsageError: a tally under another key, a vote that is missing, or a release that the log refuses.
          TooFewPartiesError: fewer uploads than `min_clients`.
          AuthenticationError: a vote is not its owner's signature.
          RemoteProtocolError: a key holder has added up something else.
        """
        round_ = tally.round
        if (
            round_.public_key.key_id != self.public_key.key_id
            or round_.release_plan != self.release_plan
            or self.holder not in round_.holders
        ):
            raise UsageError(f"expected a tally under {self.holder}'s {self.public_key!r}, got {tally!r}")
        total, outcome = tally.agreed(votes)
        release = Release(
            self.public_key.key_id,
            round_.number,
            outcome.transcript,
            total.blocks,
            tuple(digest for _, digest in outcome.digests),
        )
        epoch = log.record(release)
        words = self._decrypt(total, outcome, executor).words
        return PartialDecryption(outcome.transcript, epoch, words)

    def _decrypt(self, c1: Polynomials, outcome: Outcome, executor: Executor | None) -> Polynomials:
        p, bits = c1.parameters, self.public_key.flood_bits
        out = Polynomials.empty(p, c1.blocks)
        step = _COEFFICIENTS // p.degree

        def run(batches: range) -> None:
            work = Workspace(p, min(step, c1.blocks))
            for start in batches:
                rows = out.rows(start, start + step)
                work.multiply(c1.rows(start, start + step), self._transform, rows)
                # One key for each batch of blocks of one transcript: no noise is used for two sums.
                context = outcome.transcript + start.to_bytes(8, "big")
                key = derive_key(self._flood_seed, label=_LABEL, context=context)
                flooding.add(rows, Stream(key), bits)

        share(run, range(0, c1.blocks, step), executor)
        return out


def combine(
    outcome: Outcome, c0: Polynomials, public_key: PublicKey, partials: Mapping[str, PartialDecryption]
) -> RingArray:
    """Return the encoded sum, elements of its plan's ring, shape of its header.

    Args:
      outcome: what is in the sum.
      c0: the sum of the uploads' c0, which the aggregator has.
      public_key: of all key holders.
      partials: of all key holders, by name.

    Raises:
      UsageError: another number of partial decryptions than there are key holders, or of polynomials than the sum has.
      RemoteProtocolError: a partial decryption is malformed, or for another transcript.
      RangeError: the result is no sum of encoded numbers; which part of it is to blame cannot be told.
    """
    header, p = outcome.header, public_key.parameters
    if len(partials) != public_key.holders:
        raise UsageError(
            f"expected the partial decryptions of all {public_key.holders} key holders, got those of {sorted(partials)}"
        )
    if header.key_id != public_key.key_id or c0.parameters != p or c0.blocks != p.blocks(header.length):
        raise UsageError(f"{c0!r} and {public_key!r} are not those of the sum that was collected")
    parts = []
    for holder, partial in partials.items():
        if partial.transcript != outcome.transcript:
            raise RemoteProtocolError(
                f"{holder} decrypted another sum than the one that was collected", peer=holder
            )
        parts.append(Polynomials.from_words(p, partial.words, c0.blocks, peer=holder))
    opening = Opening(
        header, p, squares=header.summands, holders=public_key.holders, flood_bits=public_key.flood_bits
    )
    step = _COEFFICIENTS // p.degree
    for start in range(
        0, c0.blocks, step
    ):  # all that are added to a few blocks, while these are in the cache
        rows = c0.rows(start, start + step).copy()
        for part in parts:
            rows += part.rows(start, start + step)
        opening.load(start, rows)
    values = opening.values()
    check_encoded(values, header.plan, header.weight)
    return values
