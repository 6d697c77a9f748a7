"""What an additively homomorphic scheme is here, whichever it is.

    public key    encrypt(values, plan) -> ciphertext
    ciphertext    a + b, a += b, a - b, -a, a * integer, sum([a, b]), a[start:stop]
    secret key    decrypt(ciphertext) -> values

A `Ciphertext` holds a whole array in one contiguous block, under one key, with a `Header` that says what it
is. Addition compares headers first, and refuses another scheme, key, plan or shape, and a sum that the plan has no room
for. Any of these would decode to something else.

Numbers come in through the fixed-point planner (`secagg.fixed_point`). Paillier and RLWE are exact: a sum of
encoded numbers decrypts to the sum of encoded numbers. CKKS is approximate and states its error.

Every key, ciphertext and share turns into bytes with `to_bytes` and comes back with `from_bytes`, versioned
and bounded by `secagg.wire`.

Longer than most modules: headers, ciphertexts and keys refuse by one set of rules, to be read against each other.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, NoReturn, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secagg import fixed_point, wire
from secagg.errors import RangeError, ShapeError, UsageError
from secagg.fixed_point import Plan
from secagg.prg import Stream
from secagg.ring import RingArray
from secagg.wire import Message

KEY_ID_BYTES: Final = 32
_MAX_ORIGINS: Final = 64


class PlanFields(Message, frozen=True):
    """A fixed-point plan on the wire."""

    bits: int
    frac_bits: int
    clip: float
    parties: int
    max_weight: int


class HeaderFields(Message, frozen=True):
    """A ciphertext's header on the wire."""

    scheme: str
    key_id: bytes
    plan: PlanFields
    shape: tuple[int, ...]
    summands: int
    weight: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a ciphertext is. All of it is public.

    Attributes:
      scheme: name and variant, such as "paillier/2".
      key_id: SHA-256 of the public key.
      plan: how the numbers were encoded: range, fractional bits, and how much weight a sum may have.
      shape: of the array.
      summands: how many different encryptions were added up.
      weight: bound on the values in units of what one plain number may be. An encryption counts 1, or the largest weight
        that it may have been multiplied by before. Multiplication by k multiplies it by |k|.
    """

    scheme: str
    key_id: bytes
    plan: Plan
    shape: tuple[int, ...]
    summands: int = 1
    weight: int = 1

    def __post_init__(self) -> None:
        if len(self.key_id) != KEY_ID_BYTES:
            raise UsageError(f"a key id has {KEY_ID_BYTES} bytes, not {len(self.key_id)}")
        if self.summands < 1 or self.weight < 1:
            raise UsageError(
                f"expected summands and weight of at least 1, got {self.summands}, {self.weight}"
            )
        if any(n < 1 for n in self.shape):
            raise ShapeError(f"there is nothing to encrypt in an array of shape {self.shape}")
        self._check_room(self.weight)

    @property
    def length(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def capacity(self) -> int:
        """The largest weight that the plan has room for."""
        return self.plan.parties * self.plan.max_weight

    def plus(self, other: Header) -> Header:
        """Return the header of a sum.

        Raises:
          UsageError: another scheme, key or plan; the message says which.
          ShapeError: another shape.
          RangeError: the sum would not fit the plan.
        """
        if other.scheme != self.scheme:
            raise UsageError(f"cannot add a ciphertext of {other.scheme} to one of {self.scheme}")
        if other.key_id != self.key_id:
            raise UsageError(
                f"cannot add a ciphertext under key {other.key_id.hex()[:16]} to one under key "
                f"{self.key_id.hex()[:16]}; encrypt all under one public key"
            )
        if other.plan != self.plan:
            raise UsageError(f"cannot add a ciphertext encoded by {other.plan} to one encoded by {self.plan}")
        if other.shape != self.shape:
            raise ShapeError(f"cannot add a ciphertext of shape {other.shape} to one of shape {self.shape}")
        self._check_room(self.weight + other.weight)
        return replace(self, summands=self.summands + other.summands, weight=self.weight + other.weight)

    def times(self, factor: int) -> Header:
        """Return the header of a multiple.

        Raises:
          UsageError: a factor that is no Python int, or 0.
          RangeError: the multiple would not fit the plan.
        """
        if not isinstance(factor, int) or isinstance(factor, bool) or factor == 0:
            raise UsageError(
                f"a ciphertext is multiplied by an integer other than 0, not {type(factor).__name__} {factor!r:.40}"
            )
        self._check_room(self.weight * abs(factor))
        return replace(self, weight=self.weight * abs(factor))

    def to_fields(self) -> HeaderFields:
        """Return the header as it goes over the wire."""
        p = self.plan
        return HeaderFields(
            self.scheme,
            self.key_id,
            PlanFields(p.bits, p.frac_bits, p.clip, p.parties, p.max_weight),
            self.shape,
            self.summands,
            self.weight,
        )

    @classmethod
    def from_fields(cls, fields: HeaderFields) -> Self:
        """Return the header that came over the wire.

        Raises:
          UsageError: fields that no header has.
        """
        p = fields.plan
        plan = Plan(p.bits, p.frac_bits, p.clip, p.parties, p.max_weight)
        return cls(fields.scheme, fields.key_id, plan, fields.shape, fields.summands, fields.weight)

    def _check_room(self, weight: int) -> None:
        if weight > self.capacity:
            raise RangeError(
                f"a sum of weight {weight} does not fit a plan for {self.plan.parties} parties with weights up to "
                f"{self.plan.max_weight}; plan for more"
            )


class Ciphertext(ABC):
    """An encrypted array; immutable but for `+=` and `-=`.

    An encryption that enters a sum twice adds its noise twice, where those of two encryptions partly cancel. So a sum
    remembers which encryptions it was made of, up to 64: what shares one with it is counted as a multiple, not as another
    summand. Beyond, and for an encryption that was received twice, each is taken for another.
    """

    __slots__ = ("header", "origins")
    # numpy's arrays leave operators to this class, which refuses them, and do not try each element.
    __array_ufunc__ = None
    __iter__ = None

    def __init__(self, header: Header) -> None:
        self.header = header
        self.origins: frozenset[object] | None = frozenset((object(),))

    def __repr__(self) -> str:
        h = self.header
        return f"<{h.scheme} ciphertext of shape {h.shape}, {h.summands} summands, key {h.key_id.hex()[:16]}>"

    def __iadd__(self, other: Self) -> Self:
        """Add another ciphertext in place.

        Raises:
          UsageError, ShapeError, RangeError: they do not go together; see `Header.plus`. Nothing has changed.
        """
        header = self._sum_header(other)
        self._add(other)
        self.header, self.origins = header, self._origins_with(other)
        return self

    def __isub__(self, other: Self) -> Self:
        """Subtract another ciphertext in place; raises as `+=` does."""
        self._sum_header(other)
        return self.__iadd__(-other)

    def __add__(self, other: Self) -> Self:
        """Return the sum of two ciphertexts; raises as `+=` does."""
        self._sum_header(other)
        total = self.copy()
        total += other
        return total

    def __radd__(self, other: int) -> Self:
        """Return a copy if the other is 0, with which Python's `sum` begins.

        Raises:
          UsageError: anything else.
        """
        if isinstance(other, int) and not isinstance(other, bool) and other == 0:
            return self.copy()
        raise UsageError(
            f"cannot add {type(other).__name__} to a ciphertext of {self.header.scheme}: encrypt it first"
        )

    def __sub__(self, other: Self) -> Self:
        """Return the difference of two ciphertexts, which weighs as much as the sum; raises as `+=` does."""
        self._sum_header(other)
        return self + -other

    def __neg__(self) -> Self:
        """Return the ciphertext of the negative numbers."""
        return self * -1

    def __mul__(self, factor: int) -> Self:
        """Return the ciphertext of the numbers times a public integer.

        Raises:
          UsageError: not an integer, or 0.
          RangeError: the multiple would not fit the plan.
        """
        header = self.header.times(factor)
        product = self._times(factor)
        product.header, product.origins = header, self.origins
        return product

    __rmul__ = __mul__

    def __getitem__(self, rows: slice) -> Self:
        """Return some rows of the array, `start:stop` of its first axis, which share memory with it or not.

        What is encrypted together stays together: a slice begins at a multiple of `numbers_together` numbers, and ends at
        one or with the array.

        Raises:
          UsageError: anything but a slice of step 1, an array without axes, or rows encrypted together with others.
          ShapeError: no row.
        """
        h = self.header
        if not isinstance(rows, slice) or rows.step not in (None, 1) or not h.shape:
            raise UsageError(
                f"expected rows start:stop of an encrypted array of shape {h.shape}; single numbers and steps cannot be "
                "taken out of a ciphertext"
            )
        start, stop, _ = rows.indices(h.shape[0])
        if start >= stop:
            raise ShapeError(f"there is no row {start}:{stop} in an encrypted array of shape {h.shape}")
        row, step = h.length // h.shape[0], self.numbers_together
        first, last = start * row, stop * row
        if first % step or (last % step and last != h.length):
            raise UsageError(
                f"rows {start}:{stop} are numbers {first} to {last} of {h.length}, of which {step} each are encrypted "
                f"together: who decrypts a part would see the others; slice at multiples of {step} numbers, or encrypt "
                "the parts apart"
            )
        part = self._part(replace(h, shape=(stop - start, *h.shape[1:])), first // step, -(-last // step))
        part.origins = self.origins
        return part

    def copy(self) -> Self:
        """Return a ciphertext that shares no memory with this one."""
        copied = self._copy()
        copied.origins = self.origins
        return copied

    def related(self, other: Self) -> bool:
        """Return whether both have an encryption in them that is known to be the same."""
        return bool(self.origins and other.origins and not self.origins.isdisjoint(other.origins))

    def _origins_with(self, other: Self) -> frozenset[object] | None:
        if self.origins is None or other.origins is None:
            return None
        origins = self.origins | other.origins
        return origins if len(origins) <= _MAX_ORIGINS else None

    def _sum_header(self, other: object) -> Header:
        if not isinstance(other, type(self)):
            raise UsageError(f"cannot add {type(other).__name__} to a ciphertext of {self.header.scheme}")
        header = self.header.plus(other.header)
        if not self.related(other):
            return header
        mine, theirs = self.origins or frozenset(), other.origins or frozenset()
        # Of each that both have, one summand less; one stays at least.
        return replace(header, summands=max(1, header.summands - len(mine & theirs)))

    @property
    @abstractmethod
    def numbers_together(self) -> int:
        """How many numbers are encrypted together."""

    @abstractmethod
    def _copy(self) -> Self: ...

    @abstractmethod
    def _add(self, other: Self) -> None: ...

    @abstractmethod
    def _times(self, factor: int) -> Self: ...

    @abstractmethod
    def _part(self, header: Header, start: int, stop: int) -> Self:
        """Return what is encrypted together from one place on to another, under this header."""

    @abstractmethod
    def to_message(self) -> Message:
        """Return the ciphertext as a message; it shares memory with this ciphertext."""

    def to_bytes(self) -> bytes:
        """Return the ciphertext as bytes."""
        return wire.to_bytes(self.to_message())


class PublicKey(ABC):
    """What encrypts.

    Attributes:
      message_type, ciphertext_type: the messages of keys and of ciphertexts.
      exact: whether sums decrypt exactly.
      shareable: whether a decryption may be shown to others than the key holder.
    """

    __slots__ = ()

    message_type: ClassVar[type[Message]]
    ciphertext_type: ClassVar[type[Message]]
    exact: ClassVar[bool] = False
    shareable: ClassVar[bool] = True

    @property
    @abstractmethod
    def scheme(self) -> str:
        """Name and variant, such as "paillier/2"."""

    @property
    @abstractmethod
    def key_id(self) -> bytes:
        """SHA-256 of the public key, 32 bytes."""

    def __repr__(self) -> str:
        return f"<public key {self.key_id.hex()[:16]} of {self.scheme}>"

    @abstractmethod
    def encrypt(
        self, values: ArrayLike, plan: Plan, *, rng: Stream | None = None, executor: Executor | None = None
    ) -> Ciphertext:
        """Return the encryption of an array.

        Args:
          values: floats or integers within +-plan.clip, any shape that is not empty.
          plan: as agreed by all whose ciphertexts will be added.
          rng: where the encryption's randomness comes from; without it, the operating system. CKKS draws its
            own in any case.
          executor: threads to share the work; without it, the calling thread does all.

        Raises:
          ShapeError: another dtype, or empty.
          RangeError: NaN, infinity or numbers out of range.
          PlanError: the scheme has no room for the plan.
        """

    @abstractmethod
    def error_bound(self, header: Header) -> float:
        """Return the largest absolute error of the numbers in the sum that has this header."""

    @abstractmethod
    def numbers_together(self, plan: Plan) -> int:
        """Return how many numbers `encrypt` encrypts together."""

    @property
    @abstractmethod
    def payload_bytes(self) -> int:
        """Bytes of the arrays in the key's message."""

    @abstractmethod
    def ciphertext_bytes(self, plan: Plan, length: int) -> int:
        """Return the bytes of the arrays in the message of a ciphertext of `length` numbers."""

    @abstractmethod
    def read(self, message: Any, *, peer: str = "") -> Ciphertext:
        """Return the ciphertext in a message that `Ciphertext.to_message` made, if it is under this key.

        Raises:
          RemoteProtocolError: it is none under this key; the message says what is wrong with it.
        """

    @abstractmethod
    def read_bytes(self, data: wire.Buffer, *, peer: str = "") -> Ciphertext:
        """Return the ciphertext that `Ciphertext.to_bytes` made bytes of; raises as `read` does."""

    @classmethod
    @abstractmethod
    def from_message(cls, message: Any, *, peer: str = "") -> Self:
        """Return the key in a message that `to_message` made.

        Raises:
          RemoteProtocolError: it cannot be a key; the message says why.
        """

    @abstractmethod
    def to_message(self) -> Message:
        """Return the key as a message."""

    def to_bytes(self) -> bytes:
        """Return the key as bytes."""
        return wire.to_bytes(self.to_message())


