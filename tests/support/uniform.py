"""Whether bytes look uniform."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# With 255 degrees of freedom the statistic has mean 255 and standard deviation 22.6. Uniform bytes exceed 366 with
# probability 7e-6. Keys are fixed where it is used, so a run either always passes or never.
CHI_SQUARE_LIMIT: Final = 366.0


def chi_square(values: NDArray[Any]) -> float:
    """Return the chi-square statistic of an array's bytes against the uniform distribution."""
    counts = np.bincount(np.ascontiguousarray(values).reshape(-1).view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    return float(((counts - expected) ** 2 / expected).sum())
