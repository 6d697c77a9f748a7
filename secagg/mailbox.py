"""What one peer has sent and nobody has read yet: in order, by lane, and bounded.

A peer decides what it sends, and so what fills the memory of whoever holds its messages until they are read. The bounds
are on what Python holds, which is more than what came over the wire. A frame of 111 bytes takes over 1 KB, and twice that
where it is alone in its lane.

Honest peers stay far below. A program that runs side by side with others asks for its peers' next message before they can
send another one. The network makes a peer that only sends wait, where it can (`network.tcp`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from secagg.errors import RemoteProtocolError
from secagg.wire import Frame, Lane

# What Python holds for a frame beside its bytes, and for a lane with something in it, at most; tests measure it.
FRAME_BYTES: Final = 2048
LANE_BYTES: Final = 1536


@dataclass(frozen=True, slots=True)
class Room:
    """How much a peer may send that is not asked for yet; the message by which it exceeds that is still taken.

    Args:
      nbytes: bytes of memory. The default is a few messages of a join of ten million rows.
      frames: messages. The default is more than a peer sends in any round, and 140 MB of memory where they are short.
      lanes: protocols side by side in which something is unread. The default is 15 MB of memory where messages are short.
      early: messages that came before an earlier one; 0 where the channel keeps the order.
    """

    nbytes: int = 1 << 30
    frames: int = 1 << 16
    lanes: int = 1 << 12
    early: int = 1 << 10


DEFAULT_ROOM: Final = Room()


class Mailbox:
    """The unread messages of one peer.

    Attributes:
      peer: whose messages these are.
      expected: number of the next message in order.
      full: whether a bound is exceeded, what is asked for counted too.
    """

    __slots__ = ("_early", "_frames", "_nbytes", "_queues", "_room", "expected", "full", "peer")

    def __init__(self, peer: str, room: Room) -> None:
        self.peer = peer
        self.expected = 0
        self.full = False
        self._room = room
        self._early: dict[int, Frame] | None = None  # most peers' messages all come in order
        self._queues: dict[Lane, deque[Frame]] = {}
        self._frames = self._nbytes = 0

    def has(self, lane: Lane) -> bool:
        """Return whether something can be read in a lane."""
        return lane in self._queues

    def take(self, frame: Frame) -> Sequence[Lane]:
        """Take in a frame; return the lanes of the messages that can now be read.

        Raises:
          RemoteProtocolError: its number came before, or is too far from the one expected.
        """
        number = frame.envelope.sequence
        if number != self.expected:
            self._check_early(number)
            self._early = self._early or {}
            self._early[number] = frame
            self._count(frame.size + FRAME_BYTES, 1)
            return ()
        lane = self._append(frame)
        self._count(frame.size + FRAME_BYTES, 1)
        if not self._early:
            return (lane,)
        lanes = [lane]
        while (next_frame := self._early.pop(self.expected, None)) is not None:
            lanes.append(self._append(next_frame))
        return lanes

    def _check_early(self, number: int) -> None:
        peer, expected = self.peer, self.expected
        if number < expected:
            raise RemoteProtocolError(
                f"message {number} from {peer} came again (expected {expected}); it was duplicated or replayed",
                peer=peer,
            )
        early = self._early or {}
        if number in early or len(early) >= self._room.early:
            raise RemoteProtocolError(
                f"message {number} from {peer} came twice or too early (expected {expected})", peer=peer
            )

    def _append(self, frame: Frame) -> Lane:
        lane = frame.envelope.lane
        queue = self._queues.get(lane)
        if queue is None:
            self._queues[lane] = deque((frame,))
            self._nbytes += LANE_BYTES
        else:
            queue.append(frame)
        self.expected += 1
        return lane

    def read(self, lane: Lane) -> Frame:
        """Remove and return the next message of a lane that has one."""
        queue = self._queues[lane]
        frame = queue.popleft()
        nbytes = frame.size + FRAME_BYTES
        if not queue:
            del self._queues[lane]
            nbytes += LANE_BYTES
            if not self._queues:
                self._queues = {}  # one that was filled keeps its room, for each of thousands of peers
        self._count(-nbytes, -1)
        return frame

    def _count(self, nbytes: int, frames: int) -> None:
        room = self._room
        self._nbytes += nbytes
        self._frames += frames
        self.full = self._nbytes > room.nbytes or self._frames > room.frames or len(self._queues) > room.lanes

    def exceeds(self, asked: Iterable[Lane]) -> str:
        """Return the bound that is exceeded, in words, or "".

        Args:
          asked: lanes whose next message somebody waits for; it does not count.
        """
        frames, lanes, nbytes, room = self._frames, len(self._queues), self._nbytes, self._room
        for lane in asked:
            if (queue := self._queues.get(lane)) is not None:
                frames -= 1
                nbytes -= queue[0].size + FRAME_BYTES
                if len(queue) == 1:
                    lanes -= 1
                    nbytes -= LANE_BYTES
        if nbytes > room.nbytes:
            return f"{room.nbytes} bytes of messages"
        if frames > room.frames:
            return f"{room.frames} messages"
        return f"{room.lanes} lanes of messages" if lanes > room.lanes else ""
