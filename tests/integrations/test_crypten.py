"""Shares become CrypTen's tensors and come back unopened and fresh; CrypTen computes on them under masks of ours alone.

The parties of a test are processes that fork off the one in which CrypTen was imported. Each returns or raises what the test
looks at.

Longer than most test modules: a world of processes is dear, and what stands on it is checked in one place.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import numpy as np
import pytest
from numpy.typing import NDArray

from ports import reserved_ports
from secagg import mpc
from secagg.errors import (
    PeerVanishedError,
    RemoteProtocolError,
    SecaggError,
    UsageError,
)
from secagg.integrations.crypten import Joined, World, connection, deal, joined, library, randomness
from secagg.integrations.crypten.dealing import _answer
from secagg.integrations.crypten.randomness import Source
from secagg.integrations.crypten.world import Contribution, Keys, agree
from secagg.network.simulated import simulate
from secagg.network.tcp import run_party_insecure_plain
from secagg.party import Party
from secagg.prg import Stream

NAMES = ("north", "south", "west")
DEALER = "dealer"
FRAC_BITS = 16
UNIT = 2.0**-FRAC_BITS
PATIENCE_S = 120
EXAMPLE = Path(__file__).parents[2] / "examples" / "crypten"
WORLD = World(NAMES, DEALER, "tcp://127.0.0.1:29500", timeout_s=2)

needs_crypten = pytest.mark.skipif(
    importlib.util.find_spec("crypten") is None, reason="CrypTen is not installed; docs/crypten.md says how"
)
Words = NDArray[np.uint64]
Work = Callable[[Joined], Any]


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    """Return torch and CrypTen, imported once for all processes that are forked off this one."""
    return library.load()


@pytest.fixture
def run(loaded: tuple[Any, Any], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return what has n computing parties and a dealer join worlds of CrypTen's and returns what came of it by party.

    `work` is done in one world after the other, `before` and `after` in each process before the first and after the last.
    """

    def started(
        n: int,
        work: Work,
        *,
        before: Callable[[], Any] = lambda: None,
        after: Callable[[], Any] = lambda: None,
        worlds: int = 1,
    ) -> dict[str, Any]:
        members = NAMES[:n]
        places = [f"file://{tmp_path}/meeting{i}" for i in range(worlds)]
        rounds = [World(members, DEALER, place, interface="lo", timeout_s=60) for place in places]

        async def program(party: Party) -> Any:
            noted = before()
            results: list[Any] = []
            for world in rounds:
                if party.me == DEALER:
                    await deal(party, world)
                else:
                    async with joined(party, world) as here:
                        results.append(work(here))
            return results[0] if party.me != DEALER and worlds == 1 else [noted, *results, after()]

        return outcomes((*members, DEALER), program)

    return started


def outcomes(names: Sequence[str], program: Callable[[Party], Any]) -> dict[str, Any]:
    """Run a program as a process a party; return results, errors as (class, text), and nothing of those that died."""

    def child(me: str, addresses: dict[str, tuple[str, int]], told: Any) -> None:
        try:
            result = run_party_insecure_plain(program, me=me, addresses=addresses)[0]
        except SecaggError as error:
            result = (type(error), str(error))
        told.send((me, result))

    context = multiprocessing.get_context("fork")
    with reserved_ports(len(names)) as ports, contextlib.ExitStack() as stack:
        addresses = {name: ("127.0.0.1", port) for name, port in zip(names, ports, strict=True)}
        ends = []
        for name in names:
            end, told = context.Pipe(duplex=False)
            process = context.Process(target=child, args=(name, addresses, told))
            process.start()
            stack.callback(process.join)
            stack.callback(process.kill)
            told.close()
            ends.append(end)
        results = {}
        for end in ends:
            assert end.poll(PATIENCE_S), "a party hangs"
            with contextlib.suppress(EOFError):
                name, result = end.recv()
                results[name] = result
        return results


