"""What four parties take as said, and whom they name: over all that one liar can do."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from secagg.errors import RemoteProtocolError
from secagg.mpc.four.blame import Item, Source, evidence, judge
from secagg.mpc.four.broadcast import weigh
from secagg.mpc.four.opening import digest_of_share

FOUR = ("ada", "bob", "cleo", "dora")
OTHERS = {x: [j for j in range(4) if j != x] for x in range(4)}


def as_taken(liar, told, repeated):
    """Return what each honest party takes.

    Args:
      told: what the liar tells each other party.
      repeated: for each other party, what the liar says that the three others told it.
    """
    own = {j: str(j).encode() for j in range(4)}
    heard = {x: [told[x] if j == liar else own[j] for j in range(4)] for x in OTHERS[liar]}
    taken = {}
    for x in OTHERS[liar]:
        echoes = {
            FOUR[y]: repeated[x] if y == liar else tuple(heard[y][j] for j in OTHERS[y]) for y in OTHERS[x]
        }
        taken[x] = weigh(x, FOUR, heard[x], echoes)
    return own, taken


@pytest.mark.parametrize("liar", range(4))
def test_honest_parties_take_the_same_whatever_a_liar_tells_and_repeats(liar):
    """What a party takes depends on what the liar repeats to it, and not on what it repeats to others."""
    honest = OTHERS[liar]
    truth = tuple(str(j).encode() for j in honest)
    repeats = [
        tuple(c if true else b"lie" for c, true in zip(truth, which, strict=True))
        for which in itertools.product((0, 1), repeat=3)
    ]
    for values in itertools.product((b"p", b"q", b"r"), repeat=3):
        told = dict(zip(honest, values, strict=True))
        own, truthful = as_taken(liar, told, dict.fromkeys(honest, truth))
        (said,) = {agreement.values for agreement in truthful.values()}
        assert all(said[j] == own[j] for j in honest)
        assert (said[liar] is None) == (len(set(values)) == 3)
        assert len({agreement.dissent for agreement in truthful.values()}) == 1
        for repeat in repeats:
            _, taken = as_taken(liar, told, dict.fromkeys(honest, repeat))
            for agreement in taken.values():
                assert agreement.values == said
                alike = len(set(values)) == 1 and repeat == truth
                assert (agreement.dissent == ()) == alike
                assert alike or liar in agreement.dissent


def test_an_echo_of_another_number_of_statements_is_refused():
    heard = [b"0", b"1", b"2", b"3"]
    echoes = {"bob": (b"0", b"2", b"3"), "cleo": (b"0", b"1"), "dora": (b"0", b"1", b"2")}
    with pytest.raises(RemoteProtocolError, match="3 statements from cleo") as caught:
        weigh(0, FOUR, heard, echoes)
    assert caught.value.peer == "cleo"


SAID = (b"a", b"b", b"c", None)


def named(item, evidence):
    """Return whom the parties name, where sender, voucher and receiver say this."""
    said = [b"nothing"] * 4
    for j, value in zip(item.parties, evidence, strict=True):
        said[j] = value
    return judge(item, said, FOUR)


def test_of_a_computed_item_the_liar_is_named_whatever_it_says():
    item = Item(receiver=1, sender=2, voucher=3)
    for lie in SAID:
        for sent in (b"b", b"c"):  # where it sent what was right there is no complaint
            assert "cleo" in named(item, (lie, b"a", sent))
        assert "dora" in named(item, (b"a", lie, b"a"))
        assert "bob" in named(item, (b"a", b"a", lie))
    assert named(item, (b"a", b"b", b"a")) == ("cleo", "dora")
    assert named(item, (b"a", b"a", b"b")) == ("cleo", "bob")
    assert named(item, (b"a", b"a", b"a")) == ("dora", "bob")
    assert named(item, (None, b"a", b"b")) == ("cleo",)


def test_of_an_item_that_was_sent_to_both_the_liar_is_named_whatever_it_says():
    item = Item(receiver=1, sender=0, voucher=3, source=Source.SENT)
    for lie in SAID:
        for to_receiver, to_voucher in itertools.permutations((b"a", b"b", b"c"), 2):
            assert "ada" in named(item, (lie, to_voucher, to_receiver))
        assert "dora" in named(item, (b"a", lie, b"a"))
        assert "bob" in named(item, (b"a", b"a", lie))
    assert named(item, (b"a", b"a", b"a")) == ("dora", "bob")


def test_of_an_item_from_outside_the_liar_or_the_owner_that_lied_is_named():
    item = Item(receiver=1, sender=2, voucher=3, source=Source.OUTSIDE, owner="owner")
    for place, name in enumerate(("cleo", "dora", "bob")):
        for handed in itertools.product((b"a", b"b", b"c"), repeat=3):
            for lie in SAID:
                said: list[bytes | None] = list(handed)
                said[place] = lie
                honest = [value for i, value in enumerate(handed) if i != place]
                if name == "cleo" and honest[0] == honest[1]:
                    continue  # voucher and receiver are honest and were handed the same: nobody complains
                names = named(item, said)
                assert name in names or ("owner" in names and honest[0] != honest[1])
    assert named(item, (b"a", b"b", b"c")) == ("owner",)
    assert named(item, (b"a", b"b", b"b")) == ("owner", "cleo")
    assert named(item, (b"a", b"a", b"a")) == ("dora", "bob")


def test_who_differs_from_both_others_is_judged_by_the_sender_alone_where_the_item_was_sent():
    """Of an item that was sent, sender and receiver come before sender and voucher; of a computed one, after."""
    said = (b"a", b"c", b"b")
    names = [
        named(Item(receiver=1, sender=0, voucher=2, source=s), said) for s in (Source.SENT, Source.COMPUTED)
    ]
    assert names == [("ada", "bob"), ("ada", "cleo")]


def test_evidence_depends_on_key_and_place_and_content():
    said = itertools.starmap(
        evidence,
        [(b"k", 0, 0, b"c"), (b"l", 0, 0, b"c"), (b"k", 1, 0, b"c"), (b"k", 0, 1, b"c"), (b"k", 0, 0, b"d")],
    )
    assert len(set(said)) == 5


def test_digests_of_opened_shares_depend_on_the_session_and_the_share():
    share = np.arange(3, dtype=np.uint64)
    assert (
        len({digest_of_share(b"a", share), digest_of_share(b"b", share), digest_of_share(b"a", share + 1)})
        == 3
    )
