"""Replicated secret sharing among four computing parties, of which one may lie [DEK21], with abort.

`FourEngine` offers all of `mpc.primitives.Primitives`. Programs do not name it: `mpc.set_up` returns it where four parties
compute.
docs/soundness-four.md says what is claimed and why it holds.

Modules, each of which stands on those before it:

  broadcast   what four parties tell each other, made the same at all honest ones by an echo
  vouching    one-time MACs
  blame       who of those that took part in a failed check may have lied
  keys        set-up: keys of pairs and of triples
  channel     what one party sends and another vouches for; checks, and what ends a run
  shares      a secret's shares by index
  inputs, opening, products
  conjunction ANDs of bits, and exchanges of rows
  known       what two parties know, as shares
  truncation, conversion, comparison, shuffle, costs
  engine      `FourEngine`, the primitives behind one face
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["FourEngine"]

if TYPE_CHECKING:
    from secagg.mpc.four.engine import FourEngine
else:
    __getattr__, __dir__ = face("secagg.mpc.four", {"secagg.mpc.four.engine": "FourEngine"})
