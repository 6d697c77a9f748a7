"""The masks that a sum is under, from the shares that were told of each client's secret."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from secagg.protocols.masked_sum import keys
from secagg.protocols.masked_sum.masks import Mask
from secagg.protocols.masked_sum.recovery import Recovery
from secagg.protocols.masked_sum.terms import Bound


class Owner(NamedTuple):
    """A client that sent shares, and what was told of its secret.

    Attributes:
      number: the client's.
      included: whether its vector is in the sum.
      published: of a client in the sum what commits to its self mask, of another one its public masking key.
      shares: that came and could be read, by holder.
      silent: holders that should have answered and did not.
      unreadable: how many answered with what is no share.
      peers: of a client that dropped out, its neighbours in the sum with their public masking keys.
    """

    number: int
    included: bool
    published: bytes
    shares: Mapping[int, int]
    silent: Sequence[int]
    unreadable: int
    peers: Sequence[tuple[int, bytes]]

    def __repr__(self) -> str:
        return f"<Owner {self.number} of shares>"  # enough of them are its secret


def masks_on(where: Bound, owners: Iterable[Owner], recovery: Recovery) -> Iterator[Mask]:
    """Yield what takes these clients' masks off the sum.

    Of a client in the sum that is its self mask; of one that dropped out, the masks in common with clients in the sum.

    Raises:
      as `Recovery.secret`, and RemoteProtocolError of a key that agrees with nobody.
    """
    for owner in owners:
        if owner.included:
            secret = _secret(owner, recovery, keys.commit, where)
            yield Mask(keys.self_seed(where, secret, owner.number), minus=True)
        elif owner.peers:
            # A masking key that is told is dead: it is of this round and of a client that is out of it.
            masking = keys.secret_key(_secret(owner, recovery, _public, where))
            for peer, public in owner.peers:
                agreed = keys.agree(masking, public, owner=where.name_of(peer))
                # The peer added the mask if the owner's number is the larger one.
                yield Mask(keys.pair_seed(where, agreed, owner.number, peer), minus=owner.number > peer)


def _public(_where: Bound, secret: bytes, _owner: int) -> bytes:
    return keys.public_bytes(keys.secret_key(secret))


def _secret(
    owner: Owner, recovery: Recovery, publish: Callable[[Bound, bytes, int], bytes], where: Bound
) -> bytes:
    return recovery.secret(
        owner.number,
        owner.shares,
        lambda secret: publish(where, secret, owner.number) == owner.published,
        silent=owner.silent,
        unreadable=owner.unreadable,
    )
