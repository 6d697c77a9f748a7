"""Who shares masks and secrets with whom: a complete graph, or a sparse random one [BBG+20].

Each pair of neighbours has a mask in common. Each client shares its two secrets among its neighbours and itself;
`threshold` shares recover one. With n clients, c of them corrupt (they work with the server) and r that may drop out:

*Complete graph* [BIK+17]. Against a server that keeps to the protocol, threshold > c; against one that does not,
2 * threshold > n + c; and threshold <= n - r. Here threshold = n - r, the largest, which bears the most
colluders. Holds always, not just probably.

*Sparse graph*: clients stand in a circle in a random order, and the neighbours of each are the k/2 on either
side (a Harary graph). Over the random order, the bounds below hold but with the probabilities printed. Taking
clients away can cut a circle in two only if it takes two runs of k/2 in a row.

Server that keeps to the protocol (corruptions and dropouts independent of the order):
  secrecy   nobody has `threshold` corrupt neighbours (union over n clients, hypergeometric tail), and no two
            runs of k/2 are corrupt or gone (union over n (n - k - 1) / 2 pairs of runs)
  failure   somebody keeps fewer than `threshold` neighbours (union over n, hypergeometric tail)
Server that does not: it sees the order and says who dropped out, to each client something else if it can. Every client
demands that a **quorum** signed the same sets, 2 * quorum > n + c. So they are the same for all honest clients. And
`threshold` is such that *no* choice of who dropped out separates the honest ones:
  secrecy   no run of k/2 has threshold - k/2 - 1 corrupt or more (union over n runs, hypergeometric tail).
            Then also 2 * threshold > k + 1 + corrupt neighbours, for every client. So two disjoint sets of holders cannot
            open both its secrets, even where they are told different sets.
  failure   as above.
Proofs in docs/soundness-masked.md.

The order must not depend on who is corrupt: it comes from the session. Whoever could choose among g sessions gains
log2 g bits; where somebody can, raise `security_bits`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import PlanError, UsageError
from secagg.prg import Stream
from secagg.protocols.threat_model import ThreatModel, is_malicious, largest_part

_COMPLETE_UP_TO: Final = 100
_MAX_CLIENTS: Final = 1 << 20
_FAILURE_BITS: Final = 30.0  # a run that fails is run again; secrecy is lost once


@dataclass(frozen=True, slots=True)
class GraphParameters:
    """A graph's degree, the thresholds, and with what probabilities they do not do.

    Made by `choose`, which explains the fields.

    Attributes:
      clients, n_corrupt, n_dropouts: n, c, r.
      threat_model: of the server.
      degree: neighbours of each client, n - 1 in the complete graph.
      threshold: shares that give a secret back, of degree + 1.
      min_clients: fewest clients that a sum is made of.
      quorum: signatures of the same sets that a client demands; only asked for if the server is malicious.
      log2_insecure: the probability that secrecy fails; -inf where it cannot.
      log2_failure: the probability that, with no more dropouts than planned, there is no sum.
    """

    clients: int
    n_corrupt: int
    n_dropouts: int
    threat_model: ThreatModel
    degree: int
    threshold: int
    min_clients: int
    quorum: int
    log2_insecure: float
    log2_failure: float

    def __post_init__(self) -> None:
        n = self.clients
        sparse = self.degree % 2 == 0 and 2 <= self.degree < n - 1
        if not (
            2 <= n <= _MAX_CLIENTS
            and 0 <= self.n_corrupt < n
            and 0 <= self.n_dropouts < n
            and (self.complete or sparse)
            and 2 <= self.threshold <= self.degree + 1
            and self.n_corrupt + 2 <= self.min_clients <= n - self.n_dropouts
        ):
            raise PlanError(f"{self} cannot be; use secagg.protocols.masked_sum.choose")
        enough = not self.complete or self.threshold > self.n_corrupt
        if self.malicious:
            enough = 2 * self.threshold > self.degree + 1 + (self.n_corrupt if self.complete else 0)
            enough = enough and 2 * self.quorum > n + self.n_corrupt and self.quorum <= self.min_clients
        if not enough:
            raise PlanError(f"the thresholds of {self} bear fewer colluders than that")

    @property
    def malicious(self) -> bool:
        """Whether the server may do anything."""
        return is_malicious(self.threat_model)

    @property
    def complete(self) -> bool:
        """Whether everybody is everybody's neighbour."""
        return self.degree == self.clients - 1

    def __str__(self) -> str:
        kind = "complete graph" if self.complete else f"{self.degree} neighbours each"
        quorum = f", quorum {self.quorum}" if self.malicious else ""
        return (
            f"{self.clients} clients, {self.n_corrupt} corrupt, {self.n_dropouts} dropping out, {self.threat_model} server: "
            f"{kind}, threshold {self.threshold} of {self.degree + 1}, sums of at least {self.min_clients}{quorum}; "
            f"{_chance('insecure', self.log2_insecure)}, {_chance('fails', self.log2_failure)}"
        )


