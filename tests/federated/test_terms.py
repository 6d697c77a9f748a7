"""What a sum of nodes is bound to, field by field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from secagg.errors import UsageError
from secagg.federated import Compression, Privacy
from secagg.federated.bounded import Bounded
from secagg.federated.encrypted import Encryption
from secagg.federated.layout import Entry, Layout
from secagg.federated.shared_key import SharedKey
from secagg.federated.sum_server import SumServer
from secagg.federated.terms import Agreement, Protection, ready_parts
from secagg.federated.weighted import Encoding
from secagg.signing import digest

NAMES = ("a", "b", "c")
PEERS = {name: bytes([i]) * 32 for i, name in enumerate(NAMES)}
LAYOUT = Layout((Entry("model", "w", "array", "float32", (3,)),), (), "metrics")
AGREEMENT = Agreement(
    run=7,
    kind="train",
    task=b"task",
    task_digest=bytes(32),
    setting=bytes(32),
    layout=LAYOUT,
    names=NAMES,
    nonces=tuple(bytes([i]) * 32 for i in range(3)),
    server_nonce=bytes(32),
    budgets=(b"x", b"y", b"z"),
)
CHANGES: dict[str, Any] = {
    "run": 8,
    "kind": "evaluate",
    "task": b"another",
    "task_digest": bytes(31) + b"1",
    "setting": bytes(31) + b"1",
    "layout": Layout((Entry("model", "w", "array", "float32", (1, 3)),), (), "metrics"),
    "nonces": (bytes([9]) * 32, *AGREEMENT.nonces[1:]),
    "server_nonce": bytes(31) + b"1",
    "budgets": (b"x", b"y", b"other"),
    "computing": ("a",),
}


def context(agreement: Agreement) -> bytes:
    protection = Protection(max_corrupt=0.3, max_dropout=0.0)
    where, _ = agreement.round(PEERS, protection, Encoding())
    return where.context


@pytest.mark.parametrize("field", CHANGES)
def test_keys_and_masks_of_a_sum_depend_on_each_field_of_the_agreement(field: str) -> None:
    assert context(replace(AGREEMENT)) == context(AGREEMENT)
    assert context(replace(AGREEMENT, **{field: CHANGES[field]})) != context(AGREEMENT)


def test_a_node_refuses_compression_beside_noise_whatever_the_server_asks_for() -> None:
    noisy = Protection(max_corrupt=0.3, max_dropout=0.0, privacy=Privacy(1.0, 1e-5, 1.0))
    few = Encoding({"": 1.0}, max_weight=5, compression=Compression())
    with pytest.raises(UsageError, match="leave compression out"):
        AGREEMENT.round(PEERS, noisy, few)


def test_the_last_nodes_nonce_alone_makes_another_session() -> None:
    last = replace(AGREEMENT, nonces=(*AGREEMENT.nonces[:-1], bytes([9]) * 32))
    assert context(last) != context(AGREEMENT)


def test_a_server_that_may_choose_among_graphs_pays_for_its_tries() -> None:
    semi_honest = Protection(max_corrupt=0.1, max_dropout=0.1)
    active = replace(semi_honest, threat_model="malicious")
    assert -40 - 8 < semi_honest.parameters(1000, 1000).log2_insecure <= -40
    assert -104 - 8 < active.parameters(1000, 1000).log2_insecure <= -104  # 2^64 tries
    more = replace(active, security_bits=50.0)
    assert more.parameters(1000, 1000).log2_insecure <= -114


@pytest.mark.parametrize(
    ("protection", "refused"),
    [
        (Protection(encryption=Encryption("zz")), "key_holder, got 'zz'; its names are 'a', 'b', 'c'"),
        (Protection(shared_key=SharedKey(("a", "zz"))), "as key_holders, got 'zz'"),
        (Protection(bounded=Bounded(("a", "b", "zz"), 1.0)), "as computing, got 'zz'"),
        (Protection(min_clients=4), "no sum has 4 nodes"),
    ],
)
def test_names_and_numbers_of_nodes_that_are_not_there_are_refused_before_a_round(
    protection: Protection, refused: str
) -> None:
    with pytest.raises(UsageError, match=refused):
        SumServer(PEERS, protection)
    SumServer({**PEERS, "zz": bytes(32)}, protection)


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"clips": 0.5}, r"clips by path, .* got 0\.5"),
        ({"clips": {"": 0.5}, "max_weight": 10, "compression": {"bits": 8}}, r"expected a Compression"),
    ],
)
def test_settings_of_another_type_are_refused_with_what_was_expected(
    settings: dict[str, Any], refused: str
) -> None:
    with pytest.raises(UsageError, match=refused):
        Encoding(**settings)
    with pytest.raises(UsageError, match="one node as key_holder"):
        Encryption(["a"])  # type: ignore[arg-type]


def test_what_a_ready_node_signs_depends_on_each_part() -> None:
    given: dict[str, Any] = {
        "run": 7,
        "kind": "train",
        "nonce": bytes(32),
        "layout": b"layout",
        "setting": b"setting",
        "budget": b"budget",
        "seen": {"a": b"1", "b": b"2"},
    }
    changes: list[dict[str, Any]] = [
        {"run": 8},
        {"kind": "evaluate"},
        {"nonce": bytes(31) + b"1"},
        {"layout": b"other"},
        {"setting": b"other"},
        {"budget": b"other"},
        {"seen": {"a": b"1", "b": b"3"}},
        {"seen": {"a": b"1", "c": b"2"}},
        {"seen": {"a": b"1"}},
    ]
    signed = {digest("ready", ready_parts(**{**given, **change})) for change in ({}, *changes)}
    assert len(signed) == len(changes) + 1
