"""What parties are taken to do: whoever adds up, and the largest part of the others that may fail or lie."""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias, get_args

from secagg.errors import UsageError

ThreatModel: TypeAlias = Literal["semi-honest", "malicious"]
_SLACK: Final = 1e-9  # 0.29 * 100 is 28.999999999999996 in float64, and stands for 29


def is_malicious(threat_model: ThreatModel) -> bool:
    """Whether a party may do anything; otherwise it keeps to the protocol, and looks.

    Raises:
      UsageError: an unknown threat model.
    """
    if threat_model not in get_args(ThreatModel):
        raise UsageError(f'threat_model is "semi-honest" or "malicious", not {threat_model!r:.40}')
    return threat_model == "malicious"


def largest_part(fraction: float, parties: int) -> int:
    """Return how many parties a fraction of them is at most."""
    return math.floor(fraction * parties + _SLACK)
