"""Frames in OpenFL's tensors: it carries float32 alone, which holds integers of 24 bits exactly, so three bytes a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg import wire
from secagg.errors import UsageError, WireError
from secagg.federated.replies import Arrays, digest_of, made_anew
from secagg.federated.settings import protection_from
from secagg.federated.terms import TRAIN, Protection
from secagg.wire import Message

FRAMES: Final = "secagg"  # the name of the tensor
_LENGTH_BYTES: Final = 8
_EACH: Final = 3  # bytes in a number
_LABEL: Final = "secagg.integrations.openfl"


class Bundle(Message, frozen=True):
    """What the aggregator tells all collaborators: the step, the run, different frames, and whose each is.

    places: of frames, by collaborator; "" stands for all others.
    """

    step: str
    run: int
    frames: tuple[bytes, ...]
    places: dict[str, int]

    def frame_of(self, collaborator: str) -> bytes | None:
        """Return the frame for a collaborator; None if there is none for it."""
        place = self.places.get(collaborator, self.places.get("", -1))
        return self.frames[place] if 0 <= place < len(self.frames) else None


def protection_in(plan: Mapping[str, Any] | Protection | None) -> Protection:
    """Return what a plan asks for.

    Raises:
      UsageError: settings that are none, or sums that take dozens of OpenFL's rounds.
    """
    found = protection_from(plan)
    if found.relays(TRAIN):
        raise UsageError(
            "bounded and shared_key take some twenty exchanges a sum, and each would be a round of OpenFL's; leave them "
            "out, or take encryption"
        )
    return found


def bundle(step: str, run: int, frames: dict[str, bytes]) -> Bundle:
    """Return frames by collaborator, equal ones once."""
    places: dict[bytes, int] = {}
    index = {name: places.setdefault(frame, len(places)) for name, frame in frames.items()}
    return Bundle(step, run, tuple(places), index)


def to_tensor(frame: bytes) -> NDArray[np.float32]:
    """Return bytes as a tensor, float32 of integers below 2^24."""
    data = len(frame).to_bytes(_LENGTH_BYTES, "big") + frame
    data += bytes(-len(data) % _EACH)
    parts = np.frombuffer(data, np.uint8).reshape(-1, _EACH).astype(np.int32)
    return (parts[:, 0] << 16 | parts[:, 1] << 8 | parts[:, 2]).astype(np.float32)


def from_tensor(tensor: Any, *, peer: str) -> bytes:
    """Return the bytes in a tensor; none where nothing was told.

    Raises:
      WireError: it holds something else.
    """
    numbers = np.asarray(tensor)
    if numbers.ndim != 1 or numbers.dtype.kind not in "fiu" or not numbers.size:
        raise WireError(
            f"expected the tensor {FRAMES!r} of a protected sum from {peer}, got another", peer=peer
        )
    numbers = numbers.astype(np.float64)
    # NaN fails the comparison, too.
    if not ((numbers >= 0) & (numbers < 1 << 24) & (numbers == np.floor(numbers))).all():
        raise WireError(f"expected bytes in the tensor {FRAMES!r} from {peer}, got other numbers", peer=peer)
    words = numbers.astype(np.int32)
    data = np.stack([words >> 16, words >> 8, words], axis=1).astype(np.uint8).tobytes()
    length = int.from_bytes(data[:_LENGTH_BYTES], "big")
    if numbers.size * _EACH < _LENGTH_BYTES or length > len(data) - _LENGTH_BYTES:
        # The tensor that a model begins with is a zero.
        if not words.any():
            return b""
        raise WireError(f"expected {length} bytes in the tensor {FRAMES!r} from {peer}, got fewer", peer=peer)
    return data[_LENGTH_BYTES : _LENGTH_BYTES + length]


def read_bundle(tensor: Any, *, peer: str) -> Bundle | None:
    """Return what the aggregator tells; None where it tells nothing.

    Raises:
      WireError: it tells something else.
    """
    data = from_tensor(tensor, peer=peer)
    if not data:
        return None
    told = wire.from_bytes(data, Bundle, peer=peer)
    if not 0 <= told.run < 1 << 64:
        raise WireError(f"expected a number of 64 bits for the run from {peer}, got another", peer=peer)
    return told


def task_digest(model: Arrays, round_number: int) -> bytes:
    """Return a digest of what a collaborator's work depends on: the model as OpenFL carries it, and its round's number."""
    shown = {name: value.astype(np.float32) for name, value in sorted(made_anew(model).items())}
    return digest_of(f"{_LABEL}/task", shown, [str(round_number).encode()])
