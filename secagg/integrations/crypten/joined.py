"""A computing party in CrypTen's world, and its shares on the way there and back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import numpy as np

from secagg import signing
from secagg.errors import RemoteProtocolError, UsageError
from secagg.integrations.crypten import library, randomness
from secagg.integrations.crypten.connection import check_settings, connected
from secagg.integrations.crypten.world import World, agree
from secagg.party import Party, PartyId
from secagg.prg import KEY_BYTES, Stream
from secagg.ring import Ring, RingArray

_RING: Final = Ring(64)


class Joined:
    """This party in CrypTen's world; made by `joined`.

    All computing parties convert the same arrays in the same order. Each conversion compares that in one small round of
    CrypTen's.

    Attributes:
      crypten: the module.
      rank: this party's place among the computing parties.
    """

    __slots__ = ("_converted", "_left", "_torch", "_world", "_zeros", "crypten", "rank")

    def __init__(
        self, torch: Any, crypten: Any, world: World, rank: int, zeros: Mapping[PartyId, Stream]
    ) -> None:
        self._torch = torch
        self.crypten = crypten
        self._world = world
        self._zeros = zeros
        self._converted = 0
        self._left = False
        self.rank = rank

    def __repr__(self) -> str:
        return f"<Joined as rank {self.rank} of {len(self._world.computing)}>"

    def to_crypten(self, share: RingArray, frac_bits: int) -> Any:
        """Return a fresh share of the same numbers as a tensor of CrypTen's, `crypten.mpc.MPCTensor`.

        Args:
          share: this party's additive share modulo 2**64, uint64, any shape; the same shape at all computing parties.
          frac_bits: as the numbers were encoded: 0 for integers, or as many as CrypTen keeps
            (`crypten.cfg.encoder.precision_bits`, 16). CrypTen's products of numbers with different ones are wrong.

        Who learns what: nobody anything, but that all convert an array of this shape.

        Raises:
          ShapeError: the share is no uint64 array.
          UsageError: other frac_bits, or the world was left.
          RemoteProtocolError: another party converts something else.
        """
        _RING.check(share)
        self._check_frac_bits(frac_bits)
        fresh = self._refreshed(share, "to_crypten", frac_bits)
        words = self._torch.from_numpy(fresh.view(np.int64))
        return self.crypten.mpc.MPCTensor.from_shares(words, precision=frac_bits)

    def from_crypten(self, tensor: Any) -> tuple[RingArray, int]:
        """Return a fresh additive share of a tensor's numbers modulo 2**64, and their frac_bits.

        Args:
          tensor: `crypten.mpc.MPCTensor` of numbers, not of bits; the same at all computing parties.

        Who learns what: nobody anything, but that all convert an array of this shape. Nothing is opened.

        Raises:
          UsageError: no such tensor, or the world was left.
          RemoteProtocolError: another party converts something else.
        """
        mpc = self.crypten.mpc
        if not isinstance(tensor, mpc.MPCTensor):
            raise UsageError(f"expected a crypten.mpc.MPCTensor, got a {type(tensor).__name__}")
        if tensor.ptype != mpc.arithmetic:
            raise UsageError(
                "expected a tensor of numbers, got one of bits; use tensor.to(crypten.mpc.arithmetic)"
            )
        scale = int(tensor.encoder.scale)
        frac_bits = scale.bit_length() - 1
        if scale != 1 << frac_bits:
            raise UsageError(f"expected a tensor whose scale is a power of two, got {scale}")
        words = tensor.share.numpy().view(np.uint64)
        return self._refreshed(words, "from_crypten", frac_bits), frac_bits

    def leave(self) -> None:
        """Convert nothing more."""
        self._left = True

    def _check_frac_bits(self, frac_bits: int) -> None:
        kept = self.crypten.cfg.encoder.precision_bits
        if frac_bits not in (0, kept):
            raise UsageError(
                f"expected 0 or {kept} frac_bits, as CrypTen keeps, got {frac_bits}; encode with frac_bits={kept}, or set "
                f"crypten.cfg.encoder.precision_bits={frac_bits} at all parties before anything is converted"
            )

    def _refreshed(self, share: RingArray, kind: str, frac_bits: int) -> RingArray:
        """Return the share plus a share of zero: what a pair draws, one of the two adds and the other one subtracts."""
        if self._left:
            raise UsageError(f"{self!r} has left; convert inside of `async with joined(...)`")
        check_settings(self.crypten, in_world=True)
        self._compare(kind, share.shape, frac_bits)
        fresh = np.array(share, order="C")
        for place, peer in enumerate(self._world.computing):
            if place != self.rank:
                operation = np.add if self.rank < place else np.subtract
                operation(fresh, self._zeros[peer].words(fresh.shape), out=fresh)  # wraps, which is meant
        return fresh

    def _compare(self, kind: str, shape: tuple[int, ...], frac_bits: int) -> None:
        self._converted += 1
        said = [str(part).encode() for part in (self._converted, kind, shape, frac_bits)]
        word = signing.digest("secagg.integrations.crypten/conversion", said)[:8]
        mine = self._torch.tensor(int.from_bytes(word, "big", signed=True))
        everybodys = [int(theirs) for theirs in self.crypten.communicator.get().all_gather(mine)]
        for peer, theirs in zip(self._world.computing, everybodys, strict=True):
            if theirs != int(mine):
                raise RemoteProtocolError(
                    f"{peer} converts something else than {self._world.computing[self.rank]}, whose conversion "
                    f"{self._converted} is {kind} of shape {shape} with {frac_bits} frac_bits; "
                    "do all run the same program?",
                    peer=peer,
                )


@contextlib.asynccontextmanager
async def joined(party: Party, world: World) -> AsyncIterator[Joined]:
    """Join CrypTen's world as a computing party, for as long as the block lasts.

    The process is this party's alone: CrypTen keeps one world a process. While CrypTen computes, the party sends and
    reads nothing, and its driver keeps its connections alive. `deal` runs at the dealer meanwhile.

    Raises:
      UsageError: CrypTen is not installed, in use in this process already, or set to show more than what is opened; another
        party runs in this process, as in the simulator; the party does not compute in this world.
      RemoteProtocolError: another party joins another world.
      PeerVanishedError: CrypTen's processes did not all meet, or one lost a connection.
    """
    torch, crypten = library.load()
    if party.me not in world.computing:
        raise UsageError(
            f"expected one of the computing parties {', '.join(world.computing)}, got {party.me}; the dealer calls deal"
        )
    check_settings(crypten)
    keys = await agree(party, world)
    keys.check_apart()
    n, rank = len(world.computing), world.computing.index(party.me)
    before, behind = (world.computing[(rank + step) % n] for step in (-1, 1))
    zeros = {name: keys.stream(name, "zero") for name in world.computing if name != party.me}
    here = Joined(torch, crypten, world, rank, zeros)
    with connected(torch, crypten, world, party.me):
        # Of two parties each has the other one on both sides: the number says which side, as seen by the one before.
        randomness.replace_generators(
            torch,
            crypten,
            previous=keys.stream(before, "ring", (rank - 1) % n),
            following=keys.stream(behind, "ring", rank),
            local=Stream(party.rng.bytes(KEY_BYTES)),
        )
        client = crypten.mpc.provider.ttp_provider.TTPClient.get()
        client.generator = randomness.Source(torch, keys.stream(world.dealer, "dealer"))
        try:
            yield here
        finally:
            here.leave()
            randomness.remove_generators(torch, crypten)
