"""What makes encrypted sums, as fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import encrypted_sums
from blame import blamed
from encrypted_sums import Case, Federation
from secagg.protocols.he_sum.terms import Terms


@pytest.fixture(scope="session")
def terms_of() -> Callable[..., Terms]:
    """Make terms, all of them small."""
    return encrypted_sums.make_terms


@pytest.fixture(scope="session")
def arrays_of() -> Callable[..., Any]:
    """Make an array for every client."""
    return encrypted_sums.make_arrays


@pytest.fixture(scope="session")
def roster_of() -> Callable[[Terms], tuple[str, ...]]:
    """Everybody with a role, in the order of the roster."""
    return encrypted_sums.everybody


@pytest.fixture(scope="session")
def case_of() -> type[Case]:
    return Case


@pytest.fixture(scope="session")
def secret_key_of() -> Callable[..., Any]:
    return encrypted_sums.secret_key


@pytest.fixture(scope="session")
def single() -> Callable[..., Case]:
    return encrypted_sums.single


@pytest.fixture(scope="session")
def dealt() -> Callable[..., Any]:
    return encrypted_sums.dealt


@pytest.fixture(scope="session")
def shared_paillier() -> Callable[..., Case]:
    return encrypted_sums.shared_paillier


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


@pytest.fixture(scope="session")
def blame() -> Callable[[BaseException], str]:
    """The peer that an error names."""
    return blamed
