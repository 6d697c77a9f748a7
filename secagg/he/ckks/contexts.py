"""Parameters of CKKS that are good for sums: by name, with their security, their room and their error.

    name             N     primes          bytes a number   bits of security        core-SVP   weight below
                                                          [ACC+18], classical     classical
    4096             4096  48, 32          24               128                     148        2^15
    4096/symmetric   4096  48, 32          24               128                     148        2^15
    8192/256         8192  60, 58          30               256                     223        2^27
    8192/tenseal     8192  60, 40, 40, 60  70               128                     107        2^107

SEAL keeps the last prime for the key; ciphertexts are modulo the product q of the others. The secret is ternary and
the bits of security are those of the table for it in [ACC+18], by the bits of all primes together. The 80 bits of the
default, 4096, are within every published table for 128 bits, against quantum computers too. Core-SVP is what
`benchmarks.lattice` prints, the count of soundness-encryption.md, section 3. 8192/tenseal has the parameters of TenSEAL's
tutorials, for those who have such contexts.

Unit. Numbers within +-clip are multiplied by a power of two: the one that brings the clip to between 2^31 and 2^32 units
of 2^-scale_bits. Decryption divides by it. So errors are relative to the clip. TenSEAL's encoder computes in float64 and
errs by far less than the noise that is added for hiding (see Hiding).

Room. Such a number becomes coefficients of at most 2^32, because the inverse embedding averages. Noise adds at most N to
each coefficient for each unit of weight. A sum decodes while coefficients stay within q / 2.

Hiding. A sum of encodings that are rounded to integers tells more than the sum of numbers: the roundings. So normal noise
is added to each number before it is encoded, of standard deviation 3 sqrt(N) units of 2^-scale_bits. Coefficients get
noise of standard deviation 3 (the constant one 4.2) before they are rounded. Sums of roundings are then those of other
summands with the same sum, up to 2^-90 a coefficient. What is left are the errors of float64 in TenSEAL's encoder, some
2^-52 of the numbers. Encryption adds noise of standard deviation 15 to each coefficient. Beside that noise the errors of
float64 move what is decrypted of a block by a statistical distance of some 2^-25. soundness-encryption.md, section 11,
has the argument and the numbers.

Error of a sum of encryptions with factors k_i, K = sum of k_i^2, W = sum of |k_i|, in a slot with root z:
    rounding     SEAL encrypts modulo all primes and divides by the last one, p. That leaves r0 + r1 s with r0, r1
                 uniform within +-1/2 [assumed, see below]: subgaussian at z, with variance at most
                 N/24 (1 + |s(z)|^2) for each; the noise before, divided by p, adds less than
                 21 N (2 N + 1) / p. Ternary s is subgaussian as well: |s(z)|^2 <= 2 t^2 N/3.
    symmetric    no division: the noise itself, centred binomial, variance 21/2 a coefficient, so 21 N/4.
    hiding       variance 9 N.
    encoding     coefficients are rounded, by 1/2 at most: W N / 2.
    float64      two transforms, each with an error of at most 8 (log2 N + 2) 2^-53 of the Euclidean norm
                 [Hig02, 24.1]: 2 W clip sqrt(N) times that.
`error_bound` adds these up. Any number of an array exceeds it with a probability below 2^-40, whatever the numbers.
For symmetric keys that is proven. For public keys it is proven under the assumption that r0 and r1 are uniform. Ring
learning with errors says so to whoever lacks the key; the key holder has no proof of it. In sums of 1 to 1000 arrays of
random numbers, the largest error seen was 10 to 30 times below the bound (symmetric: 6 to 130). `PublicKey.error` gives
what was measured besides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from secagg.errors import PlanError, UsageError
from secagg.fixed_point import Plan
from secagg.he.scheme import Header

FAILURE_BITS: Final = 40
# Most bits of all primes together, by degree and classical security, for ternary secrets [ACC+18, table 1].
_MAX_BITS: Final = MappingProxyType(
    {4096: ((256, 58), (192, 75), (128, 109)), 8192: ((256, 118), (192, 152), (128, 218))}
)
_NOISE_LARGEST: Final = 21  # SEAL's centred binomial distribution of 42 coins
_CLIP_BITS: Final = 32  # an encoded clip lies between half of 2^32 and 2^32


@dataclass(frozen=True, slots=True)
class Context:
    """Parameters.

    Args:
      name: what parties agree on.
      degree: N, 4096 or 8192.
      prime_bits: of each prime; the last one is the key's.
      scale_bits: TenSEAL multiplies by 2^scale_bits before it rounds.
      symmetric: whether the secret key encrypts.

    Raises:
      PlanError: fewer than 128 bits of security.
    """

    name: str
    degree: int
    prime_bits: tuple[int, ...]
    scale_bits: int
    symmetric: bool = False

    def __post_init__(self) -> None:
        if self.security_bits < 128:
            raise PlanError(
                f"primes of {sum(self.prime_bits)} bits in all leave less than 128 bits of security at degree "
                f"{self.degree}"
            )

    @property
    def scheme(self) -> str:
        """Name of scheme and context, such as "ckks/4096"."""
        return f"ckks/{self.name}"

    @property
    def security_bits(self) -> int:
        """Classical security by the table of [ACC+18]; 0 where it has no line."""
        levels = _MAX_BITS.get(self.degree, ())
        return next((level for level, most in levels if sum(self.prime_bits) <= most), 0)

    @property
    def slots(self) -> int:
        """Numbers in a block."""
        return self.degree // 2

    @property
    def modulus_bits(self) -> int:
        """Bits of the ciphertexts' modulus."""
        return sum(self.prime_bits[:-1])

    @property
    def polynomial_bytes(self) -> int:
        """Bytes of one of a block's two polynomials on the wire, each coefficient in as many bits as its prime."""
        return self.degree // 8 * self.modulus_bits

    @property
    def block_bytes(self) -> int:
        """Bytes of a block on the wire."""
        return 2 * self.polynomial_bytes

    @property
    def public_key_bytes(self) -> int:
        """Bytes of a public key's polynomials on the wire."""
        return 0 if self.symmetric else 2 * 8 * self.degree * len(self.prime_bits)

    @property
    def hiding(self) -> float:
        """Deviation of the noise that is added to each number before it is encoded, in units of 2^-scale_bits."""
        return 3 * math.sqrt(self.degree)

    @property
    def expected_error(self) -> float:
        """Root mean square of the error of one encryption of numbers within +-1, by the variances of the module."""
        n = self.degree
        variance = 21 * n / 4 if self.symmetric else n / 24 * (1 + 2 * n / 3)
        return math.ldexp(
            math.sqrt(variance + n / 24 + self.hiding**2), -self.scale_bits - self.unit_bits(1.0)
        )

    def unit_bits(self, clip: float) -> int:
        """Return the exponent of the power of two that numbers within +-clip are multiplied by."""
        fraction, bits = math.frexp(clip)
        return _CLIP_BITS - self.scale_bits - (bits - 1 if fraction == 0.5 else bits)

    def blocks(self, length: int) -> int:
        """Return how many blocks an array of so many numbers takes."""
        return -(-length // self.slots)

    def ciphertext_bytes(self, length: int) -> int:
        """Return how many bytes an array of so many numbers takes on the wire."""
        return self.blocks(length) * self.block_bytes

    def check_plan(self, plan: Plan) -> None:
        """Refuse a plan whose sums could wrap.

        Raises:
          PlanError: the message says what would fit.
        """
        # SEAL's primes of b bits are the largest below 2^b that fit the degree, all above 2^b - 2^(b - 10).
        room = math.ldexp(1 - 2.0**-8, self.modulus_bits - 1)
        most = max(2, plan.parties) * plan.max_weight
        if most * (2.0**_CLIP_BITS + self.degree) > room:
            raise PlanError(
                f"{self.scheme} has room for sums of weight {int(room / (2.0**_CLIP_BITS + self.degree))}: "
                f"{plan.parties} parties with weights up to {plan.max_weight} do not fit; plan for fewer, or use the "
                "context 8192/256"
            )

    def error_bound(self, header: Header) -> float:
        """Return what the error of no number in a sum exceeds, but with probability 2^-40; see the module."""
        n, weight = self.degree, header.weight
        if self.symmetric:
            variance, left = 21 * n / 4, 0.0
        else:
            secret = 4 * _tail(2 * n) * n / 3
            variance = n / 24 * (1 + secret)
            left = math.ldexp(_NOISE_LARGEST * n * (2.0 * n + 1), 1 - self.prime_bits[-1])
        variance += self.hiding**2
        noise = math.sqrt(2 * _tail(header.length) * variance * max_squares(header))
        rounding = weight * (left + n / 2)
        transforms = 2.0**-49 * (math.log2(n) + 2) * math.sqrt(n) * weight * header.plan.clip
        shift = -self.scale_bits - self.unit_bits(header.plan.clip)
        return math.ldexp(noise + rounding, shift) + transforms


def max_squares(header: Header) -> int:
    """Return the most that the squares of a sum's factors can add up to: all summands but one have the factor 1."""
    return (header.weight - header.summands + 1) ** 2 + header.summands - 1


def _tail(events: int) -> float:
    """Return t^2 / 2 for which none of so many subgaussian numbers exceeds t deviations, but with 2^-41."""
    return math.log(2 * events) + (FAILURE_BITS + 1) * math.log(2)


_ALL: Final = (
    Context("4096", 4096, (48, 32), 40),
    Context("4096/symmetric", 4096, (48, 32), 40, symmetric=True),
    Context("8192/256", 8192, (60, 58), 40),
    Context("8192/tenseal", 8192, (60, 40, 40, 60), 40),
)
CONTEXTS: Final = MappingProxyType({context.name: context for context in _ALL})


def named(name: str) -> Context:
    """Return the context of that name.

    Raises:
      UsageError: there is none.
    """
    context = CONTEXTS.get(name)
    if context is None:
        raise UsageError(f"expected a context of CKKS, one of {', '.join(CONTEXTS)}; got {name!r:.40}")
    return context
