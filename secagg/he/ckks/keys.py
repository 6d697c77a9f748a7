"""CKKS keys in TenSEAL's contexts, what goes over the wire of them, and the error that results are given with.

A public key is the name of its parameters and two polynomials; under a symmetric context it has none, and can add but not
encrypt. A receiver puts a context of TenSEAL's together from the parameters of that name and these coefficients (`native`).
So nobody encrypts under parameters that a peer made up, and TenSEAL reads no other keys.

The error. Who encrypts cannot see the error, which takes the secret key, and it does not depend on the numbers. So it
is measured when the key is made and whenever it is loaded. A block of numbers within +-1 is encrypted and decrypted; the
key is refused if they come out further away than `Context.error_bound` says. The root mean square goes with the public key,
by the word of the key holder, and `PublicKey.error` says what follows for a sum.
"""

from __future__ import annotations

import math
import os
import struct
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tenseal import _ts_cpp as _tenseal

from secagg import fixed_point, prg, signing, wire
from secagg.errors import RangeError, ShapeError, UsageError, WireError
from secagg.fixed_point import Plan
from secagg.he import scheme
from secagg.he.ckks import native
from secagg.he.ckks.ciphertexts import Ciphertext, CiphertextMessage
from secagg.he.ckks.contexts import CONTEXTS, Context, max_squares, named
from secagg.he.ckks.native import KEY, PUBLIC, SECRET, Native, PublicContext
from secagg.he.scheme import KEY_ID_BYTES, Header, check_ciphertext, check_header
from secagg.prg import Stream
from secagg.wire import Message

KEY_NONCE_BYTES: Final = 32
_DEFAULT: Final = CONTEXTS["4096"]
# What measures: any plan with room for numbers within +-1 does.
_MEASURED_PLAN: Final = Plan(bits=8, frac_bits=0, clip=1.0, parties=1)


class PublicKeyMessage(Message, frozen=True):
    """A public key on the wire.

    Fields:
      context: name of the parameters.
      key_nonce: 32 random bytes, which tell keys apart that have no public part.
      measured: root mean square of the error of one encryption of numbers within +-1.
      polynomials: coefficients, shape (2, primes, N); (0, primes, N) under a symmetric context.
    """

    context: str
    key_nonce: bytes
    measured: float
    polynomials: NDArray[np.uint64]


class SecretKeyMessage(Message, frozen=True):
    """A secret key as it is kept: the public one, and the coefficients of the secret, shape (primes, N)."""

    public_key: PublicKeyMessage
    polynomial: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Error:
    """The absolute error of the numbers in a sum.

    Attributes:
      bound: exceeded by none of them but with probability 2^-40, for any numbers. With a public key this is proven under
        the assumption that rounding errors are uniform (RLWE), see `contexts`.
      measured: root mean square of what encryption adds, as measured for one and added up; float64 adds another
        2^-53 or so of the numbers themselves.
    """

    bound: float
    measured: float


