"""What organisations need around a run: who they are, what they approved, what it may cost, what happened."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["gates_of"]

if TYPE_CHECKING:
    from secagg.joint.gates import gates_of
else:
    __getattr__, __dir__ = face("secagg.joint", {"secagg.joint.gates": "gates_of"})
