"""Networks by latency and bandwidth, for predictions and for the simulator's virtual clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from secagg.errors import UsageError


@dataclass(frozen=True, slots=True)
class Network:
    """Latency one way, bandwidth of each party's line each way, and how long silence is borne."""

    name: str
    latency_s: float
    bytes_per_s: float
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not (self.latency_s >= 0 and self.bytes_per_s > 0 and self.timeout_s > 0):
            raise UsageError(f"expected latency >= 0, bandwidth > 0 and timeout > 0, got {self}")


LOOPBACK: Final = Network("loopback", 20e-6, 2e9)
LAN: Final = Network("LAN", 0.25e-3, 125e6)
WAN: Final = Network("WAN", 20e-3, 12.5e6)
MOBILE: Final = Network("mobile", 50e-3, 1.25e6)
