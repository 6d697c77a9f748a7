"""Sums of gradient histograms for boosted trees: each client's as bounded integers, added up by whatever protocol.

Tree boosting on histograms needs of the data, for each node of a tree, feature and bin, the sums of the rows' gradients and
hessians. Clients that have the same features of different rows make these alone. Their sums say where to split, exactly as
histograms of the pooled rows would, up to `precision` for each client.

    bounds = HistogramBounds(max_rows=10_000)                  # agreed on beforehand
    parts = {name: bounds.encode(local_histogram(...)) for ...}
    total = bounds.decode(secagg.sum(parts, clip=bounds.clip).value, clients=len(parts))

A gradient of logistic loss is within +-1, a hessian within 0 and 1/4. Of squared error gradients are as large as labels are,
and hessians are 1. A client's sums are within its rows times that. So the ring follows from
bounds that say nothing of the data.

Learns: whoever sees the sums, all of them. A bin with one row in all shows that row's gradient, and by it its label.
`BoostingSettings.min_rows` keeps splits off small nodes. It does not keep a bin's sums from whoever adds up. What helps is
few and wide bins, and noise (`secagg.Privacy`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError, UsageError

_MOST_BITS: Final = 52  # float64 holds the integers exactly


@dataclass(frozen=True, slots=True)
class Histogram:
    """Sums by node of a tree, feature and bin; float64 of one shape.

    Attributes:
      gradients, hessians: of the rows there.
      rows: how many there are.
    """

    gradients: NDArray[np.float64]
    hessians: NDArray[np.float64]
    rows: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HistogramBounds:
    """What all clients agree on; public.

    Args:
      max_rows: of one client, at most.
      max_gradient, max_hessian: largest absolute values of one row.
      precision: largest error of one client's sum.

    Raises:
      UsageError: a number out of range, or sums that no integer of 52 bits holds.
    """

    max_rows: int
    max_gradient: float = 1.0
    max_hessian: float = 0.25
    precision: float = 1e-6

    def __post_init__(self) -> None:
        numbers = (self.max_gradient, self.max_hessian, self.precision)
        if not isinstance(self.max_rows, int) or self.max_rows < 1:
            raise UsageError(f"expected at least 1 row as max_rows, got {self.max_rows!r:.40}")
        if not all(math.isfinite(number) and number > 0 for number in numbers):
            raise UsageError(f"expected positive bounds and a positive precision, got {numbers}")
        if max(self.clip.values()) >= 1 << _MOST_BITS:
            raise UsageError(
                f"{self.max_rows} rows up to {max(self.max_gradient, self.max_hessian)} at a precision of {self.precision} "
                f"do not fit {_MOST_BITS} bits; use a larger precision"
            )

    @property
    def clip(self) -> dict[str, float]:
        """The largest integers of one client's histogram by name, as `secagg.sum` takes them."""
        return {
            "gradients": float(self._limit(self.max_gradient)),
            "hessians": float(self._limit(self.max_hessian)),
            "rows": float(self.max_rows),
        }

    def encode(self, histogram: Histogram) -> dict[str, NDArray[np.int64]]:
        """Return a client's histogram as integers, to be added up exactly. Secret.

        Raises:
          RangeError: sums beyond the bounds: more rows than agreed, or larger gradients. Nothing is cut.
          ShapeError: arrays of different shapes.
        """
        shapes = {histogram.gradients.shape, histogram.hessians.shape, histogram.rows.shape}
        if len(shapes) != 1:
            raise ShapeError(f"expected sums of one shape, got {sorted(shapes)}")
        found = {}
        given = {"gradients": histogram.gradients, "hessians": histogram.hessians, "rows": histogram.rows}
        for name, most in self.clip.items():
            unit = 1.0 if name == "rows" else self._unit
            scaled = np.rint(np.asarray(given[name], np.float64) / unit)
            # NaN fails the comparison, too.
            bad = int(np.count_nonzero(~(np.abs(scaled) <= most)))
            if bad:
                raise RangeError(
                    f"{bad} sums of {name} are beyond what {self} allows; agree on larger bounds, nothing was sent"
                )
            found[name] = scaled.astype(np.int64)
        return found

    def decode(self, total: Mapping[str, Any], clients: int) -> Histogram:
        """Return the sums of all clients' histograms.

        Args:
          total: sums of what `encode` made, by name.
          clients: how many are in them.

        Raises:
          RangeError: what so many clients within the bounds cannot add up to.
        """
        for name, most in self.clip.items():
            if np.any(np.abs(np.asarray(total[name])) > clients * most):
                raise RangeError(f"the sums of {name} are beyond those of {clients} clients within {self}")
        gradients, hessians = (
            np.asarray(total[name], np.float64) * self._unit for name in ("gradients", "hessians")
        )
        return Histogram(gradients, hessians, np.asarray(total["rows"], np.float64))

    @property
    def _unit(self) -> float:
        # The largest power of two at which rounding moves a number by the precision at most.
        return 2.0 ** math.floor(math.log2(2 * self.precision))

    def _limit(self, largest: float) -> int:
        return math.ceil(self.max_rows * largest / self._unit) + 1


def local_histogram(
    binned: NDArray[Any], gradients: Any, hessians: Any, node_of: NDArray[Any], *, nodes: int, bins: int
) -> Histogram:
    """Return a client's own sums, of shape (nodes, features, bins).

    Args:
      binned: the bin of each row and feature, 0 to below bins.
      gradients, hessians: of each row.
      node_of: of each row, 0 to below nodes; -1 for rows that are in none of them.
      nodes, bins: how many there are.

    Raises:
      ShapeError: columns of different lengths.
      RangeError: a bin or a node that is none.
    """
    rows, features = np.shape(binned)
    g, h, at = np.asarray(gradients, np.float64), np.asarray(hessians, np.float64), np.asarray(node_of)
    if not g.shape == h.shape == at.shape == (rows,):
        raise ShapeError(
            f"expected {rows} gradients, hessians and nodes, got {g.shape}, {h.shape}, {at.shape}"
        )
    if rows and not (binned.min() >= 0 and binned.max() < bins and at.min() >= -1 and at.max() < nodes):
        raise RangeError(f"expected bins below {bins} and nodes below {nodes}; nothing was counted")
    here = at >= 0
    place = ((at[here, None] * features + np.arange(features)) * bins + binned[here]).ravel()
    size = nodes * features * bins

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(place, np.repeat(values[here], features), size)
        return sums.astype(np.float64).reshape(nodes, features, bins)

    return Histogram(summed(g), summed(h), summed(np.ones(rows)))
