"""What two ends of a link keep of it: equal if they speak of the same frames, and of no use to guess them."""

from __future__ import annotations

import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg import link_digests
from secagg.ledger import Ledger
from secagg.link_digests import _JOINED_BYTES, _SHORT_BYTES, LinkDigests

SECRET = bytes(range(48))
FRAMES = [os.urandom(n) for n in (100, _SHORT_BYTES, _SHORT_BYTES + 1, _JOINED_BYTES, _JOINED_BYTES + 1)]


def ends(sent: list[bytes], received: list[bytes], *, secret: bytes = SECRET) -> tuple[Any, Any]:
    a, b = LinkDigests("a", {"b": SECRET}), LinkDigests("b", {"a": secret})
    for frame in sent:
        a.sent("b", [frame[:40], memoryview(frame)[40:]], len(frame))
    for frame in received:
        b.received("a", memoryview(frame))
    return a.as_dict()["b"]["sent"], b.as_dict()["a"]["received"]


def test_both_ends_of_a_link_have_the_same_digest_however_a_frame_is_cut() -> None:
    sent, received = ends(FRAMES, FRAMES)
    assert sent == received
    assert sent["messages"] == len(FRAMES)


@pytest.mark.parametrize("which", range(len(FRAMES)))
def test_one_bit_of_any_frame_changes_the_digest(which: int) -> None:
    for place in (0, len(FRAMES[which]) - 1):
        changed = bytearray(FRAMES[which])
        changed[place] ^= 1
        frames = [bytes(changed) if i == which else frame for i, frame in enumerate(FRAMES)]
        sent, received = ends(FRAMES, frames)
        assert sent != received


@pytest.mark.parametrize(
    "order", [(1, 0, 2, 3, 4), (0, 1, 3, 2, 4), (0, 1, 2, 3), (0, 1, 2, 3, 4, 4), (0, 2, 2, 3, 4)]
)
def test_frames_left_out_doubled_or_in_another_order_change_the_digest(order: tuple[int, ...]) -> None:
    sent, received = ends(FRAMES, [FRAMES[i] for i in order])
    assert sent["sha256"] != received["sha256"]


def test_without_the_secret_of_the_link_nobody_can_test_a_guess() -> None:
    sent, received = ends(FRAMES[:1], FRAMES[:1], secret=bytes(48))
    assert sent != received


def test_the_two_ways_of_a_link_have_different_digests() -> None:
    a = LinkDigests("a", {"b": SECRET})
    a.sent("b", [FRAMES[0]], 100)
    a.received("b", FRAMES[0])
    ways = a.as_dict()["b"]
    assert ways["sent"]["sha256"] != ways["received"]["sha256"]


def test_a_ledger_without_digests_says_so() -> None:
    assert Ledger().as_dict()["links"] == {}


def test_no_nonce_of_a_key_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    nonces: list[bytes] = []
    at_once, in_parts = AESGCM, modes.GCM

    class Noting:
        def __init__(self, key: bytes) -> None:
            self.real = at_once(key)

        def encrypt(self, nonce: bytes, data: bytes, added: Any) -> bytes:
            nonces.append(nonce)
            return self.real.encrypt(nonce, data, added)

    def noting(nonce: bytes) -> Any:
        nonces.append(nonce)
        return in_parts(nonce)

    monkeypatch.setattr(link_digests, "AESGCM", Noting)
    monkeypatch.setattr(modes, "GCM", noting)
    a = LinkDigests("a", {"b": SECRET})
    for frame in (FRAMES[4], FRAMES[0], FRAMES[4], FRAMES[2], FRAMES[3]):
        a.sent("b", [frame[:9], frame[9:]], len(frame))
        a.sent("b", [frame], len(frame))
    assert len(set(nonces)) == len(nonces) == 8
