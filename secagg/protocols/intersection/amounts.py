"""Amounts under Paillier's encryption, a residue each, and sums of some of them as whole numbers modulo n."""

from __future__ import annotations

from typing import Final

import numpy as np
from gmpy2 import mpz, powmod
from numpy.typing import NDArray

from secagg import fixed_point
from secagg.errors import RemoteProtocolError
from secagg.he.paillier import Ciphertext, PublicKey, SecretKey, residues
from secagg.he.paillier.ciphertexts import CiphertextMessage
from secagg.he.paillier.randomizers import draw_below
from secagg.he.scheme import Header
from secagg.party import PartyId
from secagg.prg import Stream

KEY_BITS: Final = 3072
RANDOMIZER_BITS: Final = 512  # see `he.paillier.public_key` for what they rest on
# What headers say of the encoding is a matter of form: residues are decrypted as the whole numbers that they are.
_PLAN: Final = fixed_point.plan(clip=1.0, frac_bits=0, parties=1, bits=64)


def new_key(rng: Stream) -> SecretKey:
    """Return a new key."""
    return SecretKey.generate(KEY_BITS, randomizer_bits=RANDOMIZER_BITS, rng=rng)


def read_key(octets: bytes, peer: PartyId) -> PublicKey:
    """Return the public key that a peer sent; `RemoteProtocolError` for one of another size."""
    key = PublicKey.from_bytes(octets, peer=peer)
    if (key.bits, key.s) != (KEY_BITS, 1):
        raise RemoteProtocolError(
            f"expected a Paillier key of {KEY_BITS} bits with s = 1 from {peer}, got {key.bits} bits and s = {key.s}",
            peer=peer,
        )
    return key


def encrypt(key: SecretKey, values: NDArray[np.int64], rng: Stream) -> NDArray[np.uint8]:
    """Return a ciphertext of each whole number, as they go over the wire; shape (n, 2, 384)."""
    public = key.public_key
    if not len(values):
        return np.zeros((0, 2, KEY_BITS // 8), np.uint8)
    drawn = key.draw_randomizers(len(values), rng=rng)
    return _block(public, residues.blind(drawn, [mpz(v) for v in values.tolist()], public.n))


def read(key: PublicKey, block: NDArray[np.uint8], count: int, peer: PartyId) -> list[mpz]:
    """Return the residues that a peer sent; `RemoteProtocolError` for what is no such number of ciphertexts."""
    if not count:
        return []
    message = CiphertextMessage(_header(key, count).to_fields(), 1, block)
    return key.read(message, peer=peer).integers()


def add(
    key: PublicKey, ciphertexts: list[mpz], chosen: NDArray[np.bool_], mask: int, rng: Stream
) -> NDArray[np.uint8]:
    """Return a ciphertext of the sum of the chosen numbers and a mask, uniform among all of that sum; shape (1, 2, 384).

    The key's owner knows the randomizers of what was chosen, and the group's order. A short randomizer would be all that
    hides from it which these were. So the randomizer is r**n with a uniform r, which hides them perfectly.
    """
    n, modulus = key.n, key.modulus.ciphertext
    product = powmod(draw_below(n, 1, rng)[0], n, modulus)
    for place in np.flatnonzero(chosen).tolist():
        product = product * ciphertexts[place] % modulus
    return _block(key, residues.blind(residues.to_digits([product], n, 1), [mpz(mask)], n))


def draw_mask(key: PublicKey, rng: Stream) -> int:
    """Return a number that hides a plaintext to which it is added modulo n: uniform in 1 to n - 1."""
    return int(draw_below(key.n, 1, rng)[0])


def decrypt(key: SecretKey, block: NDArray[np.uint8], peer: PartyId) -> int:
    """Return the number in one ciphertext, 0 to n - 1."""
    (residue,) = read(key.public_key, block, 1, peer)
    return int(key.decrypt_residues(residues.to_digits([residue], key.public_key.n, 1))[0])


def _header(key: PublicKey, count: int) -> Header:
    return Header(key.scheme, key.key_id, _PLAN, (count,))


def _block(key: PublicKey, digits: residues.Digits) -> NDArray[np.uint8]:
    return Ciphertext(_header(key, len(digits[0])), key.modulus, 1, digits).to_message().block
