"""What a computation costs before it runs: rounds, messages and bytes, and the time that they take on a network."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["LAN", "LOOPBACK", "MOBILE", "WAN", "Cost", "Network"]

if TYPE_CHECKING:
    from secagg.cost.network import LAN, LOOPBACK, MOBILE, WAN, Network
    from secagg.cost.operation import Cost
else:
    __getattr__, __dir__ = face(
        "secagg.cost",
        {
            "secagg.cost.network": "LAN LOOPBACK MOBILE Network WAN",
            "secagg.cost.operation": "Cost",
        },
    )
