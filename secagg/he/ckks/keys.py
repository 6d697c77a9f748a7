"""CKKS keys in TenSEAL's contexts, what goes over the wire of them, and the error that results are given with.

A public key is TenSEAL's context without its secret key. What arrives as one is read by TenSEAL, refused if there is a
secret key in it, and then compared with the parameters of its name: nobody encrypts under parameters that a peer
made up. Under a symmetric context it can add, and not encrypt.

The error. Who encrypts cannot see the error, which takes the secret key, and it does not depend on the numbers. So it
is measured when the key is made and whenever it is loaded: a block of numbers within +-1 is encrypted and
decrypted, and refused if it comes out further away than `Context.error_bound` says. The root mean square goes with the
public key, by the word of its holder, and `PublicKey.error` says what follows for a sum.
"""

from __future__ import annotations

import functools
import math
import os
import struct
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import tenseal
from numpy.typing import ArrayLike, NDArray
from tenseal import _ts_cpp as _native

from secagg import fixed_point, signing, wire
from secagg.errors import RangeError, UsageError, WireError
from secagg.fixed_point import Plan
from secagg.he import scheme
from secagg.he.ckks.ciphertexts import TENSEAL_ERRORS, Ciphertext, read_row, write_row
from secagg.he.ckks.contexts import CONTEXTS, Context, most_squares, named
from secagg.he.scheme import KEY_ID_BYTES, Header, check_ciphertext
from secagg.prg import Stream
from secagg.wire import Message

MARK_BYTES: Final = 32
_DEFAULT: Final = CONTEXTS["4096"]
# What measures: any plan with room for numbers within +-1 does.
_MEASURED_PLAN: Final = Plan(bits=8, frac_bits=0, clip=1.0, parties=1)


class PublicKeyMessage(Message, frozen=True):
    """A public key on the wire.

    Fields:
      context: name of the parameters.
      mark: 32 random bytes, which tell keys apart that have no public part.
      measured: root mean square of the error of one encryption.
      length: bytes of TenSEAL's context.
      block: the context, filled up with zeros.
    """

    context: str
    mark: bytes
    measured: float
    length: int
    block: NDArray[np.uint8]


class SecretKeyMessage(Message, frozen=True):
    """A secret key as it is kept: the public one, and TenSEAL's context with the secret."""

    public_key: PublicKeyMessage
    block: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Error:
    """The absolute error of the numbers in a sum.

    Attributes:
      bound: exceeded by none of them but with probability 2^-40, for any numbers; with a public
        key proven under the assumption that rounding errors are uniform (RLWE), see `contexts`.
      measured: root mean square of what encryption adds, as measured for one and added up; float64 adds another
        2^-53 or so of the numbers themselves.
    """

    bound: float
    measured: float


class PublicKey(scheme.PublicKey):
    """A public key: adds, and encrypts unless the context is symmetric.

    Args:
      context: the parameters.
      mark: 32 random bytes.
      measured: root mean square of the error of one encryption.
      block: TenSEAL's context without a secret key.

    Raises:
      UsageError: what is no such key; the message says why.
    """

    __slots__ = ("_block", "_data", "_key_id", "_mark", "context", "measured")

    def __init__(self, context: Context, mark: bytes, measured: float, block: bytes) -> None:
        if len(mark) != MARK_BYTES or not 0 < measured < math.inf:
            raise UsageError(
                f"expected a mark of {MARK_BYTES} bytes and a positive error, got {len(mark)} bytes, {measured}"
            )
        self.context, self.measured = context, measured
        self._data, self._mark, self._block = _load(block, context), mark, block
        if self._data.is_private():
            raise UsageError("there is a secret key in it: send `SecretKey.public_key`, and replace the key")
        if not context.symmetric and not self._data.has_public_key():
            raise UsageError("there is no public key in it")
        self._key_id = signing.digest(
            "secagg.he.ckks/public key", [context.name.encode(), mark, struct.pack("<d", measured), block]
        )

    @classmethod
    def from_message(cls, message: PublicKeyMessage, *, peer: str = "") -> Self:
        """Return the key in a message from a peer.

        Raises:
          WireError: it is none, or holds a secret key; the message says what is wrong.
        """
        try:
            context = named(message.context)
            if message.block.shape != (context.public_key_bytes,):
                raise UsageError(f"expected {context.public_key_bytes} bytes, got {message.block.shape}")
            return cls(
                context,
                message.mark,
                message.measured,
                bytes(read_row(np.ascontiguousarray(message.block).data, message.length)),
            )
        except UsageError as error:
            raise WireError(f"a CKKS key from {peer or 'the stored bytes'}: {error}", peer=peer) from None

    @classmethod
    def from_bytes(cls, data: wire.Buffer, *, peer: str = "") -> Self:
        """Return the key that `to_bytes` made bytes of; raises as `from_message` does."""
        return cls.from_message(wire.from_bytes(data, PublicKeyMessage, peer=peer), peer=peer)

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

        Numbers keep more places than the plan's `frac_bits` says: see `error`.

        Args:
          weight: what the numbers may have been multiplied by: they lie within +-weight * plan.clip.
          rng, executor: not used, see the package.

        Raises:
          UsageError: the context is symmetric.
        """
        del rng, executor
        if self.context.symmetric:
            raise UsageError(f"under {self.scheme} the secret key encrypts; use SecretKey.encrypt")
        return self._encrypt(self._data, values, plan, weight)

    def error(self, header: Header) -> Error:
        """Return the error of the sum of which this is the header."""
        return Error(self.context.error_bound(header), self.measured * math.sqrt(most_squares(header)))

    def to_message(self) -> PublicKeyMessage:
        block = np.zeros(self.context.public_key_bytes, np.uint8)
        length = write_row(self._block, block)
        return PublicKeyMessage(self.context.name, self._mark, self.measured, length, block)

    def read_vector(self, data: bytes) -> Any:
        """Return TenSEAL's vector from its bytes; raises one of `TENSEAL_ERRORS` if there is none in them."""
        return _native.CKKSVector(self._data, data)

    def _encrypt(self, data: Any, values: ArrayLike, plan: Plan, weight: int) -> Ciphertext:
        """Return the encryption by the key in TenSEAL's context `data`."""
        numbers = np.asarray(values)
        self.context.check_plan(plan)
        header = Header(self.scheme, self.key_id, plan, numbers.shape, weight=weight)
        # What encoding refuses is refused here. It takes hundredths of the time of encryption; its result is not used.
        border = plan if weight == 1 else replace(plan, clip=plan.clip * weight, parties=1, max_weight=1)
        fixed_point.encode(numbers, border)
        flat, step, encrypted = numbers.reshape(-1), self.context.slots, _native.CKKSVector
        blocks = [encrypted(data, flat[i : i + step].tolist()) for i in range(0, flat.size, step)]
        if data is not self._data:
            for block in blocks:
                block.link_context(
                    self._data
                )  # ciphertexts go about, and must not hold the secret key's context
        return Ciphertext(header, self, blocks)


