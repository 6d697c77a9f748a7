"""Means of bounded updates under noise (`secagg.dp`): what a node gives to a sum, and what the sum stands for.

Training: an *update* is what the app's function replied less the array of the same record, name and shape that came with
the task. An array that did not come with the task counts from zero. Evaluation: the metrics as they are. All numbers side
by side are one vector. When it is known who takes part, a node scales the vector down to the norm, rounds it and adds its
share of noise. The share depends on how many are sure to stay.

Every node counts the same: weights would multiply what one node can do to a sum, and their sum is a number about
data. So the vector holds nothing else.

Whether a node answers must not depend on its data: an update with NaN or infinity counts as zeros.

Learns: whoever sees the sum, the mean of at least `GraphParameters.min_clients` nodes, with the noise of all of these but
the corrupt ones.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg import dp
from secagg.errors import PlanError
from secagg.federated.layout import Baseline, Item, Layout, Means
from secagg.protocols.masked_sum import GraphParameters
from secagg.protocols.threat_model import largest_part
from secagg.ring import RingArray
from secagg.signing import digest
from secagg.updates.privacy import Privacy

_ROTATION: Final = "secagg.federated/rotation"
_log = logging.getLogger("secagg.federated")


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """What a node keeps of a reply until it is known who takes part.

    Attributes:
      layout: of the reply without what is not sent, canonical.
      announced: the same in the order of the reply.
      vector: float64, without noise, not yet scaled down; secret.
      from_zero: arrays that did not come with the task.
      left_out: metrics that are not sent.
      finite: False if there was NaN or infinity, and the vector is zeros instead.
    """

    layout: Layout
    announced: Layout
    vector: NDArray[np.float64] = dataclasses.field(repr=False)
    from_zero: tuple[str, ...]
    left_out: tuple[str, ...]
    finite: bool = dataclasses.field(repr=False)


def difference(
    items: Sequence[Item],
    baseline: Baseline,
    *,
    training: bool,
    weight_record: str,
    left_out: Sequence[str] = (),
) -> Difference:
    """Return what a reply gives to a sum.

    Args:
      items: arrays of the reply in its order if training, else metrics.
      baseline: the arrays that the task came with.
      training: whether arrays are summed up.
      weight_record: the record that shall hold the number of nodes.
      left_out: metrics that are not sent.

    Raises:
      ShapeError: no numbers.
    """
    entries = tuple(entry for entry, _ in items)
    announced = Layout(entries if training else (), () if training else entries, weight_record)
    announced.check()
    vector, from_zero, start = np.empty(announced.numbers), list[str](), 0
    for entry, value in sorted(items, key=lambda item: item[0].key):
        part = vector[start : start + value.size].reshape(value.shape)
        part[...] = value
        before = baseline(entry)
        if before is not None:
            with np.errstate(all="ignore"):  # what is not finite is found below
                part -= before
        elif training:
            from_zero.append(entry.path)
        start += value.size
    finite = bool(np.isfinite(vector).all())
    if not finite:
        vector[:] = 0.0
    return Difference(announced.canonical(), announced, vector, tuple(from_zero), tuple(left_out), finite)


class PrivateCoder:
    """Noisy means for sums of so many nodes; a `Coder`.

    Args:
      layout: of the replies.
      privacy: what a sum may tell.
      parameters: of the sum.
      registered: nodes in the file of public keys.
      session: what is agreed on for this sum alone; public.
      log: where the server reads that a mean was beyond its dtype.

    Attributes:
      mechanism: grid, noise and ring.

    Raises:
      PlanError: nobody is left to count on for noise; or no noise, or no ring of 64 bits, is enough.
    """

    def __init__(
        self,
        layout: Layout,
        privacy: Privacy,
        parameters: GraphParameters,
        *,
        registered: int,
        session: bytes,
        log: logging.Logger = _log,
    ) -> None:
        clients = parameters.clients
        # A server that may do anything chooses who takes part: all corrupt ones may be among them.
        cohort = registered if parameters.malicious else clients
        corrupt = max(parameters.n_corrupt, largest_part(privacy.max_corrupt, cohort))
        if corrupt >= parameters.min_clients:
            raise PlanError(
                f"of {clients} nodes {parameters.min_clients} are sure to be in a sum, and {corrupt} are not counted on for "
                "noise: nobody is left; let more take part, or allow fewer dropouts or a smaller Privacy.max_corrupt"
            )
        self._layout, self._log = layout, log
        self.mechanism = dataclasses.replace(privacy, max_corrupt=corrupt / clients).mechanism(
            clients=clients, min_clients=parameters.min_clients, length=layout.numbers
        )
        # The same turn of all vectors protects nothing and endangers nothing: it may be known, or even chosen.
        self._seed = digest(_ROTATION, [session]) if privacy.random_rotation else None
        self.length = self.mechanism.grid.dimension
        self.ring = self.mechanism.plan.sum_ring(clients)

    def fits(self, vector: NDArray[Any]) -> bool:  # noqa: ARG002  # scaled down, whatever it is
        """Return True; see `Coder`."""
        return True

    def contribution(self, vector: NDArray[Any]) -> RingArray:
        """Return a vector scaled down and rounded, with a fresh share of noise.

        To be called once for a vector: a second share of noise over the same one tells more about it.
        """
        contributor = dp.Contributor(self.mechanism)
        return self.mechanism.plan.narrow(contributor.contribute(vector, seed=self._seed).values)

    def decode(self, total: RingArray, clients: int, baseline: Baseline) -> Means:
        """Return the plain means, training's on top of what was sent; their number counts as weight. See `Coder`."""
        mechanism = self.mechanism
        mean = mechanism.to_numbers(mechanism.plan.widen(total), seed=self._seed) / clients
        values, start = [], 0
        for entry in self._layout.entries:
            value = mean[start : start + math.prod(entry.shape)].reshape(entry.shape)
            start += value.size
            before = baseline(entry)
            values.append(_cast(value if before is None else value + before, entry.dtype, self._log))
        noise_std = mechanism.grid.unit * math.sqrt(mechanism.noise.variance / clients)
        return Means(values, clients, math.inf, noise_std)

    def report(self, rounds: int) -> dp.Report:
        """Return what so many sums have told about a node; see `Coder`."""
        return self.mechanism.report(rounds)


def _cast(value: NDArray[np.float64], dtype: str, log: logging.Logger) -> NDArray[Any]:
    """Return means in the arrays' dtype, float64 for those of integers."""
    if not dtype.startswith("float"):
        return value
    most = float(np.finfo(dtype).max)
    beyond = int(np.count_nonzero(np.abs(value) > most))
    if beyond:
        log.warning(
            "%d numbers of a mean with noise are beyond what %s holds, and become its largest", beyond, dtype
        )
    return np.clip(value, -most, most).astype(dtype)
