"""Joint computations on data that organisations may not show each other."""

__version__ = "0.1.0"  # before the imports below, one of which reads it

from secagg.network.simulated import simulate
from secagg.party import Party

__all__ = ["Party", "__version__", "simulate"]
