"""Who waits for whom: what heartbeats say of their senders, and whom a party names whose own wait takes too long.

A heartbeat says how many steps its sender has taken and whom it now waits for. A party that waits for p gives p time as
long as p shows progress. Progress of somebody whom p says it waits for, directly or through others, counts too. Progress
is to take a step, to compute, or to move bytes of a message to or from this party. If none of them does so for
`message_s`, the wait ends.

Then p is named only if it does not say that it waits for a third party. Two honest parties that run the same program never
wait for each other. So a peer that claims to wait for this party may be named. What it says of a third party nobody here
can check: then nobody is named, and the message says whose word leads where.

A word about a third party does not always excuse p. A heartbeat says too which kind of message its sender waits for. By
the protocol, p may wait for such a message only after it has sent what is late. Then p has left that out by its own word.
Nobody else can bring an honest p to say so: whoever keeps an earlier message from p makes it wait for an earlier kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from secagg.errors import UsageError, WireError
from secagg.party import PartyId
from secagg.wire import FrameType, Message, decode_control, encode_control

MAX_TOLD: Final = 4  # of those whom a party waits for
COMPUTING_TIMES: Final = 10  # so many times `message_s` may a peer compute without a step


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a party waits, in seconds; the same at all parties.

    Args:
      connect_s: for all parties to be there.
      silence_s: for any sign of life of a peer that is waited for.
      message_s: for a live peer to send what is waited for, or to take what is sent to it, without progress. Progress of
        those whom it says it waits for counts too. A peer that says that it computes has ten times as long for a step. A
        protocol that goes on without those who are late gives them `message_s` in all.
    """

    connect_s: float = 60.0
    silence_s: float = 15.0
    message_s: float = 600.0

    def __post_init__(self) -> None:
        if not min(self.connect_s, self.silence_s, self.message_s) > 0:
            raise UsageError(f"expected timeouts above 0 s, got {self}")

    @property
    def heartbeat_s(self) -> float:
        """How long a connection may be idle before a heartbeat goes out."""
        return min(self.silence_s, self.message_s) / 4


class Heartbeat(Message, frozen=True):
    """What the sender does.

    Attributes:
      steps: how often its program has gone on; never less than before.
      waits_for: places in the roster of those whom it waits for, the first `MAX_TOLD`; empty while it computes.
      awaits: `Message.TAG` of the one kind that it waits for. 0 if there are several, or if it waits for somebody to take
        what it sent.
    """

    steps: int
    waits_for: list[int]
    awaits: int = 0


Says: TypeAlias = Mapping[PartyId, Sequence[PartyId]]  # by party, whom it says that it waits for


def heartbeat_frame(
    steps: int, waits_for: Sequence[PartyId], roster: Sequence[PartyId], awaits: int = 0
) -> bytes:
    """Return the frame that shows a peer what this party does."""
    places = [roster.index(name) for name in waits_for[:MAX_TOLD]]
    return encode_control(FrameType.HEARTBEAT, Heartbeat(steps, places, awaits))


def read_heartbeat(frame: memoryview, peer: PartyId, roster: Sequence[PartyId]) -> Heartbeat:
    """Return what a peer's heartbeat says.

    Raises:
      WireError: it is malformed.
    """
    beat = decode_control(frame, Heartbeat, peer=peer)
    if (
        beat.steps < 0
        or len(beat.waits_for) > MAX_TOLD
        or not all(0 <= i < len(roster) for i in beat.waits_for)
        or not 0 <= beat.awaits < 1 << 32
    ):
        raise WireError(f"heartbeat with numbers outside their ranges from {peer}", peer=peer)
    return beat


def reached(missing: Sequence[PartyId], says: Says) -> list[PartyId]:
    """Return those who are waited for, directly or by the word of those who are."""
    found = dict.fromkeys(missing)
    queue = list(missing)
    while queue:
        for name in says.get(queue.pop(), ()):
            if name not in found:
                found[name] = None
                queue.append(name)
    return list(found)


def excused(peer: PartyId, me: PartyId, says: Says) -> bool:
    """Return whether a peer says that it waits for third parties, and not for this one."""
    named = says.get(peer, ())
    return bool(named) and me not in named and peer not in named


def word_of(peer: PartyId, me: PartyId, says: Says) -> str:
    """Return what a peer says that it waits for, and those what they say, as a sentence."""
    parts, at, seen = [], peer, {me}
    while at not in seen and says.get(at):
        seen.add(at)
        parts.append(f"{at} says that it waits for {', '.join(says[at])}")
        at = says[at][0]
    return "; ".join(parts)