class PublicKey(scheme.PublicKey):
    """A public key: adds, and encrypts unless the context is symmetric.

    Args:
      context: the parameters.
      key_nonce: 32 random bytes.
      measured: root mean square of the error of one encryption of numbers within +-1.
      polynomials: coefficients, shape (2, primes, N), or (0, primes, N) under a symmetric context; not copied.

    Raises:
      UsageError: what is no such key; the message says why.
    """

    __slots__ = ("_key_id", "_key_nonce", "_polynomials", "context", "loaded", "measured")

    message_type: ClassVar[type[Message]] = PublicKeyMessage
    ciphertext_type: ClassVar[type[Message]] = CiphertextMessage
    # A decryption that is passed on can leak the key [LM21].
    shareable: ClassVar[bool] = False

    def __init__(
        self, context: Context, key_nonce: bytes, measured: float, polynomials: NDArray[np.uint64]
    ) -> None:
        most = context.error_bound(_measured_header(context))
        if len(key_nonce) != KEY_NONCE_BYTES or not 0 < measured <= most:
            raise UsageError(
                f"expected a key nonce of {KEY_NONCE_BYTES} bytes and an error of 0 to {most:.3g}, got "
                f"{len(key_nonce)} bytes, {measured}"
            )
        self.context, self.measured = context, measured
        form = Native.of(context)
        shape = form.public_key.shape
        if polynomials.shape != shape:
            raise ShapeError(f"expected polynomials of shape {shape}, got {polynomials.shape}")
        if not polynomials.any(axis=-1).all():
            raise UsageError("a polynomial of the public key is 0: what it encrypts would be no secret")
        self.loaded = PublicContext(form, form.load(None if context.symmetric else polynomials))
        self._key_nonce, self._polynomials = key_nonce, polynomials
        self._key_id = signing.digest(
            "secagg.he.ckks/public key",
            [context.name.encode(), key_nonce, struct.pack("<d", measured), polynomials.tobytes()],
        )

    @classmethod
    def from_message(cls, message: PublicKeyMessage, *, peer: str = "") -> Self:
        """Return the key in a message from a peer.

        Raises:
          WireError: it is none; the message says what is wrong.
        """
        try:
            return cls(named(message.context), message.key_nonce, message.measured, message.polynomials)
        except UsageError as error:
            raise WireError(f"a CKKS key from {peer or 'the stored bytes'}: {error}", peer=peer) from None

    @classmethod
    def from_bytes(cls, data: wire.Buffer, *, peer: str = "") -> Self:
        """Return the key that `to_bytes` made bytes of; raises as `from_message` does."""
        return cls.from_message(wire.from_bytes(data, PublicKeyMessage, peer=peer), peer=peer)

    @property
    def payload_bytes(self) -> int:
        return self.context.public_key_bytes

    def numbers_together(self, plan: Plan) -> int:
        del plan
        return self.context.slots

    def ciphertext_bytes(self, plan: Plan, length: int) -> int:
        del plan
        return self.context.blocks(length) * self.context.block_bytes

    def error_bound(self, header: Header) -> float:
        """Return `error(header).bound`."""
        return self.context.error_bound(header)

    def read(self, message: CiphertextMessage, *, peer: str = "") -> Ciphertext:
        """Return the ciphertext in a message from a peer.

        Raises:
          WireError: it is none under this key; the message says what is wrong with it.
        """
        try:
            header = Header.from_fields(message.header)
            check_header(header, self)
            return Ciphertext.from_blocks(message.blocks, header, self.loaded)
        except UsageError as error:
            raise WireError(
                f"a CKKS ciphertext from {peer or 'the stored bytes'}: {error}", peer=peer
            ) from None

    def read_bytes(self, data: wire.Buffer, *, peer: str = "") -> Ciphertext:
        """Return the ciphertext that `Ciphertext.to_bytes` made bytes of; raises as `read` does."""
        return self.read(wire.from_bytes(data, CiphertextMessage, peer=peer), peer=peer)

    @property
    def native(self) -> Native:
        """How TenSEAL writes keys and ciphertexts of the context."""
        return self.loaded.native

    @property
    def scheme(self) -> str:
        """The name "ckks/" and the context's."""
        return self.context.scheme

    @property
    def key_id(self) -> bytes:
        """SHA-256 of the key's message."""
        return self._key_id

    def encrypt(
        self,
        values: ArrayLike,
        plan: Plan,
        *,
        weight: int = 1,
        rng: Stream | None = None,
        executor: Executor | None = None,
    ) -> Ciphertext:
        """Return the encryption of an array; see `scheme.PublicKey.encrypt`.

        Numbers keep more bits than the plan's `frac_bits` says: see `error`.

        Args:
          weight: what the numbers may have been multiplied by: they lie within +-weight * plan.clip.
          rng: where the noise that hides roundings comes from; SEAL draws its own.
          executor: not used, see the package.

        Raises:
          UsageError: the context is symmetric.
        """
        del executor
        if self.context.symmetric:
            raise UsageError(f"under {self.scheme} the secret key encrypts; use SecretKey.encrypt")
        return self._encrypt(self.loaded.data, values, plan, weight, rng)

    def error(self, header: Header) -> Error:
        """Return the error of the sum of which this is the header."""
        unit = self.context.unit_bits(_MEASURED_PLAN.clip) - self.context.unit_bits(header.plan.clip)
        measured = math.ldexp(self.measured * math.sqrt(max_squares(header)), unit)
        return Error(self.context.error_bound(header), measured)

    def to_message(self) -> PublicKeyMessage:
        return PublicKeyMessage(self.context.name, self._key_nonce, self.measured, self._polynomials)

    def _encrypt(
        self, data: Any, values: ArrayLike, plan: Plan, weight: int, rng: Stream | None
    ) -> Ciphertext:
        """Return the encryption by the key in TenSEAL's context `data`."""
        numbers = np.asarray(values)
        self.context.check_plan(plan)
        header = Header(self.scheme, self.key_id, plan, numbers.shape, weight=weight)
        # What encoding refuses is refused here. It takes hundredths of the time of encryption; its result is not used.
        border = plan if weight == 1 else replace(plan, clip=plan.clip * weight, parties=1, max_weight=1)
        fixed_point.encode(numbers, border)
        context, step = self.context, self.context.slots
        # Noise goes into every slot, the unused ones too: they are coefficients' as much as the others.
        units = np.zeros(context.blocks(header.length) * step)
        np.ldexp(
            numbers.reshape(-1).astype(np.float64),
            context.unit_bits(plan.clip),
            out=units[: header.length],
        )
        units += _normal(
            rng or prg.system_stream(), units.size, math.ldexp(context.hiding, -context.scale_bits)
        )
        blocks = [_tenseal.CKKSVector(data, block.tolist()) for block in units.reshape(-1, step)]
        if data is not self.loaded.data:
            for block in blocks:
                block.link_context(
                    self.loaded.data
                )  # ciphertexts go about, and must not hold the secret key's context
        return Ciphertext(header, self.loaded, blocks)


