"""CrypTen's processes meet and part, with the dealer as the last of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from secagg.errors import PeerVanishedError, UsageError
from secagg.integrations.crypten.world import World
from secagg.party import PartyId

# Settings with which CrypTen shows more than what is opened, and what each has to be.
_SETTINGS: Final = {
    "mpc.protocol": "beaver",  # "replicated" sends products on without masking them anew
    "debug.debug_mode": False,  # opens what is printed
    "debug.validation_mode": False,  # opens what is divided
}


PROVIDER: Final = "TTP"  # by default the first party makes the triples, and so knows every factor


@contextlib.contextmanager
def connected(torch: Any, crypten: Any, world: World, me: PartyId) -> Iterator[None]:
    """Be CrypTen's process of this party's rank, with the dealer as provider.

    Raises:
      UsageError: the process is in a world of CrypTen's already.
      PeerVanishedError: the processes did not all meet, or a connection ended.
    """
    if crypten.is_initialized() or torch.distributed.is_initialized():
        raise UsageError(
            f"expected a process in which torch.distributed is not in use, for {me}'s part in CrypTen; "
            "each party needs a process of its own, and is in one world at a time"
        )
    with crypten.cfg.temp_override({"mpc.provider": PROVIDER}):
        try:
            _meet(torch, crypten, world, world.members.index(me))
            with _naming_lost_connections(me):
                yield
        finally:
            _part(torch, crypten)


def check_settings(crypten: Any, *, in_world: bool = False) -> None:
    """Refuse settings of CrypTen's with which it shows more than what is opened.

    Args:
      in_world: whether the dealer is the provider by now.

    Raises:
      UsageError: such a setting.
    """
    for name, expected in (_SETTINGS | ({"mpc.provider": PROVIDER} if in_world else {})).items():
        got = crypten.cfg[name]
        if got != expected:
            raise UsageError(f"expected crypten.cfg.{name} to be {expected!r}, got {got!r}; set it back")


def _meet(torch: Any, crypten: Any, world: World, rank: int) -> None:
    environment = {
        "DISTRIBUTED_BACKEND": "gloo",
        "RENDEZVOUS": world.rendezvous,
        "WORLD_SIZE": str(len(world.computing)),
        "RANK": str(rank),
    }
    if world.interface:
        environment["GLOO_SOCKET_IFNAME"] = world.interface
    groups = torch.distributed.distributed_c10d
    timeout_before, environment_before = groups.default_pg_timeout, dict(os.environ)
    # CrypTen passes no timeout on: torch's default would have a party wait for half an hour.
    groups.default_pg_timeout = timedelta(seconds=world.timeout_s)
    os.environ.update(environment)
    try:
        crypten.init()
    except RuntimeError as error:  # torch's errors of its stores and groups
        raise PeerVanishedError(
            f"CrypTen's processes of {', '.join(world.members)} did not all meet at {world.rendezvous} within "
            f"{world.timeout_s:g} s: {error!s:.300}"
        ) from error
    finally:
        groups.default_pg_timeout = timeout_before
        for name in environment:
            if name in environment_before:
                os.environ[name] = environment_before[name]
            else:
                del os.environ[name]


def _part(torch: Any, crypten: Any) -> None:
    crypten.mpc.provider.ttp_provider.TrustedThirdParty.uninit()
    communicator = crypten.communicator.DistributedCommunicator
    try:
        if communicator.is_initialized():
            crypten.uninit()  # the first party's tells the dealer
    except RuntimeError:  # the dealer has gone already
        communicator.instance = None
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _naming_lost_connections(me: PartyId) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "gloo" not in str(error):
            raise
        raise PeerVanishedError(
            f"CrypTen lost the connection to another party of {me}'s: {error!s:.300}; see what the others ended with"
        ) from error