class ExactPublicKey(PublicKey):
    """A public key of a scheme whose sums are exact."""

    __slots__ = ()

    exact: ClassVar[bool] = True

    def error_bound(self, header: Header) -> float:
        return header.plan.error(summands=header.weight)

    def encrypt(
        self, values: ArrayLike, plan: Plan, *, rng: Stream | None = None, executor: Executor | None = None
    ) -> Ciphertext:
        encoded = fixed_point.encode(values, plan).values
        return self.encrypt_encoded(encoded, plan, rng=rng, executor=executor)

    @abstractmethod
    def encrypt_encoded(
        self,
        values: RingArray,
        plan: Plan,
        *,
        weight: int = 1,
        rng: Stream | None = None,
        executor: Executor | None = None,
    ) -> Ciphertext:
        """Return the encryption of an encoded array.

        Args:
          values: elements of the plan's ring, within +-weight * plan.limit, any shape that is not empty.
          plan: as encoded.
          weight: the largest weight that the values may have been multiplied by.
          rng, executor: as in `encrypt`.

        Raises:
          ShapeError: another dtype than the ring's, or empty.
          RangeError: values out of range. UsageError: a weight that the plan has no room for.
          PlanError: the scheme has no room for the plan.
        """


class SecretKey(ABC):
    """What decrypts. Never shown, never pickled; `to_message` is for `key_files` and nothing else."""

    __slots__ = ()

    @property
    @abstractmethod
    def public_key(self) -> PublicKey:
        """The key to encrypt with."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.public_key!r}, hidden>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # rich prints tracebacks with the values of locals

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is not pickled or copied; write it with secagg.he.key_files")

    @abstractmethod
    def decrypt(self, ciphertext: Ciphertext, *, executor: Executor | None = None) -> NDArray[np.float64]:
        """Return the numbers in a ciphertext, float64, of its shape.

        Raises:
          UsageError: a ciphertext of another scheme or under another key.
          RangeError: what is in it is no sum that its header allows.
        """

    @abstractmethod
    def to_message(self) -> Message:
        """Return the key as a message. It is secret: see `key_files`."""


class ExactSecretKey(SecretKey):
    """A secret key of a scheme whose sums are exact."""

    __slots__ = ()

    def decrypt(self, ciphertext: Ciphertext, *, executor: Executor | None = None) -> NDArray[np.float64]:
        header, encoded = ciphertext.header, self.decrypt_encoded(ciphertext, executor=executor)
        return fixed_point.decode(encoded, header.plan, summands=header.weight)

    @abstractmethod
    def decrypt_encoded(self, ciphertext: Ciphertext, *, executor: Executor | None = None) -> RingArray:
        """Return the encoded numbers in a ciphertext, elements of its plan's ring; raises as `decrypt` does."""


