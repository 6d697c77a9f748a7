"""What a client checks of what the server sends, before it uses any of it.

Each function returns what the message says, or raises RemoteProtocolError that names the server. A client that
was shown something wrong answers nothing more in that round; see `client`.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from secagg.errors import AuthenticationError, RemoteProtocolError, ShapeError
from secagg.protocols.masked_sum import keys
from secagg.protocols.masked_sum.messages import SEALED_BYTES, Consents, Included, PeerKeys, PeerShares
from secagg.protocols.masked_sum.terms import KEY_BYTES, SumInSession, pack_set
from secagg.signing import SIGNATURE_BYTES


def peer_keys(where: SumInSession, me: int, own: bytes, message: PeerKeys) -> dict[int, bytes]:
    """Return the public keys of this client's neighbours, by number, 64 bytes each.

    Refuses: keys of a non-neighbour; keys of fewer than threshold - 1 neighbours; a key without its owner's signature for
    this round; a repeated key; the client's own key.
    """
    threshold = where.terms.parameters.threshold
    present = sorted(_members(where, message.present))
    m = len(present)
    if message.keys.shape != (m, 2, KEY_BYTES) or message.signatures.shape != (m, SIGNATURE_BYTES):
        _refuse(where, f"keys of {m} neighbours", f"{message.keys.shape} and {message.signatures.shape}")
    if not set(present) <= set(where.graph.neighbours(me)):
        _refuse(where, "keys of neighbours only", "others' as well")
    if m + 1 < threshold:
        _refuse(where, f"keys of at least {threshold - 1} neighbours", f"those of {m}")
    seen = {own[:KEY_BYTES], own[KEY_BYTES:]}
    for row, peer in enumerate(present):
        pair = message.keys[row].tobytes()
        seen |= {pair[:KEY_BYTES], pair[KEY_BYTES:]}
        try:
            keys.check_keys(where, peer, pair, message.signatures[row].tobytes())
        except AuthenticationError:
            _refuse(where, f"keys that {where.terms.roles.clients[peer]} signed for this round", "others")
    if len(seen) != 2 * m + 2:
        _refuse(where, "different keys from everybody", "one twice")
    return held_keys(message, present)


def held_keys(message: PeerKeys, present: list[int]) -> dict[int, bytes]:
    """Return the keys in a message that was checked before."""
    return {peer: message.keys[row].tobytes() for row, peer in enumerate(present)}


def shared(where: SumInSession, me: int, known: dict[int, bytes], message: PeerShares) -> frozenset[int]:
    """Return who sent shares.

    Refuses: a set without this client; too few clients; too few neighbours; a neighbour whose keys did not come before;
    another number of sealed shares than neighbours in the set.
    """
    members = _members(where, message.shared)
    _check_set(where, me, members, "sent shares")
    strange = members.intersection(where.graph.neighbours(me)).difference(known)
    if strange:
        names = ", ".join(where.names(frozenset(strange)))
        _refuse(where, "shares of neighbours whose keys had come", f"those of {names}")
    m = len(members.intersection(known))
    if message.sealed.shape != (m, SEALED_BYTES):
        _refuse(where, f"the sealed shares of {m} neighbours", f"{message.sealed.shape}")
    return members


def included(where: SumInSession, me: int, before: frozenset[int], message: Included) -> frozenset[int]:
    """Return whose vectors are in the sum.

    Refuses: a set without this client; too few clients; too few neighbours; a client that had not sent shares.
    """
    members = _members(where, message.included)
    if not members <= before:
        _refuse(where, "survivors that had sent shares", "others as well")
    _check_set(where, me, members, "are in the sum")
    return members


def consents(where: SumInSession, included: frozenset[int], sets: bytes, message: Consents) -> None:
    """Check that a quorum of those in the sum signed the sets that this client signed.

    Refuses fewer, signers that are not in the sum, and any signature that does not fit.
    """
    signers, quorum = sorted(_members(where, message.signers)), where.terms.parameters.quorum
    if message.signatures.shape != (len(signers), SIGNATURE_BYTES):
        _refuse(where, f"{len(signers)} signatures", f"{message.signatures.shape}")
    if not included.issuperset(signers):
        _refuse(where, "signatures of survivors", "others' as well")
    if len(signers) < quorum:
        _refuse(where, f"signatures of at least {quorum} survivors", f"those of {len(signers)}")
    for row, signer in enumerate(signers):
        try:
            keys.check_sets(where, signer, sets, message.signatures[row].tobytes())
        except AuthenticationError:
            _refuse(where, f"{where.terms.roles.clients[signer]}'s signature of the same sets", "another")


def signed_sets(where: SumInSession, shared: frozenset[int], included: frozenset[int]) -> bytes:
    """Return what clients sign: who shared, and who is in the sum."""
    n = len(where.terms.roles.clients)
    return pack_set(shared, n).tobytes() + pack_set(included, n).tobytes()


def _members(where: SumInSession, packed: NDArray[np.uint8]) -> frozenset[int]:
    try:
        return where.members(packed)
    except ShapeError as error:
        raise RemoteProtocolError(f"{error}, from {where.terms.server}", peer=where.terms.server) from None


def _check_set(where: SumInSession, me: int, members: frozenset[int], what: str) -> None:
    parameters = where.terms.parameters
    if me not in members:
        _refuse(where, f"{where.terms.roles.clients[me]} among those who {what}", "a set without it")
    if len(members) < parameters.min_clients:
        _refuse(where, f"at least {parameters.min_clients} who {what}", f"{len(members)}")
    near = len(members.intersection(where.graph.holders(me)))
    if near < parameters.threshold:
        _refuse(where, f"at least {parameters.threshold} holders of one's shares who {what}", f"{near}")


def _refuse(where: SumInSession, expected: str, got: str) -> NoReturn:
    server = where.terms.server
    raise RemoteProtocolError(f"expected {expected} from {server}, got {got}", peer=server)
