"""Who of those that took part in a failed check may have lied: at most two, one of whom did.

When a check failed, each of three parties says by an echoed broadcast (`broadcast`) what the content was. It sends a digest
under a key that the three hold and the fourth does not. The digest is HMAC-SHA256, which not even a holder of the key makes
equal for two contents. Everybody then judges by the same rule.

*Computed.* Sender and voucher hold the content by themselves; the sender sent it to the receiver.
  sender and voucher differ: one of them lied, for honest ones hold the same
  sender and receiver differ: one of them lied, for what one sent the other received
  all agree: the voucher's tag was wrong, or the receiver's complaint was

*Sent.* The sender sent the content to receiver and voucher, who compare.
  sender and either other differ: one of the two lied
  all agree: the voucher's tag was wrong, or the receiver's complaint was

*Outside.* A party outside handed the content to all three.
  no two agree: it lied, for two of the three are honest
  one differs: that one or the party outside lied
  all agree: the voucher's tag was wrong, or the receiver's complaint was
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from secagg.mpc.four.broadcast import PARTIES
from secagg.mpc.four.vouching import Content, view_of
from secagg.party import PartyId


class Source(enum.Enum):
    """How sender and voucher came to hold what the voucher vouches for."""

    COMPUTED = "computed"
    SENT = "sent"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Item:
    """One content that is vouched for.

    Attributes:
      receiver: who checks.
      voucher: who makes the tag.
      sender: who sends the content; the third holder of one that came from outside.
      owner: who handed out a content from outside.
    """

    receiver: int
    sender: int
    voucher: int
    source: Source = Source.COMPUTED
    owner: PartyId = ""

    @property
    def fourth(self) -> int:
        """The party that must not learn the content; the three others hold a key in common."""
        return sum(range(PARTIES)) - self.receiver - self.sender - self.voucher

    @property
    def parties(self) -> tuple[int, int, int]:
        return self.sender, self.voucher, self.receiver


NO_EVIDENCE: Final = bytes(32)  # what a party says that does not hold the content


def evidence(key: bytes, operation: int, slot: int, content: Content) -> bytes:
    """Return the keyed digest of a content, 32 bytes."""
    place = operation.to_bytes(8, "big") + slot.to_bytes(8, "big")
    state = hmac.new(key, place, "sha256")
    state.update(view_of(content))
    return state.digest()


def judge(
    item: Item, said: Sequence[bytes | None], computing: Sequence[PartyId]
) -> tuple[PartyId] | tuple[PartyId, PartyId]:
    """Return the one or two parties of which one lied.

    Args:
      item: what the failed check was about.
      said: the evidence of each computing party, as all honest parties take it; None where there is none.
    """
    for j in item.parties:
        if said[j] is None:  # told each of the others something else
            return (computing[j],)
    sender, voucher, receiver = item.parties
    who = voucher, receiver
    if item.source is Source.OUTSIDE:
        values = [said[j] for j in item.parties]
        kinds = len(set(values))
        if kinds == len(values):
            return (item.owner,)
        if kinds > 1:
            return item.owner, computing[next(j for j in item.parties if values.count(said[j]) == 1)]
    elif item.source is Source.COMPUTED and said[sender] != said[voucher]:
        who = sender, voucher
    elif said[sender] != said[receiver]:
        who = sender, receiver
    elif said[sender] != said[voucher]:
        who = sender, voucher
    return computing[who[0]], computing[who[1]]