class SecretKey(scheme.SecretKey):
    """A secret key: decrypts, and encrypts.

    Args:
      public_key: that belongs to it.
      polynomial: coefficients of the secret, shape (primes, N); not copied.

    Raises:
      UsageError: the two do not belong together.
    """

    __slots__ = ("_data", "_polynomial", "_public_key", "_secret")

    def __init__(self, public_key: PublicKey, polynomial: NDArray[np.uint64]) -> None:
        self._public_key, self._polynomial = public_key, polynomial
        symmetric = public_key.context.symmetric
        self._data = public_key.native.load(None if symmetric else public_key._polynomials, polynomial)
        self._secret = self._data.secret_key()
        _measure(self._encrypting, self._secret, public_key.context)

    @classmethod
    def generate(cls, context: Context = _DEFAULT) -> Self:
        """Return a new key, from the operating system's randomness.

        Args:
          context: one of `CONTEXTS`.

        Raises:
          UsageError: TenSEAL's error is larger than the one computed.
        """
        form, data = Native.of(context), native.new(context)
        measured = _measure(data, data.secret_key(), context)
        parts = native.parts_of(data.serialize(True, True, False, False))
        polynomials = np.empty(form.public_key.shape, np.uint64)
        if not context.symmetric:
            polynomials = form.public_key.read(native.octets(parts, PUBLIC, KEY))
        public_key = PublicKey(context, os.urandom(KEY_NONCE_BYTES), measured, polynomials)
        return cls(public_key, form.secret_key.read(native.octets(parts, SECRET, KEY)))

    @classmethod
    def from_message(cls, message: SecretKeyMessage, *, peer: str = "") -> Self:
        """Return the key that was kept.

        Raises:
          WireError: it is none; the message says what is wrong.
        """
        public_key = PublicKey.from_message(message.public_key, peer=peer)
        try:
            return cls(public_key, message.polynomial)
        except UsageError as error:
            raise WireError(f"a CKKS key from {peer or 'the stored bytes'}: {error}", peer=peer) from None

    @property
    def public_key(self) -> PublicKey:
        """The key to add with, and to encrypt with unless the context is symmetric."""
        return self._public_key

    def encrypt(
        self,
        values: ArrayLike,
        plan: Plan,
        *,
        weight: int = 1,
        rng: Stream | None = None,
        executor: Executor | None = None,
    ) -> Ciphertext:
        """Return the encryption of an array: by this key if the context is symmetric, else by the public one.

        Arguments and errors as of `PublicKey.encrypt`. What is returned holds no secret.
        """
        del executor
        return self._public_key._encrypt(self._encrypting, values, plan, weight, rng)

    def decrypt(
        self, ciphertext: scheme.Ciphertext, *, executor: Executor | None = None
    ) -> NDArray[np.float64]:
        """Return the numbers in a ciphertext, to be shown to nobody else: see the package.

        How far they are off says `PublicKey.error`. Errors as of `scheme.SecretKey.decrypt`.
        """
        del executor
        header = check_ciphertext(ciphertext, self._public_key)
        if not isinstance(ciphertext, Ciphertext):
            raise UsageError(f"expected a CKKS ciphertext, got {type(ciphertext).__name__}")
        shift = -self._public_key.context.unit_bits(header.plan.clip)
        numbers = np.ldexp(ciphertext.decrypted_by(self._secret), shift)
        most = header.weight * header.plan.clip + self._public_key.context.error_bound(header)
        if not (-most <= np.min(numbers) and np.max(numbers) <= most):
            raise RangeError(
                f"numbers beyond +-{most:.6g} are no sum of weight {header.weight} of numbers within "
                f"+-{header.plan.clip}: a summand was out of range, was altered, or is no encryption under this key"
            )
        return numbers.reshape(header.shape)

    def to_message(self) -> SecretKeyMessage:
        return SecretKeyMessage(self._public_key.to_message(), self._polynomial)

    @property
    def _encrypting(self) -> Any:
        key = self._public_key
        return self._data if key.context.symmetric else key.loaded.data


