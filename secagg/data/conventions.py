"""What the parties of a job agree on about their tables, so that their rows mean the same."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from secagg.errors import UsageError
from secagg.query.identifier_rules import Rule
from secagg.query.schema import LARGEST_AMOUNT, zone_of

__all__ = ["LARGEST_LIMIT", "MAX_DECIMALS", "Conventions"]

MAX_DECIMALS: Final = 4
LARGEST_LIMIT: Final = LARGEST_AMOUNT  # 1e13 units of 1e4 parts are 1e17: within int64 and DECIMAL(18, 4)
_MAX_REAL: Final = 100
_LONGEST_REAL: Final = 64


@dataclass(frozen=True)
class Conventions:
    """How every party's table is read.

    Attributes:
      identifiers: the rule of each identifier by its field, see `query.identifier_rules`; `exact` for one not named.
      real_identifiers: texts that usually stand for a missing value, such as "NA", and are identifiers here.
      currency_decimals: amounts are whole multiples of 10**-currency_decimals units; 0 to 4.
      largest_amount: the largest amount that is not a mistake, in units; at most 10**13.
      time_zone: the IANA zone of timestamps that name none.

    Raises:
      UsageError: one of them cannot be; the message begins with its name and a colon.
    """

    identifiers: Mapping[str, str] = field(default_factory=dict)
    real_identifiers: tuple[str, ...] = ()
    currency_decimals: int = 2
    largest_amount: int = 10**12
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        if not 0 <= self.currency_decimals <= MAX_DECIMALS:
            raise UsageError(f"currency_decimals: expected 0 to {MAX_DECIMALS}, got {self.currency_decimals}")
        if not 1 <= self.largest_amount <= LARGEST_LIMIT:
            raise UsageError(
                f"largest_amount: expected 1 to {LARGEST_LIMIT} units, got {self.largest_amount}"
            )
        if len(self.real_identifiers) > _MAX_REAL or not all(
            0 < len(text) <= _LONGEST_REAL and text.isprintable() for text in self.real_identifiers
        ):
            raise UsageError(
                f"real_identifiers: expected at most {_MAX_REAL} printable texts of 1 to {_LONGEST_REAL} characters"
            )
        _ = self.zone
        for name in self.identifiers:
            _ = self.rule(name)

    def rule(self, field: str) -> Rule:
        """Return the rule of an identifier."""
        try:
            return Rule(self.identifiers.get(field, "exact"), self.real_identifiers)
        except UsageError as error:
            raise UsageError(f"identifiers: {error}") from None

    @cached_property
    def zone(self) -> zoneinfo.ZoneInfo:
        """Return the zone of timestamps that name none."""
        try:
            return zone_of(self.time_zone)
        except UsageError as error:
            raise UsageError(f"time_zone: {error}") from None

    def agreed(self, fields: tuple[str, ...]) -> dict[str, Any]:
        """Return everything that the parties must agree on, for identifiers of these fields."""
        return {
            "identifiers": {field: self.rule(field).agreed for field in fields},
            "real_identifiers": sorted(set(self.real_identifiers)),
            "currency_decimals": self.currency_decimals,
            "largest_amount": self.largest_amount,
            "time_zone": self.time_zone,
        }

    def shown(self, fields: tuple[str, ...]) -> dict[str, str]:
        """Return the conventions in words."""
        shown = {f"{field} rule": self.identifiers.get(field, "exact") for field in fields}
        if self.real_identifiers:
            shown["real identifiers"] = ", ".join(self.real_identifiers)
        return shown | {
            "currency decimals": str(self.currency_decimals),
            "largest amount": str(self.largest_amount),
            "times without a zone are in": self.time_zone,
        }
