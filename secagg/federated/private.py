"""Means of bounded updates under noise (`secagg.dp`): what a node gives to a sum, and what the sum stands for.

What a node gives is a `differences.Difference`. When it is known who takes part, a node scales the vector down to the norm,
rounds it and adds its share of noise. The share depends on how many are sure to stay.

Every node counts the same: weights would multiply what one node can do to a sum, and their sum is a number about
data. So the vector holds nothing else.

Learns: whoever sees the sum, the mean of at least `GraphParameters.min_clients` nodes, with the noise of all of these but
the corrupt ones.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import Any, Final

from numpy.typing import NDArray

from secagg import dp
from secagg.errors import PlanError
from secagg.federated.differences import cut, on_top
from secagg.federated.layout import Baseline, Layout, Means
from secagg.protocols.masked_sum import GraphParameters
from secagg.protocols.threat_model import largest_part
from secagg.ring import RingArray
from secagg.signing import digest
from secagg.updates.privacy import Privacy

_ROTATION: Final = "secagg.federated/rotation"
_log = logging.getLogger("secagg.federated")


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
        entries = self._layout.entries
        values, _ = on_top(entries, cut(mean, entries), baseline, self._log)
        noise_std = mechanism.grid.unit * math.sqrt(mechanism.noise.variance / clients)
        return Means(values, clients, math.inf, noise_std)

    def report(self, rounds: int) -> dp.Report:
        """Return what so many sums have told about a node; see `Coder`."""
        return self.mechanism.report(rounds)
