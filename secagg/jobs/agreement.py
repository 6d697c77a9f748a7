"""What a job's approvals are about: who wrote it, for how long and how often it may run, and what each run may choose."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Final

from secagg.party import PartyId

REQUIRED: Final = "required"
OFF: Final = "off"
REQUESTER: Final = "agreement.requester"
WINDOW: Final = "window"  # in `[vary]`, beside the parameters


@dataclass(frozen=True, slots=True)
class Agreement:
    """The `[agreement]` of a job.

    Attributes:
      author: "party/person", who wrote the job.
      until, start: when it may run, half-open, in UTC; start is None where it may run at once.
      requester: "party/person", who chose what this run of a template may choose.
      auditor: who may read the log, and nothing else; "" for nobody.
      runs: how often it may run.
    """

    author: str
    until: datetime.datetime
    start: datetime.datetime | None = None
    auditor: str = ""
    runs: int = 1
    requester: str = ""

    @property
    def author_party(self) -> PartyId:
        """Return whose person wrote the job."""
        return self.author.partition("/")[0]

    def agreed(self) -> dict[str, Any]:
        """Return what the parties compare, by what a job file calls it."""
        return {
            REQUESTER: self.requester,
            "agreement.author": self.author,
            "agreement.auditor": self.auditor,
            "agreement.from": self.start,
            "agreement.until": self.until,
            "agreement.runs": self.runs,
        }


@dataclass(frozen=True, slots=True)
class Allowed:
    """What each run of a template may choose of one parameter: one of `choices`, or from `least` to `most`.

    Attributes:
      timestamps: of the window: whether its bounds are timestamps.
    """

    choices: tuple[Any, ...] = ()
    least: Any = None
    most: Any = None
    timestamps: bool = False

    def holds(self, value: Any) -> bool:
        """Return whether a run may choose this value."""
        if self.choices:
            # 1, 1.0 and true are equal in Python, and not the same choice.
            return any(type(value) is type(one) and value == one for one in self.choices)
        return bool(self.least <= value <= self.most)

    def agreed(self) -> tuple[Any, ...]:
        """Return what the parties compare."""
        return (self.choices, self.least, self.most, self.timestamps)
