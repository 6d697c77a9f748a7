"""What a node remembers of its updates from sum to sum of one training: what few bits and few numbers cut off.

With `Compression.error_feedback` a node adds what it remembers to its next update, and remembers what is then cut off
([SFDLY14]; convergence in [KRSJ19] and [SCJ18]). It takes this over when it has answered the last step of a sum that it is
in. After a sum that it left it remembers what it did before, and its update is lost as without memory.

A node remembers one array of float64 of its update's length, which is as secret as the update. It is of one run and one
layout. It must not survive in two copies: what one sent the other would send again.
"""

from __future__ import annotations

import logging
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg import wire
from secagg.federated.layout import Layout
from secagg.wire import Message

_log: Final = logging.getLogger("secagg.federated")


class Memory(Message, frozen=True):
    """What a node remembers. Secret.

    run: of the framework. layout: canonical, as bytes. numbers: what was cut off of earlier updates, float64, in the
    layout's order.
    """

    run: int
    layout: bytes
    numbers: NDArray[np.float64]


def remembered(data: bytes, run: int, layout: Layout, log: logging.Logger = _log) -> NDArray[np.float64]:
    """Return what a node adds to an update: zeros in the first sum of a run.

    Args:
      data: a `Memory` as bytes, or b"".
      run, layout: of the sum.
      log: where it says that something was forgotten.

    Raises:
      WireError: bytes that are no such memory.
    """
    if data:
        memory = wire.from_bytes(data, Memory)
        if (memory.run, memory.layout) == (run, wire.to_bytes(layout)):
            return np.array(memory.numbers)
        other = "another run" if memory.run != run else "other arrays"
        log.info("what was cut off of updates of %s is forgotten: it belongs to no mean of this one", other)
    return np.zeros(layout.numbers)
