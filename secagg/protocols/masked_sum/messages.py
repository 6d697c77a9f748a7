"""The messages of a masked sum, in wire order. Sets of clients are one bit a client; rows go by client number.

A request names one set of survivors. A client that sent shares and is not in the set has dropped out. One set cannot ask
for both secrets of a client.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.protocols.masked_sum.shamir import SHARE_BYTES
from secagg.wire import Message

TAG_BYTES: Final = 16
SEALED_BYTES: Final = 2 * SHARE_BYTES + TAG_BYTES


class Keys(Message, frozen=True):
    """Keys, client -> server: public keys for sealing and for masks of this round, signed by the identity key.

    keys: uint8, shape (2, 32), X25519. signature: uint8, shape (64,), over round, client and keys.
    """

    keys: NDArray[np.uint8]
    signature: NDArray[np.uint8]


class PeerKeys(Message, frozen=True):
    """Keys, server -> client: those of the receiver's neighbours that sent some.

    present: which neighbours. keys: uint8, shape (m, 2, 32). signatures: uint8, shape (m, 64).
    """

    present: NDArray[np.uint8]
    keys: NDArray[np.uint8]
    signatures: NDArray[np.uint8]


class Shares(Message, frozen=True):
    """Shares, client -> server: for each present neighbour, shares of both secrets, sealed for it.

    commitment: uint8, shape (32,), fixes the secret of the self mask. sealed: uint8, shape (m, 82).
    """

    commitment: NDArray[np.uint8]
    sealed: NDArray[np.uint8]


class PeerShares(Message, frozen=True):
    """Shares, server -> client: who sent shares, and the sealed shares of those that are neighbours.

    shared: of all clients. sealed: uint8, shape (m, 82).
    """

    shared: NDArray[np.uint8]
    sealed: NDArray[np.uint8]


class MaskedInput(Message, frozen=True):
    """Input, client -> server: the vector under all masks, packed to the ring's width."""

    packed: NDArray[np.uint8]


class Included(Message, frozen=True):
    """Unmask, server -> client: whose vectors are in the sum. From a semi-honest server also the request."""

    included: NDArray[np.uint8]


class Consent(Message, frozen=True):
    """Consent, client -> server, against a malicious server: signature over round and sets, uint8, shape (64,)."""

    signature: NDArray[np.uint8]


class Consents(Message, frozen=True):
    """Consent, server -> client: who signed, and the signatures, uint8, shape (m, 64). The request to unmask."""

    signers: NDArray[np.uint8]
    signatures: NDArray[np.uint8]


class Unmasking(Message, frozen=True):
    """Unmask, client -> server: of each client that it holds shares of, one share, uint8, shape (m, 33).

    Of survivors that of the self mask's seed, of others that of the masking key. A row of ones: it could not
    be opened.
    """

    shares: NDArray[np.uint8]
