"""Flower's own programs, forked off a process that has imported them: imports would take all but a tenth of their time."""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path

import warm

# Read once, as Flower is imported.
os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
_COMMANDS = {
    "flower-superlink": "flwr.superlink.cli:flower_superlink",
    "flower-superexec": "flwr.supercore.cli:flower_superexec",
    "flower-supernode": "flower_programs:supernode",
    "flwr": "flwr.cli.app:app",
    "flwr-clientapp": "flwr.supernode.cli:flwr_clientapp",
    "flwr-serverapp": "flwr.superlink.cli:flwr_serverapp",
    "register": "flower_programs:register",
}
_START_OTHERS = {"flower-superlink", "flower-superexec", "flower-supernode"}


def _find(words: list[str]) -> tuple[str, list[str]] | None:
    function = _COMMANDS.get(Path(words[0]).name if words else "")
    return None if function is None else (function, words)


FLOWER = warm.Programs(
    "flower_programs:FLOWER",
    (
        *(place.partition(":")[0] for place in _COMMANDS.values() if place.startswith("flwr.")),
        *("flwr.serverapp.strategy", "secagg.integrations.flower"),
    ),
    _find,
    lambda words: Path(words[0]).name in _START_OTHERS,
)


def supernode() -> None:
    """Be a SuperNode that asks for messages every 0.3 s and not every 3 s, and is missed soon after it died.

    Flower, which misses it after 40 to 60 s, has no settings for that.
    """
    from flwr.supercore import heartbeat
    from flwr.supernode import cli, fleet_http_connection, start_client_internal

    heartbeat.HEARTBEAT_DEFAULT_INTERVAL = fleet_http_connection.HEARTBEAT_DEFAULT_INTERVAL = 10  # type: ignore[attr-defined]
    start_client_internal.time = types.SimpleNamespace(  # type: ignore[assignment, attr-defined]
        sleep=lambda seconds: time.sleep(min(seconds, 0.3))
    )
    cli.flower_supernode()


def register() -> None:
    """Register SuperNodes by their public keys."""
    from flwr.cli.app import app

    for key in sys.argv[1:]:
        app(["supernode", "register", key, "here"], standalone_mode=False)