def _measure(encrypting: Any, secret: Any, context: Context) -> float:
    """Return the root mean square of the error of one block, encrypted and decrypted.

    Raises:
      UsageError: an error beyond the bound.
    """
    numbers = np.linspace(-1.0, 1.0, context.slots)
    unit = context.unit_bits(_MEASURED_PLAN.clip)
    noise = _normal(prg.system_stream(), numbers.size, math.ldexp(context.hiding, -context.scale_bits))
    decrypted = _tenseal.CKKSVector(encrypting, (np.ldexp(numbers, unit) + noise).tolist()).decrypt(secret)
    errors = np.ldexp(np.asarray(decrypted), -unit) - numbers
    bound = context.error_bound(_measured_header(context))
    worst = float(np.max(np.abs(errors)))
    if not worst <= bound:
        raise UsageError(
            f"what is encrypted comes back with an error of {worst:.3g} where {bound:.3g} is the most: secret and public "
            "key do not belong together, or this TenSEAL computes something else"
        )
    return float(np.sqrt(np.mean(errors**2)))


def _measured_header(context: Context) -> Header:
    """Return the header of what is encrypted to measure the error."""
    return Header(context.scheme, bytes(KEY_ID_BYTES), _MEASURED_PLAN, (context.slots,))


def _normal(rng: Stream, count: int, deviation: float) -> NDArray[np.float64]:
    """Return independent normal numbers, shape (count,), count even [BM58]."""
    words = rng.words((2, count // 2))
    words >>= np.uint64(11)
    angle, radius = words.astype(np.float64)
    angle *= 2 * math.pi * 2.0**-53
    radius += 1  # 1 to 2^53: no logarithm of 0
    radius *= 2.0**-53
    np.log(radius, out=radius)
    radius *= -2 * deviation**2
    np.sqrt(radius, out=radius)
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))