def counted(owner: Any, names: Sequence[str]) -> list[str]:
    """Have functions of a module or class of this process note when they are called; return the list of the calls."""
    calls: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        function = getattr(owner, name)

        def noted(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return function(*arguments, **options)

        return noted

    for name in names:
        setattr(owner, name, noting(name))
    return calls


def split(numbers: NDArray[Any], n: int, frac_bits: int = FRAC_BITS) -> list[Words]:
    """Return additive shares modulo 2**64 of numbers, encoded by the definition; the same at every party."""
    encoded = np.rint(np.ldexp(numbers, frac_bits)).astype(np.int64).view(np.uint64)
    rng = np.random.default_rng(7)
    shares = [rng.integers(0, 1 << 64, encoded.shape, np.uint64) for _ in range(n - 1)]
    return [*shares, encoded - np.add.reduce(shares)]


def joint(shares: Sequence[Words], frac_bits: int = FRAC_BITS) -> NDArray[np.float64]:
    return np.ldexp(np.add.reduce(shares).view(np.int64).astype(float), -frac_bits)


@needs_crypten
@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_shares_cross_over_and_back_unopened_fresh_and_each_in_memory_of_its_own(run: Any, n: int) -> None:
    x = np.arange(-6, 6).reshape(3, 4) / 8

    def work(here: Joined) -> Any:
        channel = type(here.crypten.communicator.get())
        calls = (
            "send",
            "isend",
            "scatter",
            "reduce",
            "all_reduce",
            "gather",
            "all_gather",
            "broadcast",
            "send_obj",
        )
        used = counted(channel, calls)
        given = split(x, n)[here.rank]
        kept = given.copy()
        there = [here.to_crypten(given, FRAC_BITS) for _ in range(2)]
        back = [here.from_crypten(there[0]) for _ in range(2)]
        there[0].share.zero_()  # as CrypTen's operations in place may
        single, _ = here.from_crypten(here.to_crypten(given[0, :1].reshape(()), FRAC_BITS))
        assert np.array_equal(given, kept)
        assert {frac_bits for _, frac_bits in back} == {FRAC_BITS}
        return (
            tuple(used),
            single,
            [given, there[1].share.numpy().view(np.uint64), *(share for share, _ in back)],
        )

    told = run(n, work)
    used, singles, shares = zip(*(told[name] for name in NAMES[:n]), strict=True)
    assert set(used) == {("all_gather",) * 6}
    assert joint(singles) == x[0, 0]
    for stage in zip(*shares, strict=True):
        assert np.array_equal(joint(stage), x)
    for own in shares:  # no element of a share comes twice
        assert np.unique(np.stack(own)).size == len(own) * x.size
    if n == 3:  # no two of the shares of zero cancel, so each party has a part in all
        zeros = [own[1] - own[0] for own in shares]
        assert all(np.all(zeros[i] + zeros[i - 1] != 0) for i in range(n))


@needs_crypten
@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_crypten_computes_on_what_was_converted(run: Any, n: int) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-4, 4, (2, 5, 5)).round(3)
    counts = rng.integers(-9, 9, (5, 5))

    def work(here: Joined) -> Any:
        a, b = (here.to_crypten(split(numbers, n)[here.rank], FRAC_BITS) for numbers in (x, y))
        c = here.to_crypten(split(counts, n, 0)[here.rank], 0)
        computed = [a + b, a * b, a @ b, a * c, c * c, a > b, (a > b).to(here.crypten.mpc.arithmetic)]
        return [here.from_crypten(tensor) for tensor in computed]

    told = run(n, work)
    # Encoding errs by half a unit in the last place, and a party's rounding of its share by one.
    per_product = 8 * UNIT / 2 + n * UNIT
    expected = [
        (x + y, UNIT, FRAC_BITS),
        (x * y, per_product, FRAC_BITS),
        (x @ y, 5 * per_product, FRAC_BITS),
        (x * counts, 9 * UNIT / 2, FRAC_BITS),
        (counts * counts, 0, 0),
        (x > y, 0, 0),
        (x > y, 0, 0),
    ]
    for place, (right, error, frac_bits) in enumerate(expected):
        shares, kept = zip(*(told[name][place] for name in NAMES[:n]), strict=True)
        assert set(kept) == {frac_bits}
        assert np.max(np.abs(joint(shares, frac_bits) - right)) <= error


