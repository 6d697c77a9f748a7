"""Stand-ins for many clients of a masked sum: a process that sends a server what clients would send, at little cost.

To the server they are clients: keys, signatures, commitments, shares, masks of clients that drop out, and answers are
real. They save what the server cannot see. Their shares come from one polynomial, they seal nothing, and they leave out
masks that would cancel. They check that each is told its neighbours' keys, and handed the shares that were meant for it.
"""

from __future__ import annotations

from multiprocessing.connection import Connection

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from secagg import wire
from secagg.prg import Stream
from secagg.protocols.masked_sum import (
    GraphParameters,
    Included,
    Keys,
    MaskedInput,
    PeerKeys,
    PeerShares,
    Roles,
    Shares,
    SumInSession,
    Terms,
    Unmasking,
    keys,
)
from secagg.protocols.masked_sum.masks import Mask, add_masks
from secagg.protocols.masked_sum.shamir import PRIME, SHARE_BYTES, Polynomials
from secagg.protocols.masked_sum.terms import pack_set
from secagg.ring import Ring

SESSION = bytes(range(32))
TAG = bytes(16)
NOTHING = b""  # from a client that has dropped out


def terms_of(parameters: GraphParameters, identities: bytes, length: int) -> Terms:
    """Return the terms of stand-ins."""
    names = tuple(f"client-{i}" for i in range(parameters.clients))
    public = tuple(identities[i : i + 32] for i in range(0, len(identities), 32))
    return Terms(Roles(names, ("server",), ("server",)), public, length, Ring(32), parameters)


class StandIns:
    """The clients of one sum, of which some drop out at each step."""

    def __init__(self, parameters: GraphParameters, length: int) -> None:
        n, draw = parameters.clients, Stream(bytes(32))
        self.identities = [Ed25519PrivateKey.from_private_bytes(draw.bytes(32)) for _ in range(n)]
        self.public = b"".join(key.public_key().public_bytes_raw() for key in self.identities)
        self.where = SumInSession(terms_of(parameters, self.public, length), SESSION)
        self.secrets = [draw.bytes(64) for _ in range(n)]  # masking key, self mask
        self.pairs = np.zeros((n, 64), np.uint8)
        self.vectors = np.random.default_rng(1).integers(0, 1 << 20, (n, length), np.uint32)
        rows = Polynomials([bytes(32)], parameters.threshold, draw).at(range(1, n + 1))[0]
        self.at = [int.from_bytes(row.tobytes(), "little") for row in rows]
        # In the order of numbers, which says nothing of places in the circle.
        self.no_keys, self.no_shares, self.no_input, self.no_answer = (n // 200 * i for i in (1, 2, 4, 6))
        self.shared = frozenset(range(self.no_shares, n))
        self.included = frozenset(range(self.no_input, n))
        self.packed = pack_set(self.included, n).tobytes()

    def keys(self, i: int) -> bytes:
        if i < self.no_keys:
            return NOTHING
        sealing = Stream(self.secrets[i][:32]).bytes(32)  # never agreed with
        public = b"".join(keys.public_bytes(keys.secret_key(s)) for s in (sealing, self.secrets[i][:32]))
        self.pairs[i] = np.frombuffer(public, np.uint8)
        signature = keys.sign_keys(self.identities[i], self.where, i, public)
        return wire.to_bytes(Keys(self.pairs[i].reshape(2, 32), np.frombuffer(signature, np.uint8)))

    def shares(self, i: int, told: bytes) -> bytes:
        near = [p for p in self.where.graph.neighbours(i) if p >= self.no_keys]
        if not np.array_equal(wire.from_bytes(told, PeerKeys).keys.reshape(-1, 64), self.pairs[near]):
            raise ValueError(f"client {i} was told other keys than its neighbours'")
        if i < self.no_shares:
            return NOTHING
        sealed = b"".join(self._letter(i, holder) for holder in near)
        commitment = np.frombuffer(keys.commit(self.where, self.secrets[i][32:], i), np.uint8)
        return wire.to_bytes(Shares(commitment, np.frombuffer(sealed, np.uint8).reshape(-1, 82)))

    def input(self, i: int, told: bytes) -> bytes:
        near = [p for p in self.where.graph.neighbours(i) if p in self.shared]
        if wire.from_bytes(told, PeerShares).sealed.tobytes() != b"".join(self._letter(p, i) for p in near):
            raise ValueError(f"client {i} was handed other shares than those for it")
        if i < self.no_input:
            return NOTHING
        y, masks = (
            self.vectors[i].copy(),
            [Mask(keys.self_seed(self.where, self.secrets[i][32:], i), minus=False)],
        )
        for peer in near:
            if peer < self.no_input:
                masking = keys.secret_key(self.secrets[i][:32])
                agreed = keys.agree(masking, self.pairs[peer, 32:].tobytes(), owner="")
                masks.append(Mask(keys.pair_seed(self.where, agreed, i, peer), minus=peer < i))
        add_masks(y, masks)
        return wire.to_bytes(MaskedInput(Ring(32).pack(y)))

    def answer(self, i: int, told: bytes) -> bytes:
        if wire.from_bytes(told, Included).included.tobytes() != self.packed:
            raise ValueError(f"client {i} was told another set")
        if i < self.no_answer:
            return NOTHING
        owners = [p for p in self.where.graph.holders(i) if p in self.shared]
        rows = b"".join(self._share(o, i, self_mask=o in self.included) for o in owners)
        return wire.to_bytes(Unmasking(np.frombuffer(rows, np.uint8).reshape(-1, SHARE_BYTES)))

    def total(self) -> NDArray[np.uint32]:
        """Return the plaintext sum."""
        return self.vectors[self.no_input :].sum(axis=0, dtype=np.uint32)

    def _letter(self, owner: int, holder: int) -> bytes:
        return self._share(owner, holder, self_mask=False) + self._share(owner, holder, self_mask=True) + TAG

    def _share(self, owner: int, holder: int, *, self_mask: bool) -> bytes:
        secret = self.secrets[owner][32:] if self_mask else self.secrets[owner][:32]
        return ((int.from_bytes(secret, "little") + self.at[holder]) % PRIME).to_bytes(SHARE_BYTES, "little")


def serve(server: Connection, parameters: GraphParameters, length: int) -> None:
    """Answer a server's messages until it hangs up; runs in a process of its own.

    A request names a step, and holds a number and a message for each of some clients. The answer has their messages.
    """
    clients = StandIns(parameters, length)
    server.send_bytes(clients.public)
    steps = [lambda i, _told: clients.keys(i), clients.shares, clients.input, clients.answer]
    while request := server.recv_bytes():
        step, told = msgspec.msgpack.decode(request, type=tuple[int, list[tuple[int, bytes]]])
        server.send_bytes(msgspec.msgpack.encode([steps[step](i, message) for i, message in told]))
    server.send_bytes(clients.total().tobytes())
