"""What two organisations have in common, by extended oblivious transfers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from altering import altering
from blame import blamed
from costs import measured
from secagg.errors import PlanError, RemoteProtocolError, UsageError
from secagg.network.simulated import simulate
from secagg.party import Party, check_array
from secagg.prg import Stream
from secagg.protocols.intersection import Sides, base_transfers, cuckoo, find_common_by_transfers, transfers
from secagg.protocols.intersection.curve import Blinding

P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
BOTH = ("a", "b")
A = [b"%d" % i for i in range(20)]
B = [b"%d" % i for i in range(15, 40)]
LENGTHS = {"a": 24, "b": 25}


def stream(seed):
    return Stream(seed.to_bytes(32, "big"))


def running(terms, a=A, b=B):
    return {
        name: lambda p, own=own: find_common_by_transfers(p, terms, own) for name, own in (("a", a), ("b", b))
    }


@pytest.mark.parametrize("recipients", [("a",), ("b",), BOTH])
@pytest.mark.slow
def test_each_recipient_learns_which_of_its_own_at_the_declared_cost(recipients):
    terms = Sides(LENGTHS, recipients)
    outcome = simulate(running(terms))
    told = {"a": [15, 16, 17, 18, 19], "b": [0, 1, 2, 3, 4]}
    for name, found in zip(BOTH, outcome.values(), strict=True):
        assert (None if found is None else np.flatnonzero(found).tolist()) == (
            told[name] if name in recipients else None
        )
    declared = transfers.cost(terms)
    costs = {name: measured(name, ledger) for name, ledger in outcome.ledgers.items()}
    assert {n: c.payload_bytes[n] for n, c in costs.items()} == declared.payload_bytes
    assert max(c.rounds for c in costs.values()) == declared.rounds


@pytest.mark.slow
def test_long_lists_and_empty_ones():
    a, b = [b"%d" % i for i in range(1500)], [b"%d" % i for i in range(0, 3000, 7)]
    found = simulate(running(Sides({"a": 1500, "b": 500}, ("a",)), a, b)).results["a"]
    assert np.flatnonzero(found).tolist() == [i for i in range(1500) if i % 7 == 0]
    for own, other in (([], B), (A, [])):
        outcome = simulate(running(Sides({"a": len(own), "b": len(other)}, BOTH), own, other))
        assert not np.concatenate(outcome.values()).any()


def _multiple_is_infinity(k, x):
    """Return whether k times the point with this x-coordinate is the neutral element, by the Montgomery ladder."""
    x2, z2, x3, z3 = 1, 0, x, 1
    for bit in map(int, f"{k:b}"):
        if bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        x3, z3 = (d * a + c * b) ** 2 % P, x * (d * a - c * b) ** 2 % P
        aa, bb = a * a % P, b * b % P
        x2, z2 = aa * bb % P, (aa - bb) * (aa + 121665 * (aa - bb)) % P
        if bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return z2 % P == 0


def test_a_chooser_has_one_key_of_each_pair_and_its_points_lie_in_one_group():
    party = Party("a", BOTH, session=bytes(32), rng=stream(1))
    other = Party("b", BOTH, session=bytes(32), rng=stream(2))
    chooser = base_transfers.Chooser(party, 40)
    reply, pairs = base_transfers.both_keys(other, chooser.points, "a")
    keys = chooser.keys(reply, "b")
    bits = chooser.bits.tolist()
    assert {True, False} == set(bits)
    assert keys == [pair[bit] for pair, bit in zip(pairs, bits, strict=True)]
    assert not {pair[not bit] for pair, bit in zip(pairs, bits, strict=True)} & set(keys)
    assert len({key for pair in pairs for key in pair}) == 80
    # Points of another coset, or of the twist, would tell the bit.
    points = [int.from_bytes(bytes(point), "little") for point in chooser.points[:3].reshape(-1, 32)]
    assert all(_multiple_is_infinity(ORDER, x) for x in points)
    assert not _multiple_is_infinity(ORDER, 2)  # the check can fail


def test_a_chooser_knows_the_logarithm_of_the_point_that_it_chose_alone(monkeypatch):
    drawn = []

    class Noted(Blinding):
        def __init__(self, secret):
            super().__init__(secret)
            drawn.append(self)

    monkeypatch.setattr(base_transfers, "Blinding", Noted)
    party = Party("a", BOTH, session=bytes(32), rng=stream(1))
    chooser = base_transfers.Chooser(party, 16)
    base = base_transfers._base(party.session)
    known = {one.blind(base).tobytes() for one in drawn}
    at, bits = np.arange(16), chooser.bits.astype(int)
    assert {point.tobytes() for point in chooser.points[at, bits]} <= known
    assert not {point.tobytes() for point in chooser.points[at, 1 - bits]} & known


@pytest.mark.slow
def test_code_words_are_far_apart():
    hashing = cuckoo.Hashing.of(bytes(32), 100)
    numbers = hashing.numbers([b"%d" % i for i in range(300)])
    codes = hashing.codes(transfers._placed(numbers, np.zeros(300, np.int64)))
    again = hashing.codes(transfers._placed(numbers, np.ones(300, np.int64)))
    bits = np.unpackbits(np.concatenate([codes, again]).view(np.uint8), axis=1).astype(np.int64)
    ones = bits.sum(axis=1)
    distance = ones[:, None] + ones[None, :] - 2 * (bits @ bits.T)
    assert distance[~np.eye(600, dtype=bool)].min() > 180
    # Of two random words of 512 bits, 3 * 10**7 times, none are nearer than 128.
    near = sum(math.comb(512, k) for k in range(128)) / 2**512
    assert math.log2(3e7 * near) < -60


def test_each_identifier_lies_in_one_bin_of_its_own():
    hashing = cuckoo.Hashing.of(bytes(32), 2000)
    places = hashing.places(hashing.numbers([b"%d" % i for i in range(2000)]))
    assert [(int(c.min()) // hashing.part, int(c.max()) // hashing.part) for c in places.T] == [
        (0, 0),
        (1, 1),
        (2, 2),
    ]
    table = cuckoo.insert(places, hashing.bins, stream(3))
    lies = np.flatnonzero(table >= 0)
    assert sorted(table[lies].tolist()) == list(range(2000))
    assert (places[table[lies]] == lies[:, None]).any(axis=1).all()
    with pytest.raises(PlanError, match="found no places"):
        cuckoo.insert(np.tile([[0, 1, 2]], (4, 1)), 64, stream(4))


def test_four_identifiers_hardly_ever_share_their_three_bins():
    sizes = [*range(4, 2000), 10**4, 10**6, 10**7]
    chances = [math.comb(n, 4) / cuckoo.Hashing.of(bytes(32), n).part ** 9 for n in sizes]
    assert max(chances) < 2.0**-41


@pytest.mark.slow
def test_values_of_other_identifiers_do_not_depend_on_them_alone():
    seen = []

    def keeping(p, _, message):
        if isinstance(message, transfers.Values):
            seen.append({bytes(v) for v in message.values.reshape(-1, transfers.VALUE_BYTES)})
        return message

    terms = Sides({"a": 20, "b": 25}, ("a",))
    for _ in range(2):
        programs = running(terms)
        programs["b"] = altering(programs["b"], keeping)
        simulate(programs).values()
    assert [len(values) for values in seen] == [75, 75]
    assert not seen[0] & seen[1]


@pytest.mark.slow
def test_values_stand_in_an_order_that_tells_nothing_of_the_other_side_s_list():
    terms = Sides({"a": 20, "b": 20}, ("a",))

    async def curious(party):
        table = transfers._Table(party, terms, A)
        party.send("b", await table.columns(party, "b"))
        message = await party.receive(transfers.Values, "b", max_bytes=3 * 20 * transfers.VALUE_BYTES)
        own = transfers._hashed(table._taken, table._rows[table._taken])
        lists = [transfers._pieces(message.values[k]) for k in range(3)]
        return [
            (int(table._item[bin_]), lists[place].index(value))
            for bin_, place, value in zip(table._taken, table._place, own, strict=True)
        ]

    programs = running(terms, b=A)
    found = simulate({"a": curious, "b": programs["b"]}).results["a"]
    assert len(found) == 20
    assert any(item != position for item, position in found)


def _lying(kind, change, liar):
    programs = running(Sides(LENGTHS, ("a",)))
    programs[liar] = altering(programs[liar], lambda _, __, m: change(m) if isinstance(m, kind) else m)
    return simulate(programs)


@pytest.mark.parametrize(
    ("kind", "change", "liar", "says"),
    [
        (
            transfers.Choices,
            lambda m: transfers.Choices(m.points[1:]),
            "b",
            r"choices of shape \(512, 2, 32\)",
        ),
        (transfers.Choices, lambda m: transfers.Choices(m.points * 0), "b", "small order"),
        (transfers.Columns, lambda m: transfers.Columns(m.reply * 0, m.columns), "a", "small order"),
        (transfers.Columns, lambda m: transfers.Columns(m.reply, m.columns[1:]), "a", "columns of shape"),
        (
            transfers.Values,
            lambda m: transfers.Values(m.values[:, 1:]),
            "b",
            r"values of shape \(3, 25, 12\)",
        ),
    ],
)
@pytest.mark.slow
def test_a_side_that_sends_what_the_protocol_forbids_is_named(kind, change, liar, says):
    with pytest.raises(RemoteProtocolError, match=says) as error:
        raise _lying(kind, change, liar).errors["b" if liar == "a" else "a"]
    assert blamed(error.value) == liar


@pytest.mark.slow
def test_lists_that_were_not_announced_are_refused():
    for own in (A + A, [b"%d" % i for i in range(25)]):
        with pytest.raises(UsageError, match="at most 24 different identifiers"):
            raise simulate(running(Sides(LENGTHS, BOTH), a=own)).errors["a"]


@pytest.mark.slow
def test_an_altered_side_reads_the_others_list(monkeypatch):
    """Not a promise but its absence: docs/two-organisations.md tells of it, and a mend has to change both."""
    kept: dict[str, Any] = {}

    class Altered(base_transfers.Chooser):
        def __init__(self, party, count):
            super().__init__(party, count)
            self.two = [Blinding(party.rng.bytes(32)) for _ in range(count)]
            points = np.concatenate([x.blind(base_transfers._base(party.session)) for x in self.two])
            self.points[np.arange(count), 1 - self.bits.astype(int)] = points

        def keys(self, reply, peer):
            taken, places = super().keys(reply, peer), 1 - self.bits.astype(int)
            at = [self.points[i, place] for i, place in enumerate(places)]
            kept["other"] = [
                base_transfers._key(self._session, i, reply, at[i], x.blind(reply))
                for i, x in enumerate(self.two)
            ]
            kept["session"] = self._session
            kept["keys"] = taken
            return taken

    def noted(x, shape, *, what, peer):
        return kept.setdefault(what, check_array(x, shape, what=what, peer=peer))

    monkeypatch.setattr(transfers, "check_array", noted)
    monkeypatch.setattr(transfers, "Chooser", Altered)
    simulate(running(Sides({"a": 24, "b": 1}, ("a",)), b=[b"nobody"]))
    hashing = cuckoo.Hashing.of(kept["session"], 24)
    words = hashing.bins // 64
    columns = kept["columns"].copy()
    for keys in (kept["keys"], kept["other"]):
        columns ^= np.stack([Stream(key).words(words) for key in keys])
    codes = transfers._rows(columns, hashing.bins)
    guesses = [b"%d" % i for i in range(100)]
    numbers = hashing.numbers(guesses)
    places = hashing.places(numbers)
    found = np.zeros(100, bool)
    for k in range(3):
        own = hashing.codes(transfers._placed(numbers, np.full(100, k)))
        found |= (own == codes[places[:, k]]).all(axis=1)
    assert np.flatnonzero(found).tolist() == list(range(20))
