"""What keys, seeds, seals and signatures are bound to."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg.errors import AuthenticationError, RemoteProtocolError
from secagg.prg import derive_key
from secagg.protocols.masked_sum import SumInSession
from secagg.protocols.masked_sum import keys as k
from secagg.protocols.masked_sum.shamir import PRIME, read_share

MakePlay = Callable[..., Any]
ONE, OTHER = bytes(range(32)), bytes(range(1, 33))


def rounds(play: MakePlay) -> list[SumInSession]:
    terms = play().terms
    return [
        SumInSession(dataclasses.replace(terms, round=number), session)
        for session in (ONE, OTHER)
        for number in (0, 1)
    ]


def test_what_two_clients_have_in_common_is_the_same_at_both_and_nobody_elses(play: MakePlay) -> None:
    where = play().where
    a, b, c = (k.Secrets(bytes([i]) * 32, where) for i in range(3))
    ab = k.agree(a.masking, b.public[32:], owner="b")
    assert ab == k.agree(b.masking, a.public[32:], owner="a")
    assert ab != k.agree(a.masking, c.public[32:], owner="c")
    assert ab != k.agree(a.sealing, b.public[:32], owner="b")
    assert k.pair_seed(where, ab, 3, 1) == k.pair_seed(where, ab, 1, 3)


def test_seeds_and_commitments_differ_by_secret_round_pair_client_and_purpose(play: MakePlay) -> None:
    derived = []
    for where, secret in itertools.product(rounds(play), (ONE, OTHER)):
        derived += [k.pair_seed(where, secret, i, j) for i, j in itertools.combinations(range(4), 2)]
        derived += [k.self_seed(where, secret, i) for i in range(4)]
        derived += [k.commit(where, secret, i) for i in range(4)]
    assert len(set(derived)) == len(derived) == 8 * (6 + 4 + 4)


def test_a_roots_secrets_differ_by_round_and_from_one_another(play: MakePlay) -> None:
    # So a root that came again would not bring back a masking key that a server was told.
    seen: list[bytes] = []
    for where in rounds(play):
        secrets = k.Secrets(ONE, where)
        keys = secrets.sealing.private_bytes_raw() + secrets.masking.private_bytes_raw()
        seen += [keys[:32], keys[32:], secrets.self_secret, secrets.public[:32], secrets.public[32:]]
        for shares in secrets.polynomials(2).at([1, 2]):
            first, second = (read_share(share.tobytes()) for share in shares)
            coefficient = (second - first) % PRIME
            seen.append(coefficient.to_bytes(33, "little"))
            assert coefficient != int.from_bytes(keys[:48], "little") % PRIME  # drawn from another stream
    assert len(set(seen)) == len(seen) == 4 * 7


def test_seals_of_one_agreement_differ_by_round_direction_and_keys(play: MakePlay) -> None:
    # Each case seals under a key of its own, so that the fixed nonce comes once for each key. Each but the first
    # refuses what the first sealed.
    first, second = bytes(64), b"\1" * 64
    cases = [(where, 0, 1, (first, second)) for where in rounds(play)]
    where = cases[0][0]
    cases += [(where, 1, 0, (first, second)), (where, 0, 2, (first, second)), (where, 0, 1, (second, first))]
    cases += [(where, 0, 1, (first[:63] + b"\1", second)), (where, 0, 1, (first, second[:63] + b"\2"))]
    letters = [k.Letter(w, ONE, sender, receiver, keys) for w, sender, receiver, keys in cases]
    sealed = [letter.seal(bytes(66)) for letter in letters]
    assert len(set(sealed)) == len({s[:66] for s in sealed}) == len(cases)
    assert [letter.open(sealed[0]) for letter in letters] == [bytes(66)] + [None] * (len(cases) - 1)


def test_a_seals_associated_data_name_round_sender_receiver_and_keys(play: MakePlay) -> None:
    where, keys = play().where, (bytes(64), b"\1" * 64)
    data = where.context + (2).to_bytes(4, "big") + (3).to_bytes(4, "big") + keys[0] + keys[1]
    key = derive_key(ONE, label="secagg.protocols.masked_sum/seal", context=data)
    plain = AESGCM(key).decrypt(bytes(12), k.Letter(where, ONE, 2, 3, keys).seal(b"shares"), data)
    assert plain == b"shares"


def test_signatures_hold_for_one_round_client_purpose_and_statement(play: MakePlay) -> None:
    p = play()
    statement = bytes(64)
    keys = k.sign_keys(p.identities["c0"], p.where, 0, statement)
    sets = k.sign_sets(p.identities["c0"], p.where, 0, statement)
    k.check_keys(p.where, 0, statement, keys)
    k.check_sets(p.where, 0, statement, sets)
    wrong: list[tuple[Any, Any, int, bytes, bytes]] = [
        (k.check_keys, w, 0, statement, keys) for w in rounds(play)[1:]
    ]
    wrong += [(k.check_sets, w, 0, statement, sets) for w in rounds(play)[1:]]
    wrong += [(k.check_keys, p.where, 1, statement, keys), (k.check_keys, p.where, 0, statement, sets)]
    wrong += [(k.check_sets, p.where, 1, statement, sets), (k.check_sets, p.where, 0, statement, keys)]
    wrong += [(k.check_keys, p.where, 0, b"\1" + statement[1:], keys)]
    as_another = p.identities["c0"], p.where, 1, statement  # c0 signs, and says it were c1
    wrong += [(k.check_keys, p.where, 0, statement, k.sign_keys(*as_another))]
    wrong += [(k.check_sets, p.where, 0, statement, k.sign_sets(*as_another))]
    for check, where, client, what, signature in wrong:
        with pytest.raises(AuthenticationError) as caught:
            check(where, client, what, signature)
        assert caught.value.peer == f"c{client}"


@pytest.mark.parametrize(
    "point", [bytes(32), (1).to_bytes(32, "little"), (2**255 - 20).to_bytes(32, "little")]
)
def test_points_of_small_order_agree_on_nothing(play: MakePlay, point: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="small order") as caught:
        k.agree(k.Secrets(ONE, play().where).masking, point, owner="mallory")
    assert caught.value.peer == "mallory"


@pytest.mark.parametrize("added", [1 << 255, (1 << 255) - 19])
def test_a_public_key_has_one_spelling(play: MakePlay, added: int) -> None:
    # X25519 takes 9 and these numbers for the same point, so two clients could come with one key.
    masking = k.Secrets(ONE, play().where).masking
    again = 9 + added
    assert masking.exchange(X25519PublicKey.from_public_bytes(again.to_bytes(32, "little"))) == k.agree(
        masking, (9).to_bytes(32, "little"), owner="mallory"
    )
    with pytest.raises(RemoteProtocolError, match="another spelling") as caught:
        k.agree(masking, again.to_bytes(32, "little"), owner="mallory")
    assert caught.value.peer == "mallory"
