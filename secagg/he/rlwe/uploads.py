"""What key holders decrypt: a sum that each of them computed itself, from uploads that clients signed.

    client       signs (session, round, key, blocks, its name, digest of the ciphertext); sends both to the aggregator
    aggregator   checks, adds up, and passes c1, the digest of c0 and the signature on to every key holder
    key holder   checks the same, adds up c1, and when all are there signs a digest of the set: its vote
    key holders  compare votes; each decrypts its own sum if all have voted for the same (`threshold`)

A key holder that decrypts what it is handed gives its share away: for c1 = 2^90 one partial decryption is
2^90 s_i plus flooding. So an aggregator's sum, count or list of clients counts for nothing here. Half of each upload is
enough, since the digest of a ciphertext is made of the digests of its halves. That half, c1, does not tell the numbers.

Threat model: the aggregator and all but one key holder are malicious, and what they can do is withhold uploads. A sum has
at least `min_clients` uploads of registered clients, signed for this round and key, no two the same. How many of those
clients are corrupt is not known, so plan the minimum for the number that might be.
**Clients encrypt honestly.** What a client signs is not proven to be an encryption. One that uploads (0, 2^93) puts the
secret key, times 2^93, into the decrypted sum. Whoever reads the sum can take it there, and with the aggregator's help open
every upload under that key. A key for each round confines that to the round. A client may also upload a re-randomised copy
of another's ciphertext, and so double its numbers.

Cost for numbers of w bits: a client sends 2 w / 8 bytes a number to the aggregator, which sends half of that to each key
holder. Aggregator and key holders keep one sum, and name and digest of each upload. Their memory does not grow with the
clients but for these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from numpy.typing import NDArray

from secagg import signing
from secagg.errors import RemoteProtocolError, TooFewPartiesError, UsageError
from secagg.he.rlwe import ciphertexts
from secagg.he.rlwe.ciphertexts import Ciphertext, CiphertextMessage
from secagg.he.rlwe.flooding import ReleasePlan
from secagg.he.rlwe.keys import PublicKey
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.scheme import Header, HeaderFields
from secagg.wire import Message

_LABEL: Final = "secagg.he.rlwe.uploads"


class Upload(Message, frozen=True):
    """Client -> aggregator: a ciphertext and the client's signature."""

    ciphertext: CiphertextMessage
    signature: bytes


class HalfUpload(Message, frozen=True):
    """Aggregator -> key holder: what of a client's upload it takes to decrypt, and to check the signature."""

    client: str
    header: HeaderFields
    digest_c0: bytes
    c1: tuple[NDArray[np.unsignedinteger[Any]], ...]
    signature: bytes


class Vote(Message, frozen=True):
    """Key holder -> key holders: the digest of the set of uploads that it added up, and its signature."""

    transcript: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Round:
    """What all agree on before a sum is collected.

    Attributes:
      session: identifier of the run, at least 16 bytes.
      number: of the round under this key, from 0.
      public_key: to encrypt with.
      release_plan: what the key was made for.
      shape: of every client's array.
      clients: names and identities of those who may upload.
      holders: names and identities of the key holders.
      min_clients: how many uploads a sum has at least; 2 or more.

    Raises:
      UsageError: fields that do not go together; the message says which.
    """

    session: bytes
    number: int
    public_key: PublicKey
    release_plan: ReleasePlan
    shape: tuple[int, ...]
    clients: Mapping[str, Ed25519PublicKey]
    holders: Mapping[str, Ed25519PublicKey]
    min_clients: int

    def __post_init__(self) -> None:
        key, agreed = self.public_key, self.release_plan
        if len(self.session) < 16:
            raise UsageError(f"a session identifier has at least 16 bytes, not {len(self.session)}")
        if not 0 <= self.number < 1 << 63:
            raise UsageError(f"expected the number of a round, 0 to 2^63 - 1, got {self.number}")
        if (key.parameters, key.holders, key.flood_bits) != (
            agreed.parameters,
            agreed.holders,
            agreed.flood_bits,
        ):
            raise UsageError(f"{key!r} was not made for {agreed}")
        if len(self.holders) != agreed.holders:
            raise UsageError(
                f"expected the identities of {agreed.holders} key holders, got {len(self.holders)}"
            )
        if not 2 <= self.min_clients <= len(self.clients) <= agreed.plan.parties:
            raise UsageError(
                f"expected a minimum of 2 to {len(self.clients)} uploads, as many as there are clients, and clients up to "
                f"the {agreed.plan.parties} of the plan; got a minimum of {self.min_clients}"
            )
        for role, parties in (("clients", self.clients), ("key holders", self.holders)):
            if len({k.public_bytes_raw() for k in parties.values()}) != len(parties):
                raise UsageError(f"two {role} have the same identity; each needs a key of its own")
        if self._header().length > agreed.length:
            raise UsageError(
                f"the key was made for sums of {agreed.length} numbers, not for shape {self.shape}"
            )

    @property
    def blocks(self) -> int:
        """Polynomials in c0, and in c1."""
        return self.public_key.parameters.blocks(self._header().length)

    def check_fresh(self, header: Header) -> None:
        """Check that a ciphertext is one encryption for this round.

        Raises:
          UsageError: it is not; the message says why.
        """
        plan = self.release_plan.plan
        if header.summands != 1 or not 1 <= header.weight <= plan.max_weight:
            raise UsageError(
                f"expected one encryption of weight 1 to {plan.max_weight}, got {header.summands} of weight {header.weight}"
            )
        if not self.fits(header):
            raise UsageError(
                f"expected a ciphertext of {self.public_key.scheme} under key {self.public_key.key_id.hex()[:16]} of "
                f"shape {self.shape}, encoded by {plan}; got one of {header.scheme:.40} under key "
                f"{header.key_id.hex()[:16]} of shape {header.shape}, encoded by {header.plan}"
            )

    def fits(self, header: Header) -> bool:
        """Return whether a header is for this key, plan and shape, however many encryptions it counts."""
        return header == replace(self._header(), summands=header.summands, weight=header.weight)

    def statement(self, client: str, digest: bytes) -> list[bytes]:
        """Return what a client signs: session, round, key, blocks, its name and its ciphertext's digest."""
        blocks, number = self.blocks.to_bytes(8, "big"), self.number.to_bytes(8, "big")
        return [self.session, number, self.public_key.key_id, blocks, client.encode(), digest]

    def _header(self) -> Header:
        key = self.public_key
        return Header(key.scheme, key.key_id, self.release_plan.plan, self.shape)