@needs_crypten
@pytest.mark.slow
def test_no_mask_comes_from_a_generator_of_torchs(run: Any, loaded: tuple[Any, Any]) -> None:
    torch, _ = loaded
    x = np.arange(4.0)

    def count() -> list[str]:
        return counted(torch, ("randint", "rand", "randn"))

    def work(here: Joined) -> Any:
        drawn = count()
        a = here.to_crypten(split(x, 3)[here.rank], FRAC_BITS)
        own = here.crypten.cryptensor(torch.ones(4), src=1)
        rest = (
            a * own,
            a.square(),
            a > own,
            a.sigmoid(),
            here.crypten.rand(4),
            here.crypten.bernoulli(own * 0.5),
        )
        return list(drawn), len(rest)

    told = run(3, work, before=count)
    assert {name: told[name] for name in NAMES} == dict.fromkeys(NAMES, ([], 6))
    seeds, _ = told[DEALER]
    assert seeds == ["randint"] * 3  # parties wait for these, and nobody uses them


@needs_crypten
@pytest.mark.slow
def test_a_world_leaves_nothing_behind_and_the_next_one_has_other_masks(
    run: Any, loaded: tuple[Any, Any]
) -> None:
    torch, crypten = loaded
    share = np.zeros(4, np.uint64)

    def state() -> Any:
        groups = torch.distributed
        return (
            dict(os.environ),
            crypten.cfg.mpc.provider,
            groups.distributed_c10d.default_pg_timeout,
            groups.is_initialized(),
            {name: len(generators) for name, generators in crypten.generators.items() if name != "global"},
        )

    def left() -> Any:
        for here in gone:
            with pytest.raises(UsageError, match="has left"):
                here.to_crypten(share, FRAC_BITS)
        return state()

    before = state()
    gone: list[Joined] = []

    def work(here: Joined) -> Any:
        gone.append(here)
        assert crypten.cfg.mpc.provider == "TTP"
        tensor = here.to_crypten(share, FRAC_BITS)
        zero = here.crypten.cryptensor(torch.zeros(4))
        return tensor.share.tolist() + zero.share.tolist() + (tensor * tensor + zero).share.tolist()

    told = run(2, work, worlds=2, after=left)
    for name in NAMES[:2]:
        _, first, second, found = told[name]
        assert found == before
        assert not set(first) & set(second)
    assert told[DEALER][-1] == before


@needs_crypten
@pytest.mark.slow
def test_what_cannot_be_converted_is_refused_at_each_party(run: Any, loaded: tuple[Any, Any]) -> None:
    torch, crypten = loaded
    share = np.zeros(4, np.uint64)

    def work(here: Joined) -> list[tuple[str, str]]:
        tensor = here.to_crypten(share, FRAC_BITS)
        scaled = tensor.clone()
        scaled.encoder._scale = 3
        tries: list[Callable[[], Any]] = [
            lambda: here.to_crypten(share.astype(np.uint32), FRAC_BITS),
            lambda: here.to_crypten(share, 20),
            lambda: here.from_crypten(torch.zeros(4)),
            lambda: here.from_crypten(tensor.to(crypten.mpc.binary)),
            lambda: here.from_crypten(scaled),
        ]
        for name, value in (("mpc.provider", "TFP"), ("debug.debug_mode", True)):

            def set_otherwise(name: str = name, value: Any = value) -> None:
                with crypten.cfg.temp_override({name: value}):
                    here.to_crypten(share, FRAC_BITS)

            tries.append(set_otherwise)
        return [refusal(one) for one in tries]

    def refusal(what: Callable[[], Any]) -> tuple[str, str]:
        try:
            what()
        except UsageError as error:
            return type(error).__name__, str(error)
        return "nothing", "was raised"

    told = run(2, work)
    assert told[NAMES[0]] == told[NAMES[1]]
    expected = [
        ("ShapeError", "array of uint64"),
        ("UsageError", "expected 0 or 16 frac_bits, as CrypTen keeps, got 20"),
        ("UsageError", "MPCTensor, got a Tensor"),
        ("UsageError", "got one of bits"),
        ("UsageError", "power of two, got 3"),
        ("UsageError", "mpc.provider to be 'TTP', got 'TFP'"),
        ("UsageError", "debug.debug_mode to be False, got True"),
    ]
    for (kind, text), (right_kind, part) in zip(told[NAMES[0]], expected, strict=True):
        assert (kind, part in text) == (right_kind, True), text


