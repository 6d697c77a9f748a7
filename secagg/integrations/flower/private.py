"""Means of bounded updates under noise (`secagg.dp`): what a node gives to a sum, and what the sum stands for.

Training: an *update* is what the app's function replied less the array of the same record, name and shape that came with
the task; what did not come with the task counts from zero. Evaluation: the metrics as they are. All numbers side by
side are one vector. A node scales it down to the norm, rounds it and adds its share of noise when it is known who takes
part, since the share depends on how many are sure to stay.

Every node counts the same: weights would multiply what one node can do to a sum, and their sum is a number about
data. So the vector holds nothing else.

Whether a node answers must not depend on its data: an update with NaN or infinity counts as zeros.

Learns: whoever sees the sum, the mean of at least `least` nodes with the noise of all but the corrupt ones of these.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from flwr.app import MessageType, MetricRecord, RecordDict
from numpy.typing import NDArray

from secagg import dp
from secagg.aggregation.privacy import Privacy
from secagg.errors import PlanError
from secagg.integrations.flower.layout import (
    Entry,
    Layout,
    Means,
    Sent,
    array_entries,
    metric_entries,
    refuse_config,
    to_records,
)
from secagg.party import PartyId
from secagg.protocols.masked import GraphParameters, narrow, ring_for, widen
from secagg.ring import RingArray
from secagg.signing import digest

_ROTATION: Final = "secagg.integrations.flower/rotation"
_METRICS: Final = "metrics"
_log = logging.getLogger("flwr.secagg")


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
    content: RecordDict, kind: str, sent: Sent, weight_key: str, leave_out: Sequence[str] = ()
) -> Difference:
    """Return what a reply gives to a sum.

    Args:
      content: of the reply.
      kind: "train", of which arrays are summed up, or "evaluate", of which metrics are.
      sent: the arrays that the task came with.
      weight_key: the metric that other sums are weighted by; here it is neither needed nor sent.
      leave_out: paths of arrays that are not sent.

    Raises:
      RemoteProtocolError: a path to be left out that no array matches.
      UsageError: a ConfigRecord, or what cannot be averaged.
      ShapeError: no numbers.
    """
    refuse_config(content)
    training = kind == MessageType.TRAIN
    found = list(array_entries(content, leave_out) if training else metric_entries(content, weight_key))
    entries = tuple(entry for entry, _ in found)
    records = [key for key, record in content.items() if isinstance(record, MetricRecord)]
    weight_record = next(
        (key for key in records if weight_key in content[key]), next(iter(records), _METRICS)
    )
    announced = Layout(entries if training else (), () if training else entries, weight_record)
    announced.check()
    vector, from_zero, start = np.empty(announced.numbers), [], 0
    for entry, value in sorted(found, key=lambda item: (item[0].record, item[0].name)):
        part = vector[start : start + value.size].reshape(value.shape)
        part[...] = value
        before = _before(entry, sent)
        if before is not None:
            with np.errstate(all="ignore"):  # what is not finite is found below
                part -= before
        elif training:
            from_zero.append(f"{entry.record}/{entry.name}")
        start += value.size
    finite = bool(np.isfinite(vector).all())
    if not finite:
        vector[:] = 0.0
    names = [name for key in records for name in content[key]] if training else []
    return Difference(announced.canonical(), announced, vector, tuple(from_zero), tuple(names), finite)


class PrivateCoder:
    """Noisy means for sums of so many nodes; a `Coder`.

    Args:
      layout: of the replies.
      privacy: what a sum may tell.
      parameters: of the sum.
      registered: nodes in the file of public keys.
      session: what is agreed on for this sum alone; public.

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
    ) -> None:
        clients = parameters.clients
        # A server that may do anything chooses who takes part: all corrupt ones may be among them.
        crowd = registered if parameters.active else clients
        corrupt = max(parameters.corrupt, math.floor(privacy.corrupt * crowd + 1e-9))
        if corrupt >= parameters.least:
            raise PlanError(
                f"of {clients} nodes {parameters.least} are sure to be in a sum, and {corrupt} are not counted on for "
                "noise: nobody is left; let more take part, or allow fewer dropouts or a smaller Privacy.corrupt"
            )
        self._layout = layout
        self.mechanism = dataclasses.replace(privacy, corrupt=corrupt / clients).mechanism(
            clients=clients, survivors=parameters.least, length=layout.numbers
        )
        # The same turn of all vectors protects nothing and endangers nothing: it may be known, or even chosen.
        self._seed = digest(_ROTATION, [session]) if privacy.rotated else None
        self.length = self.mechanism.grid.dimension
        self.ring = ring_for(self.mechanism.plan, clients)

    def contribution(self, vector: NDArray[Any]) -> RingArray:
        """Return a vector scaled down and rounded, with a fresh share of noise.

        To be called once for a vector: a second share of noise over the same one tells more about it.
        """
        contributor = dp.Contributor(self.mechanism)
        return narrow(contributor.contribute(vector, seed=self._seed).values, self.mechanism.plan, self.ring)

    def decode(self, total: RingArray, contributors: Sequence[PartyId], weight_key: str, sent: Sent) -> Means:
        """Return the plain means, training's on top of what was sent; their number counts as weight. See `Coder`."""
        mechanism, count = self.mechanism, len(contributors)
        mean = mechanism.to_numbers(widen(total, mechanism.plan, self.ring), seed=self._seed) / count
        values, start = [], 0
        for entry in self._layout.entries:
            value = mean[start : start + math.prod(entry.shape)].reshape(entry.shape)
            start += value.size
            before = _before(entry, sent)
            values.append(_cast(value if before is None else value + before, entry.dtype))
        deviation = mechanism.grid.unit * math.sqrt(mechanism.noise.variance / count)
        records = to_records(self._layout, values, count, weight_key)
        return Means(records, count, math.inf, deviation)

    def report(self, rounds: int) -> dp.Report:
        """Return what so many sums have told about a node; see `Coder`."""
        return self.mechanism.report(rounds)


def _before(entry: Entry, sent: Sent) -> NDArray[np.float64] | None:
    """Return the array that an entry's update is counted from."""
    array = sent.get((entry.record, entry.name))
    if array is None:
        return None
    try:
        value: NDArray[Any] = array.numpy()
    except (TypeError, ValueError, EOFError, BadZipFile):
        return None  # whatever it was, it is no array of numbers
    fits = value.shape == entry.shape and value.dtype.kind in "iuf"
    return value.astype(np.float64) if fits else None


def _cast(value: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    """Return means in the arrays' dtype, float64 for those of integers."""
    if not dtype.startswith("float"):
        return value
    most = float(np.finfo(dtype).max)
    beyond = int(np.count_nonzero(np.abs(value) > most))
    if beyond:
        _log.warning(
            "%d numbers of a mean with noise are beyond what %s holds, and become its largest", beyond, dtype
        )
    return np.clip(value, -most, most).astype(dtype)
