"""Pseudonyms: identifiers under a keyed hash whose key the organisations draw together.

Each input party contributes 32 bytes, after its rows are fixed, and hands them to the other input parties
only; the key is HKDF of all contributions. A computing party that is not an input party sees neither key nor
pseudonyms. Input parties know the key and can recognise identifiers that they know or can guess; what they
are shown is for the protocol that stands on this to limit.

The hash is AES-256-CMAC (RFC 4493, NIST SP 800-38B), a pseudorandom function on strings of any length,
computed for all identifiers at once: one AES call for each 16 bytes of the longest. Two different
identifiers among N collide in b bits with probability at most N**2 / 2**(b + 1), and more by
4 blocks**2 / 2**128 for CMAC itself [IK03].

Cost: 1 round, 32 bytes to each other input party.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from secagg.errors import DataError, RemoteProtocolError
from secagg.party import Party, PartyId
from secagg.prg import KEY_BYTES, derive_key
from secagg.ring import U64
from secagg.wire import Message

_BLOCK: Final = 16


class HashKeyPart(Message, frozen=True):
    """An input party's contribution to the hash key."""

    contribution: bytes


async def agree_hash_key(party: Party, input_parties: Sequence[PartyId]) -> bytes:
    """Return the key that all input parties drew together, for this session only.

    Raises:
      RemoteProtocolError: a contribution of a wrong length.
    """
    parts = {party.me: party.rng.bytes(KEY_BYTES)}
    peers = [p for p in input_parties if p != party.me]
    for peer in peers:
        party.send(peer, HashKeyPart(parts[party.me]))
    for peer, message in (await party.gather(HashKeyPart, peers)).items():
        if len(message.contribution) != KEY_BYTES:
            raise RemoteProtocolError(
                f"expected a hash key contribution of {KEY_BYTES} bytes from {peer}, got {len(message.contribution)}",
                peer=peer,
            )
        parts[peer] = message.contribution
    secret = b"".join(parts[name] for name in input_parties)
    return derive_key(secret, label="secagg.protocols.pseudonyms", context=party.session)


def pseudonyms(key: bytes, identifiers: NDArray[Any]) -> U64:
    """Return the AES-256-CMAC of each identifier's UTF-8 bytes, as words, shape (n, 2).

    Args:
      key: 32 bytes.
      identifiers: strings, shape (n,); compared byte by byte, the caller has settled spelling.

    Raises:
      DataError: an identifier that holds a zero character, or is not valid Unicode text.
    """
    n = len(identifiers)
    if n == 0:
        return np.zeros((0, 2), np.uint64)
    try:
        joined = np.frombuffer("\0".join([*identifiers.tolist(), ""]).encode(), np.uint8)
    except UnicodeEncodeError:
        raise DataError(
            "an identifier is not valid Unicode text; read the table in its right encoding"
        ) from None
    ends = np.flatnonzero(joined == 0)
    if len(ends) != n:
        raise DataError(
            "an identifier holds a zero character; remove it, or map it to another at every organisation"
        )
    lengths = np.diff(ends, prepend=-1) - 1
    blocks = max(1, -(-int(lengths.max()) // _BLOCK))
    text = np.zeros((n, blocks * _BLOCK), np.uint8)
    text[np.arange(blocks * _BLOCK) < lengths[:, None]] = joined[joined != 0]
    encrypt = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update  # noqa: S305  # CMAC's block cipher
    k1 = _doubled(encrypt(bytes(_BLOCK)))
    k2 = _doubled(k1)
    last = np.maximum(-(-lengths // _BLOCK), 1) - 1
    rows = np.arange(n)
    whole = (lengths > 0) & (lengths % _BLOCK == 0)
    text[rows[~whole], lengths[~whole]] = 0x80
    words = text.view(np.uint64).reshape(n, blocks, 2)
    keys = np.frombuffer(k2 + k1, np.uint64).reshape(2, 2)
    words[rows, last] ^= keys[whole.astype(np.intp)]
    state = np.zeros((n, 2), np.uint64)
    for b in range(blocks):
        active = slice(None) if b == 0 else np.flatnonzero(last >= b)
        block = state[active] ^ words[active, b]
        state[active] = np.frombuffer(encrypt(block.tobytes()), np.uint64).reshape(-1, 2)
    return state


def _doubled(block: bytes) -> bytes:
    """Return the block times x in GF(2**128), as RFC 4493, section 2.3."""
    value = int.from_bytes(block, "big") << 1
    if value >> 128:
        value = (value & ((1 << 128) - 1)) ^ 0x87
    return value.to_bytes(_BLOCK, "big")


def log2_collision(rows: int, bits: int) -> float:
    """Return log2 of a bound on the probability that any two of `rows` identifiers collide in `bits` bits."""
    return 2 * math.log2(rows) - bits - 1 if rows > 1 else -math.inf