class SecretKey(scheme.SecretKey):
    """A secret key: decrypts, and encrypts.

    Args:
      public_key: that belongs to it.
      block: TenSEAL's context with the secret key.

    Raises:
      UsageError: the two do not belong together, or there is no secret key in the block.
    """

    __slots__ = ("_data", "_public_key", "_secret")

    def __init__(self, public_key: PublicKey, block: bytes) -> None:
        self._public_key, self._data = public_key, _load(block, public_key.context)
        if not self._data.is_private():
            raise UsageError("expected a secret key, got a public one")
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
        data = _new(context)
        measured = _measure(data, data.secret_key(), context)
        public_key = PublicKey(
            context, os.urandom(MARK_BYTES), measured, data.serialize(True, False, False, False)
        )
        return cls(public_key, data.serialize(True, True, False, False))

    @classmethod
    def from_message(cls, message: SecretKeyMessage, *, peer: str = "") -> Self:
        """Return the key that was kept.

        Raises:
          WireError: it is none; the message says what is wrong.
        """
        public_key = PublicKey.from_message(message.public_key, peer=peer)
        try:
            return cls(public_key, message.block.tobytes())
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
        del rng, executor
        return self._public_key._encrypt(self._encrypting, values, plan, weight)

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
        numbers = ciphertext.decrypted_by(self._secret)
        most = header.weight * header.plan.clip + self._public_key.context.error_bound(header)
        if not (-most <= np.min(numbers) and np.max(numbers) <= most):
            raise RangeError(
                f"numbers beyond +-{most:.6g} are no sum of weight {header.weight} of numbers within "
                f"+-{header.plan.clip}: a summand was out of range, was altered, or is no encryption under this key"
            )
        return numbers.reshape(header.shape)

    def to_message(self) -> SecretKeyMessage:
        block = np.frombuffer(self._data.serialize(True, True, False, False), np.uint8)
        return SecretKeyMessage(self._public_key.to_message(), block)

    @property
    def _encrypting(self) -> Any:
        key = self._public_key
        return self._data if key.context.symmetric else key._data


def _new(context: Context) -> Any:
    """Return a new context of TenSEAL's, with keys."""
    kinds = tenseal.ENCRYPTION_TYPE
    made = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        context.degree,
        coeff_mod_bit_sizes=list(context.prime_bits),
        encryption_type=kinds.SYMMETRIC if context.symmetric else kinds.ASYMMETRIC,
        n_threads=1,
    )
    made.global_scale = 2.0**context.scale_bits
    # Whoever uploads a ciphertext at a lower level must not bring the sum down to it.
    made.auto_mod_switch = False
    return made.data


@functools.cache  # as many entries as there are contexts
def _parameters(context: Context) -> bytes:
    """Return what TenSEAL writes of a context without its keys."""
    return bytes(_new(context).serialize(False, False, False, False))


def _load(block: bytes, context: Context) -> Any:
    """Return TenSEAL's context from its bytes.

    Raises:
      UsageError: it cannot be read or has other parameters.
    """
    try:
        data = tenseal.context_from(block, 1).data
        written = data.serialize(False, False, False, False)
    except TENSEAL_ERRORS as error:
        raise UsageError(f"TenSEAL cannot read the key: {error!s:.100}") from None
    if written != _parameters(context):
        raise UsageError(f"expected the parameters of {context.scheme}, got others")
    return data


def _measure(encrypting: Any, secret: Any, context: Context) -> float:
    """Return the root mean square of the error of one block, encrypted and decrypted.

    Raises:
      UsageError: an error beyond the bound.
    """
    numbers = np.linspace(-1.0, 1.0, context.slots)
    decrypted = _native.CKKSVector(encrypting, numbers.tolist()).decrypt(secret)
    errors = np.asarray(decrypted) - numbers
    bound = context.error_bound(Header(context.scheme, bytes(KEY_ID_BYTES), _MEASURED_PLAN, numbers.shape))
    worst = float(np.max(np.abs(errors)))
    if not worst <= bound:
        raise UsageError(
            f"what is encrypted comes back with an error of {worst:.3g} where {bound:.3g} is the most: secret and public "
            "key do not belong together, or this TenSEAL computes something else"
        )
    return float(np.sqrt(np.mean(errors**2)))
