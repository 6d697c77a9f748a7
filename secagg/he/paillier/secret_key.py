"""Paillier's secret key: the prime factors of n.

The key's owner encrypts by the formula of `public_key`, modulo p^(s+1) and q^(s+1): equal random streams give equal
ciphertexts. The owner decrypts by `Factor.decrypt`, blinded. Exponentiation is not `powmod_sec`, which takes 1.5 times
as long. Its duration and its traces in caches depend on p - 1 and q - 1. Keep programs that are not trusted off the
machine that decrypts.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Self

from gmpy2 import invert, mpz
from numpy.typing import ArrayLike

from secagg import fixed_point
from secagg.errors import RemoteProtocolError, UsageError
from secagg.fixed_point import Plan
from secagg.he import scheme
from secagg.he.paillier import checks, primes, residues
from secagg.he.paillier.checks import LARGEST_KEY_BITS, SMALLEST_KEY_BITS
from secagg.he.paillier.ciphertexts import Ciphertext
from secagg.he.paillier.factors import Factor, combine
from secagg.he.paillier.packing import Packing
from secagg.he.paillier.public_key import PublicKey, PublicKeyMessage
from secagg.he.paillier.randomizers import draw_below, draw_exponents, random_base
from secagg.he.paillier.residues import Digits
from secagg.he.scheme import ExactSecretKey
from secagg.prg import Stream, system_stream
from secagg.ring import RingArray
from secagg.wire import Message


class SecretKeyMessage(Message, frozen=True):
    """A secret key as it is kept."""

    public_key: PublicKeyMessage
    p: bytes
    q: bytes


class SecretKey(ExactSecretKey):
    """A secret key: the prime factors of n.

    Args:
      public_key: to which it belongs.
      p, q: its prime factors.

    Raises:
      UsageError: they are not; or, where the key has an h, they or it are not what short randomizers need.
    """

    __slots__ = ("_inverses", "_p", "_public_key", "_q")

    def __init__(self, public_key: PublicKey, p: int, q: int) -> None:
        p, q = mpz(p), mpz(q)
        checks.check_factors(public_key.n, public_key.h, p, q)
        self._public_key = public_key
        key = public_key
        self._p, self._q = (Factor(prime, key.n, key.s, key.h, key.randomizer_bits) for prime in (p, q))
        # For ciphertexts modulo n^(s+1) and for plaintexts modulo n^s.
        self._inverses = (
            invert(self._p.modulus, self._q.modulus),
            invert(self._p.plaintext_modulus, self._q.plaintext_modulus),
        )

    @classmethod
    def generate(
        cls,
        bits: int = 3072,
        *,
        s: int = 1,
        randomizer_bits: int | None = None,
        rng: Stream | None = None,
        executor: Executor | None = None,
    ) -> Self:
        """Return a new key.

        Args:
          bits: length of n, even, 2048 to 16384. 3072 stand for 128 bits of security.
          s: plaintexts are modulo n^s; 2 takes three quarters of the bytes of 1 for each number.
          randomizer_bits: length of the randomizers' exponents if it shall be less than half of n's, 512 at least. They
            make encryption up to 3 times faster and need an assumption more: see the module.
          rng: where all randomness comes from; without it, the operating system.
          executor: threads to search primes with.

        Raises:
          UsageError: an argument out of range.
        """
        if not SMALLEST_KEY_BITS <= bits <= LARGEST_KEY_BITS:
            raise UsageError(
                f"a key is generated with {SMALLEST_KEY_BITS} to {LARGEST_KEY_BITS} bits, not {bits}; 3072 is usual"
            )
        rng = system_stream() if rng is None else rng
        p, q = primes.prime_pair(bits, rng=rng, executor=executor)
        n = p * q
        public_key = PublicKey(n, s=s, h=random_base(n, rng), randomizer_bits=randomizer_bits)
        return cls(public_key, p, q)

    @classmethod
    def _from_primes(cls, p: int, q: int, *, s: int = 1, x: int | None = 2, smallest_bits: int = 0) -> Self:
        """Return the key with these factors and h = -x^2 (none if x is None), skipping only the check of its size."""
        public_key = PublicKey.__new__(PublicKey)
        public_key._set(p * q, s, None if x is None else -x * x % (p * q), None, smallest_bits)
        return cls(public_key, p, q)

    @property
    def public_key(self) -> PublicKey:
        """The key to encrypt with, if not with this one."""
        return self._public_key

    def encrypt(
        self, values: ArrayLike, plan: Plan, *, rng: Stream | None = None, executor: Executor | None = None
    ) -> Ciphertext:
        """Return what `PublicKey.encrypt` returns, faster."""
        encoded = fixed_point.encode(values, plan).values
        return self.encrypt_encoded(encoded, plan, rng=rng, executor=executor)

    def encrypt_encoded(
        self,
        values: RingArray,
        plan: Plan,
        *,
        weight: int = 1,
        rng: Stream | None = None,
        executor: Executor | None = None,
    ) -> Ciphertext:
        """Return what `PublicKey.encrypt_encoded` returns, from the same random numbers, faster."""
        randomizers = _OwnersRandomizers(self, rng, executor)
        return self._public_key.encrypt_encoded(values, plan, weight=weight, randomizers=randomizers)

    def prepare(self, *, window: int | None = None, executor: Executor | None = None) -> None:
        """Build the tables that randomizers are computed with, once for all, as `PublicKey.prepare` does."""
        for randomizers in (self._p.randomizers, self._q.randomizers):
            if randomizers is not None:
                randomizers.prepare(window, executor)

    def draw_randomizers(
        self, count: int, *, rng: Stream | None = None, executor: Executor | None = None
    ) -> Digits:
        """Return what `PublicKey.draw_randomizers` returns, from the same random numbers, faster."""
        key = self._public_key
        rng = system_stream() if rng is None else rng
        if (
            self._p.randomizers is not None
            and self._q.randomizers is not None
            and key.randomizer_bits is not None
        ):
            exponents = draw_exponents(count, key.randomizer_bits, rng)
            of_p, of_q = (
                randomizers.powers(exponents, executor)
                for randomizers in (self._p.randomizers, self._q.randomizers)
            )
        else:
            randoms = draw_below(key.n, count, rng)
            of_p, of_q = (factor.full_randomizers(randoms, executor) for factor in (self._p, self._q))
        randomizers = combine(self._p.modulus, self._q.modulus, self._inverses[0], of_p, of_q)
        return residues.to_digits(randomizers, key.n, key.s)

    def decrypt_encoded(
        self, ciphertext: scheme.Ciphertext, *, executor: Executor | None = None
    ) -> RingArray:
        header = scheme.check_ciphertext(ciphertext, self._public_key)
        if not isinstance(ciphertext, Ciphertext):
            raise UsageError(f"expected a Paillier ciphertext, got {type(ciphertext).__name__}")
        plaintexts = self.decrypt_residues(ciphertext.digits, executor=executor)
        packing = Packing(header.plan, self._public_key.modulus.plaintext, ciphertext.slots)
        return packing.unpack(plaintexts, header)

    def decrypt_residues(self, digits: Digits, *, executor: Executor | None = None) -> list[mpz]:
        """Return the plaintexts, 0 <= m < n^s, of residues modulo n^(s+1) that are coprime to n."""
        rng = system_stream()
        of_p, of_q = (factor.decrypt(digits, rng, executor) for factor in (self._p, self._q))
        p, q = self._p.plaintext_modulus, self._q.plaintext_modulus
        return combine(p, q, self._inverses[1], of_p, of_q)

    def prime_factors(self) -> tuple[int, int]:
        """Return p and q. They are secret."""
        return int(self._p.p), int(self._q.p)

    def to_message(self) -> SecretKeyMessage:
        return SecretKeyMessage(
            self._public_key.to_message(), checks.octets(self._p.p), checks.octets(self._q.p)
        )

    @classmethod
    def from_message(cls, message: SecretKeyMessage, *, peer: str = "") -> Self:
        """Return the key in a message.

        Raises:
          RemoteProtocolError: it cannot be a key; the message says why.
        """
        public_key = PublicKey.from_message(message.public_key, peer=peer)
        try:
            return cls(public_key, checks.number(message.p), checks.number(message.q))
        except UsageError as error:
            source = peer or "the stored bytes"
            raise RemoteProtocolError(f"a Paillier key from {source}: {error}", peer=peer) from None


@dataclass(frozen=True, slots=True, repr=False)
class _OwnersRandomizers:
    """Randomizers as the owner of the key computes them."""

    key: SecretKey
    rng: Stream | None
    executor: Executor | None

    @property
    def key_id(self) -> bytes:
        return self.key.public_key.key_id

    def take(self, count: int) -> Digits:
        return self.key.draw_randomizers(count, rng=self.rng, executor=self.executor)
