"""Paillier's public key [Pai99] with the exponents of [DJ01] and the short randomizers of [DJN10].

Public: n = p q, s, and h = -x^2 modulo n for a random x. Encryption of m < n^s draws a uniform a of `randomizer_bits`
bits:  c = (1 + n)^m h_s^a modulo n^(s+1), h_s = h^(n^s).

What hides m: h_s^a looks like a random n^s-th residue. For |a| = |n| / 2, the default, that follows from the
hardness of factoring [DJN10, by GR03]. Then m is hidden if deciding n-th residues is hard [Pai99; for s > 1, DJ01].
`randomizer_bits=512` needs one assumption more: exponents of 512 bits look like longer ones in a group of unknown
order. The best known attack takes 2^256 steps. A key without h, such as other software's, gets randomizers r^(n^s)
with a uniform r < n. They rest on the hardness of deciding residues alone. An r with a factor in common with n is not
looked for: who finds one has factored n.

h and `randomizer_bits` belong to the key and to its id: a dishonest h of small order would lay all messages open.
Take public keys from whom you would give the data to. What a single party can check of n and h is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import ClassVar, Self

import gmpy2
from gmpy2 import mpz
from numpy.typing import ArrayLike

from secagg import fixed_point, signing, wire
from secagg.errors import RemoteProtocolError, UsageError
from secagg.fixed_point import Plan
from secagg.he import scheme
from secagg.he.paillier import checks, residues
from secagg.he.paillier.checks import SMALLEST_KEY_BITS
from secagg.he.paillier.ciphertexts import Ciphertext, CiphertextMessage
from secagg.he.paillier.packing import Packing
from secagg.he.paillier.randomizers import (
    GrowingBase,
    RandomizerSource,
    draw_below,
    draw_exponents,
)
from secagg.he.paillier.residues import Digits, Modulus
from secagg.he.paillier.workers import in_parts
from secagg.he.scheme import ExactPublicKey, Header
from secagg.prg import Stream, system_stream
from secagg.ring import RingArray
from secagg.wire import Buffer, Message


class PublicKeyMessage(Message, frozen=True):
    """A public key on the wire: numbers in little-endian order; no h is the empty string."""

    n: bytes
    s: int
    h: bytes
    randomizer_bits: int


class PublicKey(ExactPublicKey):
    """A public key.

    Args:
      n: product of two primes of equal length.
      s: plaintexts are modulo n^s; 1, 2 or 3.
      h: base of the randomizers; without it they are r^(n^s).
      randomizer_bits: length of the exponents a, half of n's if not given; 512 at least. None without h.

    Raises:
      UsageError: what cannot be a key; the message says why.
    """

    __slots__ = ("_key_id", "_randomizers", "h", "modulus", "randomizer_bits")

    message_type: ClassVar[type[Message]] = PublicKeyMessage
    ciphertext_type: ClassVar[type[Message]] = CiphertextMessage

    modulus: Modulus
    h: mpz | None
    randomizer_bits: int | None

    def __init__(
        self, n: int, *, s: int = 1, h: int | None = None, randomizer_bits: int | None = None
    ) -> None:
        self._set(n, s, h, randomizer_bits, SMALLEST_KEY_BITS)

    def _set(self, n: int, s: int, h: int | None, randomizer_bits: int | None, smallest_bits: int) -> None:
        checks.check_modulus(mpz(n), s, smallest_bits)
        self.modulus, self.h = Modulus(mpz(n), s), None if h is None else mpz(h)
        if self.h is not None:
            randomizer_bits = int(self.n.bit_length()) // 2 if randomizer_bits is None else randomizer_bits
            checks.check_randomizers(self.n, self.h, randomizer_bits)
        elif randomizer_bits is not None:
            raise UsageError(
                "randomizers of a chosen length need the key's h; without it they have n's length"
            )
        self.randomizer_bits = randomizer_bits
        self._key_id = signing.digest(
            "secagg.he.paillier/public key",
            [
                checks.octets(self.n),
                bytes([s]),
                checks.octets(self.h or mpz(0)),
                str(randomizer_bits).encode(),
            ],
        )
        self._randomizers: GrowingBase | None = None
        if self.h is not None and randomizer_bits is not None:
            base = partial(gmpy2.powmod, self.h, self.modulus.plaintext, self.modulus.ciphertext)
            self._randomizers = GrowingBase(base, self.modulus.ciphertext, randomizer_bits)

    @property
    def n(self) -> mpz:
        """The product of two primes."""
        return self.modulus.n

    @property
    def s(self) -> int:
        """Plaintexts are modulo n^s."""
        return self.modulus.s

    @property
    def scheme(self) -> str:
        """The name "paillier/s"."""
        return f"paillier/{self.s}"

    @property
    def key_id(self) -> bytes:
        """SHA-256 of n, s, h and randomizer_bits."""
        return self._key_id

    @property
    def bits(self) -> int:
        """Length of n."""
        return int(self.n.bit_length())

    @property
    def payload_bytes(self) -> int:
        """0: the message has no arrays."""
        return 0

    def numbers_together(self, plan: Plan) -> int:
        """Return how many numbers a residue has room for."""
        return Packing.densest(plan, self.modulus.plaintext).slots

    def ciphertext_bytes(self, plan: Plan, length: int) -> int:
        """Return the bytes of the arrays in the message of a ciphertext of `length` numbers."""
        residues = Packing.densest(plan, self.modulus.plaintext).count(length)
        return residues * (self.s + 1) * self.modulus.digit_bytes

    def encrypt(
        self,
        values: ArrayLike,
        plan: Plan,
        *,
        rng: Stream | None = None,
        executor: Executor | None = None,
        randomizers: RandomizerSource | None = None,
        slots: int | None = None,
    ) -> Ciphertext:
        """Return the encryption of an array; see `scheme.PublicKey.encrypt`.

        Args:
          randomizers: where randomizers are taken from instead of being computed now.
          slots: numbers in a residue; as many as fit, if not given.
        """
        encoded = fixed_point.encode(values, plan).values
        return self.encrypt_encoded(
            encoded, plan, rng=rng, executor=executor, randomizers=randomizers, slots=slots
        )

    def encrypt_encoded(
        self,
        values: RingArray,
        plan: Plan,
        *,
        weight: int = 1,
        rng: Stream | None = None,
        executor: Executor | None = None,
        randomizers: RandomizerSource | None = None,
        slots: int | None = None,
    ) -> Ciphertext:
        """Return the encryption of an encoded array; see `scheme.ExactPublicKey.encrypt_encoded` and `encrypt`."""
        scheme.check_encoded(values, plan, weight)
        modulus = self.modulus.plaintext
        packing = Packing.densest(plan, modulus) if slots is None else Packing(plan, modulus, slots)
        drawn = self.draw_randomizers(
            packing.count(values.size), rng=rng, executor=executor, randomizers=randomizers
        )
        header = Header(self.scheme, self.key_id, plan, values.shape, weight=weight)
        return Ciphertext(
            header, self.modulus, packing.slots, residues.blind(drawn, packing.pack(values), self.n)
        )

    def rerandomize(
        self,
        ciphertext: Ciphertext,
        *,
        rng: Stream | None = None,
        randomizers: RandomizerSource | None = None,
        executor: Executor | None = None,
    ) -> Ciphertext:
        """Return another ciphertext of the same numbers, which nobody without the key can tell from a fresh one.

        Args:
          ciphertext: under this key.
          rng, randomizers, executor: as in `encrypt`.

        Raises:
          UsageError: a ciphertext under another key, or both rng and randomizers.
        """
        scheme.check_ciphertext(ciphertext, self)
        fresh = self.draw_randomizers(
            ciphertext.residues, rng=rng, randomizers=randomizers, executor=executor
        )
        return ciphertext.times_randomizers(fresh)

    def prepare(self, *, window: int | None = None, executor: Executor | None = None) -> None:
        """Build the table that randomizers are computed with, once for all; otherwise it grows with use.

        Args:
          window: bits of an exponent for each product: more save products, and make the table larger; see `randomizers`.
            By default what is fastest on this machine.
          executor: threads to build it with.

        Raises:
          UsageError: a window out of range.
        """
        if self._randomizers is not None:
            self._randomizers.prepare(window, executor)

    def draw_randomizers(
        self,
        count: int,
        *,
        rng: Stream | None = None,
        executor: Executor | None = None,
        randomizers: RandomizerSource | None = None,
    ) -> Digits:
        """Return random n^s-th residues modulo n^(s+1), in digits.

        Raises:
          UsageError: both rng and randomizers, or randomizers of another key.
        """
        if randomizers is not None:
            if rng is not None:
                raise UsageError("randomizers come from a pool or from rng: give one of the two")
            if randomizers.key_id != self.key_id:
                raise UsageError(f"expected randomizers of {self!r}, got {randomizers!r}")
            return randomizers.take(count)
        rng = system_stream() if rng is None else rng
        if self._randomizers is not None and self.randomizer_bits is not None:
            drawn = self._randomizers.powers(draw_exponents(count, self.randomizer_bits, rng), executor)
        else:
            randoms = draw_below(self.n, count, rng)

            def part(start: int, stop: int) -> list[mpz]:
                powers: list[mpz] = gmpy2.powmod_base_list(
                    randoms[start:stop], self.modulus.plaintext, self.modulus.ciphertext
                )
                return powers

            drawn = [randomizer for one in in_parts(part, count, executor, step=2) for randomizer in one]
        return residues.to_digits(drawn, self.n, self.s)

    def read(self, message: CiphertextMessage, *, peer: str = "") -> Ciphertext:
        """Return the ciphertext in a message from a peer.

        Raises:
          RemoteProtocolError: it is none under this key: another scheme or key, a block of another shape, or a
            residue out of range or not coprime to n.
        """
        try:
            header = Header.from_fields(message.header)
            scheme.check_header(header, self)
            return Ciphertext.from_block(message.block, header, self.modulus, message.slots)
        except UsageError as error:
            source = peer or "the stored bytes"
            raise RemoteProtocolError(f"a Paillier ciphertext from {source}: {error}", peer=peer) from None

    def read_bytes(self, data: Buffer, *, peer: str = "") -> Ciphertext:
        """Return the ciphertext that `Ciphertext.to_bytes` made bytes of.

        Raises:
          WireError: the bytes are no Paillier ciphertext.
          RemoteProtocolError: as `read`.
        """
        return self.read(wire.from_bytes(data, CiphertextMessage, peer=peer), peer=peer)

    def read_integers(self, values: Sequence[int], header: Header, *, slots: int) -> Ciphertext:
        """Return the ciphertext that consists of these residues.

        Args:
          values: 0 < c < n^(s+1), coprime to n, one for every `slots` numbers.
          header: what it is.
          slots: numbers in each residue.

        Raises:
          UsageError: a residue out of range or not coprime to n, or a header of another scheme or key.
          ShapeError: too many or too few residues.
        """
        scheme.check_header(header, self)
        return Ciphertext.from_integers(values, header, self.modulus, slots)

    @classmethod
    def from_message(cls, message: PublicKeyMessage, *, peer: str = "") -> Self:
        """Return the key in a message.

        Raises:
          RemoteProtocolError: it cannot be a key; the message says why.
        """
        try:
            h = checks.number(message.h) if message.h else None
            return cls(
                checks.number(message.n), s=message.s, h=h, randomizer_bits=message.randomizer_bits or None
            )
        except UsageError as error:
            source = peer or "the stored bytes"
            raise RemoteProtocolError(f"a Paillier key from {source}: {error}", peer=peer) from None

    @classmethod
    def from_bytes(cls, data: Buffer, *, peer: str = "") -> Self:
        """Return the key that `to_bytes` made bytes of.

        Raises:
          WireError: the bytes are no public Paillier key.
          RemoteProtocolError: as `from_message`.
        """
        return cls.from_message(wire.from_bytes(data, PublicKeyMessage, peer=peer), peer=peer)

    def to_message(self) -> PublicKeyMessage:
        h = b"" if self.h is None else checks.octets(self.h)
        return PublicKeyMessage(checks.octets(self.n), self.s, h, self.randomizer_bits or 0)
