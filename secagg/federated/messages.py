"""What server and nodes of a sum tell each other besides the masked protocol's own messages, and what a node keeps.

The steps of a sum, in their order:

  task     server -> node: `Task`. node -> server: `Ready`
  keys     server -> node: `Participants`, or `StaleBudget` in its place. node -> server: `masked.Keys`
  shares, input, consent, unmask   the masked protocol's; or input and decrypt under encryption (`encrypted`)
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from secagg import wire
from secagg.errors import RemoteProtocolError, WireError
from secagg.federated.encrypted import SumKey
from secagg.federated.identities import SERVER
from secagg.federated.layout import Layout
from secagg.federated.terms import TRAIN, Protection
from secagg.federated.weighted import Encoding
from secagg.printable import printable
from secagg.release import RELEASE
from secagg.wire import Buffer, Message

TASK, KEYS, SHARES, INPUT, CONSENT, UNMASK = "task", "keys", "shares", "input", "consent", "unmask"
DECRYPT: Final = "decrypt"  # under encryption: the last step, of the key holder alone
STALE: Final = "stale budget"  # in place of keys


class Task(Message, frozen=True):
    """Task, server -> node, beside what the framework sends.

    release: of the server; it stays the first field, so that a node of any other release can tell what the server runs.
    """

    release: str
    protection: Protection
    encoding: Encoding
    weight_key: str

    def sums_differences(self, kind: str) -> bool:
        """Whether sums of a kind are of what replies change, in place of whole replies; metrics are then not sent."""
        compressed = self.encoding.compression is not None and kind == TRAIN
        return compressed or self.protection.sums_differences(kind)

    def remembers(self, kind: str) -> bool:
        """Whether nodes remember what was cut off of their updates in sums of a kind."""
        compression = self.encoding.compression
        return compression is not None and compression.error_feedback and kind == TRAIN


def task_of(protection: Protection, encoding: Encoding, weight_key: str) -> Task:
    """Return the task of a server of this release."""
    return Task(RELEASE, protection, encoding, weight_key)


def read_task(frame: Buffer) -> Task:
    """Return the task in a server's bytes.

    Raises:
      RemoteProtocolError: the server runs another release.
      WireError: it is none.
    """
    try:
        task = wire.from_bytes(frame, Task, peer=SERVER)
    except WireError:
        if theirs := wire.first_text(frame):
            _check_release(theirs)
        raise
    _check_release(task.release)
    return task


def _check_release(theirs: str) -> None:
    if theirs != RELEASE:
        raise RemoteProtocolError(
            f"{SERVER} runs secagg {printable(theirs, 40)}, this node {RELEASE}; run the same release at the server and all "
            "nodes",
            peer=SERVER,
        )


class Ready(Message, frozen=True):
    """Task, node -> server: it keeps an update of this layout.

    nonce: 32 fresh bytes. layout: a `Layout` as bytes. setting: a digest of its app's surroundings if the server is
    malicious, else empty. signature: over all but the name, run and kind of sum. budget: with noise, a `budget.History`
    as bytes. seen: what it saw others to have spent; each a `budget.Spent` as bytes.
    """

    name: str
    nonce: bytes
    layout: bytes
    setting: bytes
    signature: bytes
    budget: bytes = b""
    seen: dict[str, bytes] = msgspec.field(default_factory=dict)


class Participants(Message, frozen=True):
    """Keys, server -> node: who takes part, the nonce of each, and one that the server drew when it had them all.

    budgets: with noise, the `budget.History` of each; else empty. computing: in sums that nodes compute together, those
    without whom nothing is opened, in the order of the setting; else empty.
    """

    names: tuple[str, ...]
    nonces: tuple[bytes, ...]
    server_nonce: bytes
    budgets: tuple[bytes, ...] = ()
    computing: tuple[str, ...] = ()


class KeyToUse(Message, frozen=True):
    """Input under encryption, server -> node: who takes part, and the key holder's `encrypted.SumKey`."""

    participants: Participants
    key: SumKey


class StaleBudget(Message, frozen=True):
    """Stale budget, server -> node: `Ready` of others, as bytes, that saw it spend more than its file says."""

    ready: tuple[bytes, ...]


class NodeState(Message, frozen=True):
    """What a node keeps between two steps. Secret.

    run, kind: of the sum. step: the next one. task: the message of that name, as bytes. task_digest, setting: see
    `terms.Agreement`. vector: the update, without noise, until it is sent. client: the masked protocol's own state, from
    `keys` on; at a key holder its secret key. memory: with error feedback what was cut off of earlier updates, and once the
    update is sent, what is to be remembered if the sum goes on to its end.
    """

    run: int
    kind: str
    step: str
    nonce: bytes
    task: bytes
    task_digest: bytes
    setting: bytes
    layout: Layout
    participants: Participants | None
    vector: NDArray[np.generic] | None
    client: NDArray[np.uint8] | None
    memory: NDArray[np.float64] | None = None
