"""What an aggregator does: it takes uploads as they come, adds each to the sum, and forgets it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from secagg.errors import RemoteProtocolError, TooFewPartiesError, UsageError
from secagg.he.scheme import Ciphertext, Header, PublicKey
from secagg.party import Party, PartyId
from secagg.protocols.he_sum.terms import Terms
from secagg.wire import Message

C = TypeVar("C", bound=Ciphertext)
M = TypeVar("M", bound=Message)


class Contributors(Message, frozen=True):
    """Sum, aggregator -> key holders and result parties: whose uploads are in the ciphertext that follows."""

    names: tuple[str, ...]


async def collect(
    party: Party,
    terms: Terms,
    kind: type[M],
    add: Callable[[PartyId, M], None],
    *,
    own: bool,
    max_bytes: int,
) -> tuple[PartyId, ...]:
    """Hand every client's upload to `add` as it comes; return whose were taken, in the terms' order.

    Runs at the aggregator. A client that is missing, late, or sends what is no upload is left out. Holds one
    upload at a time, however many clients there are.

    Args:
      kind: an upload as a message.
      add: (client, message): checks an upload and adds it up, or raises RemoteProtocolError.
      own: whether the aggregator is a client, whose upload has been added already.
      max_bytes: of an upload's arrays.

    Raises:
      TooFewPartiesError: fewer than `terms.min_clients` uploads were in order.
    """
    taken = {party.me} if own else set[PartyId]()
    others = [client for client in terms.roles.clients if client != party.me]
    needed = max(0, terms.min_clients - len(taken))
    async for peer, message in party.as_completed(
        kind, others, quorum=needed, timeout_s=terms.timeout_s, max_bytes=max_bytes
    ):
        try:
            add(peer, message)
        except RemoteProtocolError as error:
            party.fail(peer, error)
        else:
            taken.add(peer)
    if len(taken) < terms.min_clients:
        absent = [client for client in others if client not in taken]
        named = "; ".join(str(party.failed[client]) for client in absent[:3] if client in party.failed)
        raise TooFewPartiesError(
            f"expected uploads of at least {terms.min_clients} of {len(terms.roles.clients)} clients, got {len(taken)} "
            f"that are in order; {named}",
            peer=absent[0],
        )
    return tuple(client for client in terms.roles.clients if client in taken)


class Adder(Generic[C]):
    """A running sum of ciphertexts.

    Args:
      terms: what an upload has to be.
      own: the aggregator's own upload, if it is a client.
    """

    def __init__(self, terms: Terms, own: C | None) -> None:
        self._terms = terms
        self._total = None if own is None else own.copy()

    def add(self, peer: PartyId, ciphertext: C) -> None:
        """Add an upload.

        Raises:
          RemoteProtocolError: it is not one fresh encryption of an array as agreed.
        """
        check_header(ciphertext.header, self._terms, 1, peer=peer)
        if self._total is None:
            self._total = ciphertext.copy()  # the upload lies in a frame
            return
        try:
            self._total += ciphertext
        except UsageError as error:
            raise RemoteProtocolError(
                f"{peer}'s upload does not go with the others: {error}", peer=peer
            ) from None

    @property
    def total(self) -> C:
        """The sum of what was added.

        Raises:
          UsageError: nothing was.
        """
        if self._total is None:
            raise UsageError("nothing has been added up")
        return self._total


async def add_up(
    party: Party,
    terms: Terms,
    public_key: PublicKey,
    own: Ciphertext | None,
    receivers: Iterable[PartyId],
) -> tuple[tuple[PartyId, ...], Any]:
    """Add uploads up as they come; send the sum and whose it is to its receivers, and return both.

    Runs at the aggregator. Arguments and errors as of `Adder` and `collect`.
    """
    adder = Adder(terms, own)

    def add(peer: PartyId, message: Message) -> None:
        adder.add(peer, check_packing(public_key.read(message, peer=peer), public_key, peer=peer))

    contributors = await collect(
        party,
        terms,
        public_key.ciphertext_type,
        add,
        own=own is not None,
        max_bytes=public_key.ciphertext_bytes(terms.plan, terms.length),
    )
    message = adder.total.to_message()
    for peer in receivers:
        party.send(peer, Contributors(contributors))
        party.send(peer, message)
    return contributors, adder.total


async def receive_sum(party: Party, terms: Terms, public_key: PublicKey) -> tuple[tuple[PartyId, ...], Any]:
    """Return what `add_up` sent: who is in the sum, and its ciphertext.

    Raises:
      RemoteProtocolError: what came is no sum of uploads of enough clients.
    """
    aggregator = terms.aggregator
    announced = await party.receive(Contributors, aggregator, max_bytes=terms.names_bytes)
    contributors = check_contributors(announced.names, terms, peer=aggregator)
    max_bytes = public_key.ciphertext_bytes(terms.plan, terms.length)
    message = await party.receive(public_key.ciphertext_type, aggregator, max_bytes=max_bytes)
    total = check_packing(public_key.read(message, peer=aggregator), public_key, peer=aggregator)
    check_header(total.header, terms, len(contributors), peer=aggregator)
    return contributors, total


def check_packing(ciphertext: C, public_key: PublicKey, *, peer: PartyId) -> C:
    """Return a ciphertext under this key, if its numbers are packed as `PublicKey.encrypt` packs them.

    Otherwise the first upload would say how all others have to be packed.

    Raises:
      RemoteProtocolError: they are packed otherwise.
    """
    expected = public_key.numbers_together(ciphertext.header.plan)
    if ciphertext.numbers_together != expected:
        raise RemoteProtocolError(
            f"expected {expected} numbers encrypted together from {peer}, as many as fit, got "
            f"{ciphertext.numbers_together}",
            peer=peer,
        )
    return ciphertext


def check_header(header: Header, terms: Terms, count: int, *, peer: PartyId) -> None:
    """Refuse a ciphertext that does not call itself the sum of `count` fresh encryptions of arrays as agreed.

    Raises:
      RemoteProtocolError: it is something else; the message says what.
    """
    if (header.plan, header.shape, header.summands, header.weight) != (terms.plan, terms.shape, count, count):
        raise RemoteProtocolError(
            f"expected {count} encrypted arrays of shape {terms.shape} encoded by {terms.plan} from {peer}, got "
            f"{header.summands} of weight {header.weight}, shape {header.shape}, encoded by {header.plan}; "
            f"do all hold the same terms?",
            peer=peer,
        )


def check_contributors(names: tuple[str, ...], terms: Terms, *, peer: PartyId) -> tuple[PartyId, ...]:
    """Return the list of contributors that a peer announced, if it can be one.

    Raises:
      RemoteProtocolError: strangers, repeated names, or fewer than `terms.min_clients`.
    """
    if (
        len(set(names)) != len(names)
        or not set(names) <= set(terms.roles.clients)
        or len(names) < terms.min_clients
    ):
        raise RemoteProtocolError(
            f"expected at least {terms.min_clients} distinct clients as contributors from {peer}, got {len(names)} names",
            peer=peer,
        )
    return names
