"""What an aggregator does: it takes uploads as they come, adds each to the sum, and forgets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from secagg.errors import RemoteProtocolError, TooFewPartiesError, UsageError
from secagg.he.scheme import Ciphertext, Header
from secagg.party import Party, PartyId
from secagg.protocols.he_sum.terms import Terms
from secagg.wire import Message

C = TypeVar("C", bound=Ciphertext)
M = TypeVar("M", bound=Message)


class Uploaded(NamedTuple):
    """The sum of the uploads that were in order, and whose they are, in the terms' order."""

    total: Ciphertext
    contributors: tuple[PartyId, ...]


def check_upload(header: Header, terms: Terms, *, peer: PartyId) -> None:
    """Refuse a ciphertext that is not one fresh encryption of an array as agreed.

    Raises:
      RemoteProtocolError: it is something else; the message says what.
    """
    if (header.plan, header.shape, header.summands, header.weight) != (terms.plan, terms.shape, 1, 1):
        raise RemoteProtocolError(
            f"expected one encrypted array of shape {terms.shape} encoded by {terms.plan} from {peer}, got "
            f"{header.summands} of weight {header.weight}, shape {header.shape}, encoded by {header.plan}; "
            f"do all hold the same terms?",
            peer=peer,
        )


async def collect(
    party: Party, terms: Terms, kind: type[M], read: Callable[[M, PartyId], Ciphertext], own: Ciphertext | None
) -> Uploaded:
    """Return the sum of the clients' ciphertexts; runs at the aggregator.

    A client that is missing, late, or sends what is no upload is left out. Holds one sum and one upload at a
    time, however many clients there are.

    Args:
      kind: an upload as a message.
      read: checks a peer's message and returns what is to be added; raises RemoteProtocolError.
      own: the aggregator's own upload, if it is a client.

    Raises:
      TooFewPartiesError: fewer than `terms.least` uploads were in order.
    """
    total, contributors = None, set[PartyId]()
    if own is not None:
        total, contributors = own.copy(), {party.me}
    others = [client for client in terms.clients if client != party.me]
    needed = max(0, terms.least - len(contributors))
    async for peer, message in party.arrivals(kind, others, quorum=needed, timeout_s=terms.upload_timeout_s):
        try:
            ciphertext = read(message, peer)
            check_upload(ciphertext.header, terms, peer=peer)
            if total is None:
                total = ciphertext.copy()  # the upload lies in a frame
            else:
                total += ciphertext
        except RemoteProtocolError as error:
            party.fail(peer, error)
        except UsageError as error:  # it is in order, but does not go with the others
            party.fail(peer, RemoteProtocolError(f"upload of {peer}: {error}", peer=peer))
        else:
            contributors.add(peer)
    if total is None or len(contributors) < terms.least:
        absent = [client for client in others if client not in contributors]
        named = "; ".join(str(party.failed[client]) for client in absent[:3] if client in party.failed)
        raise TooFewPartiesError(
            f"expected uploads of at least {terms.least} of {len(terms.clients)} clients, got {len(contributors)} "
            f"that are in order; {named}",
            peer=absent[0],
        )
    return Uploaded(total, tuple(client for client in terms.clients if client in contributors))


def check_contributors(names: tuple[str, ...], terms: Terms, *, peer: PartyId) -> tuple[PartyId, ...]:
    """Return the list of contributors that the aggregator announced, if it can be one.

    Raises:
      RemoteProtocolError: strangers, repeated names, or fewer than `terms.least`.
    """
    if len(set(names)) != len(names) or not set(names) <= set(terms.clients) or len(names) < terms.least:
        raise RemoteProtocolError(
            f"expected at least {terms.least} distinct clients as contributors from {peer}, got {len(names)} names",
            peer=peer,
        )
    return names
