"""Who is ready for a sum, and with what: what a node may announce, and which layout the sum is of.

A node announces the layout of what it keeps before anybody can check it. So layouts are bounded by what the server
sent, before they are decoded; and the sum is of the layout that most names announced. Each registered name has one
voice, however many nodes use it. As long as most of those that are ready are honest, and reply alike, a liar keeps nobody
but itself out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from secagg import wire
from secagg.errors import RemoteProtocolError, ShapeError, UsageError
from secagg.federated import messages
from secagg.federated.budget import HISTORY_BYTES, History, Spent
from secagg.federated.layout import Layout, Shapes, extent
from secagg.federated.terms import LABEL, NONCE_BYTES, ready_parts
from secagg.party import PartyId
from secagg.signing import verify

_MIN_NUMBERS: Final = 1 << 20
_MIN_BYTES: Final = 1 << 16
_TIMES_SENT: Final = 4
_ENTRY_BYTES: Final = 64  # of an entry of few dimensions, its names aside
_READY_BYTES: Final = 1 << 12  # of what is announced, the layout and what was seen of others aside
_SEEN_BYTES: Final = 256  # of what was seen of one other, its name included


class Registration(NamedTuple):
    """A node that is ready, and what it announced.

    address: what the framework calls it. layout: canonical, as bytes. announced: in the order of its reply. budget: with
    noise, what it has spent. seen: what it saw others to have spent. frame: all that it announced, signed.
    """

    name: PartyId
    address: str
    nonce: bytes
    layout: bytes
    announced: bytes
    setting: bytes
    budget: History | None
    seen: Mapping[PartyId, Spent]
    frame: bytes


class Limits(NamedTuple):
    """How much a node may announce; layout_bytes bounds how many entries there are and how long their names."""

    numbers: int
    layout_bytes: int


def limits_for(sent: Shapes, numbers: int | None) -> Limits:
    """Return what may be announced where these arrays were sent.

    Args:
      sent: shapes of the arrays that came with the task.
      numbers: how many a node may announce; None for four times what was sent, or 2**20.

    Raises:
      UsageError: numbers below 1.
    """
    if numbers is None:
        numbers = max(_MIN_NUMBERS, _TIMES_SENT * sum(extent(shape) for shape in sent.values()))
    if numbers < 1:
        raise UsageError(f"expected at least 1 number that a node may announce, got {numbers}")
    entry_bytes = sum(len(f"{record}{name}".encode()) + _ENTRY_BYTES for record, name in sent)
    return Limits(numbers, max(_MIN_BYTES, _TIMES_SENT * entry_bytes))


def read_ready(
    frame: bytes,
    address: str,
    run: int,
    kind: str,
    peers: Mapping[PartyId, bytes],
    limits: Limits,
    *,
    noisy: bool = False,
) -> Registration:
    """Return the node that announces something.

    Args:
      frame: a `Ready` as bytes.
      address: what the framework calls the node.
      run: the framework's number of the run.
      kind: of the sum.
      peers: public keys by name.
      limits: what may be announced.
      noisy: whether the sum has noise, so that budgets are shown.

    Raises:
      RemoteProtocolError: it is not registered, did not sign, or announces what cannot be or is too much.
    """
    seen_bytes = noisy * (len(peers) * _SEEN_BYTES + HISTORY_BYTES)
    if len(frame) > limits.layout_bytes + _READY_BYTES + seen_bytes:
        raise RemoteProtocolError(
            f"announces names and shapes in {len(frame)} bytes; with what was sent at most {limits.layout_bytes} are "
            "expected",
            peer=address,
        )
    ready = wire.from_bytes(frame, messages.Ready, peer=address)
    if ready.name not in peers or len(ready.nonce) != NONCE_BYTES:
        raise RemoteProtocolError(
            f"expected a node whose public key is registered, got {ready.name!r:.80} at {address!r:.80}",
            peer=address,
        )
    check_ready(ready, run, kind, peers)
    layout = wire.from_bytes(ready.layout, Layout, peer=address)
    try:
        layout.check()
    except ShapeError as error:
        raise RemoteProtocolError(f"{error}, from {ready.name}", peer=ready.name) from None
    announced = max(layout.numbers, *(extent(entry.shape) for entry in layout.entries))
    if announced > limits.numbers:
        raise RemoteProtocolError(
            f"announces {announced} numbers, and {limits.numbers} are allowed; if its app means to, "
            "raise max_numbers at the server",
            peer=ready.name,
        )
    budget = History.from_bytes(ready.budget, peer=ready.name) if noisy else None
    seen = {name: Spent.from_bytes(data, peer=ready.name) for name, data in ready.seen.items()}
    return Registration(
        name=ready.name,
        address=address,
        nonce=ready.nonce,
        layout=wire.to_bytes(layout.canonical()),
        announced=ready.layout,
        setting=ready.setting,
        budget=budget,
        seen=seen,
        frame=frame,
    )


def check_ready(ready: messages.Ready, run: int, kind: str, peers: Mapping[PartyId, bytes]) -> None:
    """Check that a registered node signed what it announces.

    Raises:
      AuthenticationError: it did not.
    """
    key = Ed25519PublicKey.from_public_bytes(peers[ready.name])
    parts = ready_parts(run, kind, ready.nonce, ready.layout, ready.setting, ready.budget, ready.seen)
    verify(key, ready.signature, f"{LABEL}/ready", parts, peer=ready.name)


def most_common(layouts: Sequence[bytes], sent: Shapes) -> bytes:
    """Return the layout that comes most often; of those that come as often, the one most like what was sent.

    Args:
      layouts: that were checked, one a name; at least one.
      sent: shapes of the arrays that came with the task.
    """
    votes = Counter(layouts)
    most = max(votes.values())

    def rank(data: bytes) -> tuple[int, int, bytes]:
        layout = wire.from_bytes(data, Layout)
        known = sum(sent.get(entry.key) == entry.shape for entry in layout.arrays)
        return known, -layout.numbers, data

    return max((data for data, count in votes.items() if count == most), key=rank)
