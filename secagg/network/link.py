"""One connection to one peer: frames out, frames in, never blocking.

Large buffers are neither copied nor joined. Arrays are encrypted from where they lie. What arrives is decrypted straight
into the memory that the protocol's arrays will be views of. Non-blocking sockets under poll move as much as blocking ones
do; asyncio's streams, which copy, a third or less.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Final

import numpy as np

from secagg import wire
from secagg.errors import AuthenticationError, PeerVanishedError, WireError
from secagg.network.pinning import shared_secret
from secagg.network.sockets import Waiting
from secagg.wire import PREFIX, SMALL_BYTES, Buffer, Envelope, FrameType

_JOIN_BYTES: Final = 32 << 10  # up to here copying is cheaper than a record and a system call more
_SLICE_BYTES: Final = 16 << 20  # one OpenSSL call must not keep the loop from reading for long
_INBOX_BYTES: Final = 20 << 10  # more than a TLS record holds, so that one call takes a whole one
_KEEP_ALIVE: Final = {
    socket.TCP_KEEPIDLE: 30,
    socket.TCP_KEEPINTVL: 10,
    socket.TCP_KEEPCNT: 3,
}  # s, s, probes
_NOT_NOW: Final = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)
_GONE: Final = (ssl.SSLEOFError, ssl.SSLSyscallError, ssl.SSLZeroReturnError)


class Link:
    """A connection whose other end is `peer`; owned by whoever holds the driver's lock.

    Attributes:
      peer: who is at the other end.
      unsent: bytes handed in that the kernel has not taken yet.
      heard, wrote: when a byte last came from the peer, and last went to it (`time.monotonic`).
      moved: when the peer last showed progress: a message, a step, that it computes (see `waiting`).
      stepped: when its count of steps last rose.
      steps, waits_for: what its last heartbeat said.
      awaits: the kind of message that it said it waits for; 0 once a later message has come.
      finished: whether the peer said that its program has ended.
      admits: says of a long message, before its arrays are held, whether it may be taken; None where all may.
      held: whether it said no to the message whose beginning is here. `read` asks again.
    """

    __slots__ = (
        "_chunk",
        "_end",
        "_filled",
        "_frame",
        "_inbox",
        "_out",
        "_size",
        "_sock",
        "_start",
        "_tls",
        "_type",
        "_writable",
        "admits",
        "awaits",
        "finished",
        "heard",
        "held",
        "max_frame_bytes",
        "moved",
        "peer",
        "stepped",
        "steps",
        "unsent",
        "waits_for",
        "wrote",
    )

    def __init__(self, peer: str, sock: socket.socket, *, max_frame_bytes: int) -> None:
        self.peer = peer
        self.max_frame_bytes = max_frame_bytes
        self.unsent = 0
        self.heard = self.wrote = self.moved = self.stepped = time.monotonic()
        self.steps = -1
        self.waits_for: tuple[str, ...] = ()
        self.awaits = 0
        self.finished = False
        self.admits: Callable[[Envelope, int, str], bool] | None = None
        self.held = False
        self._sock = sock
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # While parties wait for others, for hours perhaps, nothing is sent: firewalls forget idle connections, and a
        # machine that lost its power sends no end.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEP_ALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        self._writable = True
        self._out: deque[Buffer] = deque()
        self._chunk: memoryview | None = None  # what the last call did not write: OpenSSL wants it again
        self._inbox = memoryview(bytearray(_INBOX_BYTES))  # short frames, and the beginnings of long ones
        self._start = self._end = 0  # what of it has been received and not used
        self._type = FrameType.BYE
        self._frame: memoryview | None = None  # of a long message at first what comes before its arrays
        self._size = 0
        self._filled = 0

    def __repr__(self) -> str:
        return f"Link({self.peer!r})"

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._sock.fileno()

    @property
    def secret(self) -> bytes:
        """What both ends of this connection know and nobody else; b"" without TLS."""
        return b"" if self._tls is None else shared_secret(self._tls)

    @property
    def pending(self) -> bool:
        """Whether bytes have been received, here or in OpenSSL, of which poll knows nothing."""
        return self._start < self._end or (self._tls is not None and self._tls.pending() > 0)

    @property
    def writable(self) -> bool:
        """Whether the peer may still get what is sent."""
        return self._writable

    @property
    def receiving(self) -> bool:
        """Whether a part of a frame has arrived."""
        return self._frame is not None

    def send(self, frame: Sequence[Buffer]) -> None:
        """Queue the buffers of a frame; they must not change until `unsent` is 0 again."""
        if not self._writable:
            return  # reading tells why, and who
        size = sum(map(len, frame))
        self.unsent += size
        if size <= _JOIN_BYTES:
            self._out.append(b"".join(frame))
            return
        for buffer in frame:
            view = memoryview(buffer)
            self._out.extend(view[i : i + _SLICE_BYTES] for i in range(0, len(view), _SLICE_BYTES))

    def flush(self) -> bool:
        """Write what the kernel takes; return whether nothing is left."""
        while self.unsent:
            if self._chunk is None:
                self._chunk = self._next_chunk()
            try:
                sent = self._sock.send(self._chunk)
            except _NOT_NOW:
                return False
            except OSError:
                # The peer closed; what it sent before, perhaps why, is still to be read.
                self._writable = False
                self._discard_unsent()
                return True
            self.wrote = time.monotonic()
            self.unsent -= sent
            self._chunk = self._chunk[sent:] if sent < len(self._chunk) else None
        return True

    def _next_chunk(self) -> memoryview:
        out = self._out
        chunk = out.popleft()
        if out and len(chunk) + len(out[0]) <= _JOIN_BYTES:
            parts, size = [chunk], len(chunk)
            while out and size + len(out[0]) <= _JOIN_BYTES:
                size += len(out[0])
                parts.append(out.popleft())
            chunk = b"".join(parts)
        return memoryview(chunk)

    def detach(self) -> None:
        """Copy what is unsent, so that the arrays it lies in may change."""
        self._out = deque(bytes(buffer) for buffer in self._out)
        if self._chunk is not None:
            self._chunk = memoryview(bytes(self._chunk))

    def cut_off(self) -> None:
        """Send no more if a frame is unfinished: an interrupt may have come between sending and noting it."""
        if self.unsent:
            self._writable = False
            self._discard_unsent()

    def _discard_unsent(self) -> None:
        self._out.clear()
        self._chunk = None
        self.unsent = 0

    def read(self) -> tuple[FrameType, memoryview] | None:
        """Return the next frame, or None when the rest of it has not arrived yet or may not be taken now.

        Raises:
          WireError: the bytes are not a frame that networks carry, or it is longer than `max_frame_bytes`.
          RemoteProtocolError: `admits` raised it.
          PeerVanishedError: the connection ended.
          AuthenticationError: a record was not what the peer sent.
        """
        frame = self._frame
        if frame is None:
            while (got := self._end - self._start) < PREFIX.size:
                self._inbox[:got] = self._inbox[self._start : self._end]
                self._start, self._end = 0, got
                if not (received := self._receive(self._inbox[got:])):
                    return None
                self._end += received
            start = self._start
            self._type, header_length, size = wire.decode_prefix(
                self._inbox[start : start + PREFIX.size], peer=self.peer, max_frame_bytes=self.max_frame_bytes
            )
            if self._type is FrameType.STORED:
                raise WireError(f"expected a message from {self.peer}, got a frame for files", peer=self.peer)
            self._size = size
            if self.admits is not None and self._type is FrameType.MESSAGE and size > SMALL_BYTES:
                size = wire.head_bytes(header_length)
            frame, self._filled = self._room_for(size), 0
            self._frame = frame
        if not self._fill(frame):
            return None
        if len(frame) < self._size:
            self.held = not self._admitted(head := frame)
            if self.held:
                return None
            frame = self._room_for(self._size)
            frame[: len(head)] = head
            self._frame = frame
            if not self._fill(frame):
                return None
        self._frame = None
        return self._type, frame

    def _admitted(self, head: memoryview) -> bool:
        envelope, size = wire.decode_head(head, peer=self.peer)
        return self.admits is None or self.admits(envelope, size, self.peer)

    def _room_for(self, size: int) -> memoryview:
        try:
            return np.empty(size, np.uint8).data  # not zero-filled, unlike a bytearray
        except MemoryError:
            raise WireError(
                f"{self.peer} sends a frame of {size} bytes, for which there is no memory; max_frame_bytes bounds them",
                peer=self.peer,
            ) from None

    def _fill(self, frame: memoryview) -> bool:
        """Receive what is missing of a frame, first what is here already; return whether it is whole."""
        if missing := min(len(frame) - self._filled, self._end - self._start):
            frame[self._filled : self._filled + missing] = self._inbox[self._start : self._start + missing]
            self._start += missing
            self._filled += missing
        while self._filled < len(frame):
            if not (received := self._receive(frame[self._filled :])):
                return False
            self._filled += received
        return True

    def _receive(self, into: memoryview) -> int:
        """Receive what there is, at most what fits; 0 when there is nothing now."""
        try:
            received = self._sock.recv_into(into)
        except _NOT_NOW:
            return 0
        except _GONE:
            raise self._vanished("its connection ended") from None
        except ssl.SSLError as error:
            raise AuthenticationError(
                f"what came over the connection to {self.peer} is not what {self.peer} sent "
                f"({error.reason or 'unreadable record'}); the connection ended",
                peer=self.peer,
            ) from None
        except OSError as error:
            raise self._vanished(f"its connection broke ({error.strerror or type(error).__name__})") from None
        if not received:
            raise self._vanished("its connection ended")
        self.heard = time.monotonic()
        return received

    def _vanished(self, how: str) -> PeerVanishedError:
        return PeerVanishedError(
            f"{self.peer} vanished: {how} before the run was over; look at what {self.peer} printed last",
            peer=self.peer,
        )

    def leave(self) -> bool:
        """Write the rest, say that nothing follows, and return whether the peer's machine still has to take some.

        What comes in meanwhile is dropped. To be called again until it returns False.
        """
        written = self.flush()
        try:
            if written:
                # Below TLS: BYE and ABORT are authenticated, so a cut stream is never taken for an end. Once the
                # connection is over on both sides, or was reset, this raises.
                socket.socket.shutdown(self._sock, socket.SHUT_WR)
            with contextlib.suppress(BlockingIOError):
                while socket.socket.recv(self._sock, 1 << 16):
                    self.heard = time.monotonic()
            if not written:
                return True
            answer = fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return False
        return bool(struct.unpack("i", answer)[0])

    def close(self) -> None:
        """End the connection."""
        self._discard_unsent()
        self._sock.close()


def leave(limits_s: Mapping[Link, float], silence_s: float) -> None:
    """Give what was sent the time to reach the peers' machines, to each so long at most, then close.

    A machine that gets bytes for a closed connection answers with a reset, which can overtake and destroy what
    the peer has not read yet. So what comes in is read and dropped until everything sent is acknowledged.
    """
    began, pause = time.monotonic(), 0.0002
    try:
        remaining = list(limits_s)
        while remaining:
            now = time.monotonic()
            remaining = [
                link
                for link in remaining
                if now < began + limits_s[link] and link.leave() and now - link.heard < silence_s
            ]
            if remaining:
                time.sleep(pause)
                pause = min(2 * pause, 0.02)
    finally:
        for link in limits_s:
            link.close()


def next_frame(link: Link) -> Generator[Waiting, None, tuple[FrameType, memoryview]]:
    """Return the next frame that comes over a connection; sends what is unsent meanwhile, and raises as `Link.read`."""
    while True:
        link.flush()
        if (got := link.read()) is not None:
            return got
        yield link.fileno(), select.POLLIN | (select.POLLOUT if link.unsent else 0)