@needs_crypten
@pytest.mark.slow
def test_parties_that_convert_different_things_are_named_to_each_other(run: Any) -> None:
    def work(here: Joined) -> Any:
        return here.to_crypten(np.zeros(4 + here.rank, np.uint64), FRAC_BITS)

    told = run(2, work)
    for name, other in (NAMES[:2], NAMES[1::-1]):
        kind, text = told[name]
        assert kind is RemoteProtocolError
        assert f"{other} converts something else than {name}" in text


@needs_crypten
@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 2])
def test_a_party_that_dies_ends_the_world_for_all(run: Any, victim: int) -> None:
    def work(here: Joined) -> Any:
        x = here.to_crypten(np.zeros(4, np.uint64), FRAC_BITS)
        if here.rank == victim:
            os._exit(1)
        return x * x

    told = run(3, work)
    left = [name for name in NAMES if name != NAMES[victim]]
    assert NAMES[victim] not in told
    assert {told[name][0] for name in left} <= {PeerVanishedError}
    if victim == 0:
        kind, text = told[DEALER]
        assert (kind, text.startswith(f"{NAMES[0]} was lost")) == (PeerVanishedError, True)


@needs_crypten
@pytest.mark.slow
def test_processes_that_do_not_meet_are_told_so_in_time(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    world = World(NAMES, DEALER, f"file://{tmp_path}/meeting", interface="lo", timeout_s=0.5)

    async def alone(party: Party) -> None:
        with connection.connected(*loaded, world, party.me):
            pass

    kind, text = outcomes(["north"], alone)["north"]
    assert (kind, "did not all meet" in text) == (PeerVanishedError, True)


@needs_crypten
@pytest.mark.slow
def test_settings_that_show_more_than_is_opened_are_refused_before_anything_is_sent(
    loaded: tuple[Any, Any],
) -> None:
    _, crypten = loaded

    async def program(party: Party) -> None:
        if party.me == DEALER:
            await deal(party, WORLD)
        async with joined(party, WORLD):
            raise AssertionError("it joined")

    for name, value in (("mpc.protocol", "replicated"), ("debug.validation_mode", True)):
        with crypten.cfg.temp_override({name: value}):
            outcome = simulate(dict.fromkeys(WORLD.members, program))
        assert outcome.messages == 0
        assert {type(error) for error in outcome.errors.values()} == {UsageError}
        assert all(f"crypten.cfg.{name}" in str(error) for error in outcome.errors.values())


@needs_crypten
@pytest.mark.slow
def test_parties_in_one_process_are_refused_before_crypten_waits_for_a_process_that_never_comes(
    loaded: tuple[Any, Any],
) -> None:
    async def program(party: Party) -> None:
        if party.me == DEALER:
            await deal(party, WORLD)
        async with joined(party, WORLD):
            raise AssertionError("it joined")

    outcome = simulate(dict.fromkeys(WORLD.members, program))
    assert {type(error) for error in outcome.errors.values()} == {UsageError}
    assert "got one for dealer and north, south, west" in str(outcome.errors[DEALER])
    assert "CrypTen does not run in the simulator" in str(outcome.errors["north"])


@needs_crypten
@pytest.mark.slow
def test_each_role_has_a_call_of_its_own(loaded: tuple[Any, Any]) -> None:
    async def program(party: Party) -> None:
        if party.me == DEALER:
            async with joined(party, WORLD):
                pass
        else:
            await deal(party, WORLD)

    outcome = simulate(dict.fromkeys(WORLD.members, program))
    assert "the dealer calls deal" in str(outcome.errors[DEALER])
    assert "computing parties call joined" in str(outcome.errors["west"])


@needs_crypten
@pytest.mark.slow
def test_modules_that_crypten_misses_are_lent_to_it_alone(loaded: tuple[Any, Any]) -> None:
    _, crypten = loaded
    assert "torch.onnx._internal.registration" not in sys.modules
    if importlib.util.find_spec("onnx") is None:
        assert "onnx" not in sys.modules
        with pytest.raises(UsageError, match="onnx is not installed"):
            crypten.nn.from_onnx("model")


@needs_crypten
@pytest.mark.slow
@pytest.mark.parametrize(("bits", "least", "most"), [(1, 0, 1), (8, 0, 255), (64, -(1 << 63), (1 << 63) - 1)])
def test_a_source_gives_the_words_of_its_stream(
    loaded: tuple[Any, Any], bits: int, least: int, most: int
) -> None:
    drawn = Source(loaded[0], Stream(bytes(32))).draw((50, 40), bits).numpy()
    assert np.array_equal(drawn, Stream(bytes(32)).ring((50, 40), bits).astype(np.int64))
    assert least <= drawn.min() < least + most / 100 + 1
    assert most - most / 100 - 1 < drawn.max() <= most


@needs_crypten
@pytest.mark.slow
def test_what_crypten_draws_in_a_world_are_words_of_its_streams_and_nothing_else(
    loaded: tuple[Any, Any],
) -> None:
    torch, crypten = loaded
    rng, keys = crypten.common.rng, [bytes([i]) * 32 for i in range(3)]
    previous, following, local = map(Stream, keys)
    randomness.replace_generators(torch, crypten, previous=previous, following=following, local=local)
    try:
        assert np.array_equal(rng.generate_random_ring_element((9,)), Stream(keys[2]).words(9).view(np.int64))
        generator = crypten.generators["prev"][torch.device("cpu")]
        words = rng.generate_kbit_random_tensor((9,), generator=generator, device="cpu")
        assert np.array_equal(words, Stream(keys[0]).words(9).view(np.int64))
        for arguments in ({"generator": torch.Generator()}, {"ring_size": 2**32}, {"device": "cuda"}):
            with pytest.raises(
                UsageError, match=r"asked a generator of torch's|draws words on the processor"
            ):
                rng.generate_random_ring_element((9,), **arguments)
    finally:
        randomness.remove_generators(torch, crypten)
    same = [
        rng.generate_random_ring_element((9,), generator=torch.Generator().manual_seed(1)) for _ in range(2)
    ]
    assert np.array_equal(*same)  # outside of a world CrypTen is as it was


@needs_crypten
@pytest.mark.slow
def test_another_release_of_crypten_is_refused(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded[1], "__version__", "0.5.0")
    with pytest.raises(UsageError, match=r"expected CrypTen 0\.4\.1, .* got 0\.5\.0"):
        library.load()


@needs_crypten
@pytest.mark.slow
def test_banks_train_the_model_that_one_with_all_tables_would(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLE)
    import train

    told = train.run()
    right = train.pooled()
    x = np.concatenate([train.table(bank)[:, :-1] for bank in train.BANKS])
    # CrypTen's sigmoid errs by less than 0.01, which a step passes on by the features' mean size, times its length.
    error = train.STEPS * train.RATE * np.mean(np.abs(x), axis=0) * 0.01
    assert np.all(np.abs(told["north"] - right) < error)
    assert np.all(np.abs(right) > 5 * error)
    assert np.array_equal(told["north"], told["south"])
    assert np.array_equal(told["north"], told["west"])
    assert told["dealer"] is None


# What needs no CrypTen.


@pytest.mark.slow
def test_without_crypten_the_message_says_how_to_install_it() -> None:
    code = (
        "import sys\n"
        "from secagg.integrations.crypten import World, library\n"
        "sys.modules['torch'] = None\n"
        "try:\n"
        "    library.load()\n"
        "except ValueError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("UsageError")
    assert 'pip install "secagg[crypten]", then pip install --no-deps crypten==0.4.1' in done.stdout


def test_the_first_shares_of_the_three_party_engine_are_additive() -> None:
    x = np.arange(6).reshape(2, 3)

    async def program(party: Party) -> Words:
        engine = await mpc.set_up(party, party.roster)
        mine = x.astype(np.uint64) if party.me == "north" else None
        shared = await engine.input(mpc.int64.group, "north", x.shape, mine)
        return shared.parts[0]

    assert np.array_equal(joint(simulate(dict.fromkeys(NAMES, program)).values(), 0), x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"computing": ("north",)}, "two or more computing parties"),
        ({"computing": ("north", "north")}, "all distinct"),
        ({"dealer": "west"}, "a dealer that is none of them"),
        ({"computing": "north"}, "a tuple of names"),
        ({"rendezvous": "127.0.0.1:29500"}, "got '127.0.0.1:29500'"),
        ({"rendezvous": "tcp://127.0.0.1"}, "HOST:PORT"),
        ({"rendezvous": "tcp://127.0.0.1:99999"}, "HOST:PORT"),
        ({"rendezvous": "tcp://127.0.0.1:29500?rank=0"}, "HOST:PORT"),
        ({"rendezvous": "file://meeting"}, "file:///PATH"),
        ({"timeout_s": 0.0}, "timeout_s above 0"),
    ],
)
def test_worlds_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    arguments = {"computing": NAMES, "dealer": DEALER, "rendezvous": WORLD.rendezvous}
    with pytest.raises(UsageError, match=message):
        World(**(arguments | changes))


