"""The simulator: runs, its clock, faults, and thousands of parties in one process.

The module is long because its few programs serve runs with and without faults.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg import ledger as ledger_module
from secagg.cost.network import LAN, LOOPBACK, MOBILE, WAN, Network
from secagg.errors import (
    AbortedError,
    AuthenticationError,
    PeerVanishedError,
    RemoteProtocolError,
    TooFewPartiesError,
    UsageError,
)
from secagg.network.simulated import ACTIONS, Action, Fault, Outcome, simulate
from secagg.party import Computation, Party
from secagg.wire import Message

NAMES = ("a", "b", "c")
SLOW = Network("slow", latency_s=1.0, bytes_per_s=100.0, timeout_s=1000.0)


class Vector(Message, frozen=True):
    values: NDArray[np.uint64]


class Number(Message, frozen=True):
    value: int


async def two_rounds(p: Party) -> int:
    """Everybody tells everybody a random number, then the sum; return the sum of sums."""
    mine = int(p.rng.words(())) >> 8
    total = mine
    for _ in range(2):
        p.broadcast(Number(total))
        total += sum(m.value for m in (await p.gather(Number, p.others)).values())
    return total


async def one_way(p: Party, size: int) -> float:
    if p.me == "a":
        p.send("b", Vector(np.zeros(size, np.uint64)))
    elif p.me == "b":
        await p.receive(Vector, "a")
    return 0.0


def everybody(program: Any, names: tuple[str, ...] = NAMES, **options: Any) -> Outcome[Any]:
    return simulate(dict.fromkeys(names, program), **options)


def blamed(error: BaseException) -> str:
    assert isinstance(error, RemoteProtocolError | PeerVanishedError | AbortedError | TooFewPartiesError), (
        error
    )
    assert error.peer in str(error)
    # Of an end that another party told, whom that party saw doing it.
    return (error.accused if isinstance(error, AbortedError) else "") or error.peer


# Runs without faults.


def test_values_come_in_roster_order() -> None:
    async def who(p: Party) -> str:
        return p.me

    assert everybody(who, ("z", "a", "m")).values() == ["z", "a", "m"]


def test_no_parties_are_refused() -> None:
    with pytest.raises(UsageError):
        simulate({})


def test_a_party_that_starts_later_finds_what_came_before() -> None:
    out = simulate({n: lambda p: one_way(p, 0) for n in ("a", "b")}, network=SLOW, starts={"b": 50.0})
    assert out.seconds == pytest.approx(50.0)


def test_a_party_that_ended_before_another_started_is_named_by_it() -> None:
    async def fails(_: Party) -> None:
        raise UsageError("no data")

    async def waits(p: Party) -> None:
        await p.receive(Number, "a")

    out = simulate({"a": fails, "b": waits}, network=SLOW, starts={"b": 50.0})
    assert isinstance(out.errors["b"], AbortedError)
    assert out.errors["b"].peer == "a"


def test_uploads_of_clients_that_start_one_by_one_arrive_one_by_one() -> None:
    clients = tuple(f"client{i}" for i in range(5))
    begun: list[str] = []
    taken: list[tuple[str, int]] = []

    async def client(p: Party) -> None:
        begun.append(p.me)
        p.send("server", Number(1))

    async def server(p: Party) -> None:
        async for peer, _ in p.as_completed(Number, clients, quorum=1, timeout_s=100.0):
            taken.append((peer, len(begun)))

    programs: dict[str, Any] = {"server": server} | dict.fromkeys(clients, client)
    starts = {name: 10.0 * i for i, name in enumerate(clients)}
    simulate(programs, network=SLOW, starts=starts).values()
    assert taken == [(name, i + 1) for i, name in enumerate(clients)]


@pytest.mark.parametrize("starts", [{"a": -1.0}, {"a": float("nan")}, {"d": 1.0}])
def test_impossible_starts_are_refused(starts: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected parties to start at 0 s or later"):
        simulate(dict.fromkeys(NAMES, two_rounds), starts=starts)


def test_a_seed_reproduces_a_run_byte_for_byte() -> None:
    first, again, other, unseeded = (
        everybody(two_rounds, insecure_seed=seed, record=True) for seed in (5, 5, 6, None)
    )
    assert first.transcript == again.transcript
    assert first.values() == again.values()
    assert first.seconds == again.seconds
    assert len({x.transcript[0][2] for x in (first, other, unseeded)}) == 3


def test_a_seed_reproduces_a_run_with_faults() -> None:
    faults = [Fault("flip", 3), Fault("delay", 1), Fault("reorder", 0, "c")]
    runs = [everybody(two_rounds, insecure_seed=5, record=True, faults=faults) for _ in range(2)]
    assert runs[0].transcript == runs[1].transcript
    assert {n: str(e) for n, e in runs[0].errors.items()} == {n: str(e) for n, e in runs[1].errors.items()}
    assert runs[0].seconds == runs[1].seconds


def test_without_a_seed_two_runs_have_different_secrets_and_sessions() -> None:
    runs = [everybody(two_rounds, record=True) for _ in range(2)]
    assert runs[0].values() != runs[1].values()
    assert runs[0].transcript[0][2] != runs[1].transcript[0][2]


def test_parties_of_a_seeded_run_draw_different_secrets() -> None:
    async def draw(p: Party) -> bytes:
        return p.rng.bytes(16)

    assert len(set(everybody(draw, insecure_seed=1).values())) == 3


def test_a_protocol_may_write_into_what_it_received_without_harm_to_others() -> None:
    async def program(p: Party) -> int:
        mine = np.full(10, ord(p.me), np.uint64)
        p.broadcast(Vector(mine))
        got = await p.gather(Vector, p.others)
        for message in got.values():
            message.values[:] = 0
        return int(mine[0])

    assert everybody(program).values() == [97, 98, 99]


# The clock.


def frame_bytes(out: Outcome[Any], name: str = "a") -> int:
    return out.ledgers[name].total().sent.frame_bytes


def test_one_message_takes_latency_and_its_bytes_over_the_bandwidth() -> None:
    out = everybody(lambda p: one_way(p, 20), ("a", "b"), network=SLOW)
    assert out.seconds == pytest.approx(1.0 + frame_bytes(out) / 100)


def test_an_exchange_there_and_back_takes_twice_as_long() -> None:
    async def ping(p: Party) -> None:
        if p.me == "a":
            p.send("b", Number(1))
            await p.receive(Number, "b")
        else:
            await p.receive(Number, "a")
            p.send("a", Number(2))

    out = everybody(ping, ("a", "b"), network=SLOW)
    assert out.seconds == pytest.approx(2 * (1.0 + frame_bytes(out) / 100))


def test_messages_both_ways_at_once_do_not_slow_each_other() -> None:
    async def swap(p: Party) -> None:
        p.broadcast(Vector(np.zeros(20, np.uint64)))
        await p.gather(Vector, p.others)

    out = everybody(swap, ("a", "b"), network=SLOW)
    assert out.seconds == pytest.approx(1.0 + frame_bytes(out) / 100)


def test_messages_to_two_receivers_share_the_senders_line() -> None:
    async def fan_out(p: Party) -> None:
        if p.me == "a":
            p.broadcast(Vector(np.zeros(20, np.uint64)))
        else:
            await p.receive(Vector, "a")

    out = everybody(fan_out, network=SLOW)
    assert out.seconds == pytest.approx(1.0 + frame_bytes(out) / 100)  # of both frames, one after the other
    waits = [out.ledgers[n].total().wait_s for n in ("b", "c")]
    assert waits == pytest.approx([1.0 + frame_bytes(out) / 200, 1.0 + frame_bytes(out) / 100])


def test_messages_from_two_senders_share_the_receivers_line() -> None:
    async def fan_in(p: Party) -> None:
        if p.me == "a":
            await p.gather(Vector, p.others)
        else:
            p.send("a", Vector(np.zeros(20, np.uint64)))

    out = everybody(fan_in, network=SLOW)
    assert out.seconds == pytest.approx(1.0 + 2 * frame_bytes(out, "b") / 100)


def test_a_frame_still_to_be_sent_does_not_occupy_its_receivers_line() -> None:
    # a sends much to c and then a little to b; meanwhile c sends a little to b, which must not wait for a's.
    async def program(p: Party) -> None:
        if p.me == "a":
            p.send("c", Vector(np.zeros(1000, np.uint64)))
            p.send("b", Number(1))
        elif p.me == "b":
            await p.receive(Number, "c")
        else:
            p.send("b", Number(2))

    out = everybody(program, network=SLOW)
    assert out.ledgers["b"].total().wait_s == pytest.approx(1.0 + frame_bytes(out, "c") / 100)


def test_computing_takes_virtual_time_where_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(ledger_module, "perf_counter", lambda: now[0])

    async def program(p: Party) -> None:
        if p.me == "a":
            now[0] += 7.0
            p.send("b", Number(1))
            now[0] += 2.0  # still computing: what it sent leaves with its next wait
        elif p.me == "b":
            await p.receive(Number, "c")
            now[0] += 0.5
            await p.receive(Number, "a")
        else:
            now[0] += 3.0
            p.send("b", Number(2))

    out = everybody(program, network=SLOW, measure_compute=True)
    size = frame_bytes(out, "c") / 100
    assert out.seconds == pytest.approx(9.0 + 1.0 + size)
    # b is not kept from c's message by a's, which leaves later though a was simulated first.
    assert out.ledgers["b"].total().wait_s == pytest.approx(3.0 + 1.0 + size + (9.0 - 3.0 - 0.5))
    assert everybody(program, network=SLOW).seconds == pytest.approx(1.0 + 2 * size)


def test_a_party_that_computes_reads_what_comes_meanwhile_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(ledger_module, "perf_counter", lambda: now[0])

    async def program(p: Party) -> None:
        if p.me == "a":
            p.send("b", Number(1))
            p.send("b", Number(2))
        else:
            for _ in range(2):
                await p.receive(Number, "a")
                now[0] += 10.0

    out = everybody(program, ("a", "b"), network=SLOW, measure_compute=True)
    assert out.seconds == pytest.approx(1.0 + frame_bytes(out) / 2 / 100 + 10.0 + 10.0)


@pytest.mark.parametrize("network", [LOOPBACK, LAN, WAN, MOBILE])
def test_named_networks_predict_latency_and_bandwidth(network: Network) -> None:
    out = everybody(lambda p: one_way(p, 10_000), ("a", "b"), network=network)
    assert out.seconds == pytest.approx(network.latency_s + frame_bytes(out) / network.bytes_per_s)


@pytest.mark.parametrize(
    "numbers", [(-1.0, 1.0, 1.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (float("nan"), 1.0, 1.0)]
)
def test_impossible_networks_are_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError):
        Network("x", *numbers)


def test_a_network_without_latency_works() -> None:
    assert everybody(two_rounds, network=Network("ideal", 0.0, 1e12)).results.keys() == set(NAMES)


# Thousands of parties.


@pytest.mark.slow
def test_five_thousand_parties_fit_one_process() -> None:
    names = ("server", *(f"c{i}" for i in range(4999)))

    async def server(p: Party) -> NDArray[np.uint64]:
        total = np.zeros(16, np.uint64)
        for message in (await p.gather(Vector, p.others)).values():
            total += message.values
        return total

    async def client(p: Party) -> None:
        p.send("server", Vector(np.full(16, int(p.me[1:]), np.uint64)))

    programs: dict[str, Any] = dict.fromkeys(names, client) | {"server": server}
    out = simulate(programs)
    assert set(out.results["server"].tolist()) == {4999 * 4998 // 2}
    assert out.messages == 4999


@pytest.mark.slow
def test_a_crash_among_thousands_ends_the_run_for_all_of_them() -> None:
    names = ("server", *(f"c{i}" for i in range(1999)))

    async def server(p: Party) -> None:
        await p.gather(Number, p.others)
        p.broadcast(Number(0))

    async def client(p: Party) -> None:
        p.send("server", Number(1))
        await p.receive(Number, "server")

    programs: dict[str, Any] = dict.fromkeys(names, client) | {"server": server}
    out = simulate(programs, faults=[Fault("crash", 0, "c1234")])
    assert len(out.errors) == 1999
    assert {blamed(e) for e in out.errors.values()} == {"c1234"}


# Faults.


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("message", range(12))
def test_a_fault_at_any_message_ends_well_or_blames_its_sender(action: Action, message: int) -> None:
    right = everybody(two_rounds, insecure_seed=3, record=True)
    assert right.messages == 12
    sender = right.transcript[message][0]
    out = everybody(two_rounds, insecure_seed=3, faults=[Fault(action, message)])
    for name, value in out.results.items():
        assert value == right.results[name]
    for error in out.errors.values():
        assert blamed(error) == sender
    missing = set(NAMES) - set(out.results) - set(out.errors)
    assert missing == ({sender} if action == "crash" else set())
    if action == "delay":
        assert not out.errors


def test_a_dropped_message_makes_its_receiver_name_the_sender_when_time_is_over() -> None:
    out = everybody(
        two_rounds, faults=[Fault("drop", 0, "a", "b")], network=Network("n", 0.001, 1e9, timeout_s=5.0)
    )
    assert isinstance(out.errors["b"], PeerVanishedError)
    assert {blamed(e) for e in out.errors.values()} == {"a"}
    assert 5.0 <= out.seconds < 5.1


def test_a_delayed_message_arrives_later_by_so_much() -> None:
    plain = everybody(lambda p: one_way(p, 20), ("a", "b"), network=SLOW)
    late = everybody(
        lambda p: one_way(p, 20), ("a", "b"), network=SLOW, faults=[Fault("delay", 0, seconds=12.5)]
    )
    assert late.seconds == pytest.approx(plain.seconds + 12.5)


def test_a_message_delayed_past_the_timeout_is_missing() -> None:
    out = everybody(
        lambda p: one_way(p, 20), ("a", "b"), network=SLOW, faults=[Fault("delay", 0, seconds=1001.0)]
    )
    assert blamed(out.errors["b"]) == "a"


def test_a_delayed_message_that_later_ones_overtake_is_still_read_first() -> None:
    async def program(p: Party) -> list[int]:
        if p.me == "a":
            for i in range(3):
                p.send("b", Number(i))
            return []
        return [(await p.receive(Number, "a")).value for _ in range(3)]

    for action in ("delay", "reorder"):
        out = everybody(program, ("a", "b"), faults=[Fault(action, 0)])
        assert out.results["b"] == [0, 1, 2]


def test_a_reordered_message_with_none_behind_it_never_arrives() -> None:
    out = everybody(lambda p: one_way(p, 20), ("a", "b"), faults=[Fault("reorder", 0)])
    assert blamed(out.errors["b"]) == "a"


def test_a_duplicated_message_is_an_error_that_names_the_sender() -> None:
    out = everybody(two_rounds, faults=[Fault("duplicate", 0, "a", "b")])
    assert isinstance(out.errors["b"], RemoteProtocolError)
    assert {blamed(e) for e in out.errors.values()} == {"a"}


@pytest.mark.parametrize("action", ["truncate", "flip"])
def test_altered_frames_are_caught_by_the_channels_authentication(action: Action) -> None:
    for seed in range(30):
        out = everybody(two_rounds, insecure_seed=seed, faults=[Fault(action, 0, "a", "b")])
        assert isinstance(out.errors["b"], AuthenticationError)
        assert "altered" in str(out.errors["b"])


def test_a_crash_is_named_by_everybody() -> None:
    out = everybody(two_rounds, ("a", "b", "c", "d", "e"), faults=[Fault("crash", 1, "c")])
    assert set(out.errors) == {"a", "b", "d", "e"}
    assert {blamed(e) for e in out.errors.values()} == {"c"}
    assert out.results == {}
    with pytest.raises(PeerVanishedError):
        out.values()


@pytest.mark.parametrize("count", [1, 3])
def test_what_a_party_sent_before_it_crashed_still_arrives(count: int) -> None:
    async def program(p: Party) -> int:
        if p.me == "a":
            for _ in range(count):
                p.send("b", Vector(np.zeros(1000, np.uint64)))
            p.send("b", Number(2))  # the crash
            return 0
        return sum([(await p.receive(Vector, "a")).values.size for _ in range(count)])

    out = everybody(program, ("a", "b"), network=SLOW, faults=[Fault("crash", count)])
    assert out.results == {"b": 1000 * count}
    with pytest.raises(PeerVanishedError, match="a crashed"):
        out.values()


def test_an_error_of_one_party_names_it_at_everybody() -> None:
    async def program(p: Party) -> int:
        if p.me == "b":
            raise KeyError("a secret value")
        return await two_rounds(p)

    out = everybody(program)
    assert isinstance(out.errors["b"], KeyError)
    for name in ("a", "c"):
        assert isinstance(out.errors[name], AbortedError)
        assert blamed(out.errors[name]) == "b"
        assert "secret" not in str(out.errors[name])


def test_results_that_are_asked_for_raise_the_cause_and_not_what_others_heard_of_it() -> None:
    async def program(p: Party) -> None:
        if p.me == "c":
            raise MemoryError
        await p.receive(Number, "c")

    out = everybody(program)
    with pytest.raises(MemoryError) as caught:
        out.values()
    assert caught.value.__notes__ == ["raised in the program of c"]


def test_the_culprit_and_not_who_found_out_is_blamed_everywhere() -> None:
    # Only a hears from d; b and c wait for a.
    async def program(p: Party) -> None:
        if p.me == "d":
            p.send("a", Vector(np.zeros(1, np.uint64)))
        elif p.me == "a":
            await p.receive(Number, "d")
            p.broadcast(Number(1))
        else:
            await p.receive(Number, "a")

    out = everybody(program, ("a", "b", "c", "d"))
    assert isinstance(out.errors["a"], RemoteProtocolError)
    assert {blamed(out.errors[n]) for n in "abc"} == {"d"}
    assert out.results == {"d": None}


def test_faults_count_messages_between_the_parties_they_name() -> None:
    hits = []
    for sender, receiver in itertools.permutations(NAMES, 2):
        out = everybody(two_rounds, insecure_seed=1, faults=[Fault("duplicate", 1, sender, receiver)])
        # The second message of a pair is its last: its copy comes too late to matter, or is an error of it.
        hits.append({blamed(e) for e in out.errors.values()} <= {sender})
    assert all(hits)
    assert not everybody(two_rounds, faults=[Fault("crash", 4, "a")]).errors  # a sends four messages
    assert everybody(two_rounds, faults=[Fault("crash", 3, "a")]).errors


def test_several_faults_in_one_run() -> None:
    out = everybody(
        two_rounds, ("a", "b", "c", "d"), faults=[Fault("crash", 0, "b"), Fault("flip", 0, "c", "d")]
    )
    assert set(out.errors) == {"a", "c", "d"}
    assert {blamed(e) for e in out.errors.values()} <= {"b", "c"}


# Deadlines and quorums.


def star(quorum: int, timeout_s: float | None = None) -> dict[str, Any]:
    async def server(p: Party) -> list[str]:
        return list(await p.gather(Number, p.others, quorum=quorum, timeout_s=timeout_s))

    async def client(p: Party) -> None:
        p.send("server", Number(1))

    return {"server": server, **dict.fromkeys("abcd", client)}


def test_a_quorum_leaves_out_who_is_late_and_counts_from_the_protocols_own_deadline() -> None:
    out = simulate(star(3, 2.0), network=SLOW, faults=[Fault("delay", 0, "b", seconds=50.0)])
    assert isinstance(out.errors["server"], TooFewPartiesError)
    assert out.seconds == pytest.approx(2.0)
    out = simulate(star(3, 20.0), network=SLOW, faults=[Fault("delay", 0, "b", seconds=50.0)])
    assert out.results["server"] == ["a", "c", "d"]
    assert out.seconds == pytest.approx(20.0)


def test_a_quorum_that_is_not_reached_names_who_is_missing() -> None:
    out = simulate(star(4), faults=[Fault("drop", 0, "b")])
    error = out.errors["server"]
    assert isinstance(error, TooFewPartiesError)
    assert blamed(error) == "b"


@pytest.mark.parametrize("action", ["drop", "crash", "flip", "truncate"])
def test_a_quorum_survives_what_happens_to_one_client(action: Action) -> None:
    out = simulate(star(3), faults=[Fault(action, 0, "c")])
    assert out.results["server"] == ["a", "b", "d"]


def test_a_protocol_that_waits_in_a_circle_ends_with_errors() -> None:
    async def circle(p: Party) -> None:
        await p.receive(Number, {"a": "b", "b": "c", "c": "a"}[p.me])

    out = everybody(circle)
    assert set(out.errors) == set(NAMES)
    assert out.seconds == pytest.approx(LOOPBACK.timeout_s, rel=0.01)


def test_programs_may_differ_by_party() -> None:
    async def left(p: Party) -> str:
        p.send("r", Number(1))
        return "left"

    async def right(p: Party) -> str:
        return f"right {(await p.receive(Number, 'l')).value}"

    programs: dict[str, Any] = {"l": left, "r": right}
    out: Outcome[str] = simulate(programs)
    assert out.values() == ["left", "right 1"]


def as_program(p: Party) -> Computation[int]:
    return two_rounds(p)


def test_outcome_counts_messages_and_keeps_no_transcript_unless_asked() -> None:
    out = everybody(as_program)
    assert (out.messages, out.transcript) == (12, [])
    assert len(everybody(as_program, record=True).transcript) == 12
