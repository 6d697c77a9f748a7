"""The dealer of CrypTen's world: makes triples when the first party asks, and gives that one what the others draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from secagg.errors import PeerVanishedError, RemoteProtocolError, UsageError
from secagg.integrations.crypten import library, randomness
from secagg.integrations.crypten.connection import check_settings, connected
from secagg.integrations.crypten.world import World, agree
from secagg.party import Party, PartyId

# What CrypTen asks its dealer for. It calls whatever function a request names; this dealer calls these.
_FUNCTIONS: Final = ("additive", "square", "binary", "wraps", "B2A")
_PRODUCTS: Final = ("mul", "matmul", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d")
_END: Final = "terminate"


async def deal(party: Party, world: World) -> None:
    """Deal to the computing parties of CrypTen's world until the first of them leaves it.

    Who learns what: the dealer, shapes and kinds of operations. It holds no shares, and nothing that is opened goes to it.
    With any computing party it could tell all factors.

    Raises:
      UsageError: CrypTen is not installed, in use in this process already, or set to show more than what is opened; another
        party runs in this process, as in the simulator; the party is not this world's dealer.
      RemoteProtocolError: another party joins another world, or asks for what CrypTen never asks for.
      PeerVanishedError: CrypTen's processes did not all meet; the first computing party was lost, or asked for nothing for
        `timeout_s`.
    """
    torch, crypten = library.load()
    if party.me != world.dealer:
        raise UsageError(f"expected the dealer {world.dealer}, got {party.me}; computing parties call joined")
    check_settings(crypten)
    keys = await agree(party, world)
    keys.check_apart()
    with connected(torch, crypten, world, party.me):
        communicator = crypten.communicator.get()
        # Its own constructor would initialise, and serve without an end that tells a loss from a farewell.
        server = object.__new__(crypten.mpc.provider.TTPServer)
        server.ttp_group, server.comm_group = communicator.ttp_group, communicator.ttp_comm_group
        server.device = "cpu"
        server._setup_generators()  # parties wait for seeds; nobody draws from them
        streams = [keys.stream(name, "dealer") for name in world.computing]
        randomness.replace_dealers_generators(torch, crypten, server, streams)
        _serve(server, communicator, world.computing[0])


def _serve(server: Any, communicator: Any, first: PartyId) -> None:
    while True:
        try:
            request = communicator.recv_obj(0, server.ttp_group)
        except RuntimeError as error:
            raise PeerVanishedError(
                f"{first} was lost, or asked its dealer for nothing for too long: {error!s:.300}", peer=first
            ) from error
        if request == _END:
            return
        result = _answer(server, request, first)()
        communicator.send_obj(result.size(), 0, server.ttp_group)
        communicator.broadcast(result, communicator.get_ttp_rank(), server.comm_group)


def _answer(server: Any, request: Any, first: PartyId) -> Callable[[], Any]:
    """Return what computes the answer to a request that CrypTen makes.

    Raises:
      RemoteProtocolError: another request.
    """
    known = isinstance(request, dict) and request.keys() == {"function", "device", "args", "kwargs"}
    if known and request["function"] in _FUNCTIONS and request["device"] in (None, "cpu"):
        name, arguments, options = request["function"], request["args"], request["kwargs"]
        formed = isinstance(arguments, tuple) and isinstance(options, dict)
        if formed and (name != "additive" or (len(arguments) == 3 and arguments[2] in _PRODUCTS)):
            return lambda: getattr(server, name)(*arguments, **options)
    raise RemoteProtocolError(f"{first} asked its dealer for what CrypTen does not ask for", peer=first)
