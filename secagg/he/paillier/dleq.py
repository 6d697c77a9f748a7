"""A proof of equal discrete logarithms (DLEQ): many powers were made with the secret exponent of a public one.

For squares v and v_i modulo N = n^(s+1), and residues c_1 .. c_k and d_1 .. d_k: there is an a with

    v_i = v^a   and   d_j^2 = c_j^(4 a) for all j,

proved by who knows a >= 0 without telling more of it. It is Chaum and Pedersen's protocol [CP92], made
non-interactive by a hash as in [Shoup00], section 4.4. It runs on products of powers of the c_j and d_j with small
exponents [BGR98; for shares of decryptions APB+04]:

    e_1 .. e_k  128 bits each, from a hash of all that is proved
    C = (product of c_j^(e_j))^4,  D = (product of d_j^(e_j))^2
    r           random; A = C^r, B = v^r; e = hash of all that is proved, A and B, 256 bits; z = r + e a
    check       e is the hash of all that is proved, C^z D^-e and v^z v_i^-e

Sound, in the random oracle model, if n is a product of safe primes 2 p' + 1 and 2 q' + 1, and v generates the
squares. The squares are a cyclic group of order n^s p' q', whose smallest prime factor exceeds 2^256. Write
v_i = v^a and d_j^2 = c_j^(4 a) w_j, all w_j squares.
  - If some w_j != 1, at most one value of e_j makes W, the product of all w_j^(e_j), 1 when the others are given. Two would
    differ by less than 2^128, and w_j's order would divide the difference. So W = 1 has probability 2^-128 for each
    question to the hash. In groups with elements of small order this does not hold [BP00]; squares have none.
  - Then D = C^a W. Whatever A and B, C^z = A D^e and v^z = B v_i^e make z the logarithm of B plus e a, and W^e a
    constant: at most one e of 2^256.
Hides a: r is longer than e a by 128 bits, so z is within 2^-128 of what could be drawn without a. A and B then
follow from the check. (r comes from AES-256-CTR; nobody without its key can tell.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import gmpy2
import numpy as np
from gmpy2 import mpz, powmod, powmod_sec
from numpy.typing import NDArray

from secagg import signing
from secagg.he.paillier.workers import in_parts
from secagg.prg import Stream, derive_key

CHALLENGE_BYTES: Final = 32
_BATCH_BYTES: Final = 16
_HIDING_BITS: Final = 128
_LABEL: Final = "secagg.he.paillier.dleq/"


@dataclass(frozen=True, slots=True)
class Setting:
    """What all proofs under one key have in common.

    Attributes:
      modulus: N.
      v: the generator.
      secret_bits: the most bits that a has.
    """

    modulus: mpz
    v: mpz
    secret_bits: int

    @property
    def response_bytes(self) -> int:
        """Bytes of z."""
        return -(-(self._nonce_bits + 1) // 8)

    def prove(
        self, cs: Sequence[mpz], secret: mpz, proved: bytes, rng: Stream, executor: Executor | None = None
    ) -> tuple[bytes, bytes]:
        """Return challenge and response: e, 32 bytes, and z in little-endian order.

        Args:
          cs: the c_j.
          secret: a, 0 < a < 2^secret_bits.
          proved: digest of all that is proved: v, v_i, all c_j and all d_j, and of what the proof is for.
          rng: draws 32 bytes.
          executor: threads to share the work.
        """
        bases = (
            powmod(multi_power(cs, _small_exponents(proved, len(cs)), self.modulus), 4, self.modulus),
            self.v,
        )
        r = self._nonce(secret, proved, rng)

        def part(start: int, stop: int) -> list[mpz]:
            return [powmod_sec(base, r, self.modulus) for base in bases[start:stop]]

        a, b = (x for xs in in_parts(part, 2, executor, step=1) for x in xs)
        challenge = self._challenge(proved, a, b)
        z = r + mpz.from_bytes(challenge, "little") * secret
        return challenge, z.to_bytes(self.response_bytes, "little")

    def holds(
        self,
        cs: Sequence[mpz],
        ds: Sequence[mpz],
        v_i: mpz,
        proved: bytes,
        challenge: bytes,
        response: bytes,
    ) -> bool:
        """Return whether a proof holds.

        Args:
          cs, ds: the c_j and d_j, coprime to the modulus.
          v_i: coprime to the modulus.
          proved: as given to `prove`, computed from what the caller holds.
          challenge, response: what `prove` returned.
        """
        modulus, exponents = self.modulus, _small_exponents(proved, len(cs))
        base = powmod(multi_power(cs, exponents, modulus), 4, modulus)
        power = powmod(multi_power(ds, exponents, modulus), 2, modulus)
        z, e = mpz.from_bytes(response, "little"), mpz.from_bytes(challenge, "little")
        a = powmod(base, z, modulus) * powmod(power, -e, modulus) % modulus
        b = powmod(self.v, z, modulus) * powmod(v_i, -e, modulus) % modulus
        return self._challenge(proved, a, b) == challenge

    @property
    def _nonce_bits(self) -> int:
        """|r|."""
        return self.secret_bits + 8 * CHALLENGE_BYTES + _HIDING_BITS

    def _nonce(self, secret: mpz, proved: bytes, rng: Stream) -> mpz:
        # Two proofs with one r and different challenges would tell a. Deriving r from a and from what is proved
        # keeps them apart even where the randomness repeats, as in a machine restored from a snapshot.
        octets = secret.to_bytes(-(-self.secret_bits // 8), "little")
        stream = Stream(derive_key(octets, label=_LABEL + "nonce", context=proved + rng.bytes(32)))
        drawn = mpz.from_bytes(stream.bytes(-(-self._nonce_bits // 8)), "little")
        return gmpy2.f_mod_2exp(drawn, self._nonce_bits)

    def _challenge(self, proved: bytes, a: mpz, b: mpz) -> bytes:
        width = -(-int(self.modulus.bit_length()) // 8)
        parts = [proved, a.to_bytes(width, "little"), b.to_bytes(width, "little")]
        return signing.digest(_LABEL + "challenge", parts)


def multi_power(bases: Sequence[mpz], exponents: NDArray[np.uint8], modulus: mpz) -> mpz:
    """Return the product of bases[j]^exponents[j] modulo `modulus`, in a time that depends on the exponents.

    It goes in windows of w bits [BDLO12, section 4]. Bases with the same digit d are multiplied into one bucket, and the
    buckets into the product of bucket_d^d by running products. That takes (bits / w) (bases + 2^(w + 1)) products.

    Args:
      exponents: a row of little-endian bytes for each base.
    """
    bits = 8 * exponents.shape[1]
    w = min(range(1, 17), key=lambda w: -(-bits // w) * (len(bases) + (2 << w)))
    digits = np.unpackbits(exponents, axis=1, bitorder="little")
    digits = np.pad(digits, ((0, 0), (0, -bits % w))).reshape(len(bases), -1, w)
    windows: list[list[int]] = (digits @ (1 << np.arange(w))).T.tolist()
    total = mpz(1)
    for window in reversed(windows):
        total = powmod(total, 1 << w, modulus)
        buckets: list[mpz | None] = [None] * (1 << w)
        for base, digit in zip(bases, window, strict=True):
            held = buckets[digit]
            buckets[digit] = base if held is None else held * base % modulus
        running = mpz(1)
        for held in reversed(buckets[1:]):
            if held is not None:
                running = running * held % modulus
            total = total * running % modulus
    return total


def _small_exponents(proved: bytes, count: int) -> NDArray[np.uint8]:
    """Return e_1 .. e_k, a row of 16 little-endian bytes each."""
    drawn = hashlib.shake_256(_LABEL.encode() + b"batch" + proved).digest(_BATCH_BYTES * count)
    return np.frombuffer(drawn, np.uint8).reshape(count, _BATCH_BYTES)
