"""Parties as processes of this machine, and their identities."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cast import Cast, forking
from ports import reserved_ports
from secagg.network.identity import create_identity
from tcp_programs import NAMES


@pytest.fixture(scope="session")
def forks() -> Iterator[socket.socket]:
    """Return where parties are asked for."""
    with forking() as requests:
        yield requests


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("identities")
    for name in NAMES:
        create_identity(name).save(directory)
        create_identity(name).save(directory / "other")
    return directory


@pytest.fixture
def cast(forks: socket.socket, directory: Path) -> Iterator[Cast]:
    with reserved_ports(len(NAMES)) as ports:
        cast = Cast(forks, directory, ports)
        yield cast
        for child in cast.children:
            child.end()
