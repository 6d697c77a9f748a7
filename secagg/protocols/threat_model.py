"""What the party that adds up is taken to do."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from secagg.errors import UsageError

ThreatModel: TypeAlias = Literal["semi-honest", "malicious"]


def is_malicious(threat_model: ThreatModel) -> bool:
    """Whether a party may do anything; otherwise it keeps to the protocol, and looks.

    Raises:
      UsageError: an unknown threat model.
    """
    if threat_model not in get_args(ThreatModel):
        raise UsageError(f'threat_model is "semi-honest" or "malicious", not {threat_model!r:.40}')
    return threat_model == "malicious"
