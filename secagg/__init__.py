"""Joint computations on data that organisations may not show each other."""

import importlib
from typing import TYPE_CHECKING, Any

from secagg.release import RELEASE

if TYPE_CHECKING:
    from secagg.aggregation import mean, sum  # noqa: A004  # called as secagg.sum
    from secagg.network.simulated import simulate
    from secagg.party import Party

__version__ = RELEASE
_MODULES = {
    "Party": "secagg.party",
    "mean": "secagg.aggregation",
    "simulate": "secagg.network.simulated",
    "sum": "secagg.aggregation",
}
__all__ = ["Party", "__version__", "mean", "simulate", "sum"]


def __getattr__(name: str) -> Any:
    # Whoever wants one of these does not wait for all the others to be imported.
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