def check_ciphertext(ciphertext: Ciphertext, public_key: PublicKey) -> Header:
    """Return the header of a ciphertext if it is under this key.

    Raises:
      UsageError: another scheme or key.
    """
    check_header(ciphertext.header, public_key)
    return ciphertext.header


def check_header(header: Header, public_key: PublicKey) -> None:
    """Refuse the header of a ciphertext that is not under this key.

    Raises:
      UsageError: another scheme or key.
    """
    if header.scheme != public_key.scheme:
        raise UsageError(f"expected a ciphertext of {public_key.scheme}, got one of {header.scheme!r:.40}")
    if header.key_id != public_key.key_id:
        raise UsageError(
            f"expected a ciphertext under key {public_key.key_id.hex()[:16]}, got one under "
            f"{header.key_id.hex()[:16]}"
        )


def check_encoded(values: RingArray, plan: Plan, weight: int) -> None:
    """Refuse what is no array of encoded numbers within +-weight * plan.limit.

    Raises:
      UsageError: a weight that the plan does not allow.
      ShapeError: another dtype than the ring's, or empty.
      RangeError: values out of range.
    """
    if values.dtype != plan.ring.dtype:
        raise ShapeError(f"the plan's ring elements come in {plan.ring.dtype}, not {values.dtype}")
    if not values.size:
        raise ShapeError(f"there is nothing to encrypt in an array of shape {values.shape}")
    if not 1 <= weight <= plan.parties * plan.max_weight:
        raise UsageError(f"expected a weight of 1 to {plan.parties * plan.max_weight}, got {weight}")
    signed = values.view(f"i{values.dtype.itemsize}")
    limit = weight * plan.limit
    if int(np.max(signed)) > limit or int(np.min(signed)) < -limit:
        raise RangeError(
            f"an encoded number lies beyond +-{limit}, the plan's limit times a weight of {weight}"
        )
