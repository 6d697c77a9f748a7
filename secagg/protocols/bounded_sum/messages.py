"""The messages of a bounded sum, in wire order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secagg.wire import Message

Elements = np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]]


class Seeds(Message, frozen=True):
    """Upload, client -> P_0: the seeds of x_0 and x_1; uint8, shape (2, 32)."""

    seeds: NDArray[np.uint8]


class Rest(Message, frozen=True):
    """Upload, client -> P_1: x_2, what is missing; shape (columns,)."""

    share: Elements


class PassedSeeds(Message, frozen=True):
    """Check, P_0 -> P_1 the seeds of x_1, P_0 -> P_2 those of x_0, of a batch; uint8, shape (m, 32)."""

    seeds: NDArray[np.uint8]


class PassedRest(Message, frozen=True):
    """Check, P_1 -> P_2: x_2 of one client; shape (columns,)."""

    share: Elements


class Verdict(Message, frozen=True):
    """Open, aggregator -> result party that is none: what became of each client; uint8, shape (clients,)."""

    status: NDArray[np.uint8]
