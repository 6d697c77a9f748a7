"""How a run that another party ended is told, here and to the others."""

from __future__ import annotations

from typing import Final

from secagg.errors import AbortedError
from secagg.party.roster import PartyId

STOPPED: Final = "it was stopped"  # the reason of a party that its user or its system ended

UNKNOWN: Final = "?"  # in place of a name, where it cannot be known whose doing something was


def aborted(by: PartyId, about: PartyId, reason: str) -> AbortedError:
    """Return the error with which a party ends because another party ended the run.

    Its `peer` is `by`, which was seen to end the run; whom `by` accuses may be a lie and is in `accused` alone.

    Args:
      about: whose doing it was, by the word of `by`: a party, "" for `by` itself, UNKNOWN where `by` cannot know.
    """
    accused = "" if about in (by, UNKNOWN) else about
    if accused and reason.startswith(
        (f"{accused} was stopped", f"{accused}: ", f"{accused} ended the run: ")
    ):
        # The reason is how another party ended, and says who that was.
        relayed = f"{by}: {reason}"
        return AbortedError(
            f"{relayed} (nothing but the word of {by} shows it)",
            peer=by,
            accused=accused,
            relayed=relayed,
            passed_on=True,
        )
    says = f" ({by} says: {accused} is to blame; nothing but its word shows it)" if accused else ""
    text = f"{by} ended the run: {reason}"
    relayed = f"{by} was stopped" if reason == STOPPED else text
    return AbortedError(f"{text}{says}", peer=by, accused=accused, relayed=relayed)
