"""How much nodes that a relayed sum can do without may send: to each party what they put in, and why they failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from secagg.party import PartyId
from secagg.wire import SMALL_BYTES

_MOST_LETTERS: Final = 2  # to one party


class Allowance:
    """What was sent from party to party, against what a sum takes.

    Args:
      used: what an earlier one counted.

    Attributes:
      used: letters and bytes, by sender and receiver.
    """

    __slots__ = ("used",)

    def __init__(self, used: Mapping[tuple[PartyId, PartyId], tuple[int, int]] = {}) -> None:
        self.used = dict(used)

    def excess(self, sender: PartyId, receiver: PartyId, size: int, upload_bytes: int) -> str:
        """Count a letter; return what was expected and what came if that is too much, else "".

        Args:
          size: of the letter, in bytes.
          upload_bytes: of the arrays that the receiver is to get from the sender.
        """
        count, so_far = self.used.get((sender, receiver), (0, 0))
        count, size, most = count + 1, so_far + size, upload_bytes + SMALL_BYTES
        self.used[sender, receiver] = count, size
        if count <= _MOST_LETTERS and size <= most:
            return ""
        got = "more" if count > _MOST_LETTERS else f"{size} bytes"
        return (
            f"expected at most {_MOST_LETTERS} letters of {most} bytes together from {sender} to {receiver!r:.80} in a sum, "
            f"got {got}"
        )
