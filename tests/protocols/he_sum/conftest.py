"""Federations of key holders, whose records lie in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import encrypted_sums
from encrypted_sums import Federation


@pytest.fixture
def federate(tmp_path: Path) -> Iterator[Callable[..., Federation]]:
    """Make federations, each with a key of its own."""
    made: list[Federation] = []

    def make(**options: Any) -> Federation:
        own = tmp_path / str(len(made))
        own.mkdir()
        made.append(encrypted_sums.federate(own, **options))
        return made[-1]

    yield make
    for federation in made:
        federation.close()
