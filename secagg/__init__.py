"""Joint computations on data that organisations may not show each other."""

from typing import TYPE_CHECKING, Any

from secagg.network.simulated import simulate
from secagg.party import Party
from secagg.release import RELEASE

if TYPE_CHECKING:
    from secagg.aggregation import mean, sum  # noqa: A004  # called as secagg.sum

__version__ = RELEASE
__all__ = ["Party", "__version__", "mean", "simulate", "sum"]


def __getattr__(name: str) -> Any:
    # Whoever wants no sums does not wait for all the protocols to be imported.
    if name in ("mean", "sum"):
        from secagg import aggregation

        return getattr(aggregation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