def _chance(event: str, log2: float) -> str:
    return f"{event} with probability {'0' if log2 == -math.inf else f'2^{log2:.1f}'}"


def choose(
    clients: int,
    *,
    max_corrupt: float = 1 / 3,
    max_dropout: float | None = None,
    threat_model: ThreatModel = "semi-honest",
    security_bits: float = 40.0,
) -> GraphParameters:
    """Return the parameters of the smallest graph that does; complete up to 100 clients.

    If no more clients drop out than that, the run fails with probability 2**-30 at most.

    Args:
      clients: 2..2**20.
      max_corrupt: largest fraction of the clients that work with the server.
      max_dropout: largest fraction that drops out, over all rounds together; by default a third, or as many as the corrupt
        ones leave room for.
      threat_model: "malicious" if the server may do anything; "semi-honest" if it keeps to the protocol.
      security_bits: secrecy fails with probability 2**-security_bits at most.

    Raises:
      PlanError: no graph does; the message says what would.
      UsageError: an unknown threat model, or another argument out of range.
    """
    malicious = is_malicious(threat_model)
    n, gone = clients, 1 / 3 if max_dropout is None else max_dropout
    if not (2 <= n <= _MAX_CLIENTS and 0 <= max_corrupt < 1 and 0 <= gone < 1):
        raise UsageError(
            f"expected 2 to {_MAX_CLIENTS} clients and fractions from 0 to below 1, got {n}, {max_corrupt} and {gone}"
        )
    if not security_bits > 0:
        raise UsageError(f"expected security_bits above 0, got {security_bits}")
    c, r = (largest_part(fraction, n) for fraction in (max_corrupt, gone))
    quorum = (n + c) // 2 + 1 if malicious else 0
    # The corrupt ones can take their own vectors off the sum: with one other in it, they would be left with that one.
    needed = max(c + 2, quorum)
    if max_dropout is None:
        r = max(0, min(r, n - needed))
    if n > _COMPLETE_UP_TO:
        tails = _Tails(n)
        find = _malicious_threshold if malicious else _semi_honest_threshold
        if n - r >= needed:
            for k in range(2, n - 1, 2):
                found = find(tails, n, k, c, r, security_bits)
                if found is not None:
                    t, insecure, failure = found
                    return GraphParameters(n, c, r, threat_model, k, t, n - r, quorum, insecure, failure)
    t = n - r
    if t < needed:
        raise PlanError(
            f"of {n} clients {t} are sure to stay, and against {'a malicious server and ' if malicious else ''}{c} corrupt "
            f"ones at least {needed} must; allow fewer dropouts or fewer corrupt clients"
        )
    return GraphParameters(n, c, r, threat_model, n - 1, t, t, t if malicious else 0, -math.inf, -math.inf)


def _semi_honest_threshold(
    tails: _Tails, n: int, k: int, c: int, r: int, security: float
) -> tuple[int, float, float] | None:
    """Return the smallest threshold that does at degree k, and the probabilities, if one does."""
    cut = tails.cut(n, k, c + r)
    if cut > -(security + 1):
        return None
    # Of the n - 1 others k are neighbours: as if drawn at random.
    t = max(2, tails.least_at(n, n - 1, c, k, -(security + 1)))
    fails = tails.log2_n + tails.tail(n - 1, r, k, k - t + 1)
    if t > k or fails > -_FAILURE_BITS:
        return None
    return t, _log2_sum(tails.log2_n + tails.tail(n - 1, c, k, t), cut), fails


