"""Made-up updates with leaves of every form."""

from __future__ import annotations

from typing import Any

import numpy as np

CLIPS = {"": 4.0, "steps": 1e6}


def model(seed: int) -> dict[str, Any]:
    """Return a made-up update of every form."""
    rng = np.random.default_rng(seed)
    return {
        "layer": {"weight": rng.normal(size=(3, 2)).astype(np.float32), "bias": rng.normal(size=2)},
        "half": [rng.normal(size=3).astype(np.float16)],
        "steps": np.int64(rng.integers(1 << 19)),
        "loss": float(rng.uniform(0, 2)),
    }
