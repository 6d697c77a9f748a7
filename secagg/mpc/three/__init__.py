"""Replicated secret sharing among three computing parties, semi-honest [AFLNO16; MR18].

Modules, each of which stands on those before it:

  streams     what a pair of parties draws in common
  channel     set-up, keys, resharing
  inputs, opening
  conjunction   ANDs of bits, and exchanges
  conversion, comparison, truncation, products, shuffle
  costs
  engine      `ThreeEngine`, the primitives behind one face
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["ThreeEngine"]

if TYPE_CHECKING:
    from secagg.mpc.three.engine import ThreeEngine
else:
    __getattr__, __dir__ = face("secagg.mpc.three", {"secagg.mpc.three.engine": "ThreeEngine"})
