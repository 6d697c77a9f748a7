"""Pseudonyms are AES-CMAC under a key that all input parties contributed to."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from blame import blamed
from secagg.errors import DataError, RemoteProtocolError
from secagg.network.simulated import simulate
from secagg.protocols.pseudonyms import (
    HashKeyPart,
    agree_hash_key,
    digest_of_contribution,
    log2_collision,
    pseudonyms,
)
from transcripts import Chosen, run_with, sent

# NIST SP 800-38B, appendix D.3: AES-256.
KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")


def one(key: bytes, text: str) -> bytes:
    return pseudonyms(key, np.array([text], object))[0].tobytes()


def test_the_published_vector_of_the_empty_message():
    assert one(KEY, "").hex() == "028962f61b7bf89efc6b551f4667d983"


@pytest.mark.slow
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=70), max_size=20
    )
)
def test_all_identifiers_at_once_equal_cmac_one_by_one(texts):
    got = pseudonyms(KEY, np.array([*texts, None], object)[:-1])
    for text, words in zip(texts, got, strict=True):
        mac = CMAC(algorithms.AES(KEY))
        mac.update(text.encode())
        assert words.tobytes() == mac.finalize()


def test_whole_blocks_and_one_more_or_less():
    texts = ["x" * n for n in (15, 16, 17, 31, 32, 33, 48)]
    got = pseudonyms(KEY, np.array(texts, object))
    for text, words in zip(texts, got, strict=True):
        mac = CMAC(algorithms.AES(KEY))
        mac.update(text.encode())
        assert words.tobytes() == mac.finalize()


def test_a_zero_character_is_refused():
    for texts in (["a\0"], ["a", "\0"], ["a\0b", "c"]):
        with pytest.raises(DataError, match="zero character"):
            pseudonyms(KEY, np.array(texts, object))


BANKS = ("a", "b", "c")


def announced(contributions: Mapping[str, bytes], session=bytes(32)) -> dict[str, bytes]:
    return {name: digest_of_contribution(session, name, part) for name, part in contributions.items()}


def agreed_key(*, session=bytes(32), contributions=(1, 2, 3)) -> bytes:
    """Return the key that three banks agree on by the real protocol, from contributions of one repeated byte each."""
    parts = {name: bytes([c]) * 32 for name, c in zip(BANKS, contributions, strict=True)}

    async def bank(party):
        return await agree_hash_key(party, parts[party.me], announced(parts, session))

    rngs = {name: Chosen(bytes(32)) for name in BANKS}
    keys = run_with(dict.fromkeys(BANKS, bank), session=session, rngs=rngs)
    assert len(set(keys)) == 1
    return keys[0]


def test_the_hash_key_depends_on_the_session_and_on_every_banks_contribution():
    keys = [
        agreed_key(),
        agreed_key(session=bytes(31) + b"\1"),
        agreed_key(contributions=(9, 2, 3)),
        agreed_key(contributions=(1, 9, 3)),
        agreed_key(contributions=(1, 2, 9)),
        agreed_key(contributions=(2, 1, 3)),  # whose a contribution is counts as well
    ]
    assert len(set(keys)) == len(keys)
    assert agreed_key() == keys[0]
    assert {len(key) for key in keys} == {32}


def test_others_than_input_parties_never_see_a_part_of_the_hash_key():
    parts = {name: os.urandom(32) for name in BANKS}

    async def bank(party):
        return await agree_hash_key(party, parts[party.me], announced(parts, party.session))

    async def helper(party):
        return None

    outcome = simulate({"a": bank, "b": bank, "helper": helper, "c": bank}, record=True)
    outcome.values()
    # Each bank tells each other bank its 32 bytes, and nobody else anything.
    told = {(m.sender, m.receiver): m.message.contribution for m in sent(outcome.transcript)}
    assert told == {(x, y): parts[x] for x in BANKS for y in BANKS if x != y}


def test_the_digest_of_a_contribution_depends_on_session_contributor_and_all_its_bytes():
    part = bytes(range(32))
    digests = [
        digest_of_contribution(bytes(32), "a", part),
        digest_of_contribution(bytes(31) + b"\1", "a", part),
        digest_of_contribution(bytes(32), "b", part),
        digest_of_contribution(bytes(32), "a", part[:31] + b"\0"),
    ]
    assert len(set(digests)) == 4
    assert {len(d) for d in digests} == {32}


@pytest.mark.parametrize("handed", [os.urandom(8), bytes(32)], ids=["short", "another"])
def test_a_contribution_that_is_not_the_announced_one_is_refused_and_its_sender_named(handed):
    parts = {"a": os.urandom(32), "b": os.urandom(32)}

    async def bank(party):
        return await agree_hash_key(party, parts["a"], announced(parts, party.session))

    async def fickle(party):
        party.send("a", HashKeyPart(handed))

    outcome = simulate({"a": bank, "b": fickle})
    assert isinstance(outcome.errors["a"], RemoteProtocolError)
    assert blamed(outcome.errors["a"]) == "b"
    assert "another contribution" in str(outcome.errors["a"])


def test_a_short_contribution_is_refused_even_if_it_is_the_announced_one():
    parts = {"a": os.urandom(32), "b": os.urandom(8)}

    async def bank(party):
        return await agree_hash_key(party, parts[party.me], announced(parts, party.session))

    outcome = simulate({"a": bank, "b": bank})
    assert blamed(outcome.errors["a"]) == "b"


def test_the_collision_bound_is_above_the_birthday_probability():
    assert log2_collision(1_000_000, 80) == pytest.approx(-41.1, abs=0.1)
    assert log2_collision(1, 80) == float("-inf")
