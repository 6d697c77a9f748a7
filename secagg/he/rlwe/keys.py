"""Additive encryption under ring learning with errors: keys of one key holder, and what encrypts.

[LPR10] with plaintexts in the high bits [BV11], polynomials modulo X^N + 1 and q = 2^w:

    secret key   s ternary
    public key   (a, b),  b = e - a s,  a expanded from a public seed, drawn afresh for every key
    encrypt m    u ternary, e0, e1 noise, afresh for every block:
                 c0 = b u + e0 + m 2^shift,  c1 = a u + e1
    decrypt      round((c0 + c1 s) / 2^shift)

Threat model: whoever has no secret key learns nothing of the numbers (parameters: see `parameters`). The key
holder decrypts everything: `threshold` shares it among several. Clients encrypt honestly: a
dishonest client can make a ciphertext whose decryption, if published, gives the key away. Decryptions of what
strangers sent therefore stay with the key holder. Plans whose sums could decode wrong are refused, see `noise`.

There is no encryption with the secret key. It would save half the bytes of a fresh ciphertext only where a seed stands for
c1, which no sum keeps. And every block would need an a that is never used twice: two ciphertexts under one a differ by
noise and message alone. Here a is used by one key only, each time with a fresh u.

Cost: 16, 24 or 32 bytes a number. A block takes 2 L + 1 transforms of N/2 points to encrypt and 2 L to decrypt, L = 2, 3
or 5.

Longer than most modules: encryption, decryption and opening rest on one choice of parameters and noise.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from secagg import signing, wire
from secagg.errors import RangeError, UsageError, WireError
from secagg.fixed_point import Plan
from secagg.he import scheme
from secagg.he.rlwe import noise, sampling
from secagg.he.rlwe.ciphertexts import Ciphertext, CiphertextMessage
from secagg.he.rlwe.parameters import Parameters, from_wire, parameters
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.rlwe.products import (
    Workspace,
    batch_blocks,
    multiply,
    share,
    transform_keys,
    transform_secret,
)
from secagg.he.scheme import (
    ExactPublicKey,
    ExactSecretKey,
    Header,
    check_ciphertext,
    check_encoded,
    check_header,
)
from secagg.prg import KEY_BYTES, Stream, derive_key, system_stream
from secagg.ring import RingArray
from secagg.wire import Message

SEED_BYTES: Final = 32
MAX_HOLDERS: Final = 1 << 10
_SINGLE: Final = parameters(64)


class PublicKeyMessage(Message, frozen=True):
    """A public key on the wire."""

    degree: int
    modulus_bits: int
    seed: bytes
    b: tuple[NDArray[np.unsignedinteger[Any]], ...]
    holders: int
    flood_bits: int


class SecretKeyMessage(Message, frozen=True):
    """A secret key; for `key_files` alone."""

    public_key: PublicKeyMessage
    secret: NDArray[np.int8]


class PublicKey(ExactPublicKey):
    """What encrypts, under one key holder's secret or under the sum of several holders'.

    Args:
      parameters: one of the three sets.
      seed: 32 public bytes that a is expanded from; no other key has them.
      b: one polynomial, the sum of the key holders' e_i - a s_i.
      holders: how many secrets the key stands for.
      flood_bits: F, how far each key holder floods what it decrypts; 0 for a single key holder.

    Raises:
      UsageError: another number of blocks, a seed of another length, or key holders that do not flood.
    """

    __slots__ = ("_kept", "_key_id", "_transforms", "b", "flood_bits", "holders", "parameters", "seed")

    message_type: ClassVar[type[Message]] = PublicKeyMessage
    ciphertext_type: ClassVar[type[Message]] = CiphertextMessage

    def __init__(
        self, parameters: Parameters, seed: bytes, b: Polynomials, *, holders: int = 1, flood_bits: int = 0
    ) -> None:
        if len(seed) != SEED_BYTES:
            raise UsageError(f"expected a seed of {SEED_BYTES} bytes, got {len(seed)}")
        if b.parameters != parameters or b.blocks != 1:
            raise UsageError(f"expected b to be one polynomial of {parameters.name}, got {b!r}")
        if not 1 <= holders <= MAX_HOLDERS or not 0 <= flood_bits < parameters.modulus_bits:
            raise UsageError(
                f"expected 1 to {MAX_HOLDERS} key holders and 0 to {parameters.modulus_bits - 1} flood_bits, "
                f"got {holders} and {flood_bits}"
            )
        if holders > 1 and not flood_bits:
            raise UsageError(
                f"a key of {holders} key holders needs flood_bits: without, shares give secrets away"
            )
        self.parameters, self.seed, self.holders, self.flood_bits = (
            parameters,
            bytes(seed),
            holders,
            flood_bits,
        )
        self.b = b.copy()
        for word in self.b.words:
            word.setflags(write=False)
        self._key_id = signing.digest(
            "secagg.he.rlwe/public key",
            [
                parameters.name.encode(),
                self.seed,
                b.digest(),
                holders.to_bytes(8, "big"),
                bytes([flood_bits]),
            ],
        )
        self._transforms = transform_keys([b, expand_seed(parameters, self.seed)])
        self._kept: list[Workspace] = []

    @classmethod
    def from_message(cls, message: PublicKeyMessage, *, peer: str = "") -> Self:
        """Return the key that came over the wire.

        Raises:
          WireError: it is not a public key; the message says what is wrong with it.
        """
        p = from_wire(message.degree, message.modulus_bits, peer=peer)
        b = Polynomials.from_words(p, message.b, 1, peer=peer)
        try:
            return cls(p, message.seed, b, holders=message.holders, flood_bits=message.flood_bits)
        except UsageError as error:
            raise WireError(f"{error}; from {peer or 'the stored bytes'}", peer=peer) from None

    @classmethod
    def from_bytes(cls, data: wire.Buffer, *, peer: str = "") -> Self:
        """Return the key that `to_bytes` made bytes of; raises as `from_message` does."""
        return cls.from_message(wire.from_bytes(data, PublicKeyMessage, peer=peer), peer=peer)

    @property
    def payload_bytes(self) -> int:
        return self.parameters.degree * self.parameters.modulus_bits // 8

    def numbers_together(self, plan: Plan) -> int:
        del plan
        return self.parameters.degree

    def ciphertext_bytes(self, plan: Plan, length: int) -> int:
        del plan
        return 2 * self.parameters.blocks(length) * self.payload_bytes

    def read(self, message: CiphertextMessage, *, peer: str = "") -> Ciphertext:
        """Return the ciphertext that came over the wire, if it is under this key; shares memory with the message.

        Raises:
          WireError: not a ciphertext, or under another key; the message says what is wrong with it.
        """
        try:
            header = Header.from_fields(message.header)
            check_header(header, self)
            return Ciphertext.from_message(message, header, self.parameters, peer=peer)
        except UsageError as error:
            raise WireError(f"{error}; from {peer or 'the stored bytes'}", peer=peer) from None

    def read_bytes(self, data: wire.Buffer, *, peer: str = "") -> Ciphertext:
        """Return the ciphertext that `Ciphertext.to_bytes` made bytes of; raises as `read` does."""
        return self.read(wire.from_bytes(data, CiphertextMessage, peer=peer), peer=peer)

    def __reduce__(self) -> tuple[Any, ...]:
        # As its bytes: the memory kept for encrypting holds secrets of the last ciphertexts.
        return type(self).from_bytes, (self.to_bytes(),)

    @property
    def scheme(self) -> str:
        return self.parameters.name

    @property
    def key_id(self) -> bytes:
        return self._key_id

    def to_message(self) -> PublicKeyMessage:
        p = self.parameters
        return PublicKeyMessage(
            p.degree, p.modulus_bits, self.seed, self.b.words, self.holders, self.flood_bits
        )

    def encrypt_encoded(
        self,
        values: RingArray,
        plan: Plan,
        *,
        weight: int = 1,
        rng: Stream | None = None,
        executor: Executor | None = None,
    ) -> Ciphertext:
        check_encoded(values, plan, weight)
        p = self.parameters
        header = Header(p.name, self._key_id, plan, values.shape, summands=1, weight=weight)
        blocks = p.blocks(values.size)
        noise.check(plan, p, coefficients=blocks * p.degree, holders=self.holders, flood_bits=self.flood_bits)
        shift = noise.shift(plan, p)
        flat = np.ascontiguousarray(values).reshape(-1)
        words = Polynomials.empty(p, 2 * blocks)
        step = min(batch_blocks(p), blocks)
        starts = range(0, blocks, step)
        # A key of its own for each batch: what is drawn does not depend on which thread does what.
        keys = (rng or system_stream()).bytes(KEY_BYTES * len(starts))

        def run(batches: range) -> None:
            work = Workspace.taken_from(self._kept, p, step)
            for start in batches:
                stop, number = min(start + step, blocks), start // step
                stream = Stream(keys[KEY_BYTES * number : KEY_BYTES * (number + 1)])
                rows = stop - start
                ternary, counts, coins = work.ternary[:rows], work.counts[:, :rows], work.coins(2, rows)
                sampling.ternary(ternary, stream)
                numbers = flat[start * p.degree : stop * p.degree]
                if p.high_dtype is None:
                    # Noise goes to the byte below them: a plan that `noise.check` lets pass has a shift of 12 or more.
                    with_noise = counts[0].reshape(-1)
                    np.left_shift(numbers, shift, out=with_noise[: numbers.size], dtype=np.uint64)
                    with_noise[numbers.size :] = 0
                sampling.noise_counts(counts, coins, stream)
                halves = tuple(word.reshape(2, blocks, p.degree)[:, start:stop] for word in words.words)
                work.multiply_keys(self._transforms, work.load_small(ternary), halves, counts)
                if p.high_dtype is not None:
                    words.rows(start, stop).add_shifted(numbers, shift, coins)
            self._kept.append(work)

        share(run, starts, executor)
        return Ciphertext(header, words)


class SecretKey(ExactSecretKey):
    """A single key holder's secret; use `generate`.

    Args:
      public_key: of one key holder.
      secret: -1, 0 and 1, int8, shape (N,), in stored order.

    Raises:
      UsageError: the two do not belong together.
    """

    __slots__ = ("_kept", "_public_key", "_secret", "_transform")

    def __init__(self, public_key: PublicKey, secret: NDArray[np.int8]) -> None:
        p = public_key.parameters
        if public_key.holders != 1 or public_key.flood_bits:
            raise UsageError(
                f"expected the public key of a single key holder, got one of {public_key.holders} with flooding"
            )
        if secret.shape != (p.degree,) or secret.dtype != np.int8 or int(np.max(np.abs(secret))) > 1:
            raise UsageError(f"expected a secret of {p.degree} int8 of -1, 0 and 1")
        self._public_key, self._secret = public_key, secret.copy()
        self._transform = transform_secret(secret, p)
        self._kept: list[Workspace] = []
        rest = multiply(expand_seed(p, public_key.seed), self._transform)
        rest += public_key.b
        if rest.round_off(p.modulus_bits - 1).residual > sampling.ETA:
            raise UsageError("the secret does not belong to the public key")

    @classmethod
    def generate(cls, parameters: Parameters = _SINGLE, *, rng: Stream | None = None) -> Self:
        """Return a new key.

        Args:
          parameters: one of the three sets.
          rng: where the key comes from; without it, the operating system.
        """
        rng = rng or system_stream()
        seed = rng.bytes(SEED_BYTES)
        secret = draw_secret(parameters, rng)
        return cls(PublicKey(parameters, seed, public_part(parameters, seed, secret, rng)), secret)

    @classmethod
    def from_message(cls, message: SecretKeyMessage, *, peer: str = "") -> Self:
        """Return the key that was kept.

        Raises:
          WireError: it is not a secret key.
        """
        public_key = PublicKey.from_message(message.public_key, peer=peer)
        try:
            return cls(public_key, message.secret)
        except UsageError as error:
            raise WireError(f"{error}; from {peer or 'the stored bytes'}", peer=peer) from None

    @property
    def public_key(self) -> PublicKey:
        return self._public_key

    def to_message(self) -> SecretKeyMessage:
        return SecretKeyMessage(self._public_key.to_message(), self._secret)

    def decrypt_encoded(
        self, ciphertext: scheme.Ciphertext, *, executor: Executor | None = None
    ) -> RingArray:
        check_ciphertext(ciphertext, self._public_key)
        if not isinstance(ciphertext, Ciphertext):
            raise UsageError(f"expected a ciphertext of {self._public_key.scheme}, got {ciphertext!r}")
        p, c0, c1 = self._public_key.parameters, ciphertext.c0, ciphertext.c1
        opening = Opening(ciphertext.header, p, squares=ciphertext.squares)
        step = min(batch_blocks(p), c0.blocks)

        def run(batches: range) -> None:
            work = Workspace.taken_from(self._kept, p, step)
            for start in batches:
                stop = min(start + step, c0.blocks)
                x = work.words.rows(0, stop - start)
                work.multiply(c1.rows(start, stop), self._transform, x)
                x += c0.rows(start, stop)
                opening.load(start, x, work.coins(stop - start))
            self._kept.append(work)

        share(run, range(0, c0.blocks, step), executor)
        return opening.values()


class Opening:
    """Collects what c0 plus c1 times the secret comes to, block by block.

    Args:
      header, squares: of the ciphertext that is decrypted.
      p: its parameters.
      holders, flood_bits: of the key.
    """

    def __init__(
        self, header: Header, p: Parameters, *, squares: int, holders: int = 1, flood_bits: int = 0
    ) -> None:
        blocks = p.blocks(header.length)
        self._header = header
        self._shift = noise.shift(header.plan, p)
        self._most = noise.largest_residual(
            header.plan,
            p,
            holders=holders,
            flood_bits=flood_bits,
            weight=header.weight,
            squares=squares,
            coefficients=blocks * p.degree,
        )
        self._numbers = np.empty((blocks, p.degree), header.plan.ring.dtype)
        self._residuals = [0] * blocks

    def load(self, start: int, x: Polynomials, scratch: NDArray[np.uint64] | None = None) -> None:
        """Take some of the blocks of c0 + c1 s, the first being number `start`; from any thread.

        Args:
          start: number of the first block.
          x: holds anything afterwards.
          scratch: uint64, shape (blocks, N), overwritten; without it, new memory.
        """
        numbers = self._numbers[start : start + x.blocks]
        if numbers.dtype == np.uint64:
            self._residuals[start] = x.round_into(numbers, self._shift)
            return
        rounded = np.empty(numbers.shape, np.uint64) if scratch is None else scratch
        self._residuals[start] = x.round_into(rounded, self._shift)
        # Sums fit the ring, so that its elements are the low parts of what was rounded.
        np.copyto(numbers, rounded, casting="unsafe")

    def values(self) -> RingArray:
        """Return the encoded numbers, elements of the plan's ring, once all blocks were loaded.

        Raises:
          RangeError: coefficients further from multiples of 2^shift than the noise of this sum can be, or numbers in
            the part of the last block that has none: it was altered, or is no sum of honest encryptions.
        """
        header = self._header
        flat = self._numbers.reshape(-1)
        if max(self._residuals) > self._most or np.any(flat[header.length :]):
            raise RangeError(
                f"this is no sum of {header.summands} encryptions under key {header.key_id.hex()[:16]}: decrypted, it "
                "is not near encoded numbers. It was altered, or not encrypted as agreed"
            )
        return flat[: header.length].reshape(header.shape)


def expand_seed(parameters: Parameters, seed: bytes) -> Polynomials:
    """Return the public polynomial a that a seed stands for."""
    key = derive_key(seed, label="secagg.he.rlwe/a", context=parameters.name.encode())
    return sampling.uniform(parameters, 1, Stream(key))


def draw_secret(parameters: Parameters, rng: Stream) -> NDArray[np.int8]:
    """Return a secret: uniform -1, 0 and 1, int8, shape (N,), in stored order."""
    secret = np.empty(parameters.degree, np.int8)
    sampling.ternary(secret, rng)
    return secret


def public_part(parameters: Parameters, seed: bytes, secret: NDArray[np.int8], rng: Stream) -> Polynomials:
    """Return b = e - a s with fresh noise e and the a of a seed: one polynomial."""
    b = multiply(expand_seed(parameters, seed), transform_secret(-secret, parameters))
    b.add_signed(sampling.noise((1, parameters.degree), rng))
    return b
