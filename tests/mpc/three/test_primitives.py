"""What the three-party engine offers to everything above it beside what has files of its own."""

from __future__ import annotations

import numpy as np
import pytest

from secagg.errors import RemoteProtocolError, ShapeError, UsageError
from secagg.mpc.groups import XOR, XOR_BYTES
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Shares
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.opening import receive_opening
from secagg.mpc.three.shuffle import Permuted
from secagg.network.simulated import simulate
from secagg.ring import Ring

COMPUTING = ("ada", "bob", "cleo")
R20 = RingGroup(Ring(20))


def words(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 1 << 64, shape, np.uint64)


def test_arrays_that_are_shuffled_together_keep_their_rows_together(run_three, share, share_bits):
    rows = np.arange(2 * 50).reshape(2, 50)
    wide = words(2, 50, 3)

    async def program(engine):
        numbers = share(engine, rows, ring=Ring(20))
        mixed = await engine.shuffle(share_bits(engine, wide), numbers)
        assert [x.group for x in mixed] == [XOR, R20]
        return [await engine.open(x) for x in mixed]

    for bits, numbers in run_three(program):
        for b in range(2):
            assert np.array_equal(np.sort(numbers[b]), rows[b])
            assert not np.array_equal(numbers[b], rows[b])
            assert np.array_equal(bits[b], wide[b][numbers[b].astype(np.int64) - 50 * b])


@pytest.mark.parametrize("sent", [1, 3])
def test_a_message_of_a_shuffle_with_rows_of_another_number_of_arrays_names_its_sender(sent):
    async def honest(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        x = engine.public(XOR, np.zeros((1, 4), np.uint64))
        return await engine.shuffle(x, x)

    async def wrong(party):
        await ThreeEngine.set_up(party, COMPUTING)
        party.send("bob", Permuted((np.zeros((1, 4), np.uint64),) * sent))

    error = simulate({"ada": wrong, "bob": honest, "cleo": honest}).errors["bob"]
    assert isinstance(error, RemoteProtocolError)
    assert error.peer == "ada"


def test_shares_of_other_words_than_the_groups_are_refused(run_three):
    async def program(engine):
        with pytest.raises(ShapeError, match=r"uint64, got .* of uint32"):
            Shares(engine, XOR, [np.zeros(4, np.uint32)] * 2)

    run_three(program)


def test_arrays_of_different_rows_are_not_shuffled_together(run_three):
    async def program(engine):
        x, y = (engine.public(XOR, np.zeros((1, n), np.uint64)) for n in (4, 5))
        with pytest.raises(ShapeError, match="buckets, rows"):
            await engine.shuffle(x, y)
        with pytest.raises(ShapeError, match="buckets, rows"):
            await engine.shuffle()

    run_three(program)


def test_an_exchange_swaps_columns_of_views_in_place_where_the_bit_says_so(run_three, share_bits):
    table, swap = words(3, 4, 12), words(20, seed=1)

    async def program(engine):
        x = share_bits(engine, table)
        views = [(x[:, :2, 0:4], x[:, 2:, 4:8]), (x[:, 0:1, 8:12], x[:, 1:2, 8:12])]
        await engine.exchange(share_bits(engine, swap[:12], seed=2), views)
        with pytest.raises(ShapeError, match="12 columns"):
            await engine.exchange(share_bits(engine, swap, seed=2), views)
        with pytest.raises(ShapeError, match="as many planes"):
            await engine.exchange(share_bits(engine, swap[:8]), [(x[:, :2, 0:4], x[:2, 2:, 4:8])])
        return await engine.open(x)

    expected = table.copy()
    for earlier, later, bits in (
        (expected[:, :2, 0:4], expected[:, 2:, 4:8], swap[:8].reshape(2, 4)),
        (expected[:, 0:1, 8:12], expected[:, 1:2, 8:12], swap[8:12].reshape(1, 4)),
    ):
        apart = bits & (earlier ^ later)
        earlier ^= apart
        later ^= apart
    for got in run_three(program):
        assert np.array_equal(got, expected)


def test_each_of_several_secrets_opens_to_its_receivers_in_one_round():
    values = [words(4, seed=i) for i in range(4)]
    to = [["ada"], ["cleo", "outside"], [], ["ada", "bob", "cleo"]]

    async def compute(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        secrets = [engine.public(XOR, value) for value in values]
        depth = party.ledger.depth
        opened = await engine.open_each(list(zip(secrets, to, strict=True)))
        assert party.ledger.depth == depth + 1
        return opened

    async def outside(party):
        return [await receive_opening(party, COMPUTING, XOR, (4,))]

    results = simulate(dict.fromkeys(COMPUTING, compute) | {"outside": outside}).results
    assert np.array_equal(results["outside"][0], values[1])
    for name in COMPUTING:
        for got, value, receivers in zip(results[name], values, to, strict=True):
            assert np.array_equal(got, value) if name in receivers else got is None


def test_a_truncation_of_any_view_is_the_floor_or_one_more(run_three, share):
    x = np.arange(-60, 60).reshape(10, 12)

    async def program(engine):
        z = await engine.truncate(share(engine, x)[:, ::3].T, 4)
        return await engine.open(Shares(engine, z.group, z.parts))

    up = run_three(program)[0].view(np.int64) - (x[:, ::3].T >> 4)
    assert set(up.reshape(-1).tolist()) == {0, 1}


def test_secrets_of_the_wrong_kind_are_refused(run_three, share, share_bits):
    async def program(engine):
        bits, numbers = share_bits(engine, words(4)), share(engine, np.arange(4))
        few = share(engine, np.arange(3))
        for wrong in (
            engine.multiply(bits, bits),
            engine.truncate(bits, 3),
            engine.negative(bits),
            engine.conjunction([(numbers, numbers)]),
            engine.from_bits(numbers, R20, 4),
            engine.multiply(numbers, few),
            engine.negative(numbers.reshape(2, 2)),
        ):
            with pytest.raises(ShapeError):
                await wrong
        for wrong in (lambda: ~numbers, lambda: numbers ^ numbers):
            with pytest.raises(ShapeError, match="expected bits"):
                wrong()
        with pytest.raises(UsageError, match="differ"):
            await engine.conjunction([(bits, numbers)])
        with pytest.raises(UsageError, match="sequence of parties"):
            await engine.open(bits, "ada")
        other = await ThreeEngine.set_up(engine.party, COMPUTING, label="another")
        for wrong in (other.open(bits), other.negative(numbers), other.shuffle(numbers.reshape(2, 2))):
            with pytest.raises(UsageError, match="is a secret of ThreeEngine"):
                await wrong

    run_three(program)


def test_public_elements_share_no_memory_and_secrets_go_into_other_groups(run_three):
    async def program(engine):
        value = words(3)
        x = engine.public(XOR, value)
        x ^= engine.public(XOR, np.ones(3, np.uint64))
        assert np.array_equal(value, words(3))
        low = x.into(XOR_BYTES, lambda part: part.astype(np.uint8))
        return await engine.open(x), await engine.open(low)

    for whole, low in run_three(program):
        assert np.array_equal(whole, words(3) ^ np.uint64(1))
        assert np.array_equal(low, (words(3) ^ np.uint64(1)).astype(np.uint8))
