"""Shared arrays that read like numpy's: operators build a graph, and `await x.open()` works it out and opens x.

Modules, each of which stands on those before it:

  lanes, dtypes          how elements and bits are held
  graph                  nodes and kernels
  kernels, local         what they do to shares, with messages and without
  agreement, scheduler   whether all open the same thing; level by level
  refusals, handle       what is refused; an engine and a node
  logic, arithmetic, comparison, moves, reductions, functions, digits, elementary, linalg, ordering, statistics
  dispatch               numpy's functions and the array API's names
  namespace              all functions and dtypes, as the array API wants them
  array                  `SharedArray`
  debug, rehearsal       plaintext twins; what a program costs
  engine, outside        `Engine`; parties that do not compute
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["Engine", "SharedArray", "linalg"]

if TYPE_CHECKING:
    from secagg.mpc.arrays import linalg
    from secagg.mpc.arrays.array import SharedArray
    from secagg.mpc.arrays.engine import Engine
else:
    __getattr__, __dir__ = face(
        "secagg.mpc.arrays",
        {
            "secagg.mpc.arrays": "linalg",
            "secagg.mpc.arrays.array": "SharedArray",
            "secagg.mpc.arrays.engine": "Engine",
        },
    )
