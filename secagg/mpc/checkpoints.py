"""Checkpoints of shares: how a computing party keeps them, goes on from them, and begins an opening.

*Keeping.* A check comes first where a lie can be found. So what honest parties keep fits together, and no complaint is lost
with a session.

*Going on.* The computing parties of the new session hold what they kept in one and the same session (`party.checkpoints`).
Each secret gets fresh shares: a sharing of zero from the new session is added (`refresh` of the engines).

*Opening.* Before anything is opened that tells something of the inputs, every computing party has kept what it is computed
from, and says so to the others. Then each notes durably that it is opened. No later session goes on from before that note,
so what was opened is never computed again, and never opened as something else.

Threat model: that of the engine. Learns: nobody anything. Cost: where nothing is kept, none. Else a check for each
checkpoint and a message without payload for each opening; going on costs what `refresh` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from secagg.errors import RemoteProtocolError, UsageError
from secagg.mpc.engines import COMPUTING
from secagg.mpc.four.engine import FourEngine
from secagg.mpc.groups import Array, Group, XorGroup
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Primitives, Shares
from secagg.mpc.three.engine import ThreeEngine
from secagg.ring import Ring
from secagg.wire import Message

_SHARES: Final = "shares"  # in a checkpoint: name, group and this party's parts of each secret


class ReadyToOpen(Message, frozen=True):
    """A computing party has kept what is going to be opened.

    Attributes:
      step: of the checkpoint.
    """

    step: int


async def keep(
    engine: Primitives, mark: str, secrets: Mapping[str, Shares], own: Mapping[str, Any] | None = None
) -> None:
    """Keep secrets, and what this party alone knows, as a checkpoint of a computing party.

    Args:
      mark: the part of the protocol that goes on from here.
      own: what else this party needs to go on.
    """
    checkpoints = engine.party.checkpoints
    if not checkpoints.active:
        return
    await engine.check()
    kept = [[name, _spelt(x.group), list(x.parts)] for name, x in secrets.items()]
    checkpoints.keep(mark, {**(own or {}), _SHARES: kept})


async def taken_up(engine: Primitives) -> dict[str, Shares]:
    """Return the secrets of the checkpoint that this session goes on from, freshly shared.

    Raises:
      UsageError: what was kept is not this party's shares of such an engine.
      CheatingError: see `four.refresh`.
    """
    kept = engine.party.checkpoints.content()[_SHARES]
    fresh = await refreshed(engine, [(_group(spelt), of_each) for _, spelt, of_each in kept])
    return {name: x for (name, _, _), x in zip(kept, fresh, strict=True)}


async def refreshed(engine: Primitives, kept: Sequence[tuple[Group, Sequence[Array]]]) -> list[Shares]:
    """Return secrets of an earlier session, freshly shared.

    Args:
      kept: the group of each, and this party's shares of it.

    Raises:
      UsageError: what was kept is not this party's shares of such an engine.
      CheatingError: see `four.refresh`.
    """
    if not isinstance(engine, ThreeEngine | FourEngine):
        raise UsageError("expected an engine of three or four parties to go on with")
    each = 2 if isinstance(engine, ThreeEngine) else COMPUTING[-1] - 1
    if any(len(of_each) != each for _, of_each in kept):
        raise UsageError(f"expected checkpoints with {each} parts of each secret; they are of another engine")
    return await engine.refresh([(group, list(of_each)) for group, of_each in kept])


async def ready_to_open(engine: Primitives) -> None:
    """Wait until all computing parties have kept what is going to be opened, and note that it is.

    Raises:
      RemoteProtocolError: a peer is at another checkpoint.
    """
    party, checkpoints = engine.party, engine.party.checkpoints
    if not checkpoints.active or checkpoints.last is None:
        return
    step = checkpoints.last.step
    others = [name for name in engine.computing if name != party.me]
    for peer in others:
        party.send(peer, ReadyToOpen(step))
    for peer, message in (await party.gather(ReadyToOpen, others)).items():
        if message.step != step:
            raise RemoteProtocolError(
                f"expected {peer} at checkpoint {step} of the run, and it is at {message.step}; do both run the same "
                "job and release?",
                peer=peer,
            )
    checkpoints.note_opening()


def _spelt(group: Group) -> list[Any]:
    if isinstance(group, XorGroup):
        return ["bits", group.bits]
    if isinstance(group, RingGroup):
        return ["ring", group.ring.bits]
    raise UsageError(f"{group!r} is no group of which shares are kept")


def _group(spelt: Sequence[Any]) -> Group:
    kind, bits = spelt
    return XorGroup(bits) if kind == "bits" else RingGroup(Ring(bits))
