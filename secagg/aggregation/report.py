"""What a sum or mean comes with: how it was computed, who is in it, how exact it is, what it cost."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from secagg.aggregation.protection import Protection
from secagg.fixed_point import Plan
from secagg.ledger import Ledger
from secagg.party import PartyId
from secagg.updates.privacy import Privacy

if TYPE_CHECKING:
    from secagg import dp

_NAMED: Final = 8  # clients that are listed
_COLUMNS: Final = 110


@dataclass(frozen=True, slots=True)
class RoleCost:
    """What the dearest party of a role had to do.

    Attributes:
      role: its name.
      parties: how many there were.
      rounds: depth of the deepest message that one reads.
      sent_bytes, received_bytes: whole frames.
      compute_s: seconds in protocol code.
    """

    role: str
    parties: int
    rounds: int
    sent_bytes: int
    received_bytes: int
    compute_s: float


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """How a sum or mean came about. Holds no update, and of them only how many numbers were clipped.

    Attributes:
      operation: "sum" or "mean".
      protection: the protection and its settings.
      learns: who learns what, and who would have to work together to learn more.
      parameters: what the protocol chose.
      contributors: whose updates are in it.
      dropped: the other clients, and why.
      afterwards: contributors that then vanished or sent something wrong, and how; the result did without that.
      clipped: how many numbers of each client lay beyond the clip and were moved to it. With privacy, 1 for a client
        whose update was scaled down to the norm, else 0. In a deployment each client knows its own.
      error: bound on the absolute error of each number (see `secagg.updates.coding`); the largest of `errors`.
        Infinite with privacy, as noise has no bound: see `noise_std`.
      errors: by path.
      weight: the sum of weights, with its noise if any, which whoever learns the mean learns too; None without weights.
      clips: as given or, for "max", as found; with privacy the norm, which no single number exceeds.
      plan: what each coordinate on the wire may be, so that no sum wraps.
      coding: how numbers were written, in words.
      bits: of one number as a client sends it.
      length: coordinates of a vector.
      roles: what it cost, by role.
      ledgers: what it cost each party.
      seconds: wall time of all parties together, one after the other in this process.
      setup_s: of these, for keys that a deployment makes once.
      spent: by this round and those before, and on which assumptions; None without privacy. Its `noise_std` is of a sum,
        and of the noise that is counted on.
      privacy: what was asked for; None without.
      noise_std: standard deviation of each number of the result, by the noise of all contributors and by rounding; of a
        weighted mean to first order. With compression, at most the root of the mean square over all numbers, by
        rounding at random and by numbers that were not drawn; of these it is estimated from those that were. 0 without
        either.
    """

    operation: str
    protection: Protection
    learns: str
    parameters: str
    contributors: tuple[PartyId, ...]
    dropped: Mapping[PartyId, str]
    afterwards: Mapping[PartyId, str]
    clipped: Mapping[PartyId, int]
    error: float
    errors: Mapping[str, float]
    weight: float | None
    clips: Mapping[str, float]
    plan: Plan
    coding: str
    bits: float
    length: int
    roles: tuple[RoleCost, ...]
    ledgers: Mapping[PartyId, Ledger] = field(repr=False)
    seconds: float
    setup_s: float
    spent: dp.Report | None = None
    privacy: Privacy | None = None
    noise_std: float = 0.0

    def __str__(self) -> str:
        n = len(self.contributors) + len(self.dropped)
        weight = (
            f"; weights of {self.weight:g} in all, which is opened too{', with its noise' if self.spent else ''}"
            if self.weight is not None
            else ""
        )
        moved = "{} of its numbers" if self.spent is None else "its update, scaled down"
        rows = [
            (self.operation, f"of {len(self.contributors)} of {n} clients' updates{weight}"),
            ("protocol", f"{self.protection.name}: {self.parameters}"),
            ("learns", self.learns),
            ("", "All parties ran in one process, whose owner sees everything."),
            *(("dropped", f"{name}: {why}") for name, why in _some(self.dropped)),
            *(("afterwards", f"{name}, which is in it: {why}") for name, why in _some(self.afterwards)),
            *(
                ("clipped", f"{name}: {moved.format(count)}")
                for name, count in _some({name: count for name, count in self.clipped.items() if count})
            ),
            *self._exactness(),
            ("numbers", f"{self.length} of {self.bits:.4g} bits each, {self.coding}"),
            ("time", f"{self.seconds:.3g} s for all parties, {self.setup_s:.3g} s of it for keys"),
        ]
        lines = [
            line
            for name, text in rows
            for line in textwrap.wrap(text, _COLUMNS, initial_indent=f"{name:12}", subsequent_indent=" " * 12)
        ]
        return "\n".join([*lines, *_table(self.roles)])

    __repr__ = __str__

    def _exactness(self) -> list[tuple[str, str]]:
        if self.spent is None or self.privacy is None:
            rows = [("error", f"at most {self.error:.3g} in any number")]
            if self.noise_std:
                if self.operation == "mean" and self.error >= max(self.clips.values()):
                    rows.append(
                        (
                            "",
                            "That is not below the clip: of no single number is it sure to be nearer than zero.",
                        )
                    )
                rows.append(
                    (
                        "compressed",
                        f"right on average; off by at most {self.noise_std:.3g} (root of the mean square)",
                    )
                )
            return rows
        spent, asked = self.spent, self.privacy
        budget = (
            f"epsilon {spent.epsilon:.4g} of {asked.epsilon:g} spent at delta {asked.delta:g}, after {spent.rounds} of "
            f"{asked.rounds} rounds; updates of norm {asked.norm:g}"
        )
        noise = f"of standard deviation {self.noise_std:.3g} in every number, from {len(self.contributors)} clients"
        return [("privacy", budget), ("noise", noise), ("assumed", "; ".join(spent.assumptions))]


@dataclass(frozen=True, slots=True, repr=False)
class Aggregate:
    """A sum or mean.

    Attributes:
      value: in the clients' structure.
      report: how it came about.
    """

    value: Any
    report: Report

    def __repr__(self) -> str:
        return f"Aggregate of {self.report.length} coordinates\n{self.report}"


def role_costs(
    roles: Mapping[str, Sequence[PartyId]], ledgers: Mapping[PartyId, Ledger]
) -> tuple[RoleCost, ...]:
    """Return what the dearest party of each role had to do."""
    costs = []
    for role, names in roles.items():
        totals = [ledgers[name].total() for name in names]
        costs.append(
            RoleCost(
                role,
                len(names),
                max(t.rounds for t in totals),
                max(t.sent.frame_bytes for t in totals),
                max(t.received.frame_bytes for t in totals),
                max(t.compute_s for t in totals),
            )
        )
    return tuple(costs)


def _table(roles: Sequence[RoleCost]) -> list[str]:
    heads = ("per party, at most", "parties", "rounds", "bytes sent", "received", "computing")
    table = [heads]
    table += [
        (
            role.role,
            str(role.parties),
            str(role.rounds),
            f"{role.sent_bytes:,}",
            f"{role.received_bytes:,}",
            f"{1e3 * role.compute_s:,.1f} ms",
        )
        for role in roles
    ]
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    lines = []
    for first, *rest in table:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        lines.append(f"{first.ljust(max(12, widths[0] + 2))}{'  '.join(cells)}")
    return lines


def _some(items: Mapping[PartyId, Any]) -> list[tuple[PartyId, Any]]:
    listed = list(items.items())
    more = len(listed) - _NAMED
    return [*listed[:_NAMED], (f"and {more} more", "see the report")] if more > 0 else listed