def test_each_pair_and_purpose_has_a_stream_of_its_own_which_both_draw_from() -> None:
    async def program(party: Party) -> dict[tuple[Any, ...], bytes]:
        keys = await agree(party, WORLD)
        return {
            (frozenset((party.me, peer)), purpose, number): keys.stream(peer, purpose, number).bytes(16)
            for peer in party.others
            for purpose in ("zero", "ring", "dealer")
            for number in range(2)
        }

    drawn = simulate(dict.fromkeys(WORLD.members, program)).values()
    for own in drawn:
        for other in drawn:
            assert all(own[key] == other[key] for key in own.keys() & other.keys())
    everything = {key: words for own in drawn for key, words in own.items()}
    assert len(everything) == len(set(everything.values())) == 6 * 3 * 2


@pytest.mark.parametrize("n", [2, 3])
def test_a_computing_party_asks_for_no_stream_twice(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """Masks of conversions, of CrypTen's operations and of the dealer's triples; CrypTen itself is left out."""
    module = importlib.import_module(joined.__module__)  # whose name in the package is the function's
    world = World(tuple(f"p{i}" for i in range(n)), "dealer", "tcp://127.0.0.1:4000")
    asked: list[tuple[Any, ...]] = []
    stream = Keys.stream

    def note(keys: Keys, peer: str, purpose: str, number: int = 0) -> Any:
        asked.append((keys._me, peer, purpose, number))
        return stream(keys, peer, purpose, number)

    monkeypatch.setattr(Keys, "stream", note)
    monkeypatch.setattr(Keys, "check_apart", lambda _keys: None)
    monkeypatch.setattr(library, "load", lambda: (MagicMock(), MagicMock()))
    monkeypatch.setattr(module, "check_settings", lambda *_arguments: None)
    monkeypatch.setattr(module, "connected", lambda *_arguments: contextlib.nullcontext())
    for name in ("replace_generators", "remove_generators"):
        monkeypatch.setattr(randomness, name, lambda *_arguments, **_streams: None)

    async def compute(party: Any) -> None:
        async with module.joined(party, world):
            pass

    async def deal(party: Any) -> None:
        await agree(party, world)

    simulate(dict.fromkeys(world.computing, compute) | {"dealer": deal}).values()
    assert len(asked) == n * (n - 1 + 3)
    assert len(set(asked)) == len(asked)
    ends: dict[Any, int] = {}
    for me, peer, purpose, number in asked:  # each stream of two computing parties has both as its ends, once
        if peer != "dealer":
            key = (frozenset((me, peer)), purpose, number)
            ends[key] = ends.get(key, 0) + 1
    assert set(ends.values()) == {2}


def test_streams_of_one_secret_differ_by_session() -> None:
    parties = (
        cast(Any, SimpleNamespace(me="a", session=session)) for session in (bytes(32), bytes([1] * 32))
    )
    one, other = (Keys(party, {"b": bytes(64)}, ()).stream("b", "zero").bytes(16) for party in parties)
    assert one != other


def test_the_digest_of_a_world_depends_on_all_that_has_to_be_the_same() -> None:
    worlds = [
        World(("a", "b"), "c", "tcp://h:1"),
        World(("b", "a"), "c", "tcp://h:1"),
        World(("a", "b"), "d", "tcp://h:1"),
        World(("a", "b"), "c", "tcp://h:2"),
    ]
    assert len({world.digest for world in worlds}) == 4
    assert World(("a", "b"), "c", "tcp://h:1", interface="tun0", timeout_s=1).digest == worlds[0].digest


def test_parties_that_mean_different_worlds_are_named_to_each_other() -> None:
    def program(world: World) -> Any:
        async def one(party: Party) -> None:
            await agree(party, world)

        return one

    other = World((NAMES[1], NAMES[0], NAMES[2]), DEALER, WORLD.rendezvous)
    outcome = simulate({name: program(other if name == "west" else WORLD) for name in WORLD.members})
    assert {type(error) for error in outcome.errors.values()} == {RemoteProtocolError}
    assert "west joins another world" in str(outcome.errors["north"])


def test_a_secret_of_another_length_is_refused_with_its_senders_name() -> None:
    async def honest(party: Party) -> None:
        await agree(party, WORLD)

    async def short(party: Party) -> None:
        for peer in party.others:
            party.send(peer, Contribution(bytes(31), WORLD.digest, b"another"))

    programs = dict.fromkeys(WORLD.members, honest) | {"west": short}
    outcome = simulate(programs)
    with pytest.raises(RemoteProtocolError, match="a secret of 32 bytes from west, got 31"):
        raise outcome.errors["north"]


@pytest.mark.parametrize(
    "request_",
    [
        "terminate now",
        {"function": "_setup_generators", "device": None, "args": (), "kwargs": {}},
        {"function": "additive", "device": None, "args": ((2,), (2,), "save"), "kwargs": {}},
        {"function": "additive", "device": "cuda", "args": ((2,), (2,), "mul"), "kwargs": {}},
        {"function": "additive", "device": None, "args": ((2,),), "kwargs": {}},
        {"function": "additive", "device": None, "args": 3, "kwargs": {}},
        {"function": "square", "args": ((2,),)},
    ],
)
def test_a_dealer_answers_no_request_that_crypten_does_not_make(request_: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="north asked its dealer"):
        _answer(object(), request_, "north")
