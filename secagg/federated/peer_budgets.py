"""What nodes remember of one another's budgets. A node that shows another budget than before is left out.

A whole older budget file is in itself as good as the newest, and so is a copy that was used elsewhere. So each node shows,
signed, which sums it has spent its budget on. The others in the sum check that this continues what they saw last. They
remember it with this sum added when the node's vector is in. What is shown is in the session, so nodes that were told
different things find that no key fits.

The server leaves out a node when more nodes contradict its budget than may lie, and sends it their signed statements. It
need not do so for privacy's sake: nodes refuse by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from secagg import wire
from secagg.errors import RemoteProtocolError
from secagg.federated import messages
from secagg.federated.budget import History, PrivacyBudget, Spent
from secagg.federated.identities import SERVER
from secagg.federated.registration import check_ready
from secagg.party import PartyId
from secagg.protocols.masked_sum import Client, Consents, Included, SumInSession
from secagg.protocols.masked_sum.terms import unpack_set

_log = logging.getLogger("secagg.federated")


def shown_by(participants: messages.Participants) -> dict[PartyId, History]:
    """Return the budget of each node in a sum, as the server passes them on.

    Raises:
      RemoteProtocolError: budgets that are none.
    """
    if len(participants.budgets) != len(participants.names):
        raise RemoteProtocolError(
            f"expected the budgets of {len(participants.names)} nodes from {SERVER}, got {len(participants.budgets)}",
            peer=SERVER,
        )
    shown = zip(participants.names, participants.budgets, strict=True)
    return {name: History.from_bytes(data, peer=SERVER) for name, data in shown}


def check_budgets(
    participants: messages.Participants, me: PartyId, budget: PrivacyBudget, *, log: logging.Logger = _log
) -> None:
    """Refuse a sum with a node that this node saw spend more than it shows now.

    Raises:
      RemoteProtocolError: there is one, or the server shows others another budget of this node than it showed.
    """
    budgets, seen = shown_by(participants), budget.seen()
    if budgets[me] != budget.check(server=SERVER):
        raise RemoteProtocolError(
            f"expected {SERVER} to pass on this node's budget as it is, and another was passed on, or another sum was made "
            "since",
            peer=SERVER,
        )
    for name, shown in budgets.items():
        known = seen.get(name)
        if known is None or name == me:
            continue
        if shown.is_older(known):
            raise RemoteProtocolError(
                f"{name} shows a budget of which {shown.count} sums are spent, and this node saw one of {known.count}: its "
                f"file is older than that, or another copy of it, or {SERVER} passes on something else"
            )
        if shown.id != known.id:
            log.warning(
                "%s has begun another budget, after one of %d sums: what both tell adds up", name, known.count
            )


def spent_by_now(
    participants: messages.Participants, where: SumInSession, client: Client, request: Included | Consents
) -> dict[PartyId, History]:
    """Return what those whose vectors are in the sum have spent now, as far as this node can be sure of it.

    Args:
      participants: who takes part.
      where: the round.
      client: this node, which has answered the request.
      request: the server's last.
    """
    # Only of neighbours was it checked that they were shown the same budgets. A server that may do anything says of whom
    # it likes that its vector came; who signed that has sent one.
    sure = where.names(frozenset(where.graph.neighbours(where.number_of(client.name))))
    if isinstance(request, Consents):
        signers = where.names(unpack_set(request.signers, len(participants.names)))
        sure = tuple(name for name in sure if name in signers)
    budgets, nonces = shown_by(participants), dict(zip(participants.names, participants.nonces, strict=True))
    return {name: budgets[name].then(nonces[name]) for name in sure if name in client.contributors}


def stale_budget(
    frame: bytes, run: int, kind: str, me: PartyId, peers: Mapping[PartyId, bytes], budget: PrivacyBudget
) -> RemoteProtocolError:
    """Return what to say of others' word, if it is theirs, that this node's budget file is an old one."""
    own, knowing = budget.spent(), list[str]()
    for data in wire.from_bytes(frame, messages.StaleBudget, peer=SERVER).ready:
        ready = wire.from_bytes(data, messages.Ready, peer=SERVER)
        if ready.name not in peers or me not in ready.seen:
            continue
        check_ready(ready, run, kind, peers)
        known = Spent.from_bytes(ready.seen[me], peer=ready.name)
        if own.is_older(known):
            knowing.append(f"{ready.name} saw {known.count}")
    return RemoteProtocolError(
        f"{budget.file.name} says that {own.count} sums ({kind}) were made of this node's data, and {SERVER} that the "
        f"file is older than others remember; signed by them: {', '.join(knowing) or 'nothing'}. Put back the newest copy"
    )
