"""The three parameter sets of the additive RLWE encryption, and no others.

Polynomials modulo X^N + 1 with coefficients modulo q = 2^w, ternary secrets, noise of width 3.24. Bits of
security by lattice-estimator, commit 27a581b, with 2 N samples [APS15]:

    N      w     uSVP   BDD    dual hybrid   quantum uSVP   core-SVP   sums
    4096   64    226    225    223           214            201        single key, up to about 48 bits
    4096   96    144    143    144           137            115        several key holders, 36 bits, few releases
    8192   128   -      -      225           -              200        several key holders, wide sums or many releases

The tables of [ACC+18] allow, for 128 bits of security against classical attacks, up to 109 bits of modulus at N = 4096
and 218 at N = 8192. Against quantum attacks they allow 101 and 202. All three sets fit. No loss is known for moduli that
are powers of two. docs/soundness-encryption.md has the commands, the reasons, and the later and more cautious tables that
the second set does not meet.

A set is fixed: its modulus decides how many limbs a product takes, and the limbs decide whether the product is
exact (see `products`). What is off the list is refused, wherever it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from secagg.errors import UsageError, WireError

_SETS: Final = {
    64: ("rlwe/4096/64", 4096, 64, 32, 2),
    96: ("rlwe/4096/96", 4096, 96, 32, 3),
    128: ("rlwe/8192/128", 8192, 128, 26, 5),
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """One of the three sets; see `parameters`.

    Attributes:
      name: goes into headers and digests.
      degree: N.
      modulus_bits: w; the modulus is 2^w.
      limb_bits, limbs: how a coefficient is cut up for exact products.

    Raises:
      UsageError: a combination off the list.
    """

    name: str
    degree: int
    modulus_bits: int
    limb_bits: int
    limbs: int

    def __post_init__(self) -> None:
        fields = (self.name, self.degree, self.modulus_bits, self.limb_bits, self.limbs)
        if _SETS.get(self.modulus_bits) != fields:
            raise UsageError(
                f"expected {_listed()}, got {self.name!r:.40} with degree {self.degree}, a modulus of "
                f"{self.modulus_bits} bits and {self.limbs} limbs of {self.limb_bits}; use parameters(modulus_bits)"
            )

    @property
    def high_dtype(self) -> np.dtype[Any] | None:
        """The dtype of the words above the lowest 64 bits; None where there are none."""
        return {64: None, 96: np.dtype(np.uint32), 128: np.dtype(np.uint64)}[self.modulus_bits]

    @property
    def coefficient_bytes(self) -> int:
        """Bytes of one coefficient in memory and on the wire."""
        return self.modulus_bits // 8

    def blocks(self, length: int) -> int:
        """Return how many polynomials hold `length` numbers."""
        return -(-length // self.degree)


def parameters(modulus_bits: int) -> Parameters:
    """Return the set with a modulus of 64, 96 or 128 bits.

    Raises:
      UsageError: another modulus.
    """
    fields = _SETS.get(modulus_bits) if isinstance(modulus_bits, int) else None
    if fields is None:
        raise UsageError(f"expected a modulus of 64, 96 or 128 bits, got {modulus_bits!r:.40}")
    return Parameters(*fields)


def from_wire(degree: int, modulus_bits: int, *, peer: str) -> Parameters:
    """Return the set that a message names.

    Raises:
      WireError: it is off the list.
    """
    fields = _SETS.get(modulus_bits)
    if fields is None:
        raise WireError(
            f"expected a modulus of 64, 96 or 128 bits from {peer or 'the stored bytes'}, got {modulus_bits}",
            peer=peer,
        )
    if degree != fields[1]:
        raise WireError(
            f"expected degree {fields[1]} with a modulus of {modulus_bits} bits from {peer or 'the stored bytes'}, "
            f"got {degree}",
            peer=peer,
        )
    return Parameters(*fields)


def _listed() -> str:
    return ", ".join(f"{name} ({limbs} limbs of {bits})" for name, _, _, bits, limbs in _SETS.values())