def _malicious_threshold(
    tails: _Tails, n: int, k: int, c: int, r: int, security: float
) -> tuple[int, float, float] | None:
    # The least number of corrupt ones in a run of k/2 that no run has.
    crowd = tails.least_at(n, n, c, k // 2, -security)
    t = k // 2 + 1 + crowd
    fails = tails.log2_n + tails.tail(n - 1, r, k, k - t + 1)
    if t > k or fails > -_FAILURE_BITS:
        return None
    return t, tails.log2_n + tails.tail(n, c, k // 2, crowd), fails


class _Tails:
    """Tails of hypergeometric distributions over up to n things, as base-2 logarithms."""

    def __init__(self, n: int) -> None:
        self.log2_n = math.log2(n)
        self._factorials = np.concatenate([np.zeros(1), np.cumsum(np.log2(np.arange(1, n + 1)))])

    def _choose(self, n: int, k: NDArray[np.int64]) -> NDArray[np.float64]:
        f = self._factorials
        chosen: NDArray[np.float64] = f[n] - f[k] - f[n - k]
        return chosen

    def _masses(self, n: int, marked: int, drawn: int) -> tuple[int, NDArray[np.float64]]:
        """Return the least possible number of marked ones among those drawn, and log2 P[X = m] from it on."""
        low = max(0, drawn - (n - marked))
        m = np.arange(low, min(marked, drawn) + 1)
        every = self._choose(n, np.array([drawn]))
        return low, self._choose(marked, m) + self._choose(n - marked, drawn - m) - every

    def tail(self, n: int, marked: int, drawn: int, at_least: int) -> float:
        """Return log2 P[at least so many of `drawn` things are marked], where `marked` of n are."""
        low, masses = self._masses(n, marked, drawn)
        return _log2_sum(*masses[max(0, at_least - low) :].tolist())

    def least_at(self, clients: int, n: int, marked: int, drawn: int, log2: float) -> int:
        """Return the least m with clients * P[at least m of `drawn` are marked] <= 2**log2."""
        low, masses = self._masses(n, marked, drawn)
        # Tails from the far end on: sums in which the small terms come first.
        most = float(np.max(masses))
        tails = np.cumsum(np.exp2(masses[::-1] - most))
        enough = tails <= 2.0 ** (log2 - math.log2(clients) - most)
        return low + len(masses) - int(np.count_nonzero(enough))

    def cut(self, n: int, k: int, gone: int) -> float:
        """Return log2 of the bound on the probability that two runs of k/2 in the circle are gone."""
        if k > gone:
            return -math.inf
        # n places for the first run, n - k - 1 for the other so that somebody stands between; in either order.
        pairs = math.log2(n) + math.log2(max(1, n - k - 1)) - 1
        f = self._factorials
        return pairs + float(f[gone] - f[gone - k] - f[n] + f[n - k])


def _log2_sum(*logarithms: float) -> float:
    """Return log2 of the sum of 2**logarithm."""
    most = max(logarithms, default=-math.inf)
    if most == -math.inf:
        return most
    return most + math.log2(math.fsum(2.0 ** (x - most) for x in logarithms))


class Graph:
    """The graph of one round: everybody's neighbours.

    Args:
      parameters: as chosen.
      key: 32 public bytes that fix the order, for this round alone.
    """

    __slots__ = ("_order", "_place", "parameters")

    def __init__(self, parameters: GraphParameters, key: bytes) -> None:
        self.parameters = parameters
        self._order: list[int] = []
        self._place: list[int] = []
        if not parameters.complete:
            order = Stream(key).permutation(parameters.clients)
            self._order, self._place = order.tolist(), np.argsort(order).tolist()

    def neighbours(self, client: int) -> list[int]:
        """Return the neighbours of a client, by index, in ascending order."""
        n = self.parameters.clients
        if self.parameters.complete:
            return [other for other in range(n) if other != client]
        half, place = self.parameters.degree // 2, self._place[client]
        places = [*range(place - half, place), *range(place + 1, place + half + 1)]
        return sorted(self._order[p % n] for p in places)

    @property
    def order(self) -> NDArray[np.int64]:
        """The clients by place in the circle; by number in the complete graph."""
        return np.array(self._order or range(self.parameters.clients), np.int64)

    def rows(self, clients: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the neighbours of each of some clients, shape (clients, degree), each row as `neighbours` returns it."""
        found = np.fromiter(itertools.chain.from_iterable(map(self.neighbours, clients.tolist())), np.int64)
        return found.reshape(len(clients), self.parameters.degree)

    def holders(self, client: int) -> list[int]:
        """Return who holds shares of a client's secrets: its neighbours and itself, in ascending order."""
        return sorted([*self.neighbours(client), client])
