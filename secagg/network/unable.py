"""Tell the other parties that this one cannot take part, so that they do not wait for it.

A party may find before it meets the others that its database is down, or that its own organisation refuses the run. Then
it visits whoever waits already, and says of what kind the cause is (`Cause`): no text, and nothing of a table. Who waits
for the run ends, with an error that names the party. Who comes later waits, and may meet this party when it has started
again.

Threat model: a party of the run can end it in any case. Nobody else can say that it does: the message comes over a
connection that the party's certificate secures, and holds the digest of what was agreed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

from secagg.errors import PeerVanishedError, UsageError
from secagg.network.hello import Cause, Unable
from secagg.network.identity import Identity
from secagg.network.link import Link, next_frame
from secagg.network.sockets import Address
from secagg.network.tcp import Peer
from secagg.network.visits import Conversation, Visits
from secagg.party import PartyId
from secagg.wire import FrameType, encode_control

__all__ = ["Cause", "tell_unable"]

_log = logging.getLogger(__name__)

_WAIT_S: Final = 2.0  # whoever waits dials once a second


def tell_unable(
    *,
    me: PartyId,
    identity: Identity,
    peers: Sequence[Peer],
    listen: Address,
    agreement: bytes,
    cause: Cause,
    wait_s: float = _WAIT_S,
    is_over: Callable[[], bool] = lambda: False,
) -> tuple[PartyId, ...]:
    """Tell all parties that are there, and return whom this party could tell, in roster order.

    Args:
      peers: all parties, this one among them.
      listen, agreement: as in `run_party`.
      wait_s: how long to look for the others.
      is_over: whether nobody waits any more; asked again and again.
    """
    try:
        telling = _Telling(me, identity, peers, listen, Unable(agreement, cause))
    except UsageError as error:  # such as a run of the same party, which is at that address
        _log.info("%s tells nobody that it cannot take part: %s", me, error)
        return ()
    with contextlib.closing(telling):
        telling.run(wait_s, is_over=is_over)
    return tuple(peer.name for peer in peers if peer.name in telling.done)


class _Telling(Visits):
    def __init__(
        self, me: PartyId, identity: Identity, peers: Sequence[Peer], listen: Address, message: Unable
    ) -> None:
        super().__init__(me, identity, peers, listen)
        self._frame = encode_control(FrameType.UNABLE, message)

    def converse(self, link: Link) -> Conversation:
        link.send([self._frame])
        # A connection that ends with something unread can take with it what the peer has not read.
        with contextlib.suppress(PeerVanishedError):
            while (yield from next_frame(link))[
                0
            ] is not FrameType.UNABLE:  # a peer that cannot either waits for nobody
                pass