def sign_upload(round_: Round, client: str, ciphertext: Ciphertext, identity: Ed25519PrivateKey) -> Upload:
    """Return a client's upload.

    Args:
      client: its own name.
      ciphertext: a fresh encryption; weights are multiplied in before, so that its noise is what flooding is for.
      identity: the client's signing key.

    Raises:
      UsageError: the ciphertext is none for this round, a sum, or was multiplied.
    """
    round_.check_fresh(ciphertext.header)
    if ciphertext.squares != 1:
        raise UsageError(
            "expected a fresh encryption, got one that was multiplied; multiply the numbers before they are encrypted"
        )
    statement = round_.statement(client, ciphertext.digest())
    return Upload(ciphertext.to_message(), signing.sign(identity, f"{_LABEL}/upload", statement))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The sum that was collected: what key holders vote on, and what the decryption log keeps.

    Attributes:
      header: of the sum.
      digests: each client's name and the digest of its ciphertext, sorted by name.
      transcript: SHA-256 of the round and all of that.
    """

    header: Header
    digests: tuple[tuple[str, bytes], ...]
    transcript: bytes


def outcome(round_: Round, header: Header, digests: Mapping[str, bytes]) -> Outcome:
    """Return what a sum of these uploads is known by.

    Args:
      header: of the sum.
      digests: of each client's ciphertext, by name.

    Raises:
      UsageError: the header of another sum, uploads of unregistered clients, or fewer than `min_clients`.
    """
    count, most = len(digests), len(digests) * round_.release_plan.plan.max_weight
    if count < round_.min_clients or not digests.keys() <= round_.clients.keys():
        raise UsageError(
            f"expected uploads of at least {round_.min_clients} registered clients, got {sorted(digests)}"
        )
    if header.summands != count or not count <= header.weight <= most or not round_.fits(header):
        raise UsageError(f"expected the header of a sum of {count} uploads to round {round_.number}")
    parts = round_.statement("", b"")
    parts += [str(round_.min_clients).encode(), str(header.weight).encode()]
    for client in sorted(digests):
        parts += [client.encode(), digests[client]]
    transcript = signing.digest(f"{_LABEL}/transcript", parts)
    return Outcome(header, tuple(sorted(digests.items())), transcript)


class _Book:
    """Who has uploaded what to one round; refuses what does not belong there and closes once."""

    def __init__(self, round_: Round) -> None:
        self.round = round_
        self._digests: dict[str, bytes] = {}
        self._seen: set[bytes] = set()
        self._header: Header | None = None
        self._outcome: Outcome | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of round {self.round.number}: {len(self._digests)} uploads>"

    @property
    def clients(self) -> tuple[str, ...]:
        """Whose uploads are in."""
        return tuple(sorted(self._digests))

    def close(self) -> Outcome:
        """Return what was collected; nothing is added after this. The same each time.

        Raises:
          TooFewPartiesError: fewer uploads than `min_clients`; more may still be added.
        """
        if self._outcome is None:
            if self._header is None or len(self._digests) < self.round.min_clients:
                raise TooFewPartiesError(
                    f"round {self.round.number} has {len(self._digests)} uploads and needs {self.round.min_clients}: a sum "
                    "of fewer is not decrypted"
                )
            self._outcome = outcome(self.round, self._header, self._digests)
        return self._outcome

    def _check(self, client: str, header: Header, digest: bytes, signature: bytes) -> Header:
        """Return the sum's header with this upload, if it may be added.

        Raises:
          RemoteProtocolError: it may not; the message says why.
        """
        identity = self.round.clients.get(client)
        if identity is None:
            raise RemoteProtocolError(f"an upload from {client!r:.80}, who is not registered", peer=client)
        if self._outcome is not None:
            raise RemoteProtocolError(
                f"{client}'s upload came after round {self.round.number} was closed; it may upload to the next",
                peer=client,
            )
        if client in self._digests:
            raise RemoteProtocolError(f"a second upload from {client} to one round", peer=client)
        try:
            self.round.check_fresh(header)
        except UsageError as error:
            raise RemoteProtocolError(f"{client}'s upload: {error}", peer=client) from None
        statement = self.round.statement(client, digest)
        signing.verify(identity, signature, f"{_LABEL}/upload", statement, peer=client)
        if digest in self._seen:
            raise RemoteProtocolError(f"{client} uploaded the ciphertext of another client", peer=client)
        return header if self._header is None else self._header.plus(header)

    def _enter(self, client: str, header: Header, digest: bytes) -> None:
        self._digests[client], self._header = digest, header
        self._seen.add(digest)


class Collector(_Book):
    """An aggregator's sum of whole ciphertexts."""

    def __init__(self, round_: Round) -> None:
        super().__init__(round_)
        self._total: Ciphertext | None = None

    def add(self, client: str, upload: Upload) -> HalfUpload:
        """Add an upload and return what key holders get of it.

        Raises:
          RemoteProtocolError: it is not added: not from a registered client, a second one, malformed, not for this
            round and key, or not signed.
        """
        ciphertext = self.round.public_key.read(upload.ciphertext, peer=client)
        if ciphertext.squares != 1:
            raise RemoteProtocolError(f"{client} uploaded a multiple of a ciphertext", peer=client)
        halves = ciphertext.digest_c0(), ciphertext.digest_c1()
        digest = ciphertexts.digest(ciphertext.header, 1, *halves)
        total = self._check(client, ciphertext.header, digest, upload.signature)
        if self._total is None:
            self._total = ciphertext.copy()
        else:
            self._total += ciphertext
        self._enter(client, total, digest)
        header = ciphertext.header.to_fields()
        return HalfUpload(client, header, halves[0], ciphertext.c1.words, upload.signature)

    @property
    def total(self) -> Ciphertext:
        """The sum of what was added.

        Raises:
          TooFewPartiesError: nothing was.
        """
        if self._total is None:
            raise TooFewPartiesError(f"nobody has uploaded to round {self.round.number}")
        return self._total


