"""Many numbers side by side in one plaintext.

Numbers v_0 .. v_(k-1) with signs make the plaintext sum of v_i 2^(b i) modulo n^s, in slots of b bits. Sums and
integer multiples of plaintexts are those of the numbers, slot by slot, while every slot stays within
-2^(b-1) .. 2^(b-1) - 1. Adding H = sum of 2^(b-1+b i) then makes all slots non-negative, and no slot carries into the
next. The total lies below 2^(b k) <= n^s, so it is not reduced either. `Plan.sum_bits` <= b says that the header's
weight times the plan's limit stays below 2^(b-1), for weights of either sign.

b is a multiple of 8, so that packing is copying bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from secagg.errors import PlanError, RangeError, ShapeError
from secagg.fixed_point import Plan
from secagg.he.scheme import Header
from secagg.ring import RingArray


@dataclass(frozen=True, slots=True)
class Packing:
    """How numbers lie in plaintexts.

    Attributes:
      plan: how the numbers are encoded.
      modulus: of the plaintexts, n^s.
      slots: numbers in a plaintext.
    """

    plan: Plan
    modulus: mpz
    slots: int

    @classmethod
    def densest(cls, plan: Plan, modulus: mpz) -> Packing:
        """Return the packing with as many slots as fit.

        Raises:
          PlanError: not even one does.
        """
        slots = max_slots(plan, modulus)
        if slots < 1:
            raise PlanError(
                f"sums of {plan.sum_bits} bits do not fit a plaintext of {modulus.bit_length()} bits"
            )
        return cls(plan, modulus, slots)

    def __post_init__(self) -> None:
        most = max_slots(self.plan, self.modulus)
        if not 1 <= self.slots <= most:
            raise ShapeError(f"expected 1 to {most} slots in a plaintext, got {self.slots}")

    @property
    def slot_bytes(self) -> int:
        """Bytes of a slot."""
        return slot_bytes(self.plan)

    def count(self, length: int) -> int:
        """Return how many plaintexts `length` numbers take."""
        return -(-length // self.slots)

    def pack(self, values: RingArray) -> list[mpz]:
        """Return encoded numbers as plaintexts, 0 <= m < modulus; what is left of the last one's slots is 0.

        Args:
          values: elements of the plan's ring, any shape, within +-2^(b-1).
        """
        width, dtype = self.slot_bytes, values.dtype
        count = self.count(values.size)
        # Two's complement plus 2^(b-1) is the number plus 2^(b-1), which lies in 0 .. 2^b - 1; wraps, which is meant.
        padded: NDArray[Any] = np.full(count * self.slots, self._bias(dtype))
        padded[: values.size] += values.reshape(-1)
        octets = padded.view(np.uint8).reshape(-1, dtype.itemsize)[:, :width].tobytes()
        step = self.slots * width
        shift, modulus, read = self._shift(), self.modulus, mpz.from_bytes
        return [
            (read(octets[start : start + step], "little") - shift) % modulus
            for start in range(0, len(octets), step)
        ]

    def unpack(self, plaintexts: list[mpz], header: Header) -> RingArray:
        """Return the encoded numbers in decrypted plaintexts, elements of the plan's ring in the header's shape.

        Args:
          plaintexts: 0 <= m < modulus, as many as `count(header.length)`.
          header: what the sum claims to be.

        Raises:
          RangeError: they are no sum of the header's weight.
        """
        width, dtype = self.slot_bytes, self.plan.ring.dtype
        step, shift, modulus = self.slots * width, self._shift(), self.modulus
        lifted = [(m + shift) % modulus for m in plaintexts]
        if any(m.bit_length() > 8 * step for m in lifted):
            raise _no_sum(header)
        octets = np.frombuffer(b"".join([m.to_bytes(step, "little") for m in lifted]), np.uint8)
        wide = np.zeros((len(lifted) * self.slots, dtype.itemsize), np.uint8)
        wide[:, :width] = octets.reshape(-1, width)
        numbers: RingArray = wide.reshape(-1).view(dtype)
        numbers -= self._bias(dtype)  # wraps: two's complement again
        bound = header.weight * self.plan.limit
        signed = numbers.view(f"i{dtype.itemsize}")
        values, rest = signed[: header.length], signed[header.length :]
        if int(np.max(values)) > bound or int(np.min(values)) < -bound or np.any(rest):
            raise _no_sum(header)
        return numbers[: header.length].reshape(header.shape)

    def _bias(self, dtype: np.dtype[Any]) -> np.unsignedinteger[Any]:
        bias: np.unsignedinteger[Any] = dtype.type(1 << (8 * self.slot_bytes - 1))
        return bias

    def _shift(self) -> mpz:
        """Return H."""
        return mpz.from_bytes((bytes(self.slot_bytes - 1) + b"\x80") * self.slots, "little")


def slot_bytes(plan: Plan) -> int:
    """Return the bytes of a slot: those that hold every planned sum. Never more than a ring element's."""
    return -(-plan.sum_bits // 8)


def max_slots(plan: Plan, modulus: mpz) -> int:
    """Return how many slots a plaintext modulo `modulus` has room for: 2^(b slots) <= modulus."""
    return int((modulus.bit_length() - 1) // (8 * slot_bytes(plan)))


def _no_sum(header: Header) -> RangeError:
    return RangeError(
        f"what was decrypted is no sum of weight {header.weight} of numbers within +-{header.plan.clip}: a summand "
        "was out of range, the ciphertext was changed, or its header does not tell the truth"
    )
