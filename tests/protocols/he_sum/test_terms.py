"""What parties agree on before an encrypted sum is refused where it cannot be kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from encrypted_sums import make_terms, secret_key
from secagg import fixed_point
from secagg.errors import PlanError, RemoteProtocolError, ShapeError, UsageError
from secagg.he.scheme import Header
from secagg.party import Party
from secagg.protocols.he_sum.terms import EncryptedSum, Terms
from secagg.protocols.he_sum.uploads import Adder, check_contributors, check_header
from sums import with_changes

ROSTER = ("a", "b", "c", "agg", "k", "r")


def enter(terms: Terms, me: str, values: Any, roster: tuple[str, ...] = ROSTER) -> Party:
    party = Party(me, roster, session=bytes(32))
    terms.enter(party, values)
    return party


@pytest.mark.parametrize(
    "changes",
    [
        {"clients": ()},
        {"clients": ("a", "b", "a")},
        {"key_holders": ()},
        {"key_holders": ("k", "k")},
        {"results": ()},
        {"results": ("r", "r")},
        {"min_clients": 1},
        {"min_clients": 0},
        {"min_clients": 4},
        {"shape": (3, 0)},
        {"round": -1},
        {"timeout_s": 0.0},
        {"timeout_s": float("nan")},
    ],
    ids=str,
)
def test_terms_that_cannot_be_kept_are_refused(changes: dict[str, Any]) -> None:
    terms = make_terms()
    with pytest.raises(UsageError):
        with_changes(terms, **changes)


def test_an_aggregator_that_holds_a_key_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="agg cannot be aggregator and key holder"):
        make_terms(key_holders=("k", "agg"))


def test_a_plan_for_fewer_parties_than_clients_is_refused() -> None:
    plan = fixed_point.plan(clip=1.0, frac_bits=0, parties=2)
    with pytest.raises(PlanError, match="for 2 parties, not 3 clients"):
        replace(make_terms(), plan=plan)


@pytest.mark.parametrize(("shape", "length"), [((), 1), ((7,), 7), ((2, 3, 4), 24)])
def test_length_counts_the_numbers(shape: tuple[int, ...], length: int) -> None:
    assert make_terms(shape=shape).length == length


@pytest.mark.parametrize(
    ("me", "values", "error"),
    [
        ("a", None, UsageError),
        ("agg", np.zeros(5), UsageError),
        ("k", np.zeros(5), UsageError),
        ("a", np.zeros(4), ShapeError),
        ("a", np.zeros((5, 1)), ShapeError),
        ("a", 3.0, ShapeError),
    ],
)
def test_arrays_where_none_belong_or_of_another_shape_are_refused(
    me: str, values: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        enter(make_terms(), me, values)


@pytest.mark.parametrize("missing", ["c", "agg", "k", "r"])
def test_roles_for_strangers_are_refused_by_name(missing: str) -> None:
    roster = tuple(name for name in ROSTER if name != missing)
    with pytest.raises(UsageError, match=f"roster, and {missing} are not"):
        enter(make_terms(), "a", np.zeros(5), roster)


def test_only_clients_without_another_role_may_be_lost() -> None:
    terms = make_terms(clients=("a", "b", "c", "k", "r", "agg"))
    assert enter(terms, "a", np.zeros(5)).optional == {"a", "b", "c"}


def test_a_sum_does_not_show_its_numbers() -> None:
    shown = repr(EncryptedSum(np.array([12345.0]), ("a", "b"), (), (), 0.5, np.array([54321], np.uint32)))
    assert "12345" not in shown
    assert "54321" not in shown
    assert "('a', 'b')" in shown


@pytest.mark.parametrize("names", [("a", "x"), ("a", "a"), ("a",), (), ("a", "b", "c", "c")])
def test_lists_of_contributors_that_cannot_be_are_refused_and_name_the_peer(names: tuple[str, ...]) -> None:
    with pytest.raises(RemoteProtocolError, match="agg") as caught:
        check_contributors(names, make_terms(), peer="agg")
    assert caught.value.peer == "agg"
    assert check_contributors(("c", "a"), make_terms(), peer="agg") == ("c", "a")


@pytest.mark.parametrize(
    "changes", [{"summands": 2}, {"weight": 2}, {"shape": (6,)}, {"shape": (5, 1)}, {"plan": None}], ids=str
)
def test_headers_of_anything_but_one_fresh_array_are_refused_and_name_the_peer(
    changes: dict[str, Any],
) -> None:
    terms = make_terms()
    header = Header("rlwe", bytes(32), terms.plan, terms.shape)
    check_header(header, terms, 1, peer="a")
    if "plan" in changes:
        changes = {"plan": replace(terms.plan, clip=99.0)}
    with pytest.raises(RemoteProtocolError) as caught:
        check_header(replace(header, **changes), terms, 1, peer="a")
    assert caught.value.peer == "a"


def test_nothing_added_up_has_no_total() -> None:
    adder: Adder[Any] = Adder(make_terms(), None)
    with pytest.raises(UsageError, match="nothing"):
        _ = adder.total


def test_the_aggregators_own_upload_is_not_changed_by_adding() -> None:
    terms, key = make_terms(), secret_key("rlwe")
    one, other = (key.public_key.encrypt(np.full(5, x), terms.plan) for x in (1.0, 2.0))
    adder = Adder(terms, one)
    adder.add("b", other)
    assert key.decrypt(one).tolist() == [1.0] * 5
    assert key.decrypt(other).tolist() == [2.0] * 5
    assert key.decrypt(adder.total).tolist() == [3.0] * 5