class Tally(_Book):
    """A key holder's own sum of the halves that it decrypts."""

    def __init__(self, round_: Round) -> None:
        super().__init__(round_)
        self._total = Polynomials.zeros(round_.public_key.parameters, round_.blocks)

    def add(self, upload: HalfUpload) -> None:
        """Add an upload; raises as `Collector.add` does, and then nothing has changed."""
        client, parameters = upload.client, self.round.public_key.parameters
        try:
            header = Header.from_fields(upload.header)
        except UsageError as error:
            raise RemoteProtocolError(f"{client!r:.80}'s upload: {error}", peer=client) from None
        c1 = Polynomials.from_words(parameters, upload.c1, self.round.blocks, peer=client)
        digest = ciphertexts.digest(header, 1, upload.digest_c0, c1.digest())
        total = self._check(client, header, digest, upload.signature)
        self._total += c1
        self._enter(client, total, digest)

    def vote(self, identity: Ed25519PrivateKey, holder: str) -> Vote:
        """Close the sum and return this key holder's signature of what is in it; raises as `close` does."""
        transcript = self.close().transcript
        return Vote(transcript, signing.sign(identity, f"{_LABEL}/vote", [transcript, holder.encode()]))

    def agreed(self, votes: Mapping[str, Vote]) -> tuple[Polynomials, Outcome]:
        """Return the sum of c1 and what is in it, if all key holders have voted for the same.

        Args:
          votes: of all key holders, this one too.

        Raises:
          UsageError: the vote of a key holder is missing.
          AuthenticationError: a vote is not its owner's signature.
          RemoteProtocolError: a key holder has added up something else.
        """
        closed = self.close()
        if set(votes) != set(self.round.holders):
            raise UsageError(f"expected votes of {sorted(self.round.holders)}, got those of {sorted(votes)}")
        for holder, vote in votes.items():
            statement = [vote.transcript, holder.encode()]
            signing.verify(
                self.round.holders[holder], vote.signature, f"{_LABEL}/vote", statement, peer=holder
            )
            if vote.transcript != closed.transcript:
                raise RemoteProtocolError(
                    f"{holder} has added up other uploads than this key holder; nothing is decrypted. Compare whose "
                    "uploads reached each",
                    peer=holder,
                )
        return self._total, closed
