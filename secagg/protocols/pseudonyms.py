"""Pseudonyms: identifiers under a keyed hash whose key the organisations draw together.

Each input party draws 32 bytes and tells everybody their digest, after its rows are fixed. Once all digests are there and
agreed on, it hands the bytes to the other input parties only. The key is HKDF of all contributions. So nobody chooses its
contribution by the others', or hands two parties different ones. A computing party that is not an input party sees
neither key nor pseudonyms. Input parties know the key and can recognise identifiers that they know or can guess. The
protocol that stands on this has to limit what they are shown.

The hash is AES-256-CMAC (RFC 4493, NIST SP 800-38B), a pseudorandom function on strings of any length,
computed for all identifiers at once: one AES call for each 16 bytes of the longest. Two different identifiers among N
collide in b bits with probability at most N**2 / 2**(b + 1). CMAC itself adds 4 blocks**2 / 2**128 to that [IK03].

Cost: 1 round, 32 bytes to each other input party; the digests are for the protocol that stands on this to announce.

Proof in docs/soundness.md, section 9.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from secagg.errors import DataError, RemoteProtocolError
from secagg.party import Party, PartyId
from secagg.prg import KEY_BYTES, derive_key
from secagg.ring import U64
from secagg.signing import digest
from secagg.wire import Message

_BLOCK: Final = 16


class HashKeyPart(Message, frozen=True):
    """An input party's contribution to the hash key."""

    contribution: bytes


def digest_of_contribution(session: bytes, contributor: PartyId, contribution: bytes) -> bytes:
    """Return what a contribution to the hash key is announced by, 32 bytes; it shows nothing of 32 random bytes."""
    return digest("secagg.protocols.pseudonyms/contribution", [session, contributor.encode(), contribution])


async def agree_hash_key(
    party: Party,
    contribution: bytes,
    announced: Mapping[PartyId, bytes],
    *,
    sent_before: Collection[type[Message]] = (),
) -> bytes:
    """Return the key that all input parties drew together, for this session only.

    Args:
      contribution: this party's, 32 bytes that it drew.
      announced: the digest of each input party's contribution, in the order in which all have them. All of them
        agreed on it before this.
      sent_before: kinds that another one waits for only once it has told its contribution; see `Party.gather`.

    Raises:
      RemoteProtocolError: a contribution that is not the one announced.
    """
    parts = {party.me: contribution}
    peers = [p for p in announced if p != party.me]
    for peer in peers:
        party.send(peer, HashKeyPart(contribution))
    for peer, message in (await party.gather(HashKeyPart, peers, sent_before=sent_before)).items():
        part = message.contribution
        if len(part) != KEY_BYTES or digest_of_contribution(party.session, peer, part) != announced[peer]:
            raise RemoteProtocolError(
                f"{peer} handed over another contribution to the hash key than the {KEY_BYTES} bytes that it announced",
                peer=peer,
            )
        parts[peer] = part
    secret = b"".join(parts[name] for name in announced)
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
    joined = np.frombuffer(joined_text(identifiers), np.uint8)
    ends = np.flatnonzero(joined == 0)
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


def joined_text(identifiers: NDArray[Any]) -> bytes:
    """Return the identifiers in UTF-8, a zero byte behind each; different arrays give different bytes.

    Raises:
      DataError: an identifier that holds a zero character, or is not valid Unicode text.
    """
    try:
        joined = "\0".join([*identifiers.tolist(), ""]).encode() if len(identifiers) else b""
    except UnicodeEncodeError:
        raise DataError(
            "an identifier is not valid Unicode text; read the table in its right encoding"
        ) from None
    if joined.count(0) != len(identifiers):
        raise DataError(
            "an identifier holds a zero character; remove it, or map it to another at every organisation"
        )
    return joined


def _doubled(block: bytes) -> bytes:
    """Return the block times x in GF(2**128), as RFC 4493, section 2.3."""
    value = int.from_bytes(block, "big") << 1
    if value >> 128:
        value = (value & ((1 << 128) - 1)) ^ 0x87
    return value.to_bytes(_BLOCK, "big")


def log2_collision(rows: int, bits: int) -> float:
    """Return log2 of a bound on the probability that any two of `rows` identifiers collide in `bits` bits."""
    return 2 * math.log2(rows) - bits - 1 if rows > 1 else -math.inf
