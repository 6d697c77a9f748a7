"""Parties as processes on this machine: they meet, run, and end well or with an error that names a party.

`Child.outcome` waits for some minutes, which is less than the timeouts that a test does not mean: a test that has to
wait for those fails. A line of the party says where it is: seconds pass differently on a busy machine.

Longer than most test modules: every way to end is tried on the same processes.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from cast import Cast, named, tls_client
from ports import reserved_ports
from secagg.errors import UsageError
from secagg.network.hello import derive_session
from secagg.network.identity import create_identity, load_identity
from secagg.network.simulated import simulate
from secagg.network.tcp import Peer, Timeouts, run_party, run_party_insecure_plain
from tcp_programs import NAMES, ring_sum

pytestmark = pytest.mark.slow


# Runs that end well.


def talk(context: ssl.SSLContext, sock: socket.socket) -> None:
    with context.wrap_socket(sock) as secure:
        secure.sendall(b"anything")
        if not secure.recv(1):
            raise ConnectionError("closed")


@pytest.mark.parametrize("plain", [False, True])
def test_three_processes_compute_what_one_computes_at_the_same_cost(cast: Cast, plain: bool) -> None:
    expected = simulate({name: lambda party: ring_sum(party, turns=3) for name in NAMES})
    outcomes = [c.outcome() for c in cast.start_all(arguments={"turns": 3}, plain=plain)]
    assert [o["result"] for o in outcomes] == expected.values() == [54, 54, 54]
    for outcome, ledger in zip(outcomes, expected.ledgers.values(), strict=True):
        total = ledger.total()
        assert outcome["cost"] == [
            total.rounds,
            total.sent.messages,
            total.sent.frame_bytes,
            total.received.frame_bytes,
        ]
        assert plain or {"turn 0", "turn 1", "turn 2"} <= set(outcome["phases"])


def test_parties_may_be_started_in_any_order(cast: Cast) -> None:
    children = []
    for name in reversed(NAMES):
        children.append(cast.start(name))
        time.sleep(0.4)
    assert [c.outcome()["result"] for c in children] == [18, 18, 18]


def test_more_than_sockets_hold_to_everybody_at_once_does_not_deadlock(cast: Cast) -> None:
    children = cast.start_all("exchange_large", arguments={"mbytes": 48})
    assert [c.outcome()["result"] for c in children] == [1, 1, 1]


def test_heartbeats_keep_a_long_computation_alive(cast: Cast) -> None:
    children = cast.start_all("compute_long", arguments={"seconds": 5.0}, timeouts={"silence_s": 2.5})
    assert [c.outcome()["result"] for c in children] == [18, 18, 18]


@pytest.mark.parametrize("words", [10, 3 << 17])
def test_who_ends_early_ends_nobody_else_and_all_it_sent_arrives(cast: Cast, words: int) -> None:
    # Heartbeats every 0.5 s run into the ended connection while its last message waits to be read.
    children = cast.start_all("leave_early", arguments={"words": words}, timeouts={"silence_s": 2.0})
    assert [c.outcome()["result"] for c in children] == [words, words, words]


def test_a_quorum_goes_on_without_a_party_that_was_killed(cast: Cast) -> None:
    children = cast.start_all("quorum", arguments={"victim": "bank_b"})
    for child in children:
        child.wait_for("answering")
    children[1].kill()
    assert children[0].outcome()["result"] == 1
    assert "goes on without bank_b" in children[0].log
    assert children[2].outcome()["result"] == 0


def test_who_waits_for_others_bears_the_loss_of_an_optional_party(cast: Cast) -> None:
    children = cast.start_all("bears_the_loss", arguments={"victim": "bank_b"})
    for child in children:
        child.wait_for("answering")
    children[1].kill()
    assert [children[i].outcome()["result"] for i in (0, 2)] == [1, 0]


def test_the_loss_of_a_party_that_is_not_optional_ends_all(cast: Cast) -> None:
    children = cast.start_all("bears_the_loss", arguments={"victim": "bank_a"})
    for child in children:
        child.wait_for("answering")
    children[0].kill()
    assert children[2].outcome()["peer"] == "bank_a"


def test_a_party_that_is_far_ahead_is_made_to_wait_and_nothing_is_lost(cast: Cast) -> None:
    limit, words, frames = 1 << 20, 1 << 15, 120
    children = cast.start_all(
        "run_ahead", arguments={"frames": frames, "words": words}, limits={"max_unread_bytes": limit}
    )
    held, in_order = children[1].outcome()["result"]
    assert in_order
    assert limit <= held <= limit + 9 * words  # one frame more than the limit, with its header
    assert children[0].outcome()["result"] == children[2].outcome()["result"] == []


def test_a_message_longer_than_what_may_stand_unread_is_taken_when_it_is_asked_for(cast: Cast) -> None:
    children = cast.start_all(
        "run_ahead", arguments={"frames": 2, "words": 1 << 18}, limits={"max_unread_bytes": 1 << 20}
    )
    assert children[1].outcome()["result"] == [0, 1]  # nothing was held, and both came
    assert children[0].outcome()["result"] == children[2].outcome()["result"] == []


def test_a_party_that_is_made_to_wait_is_not_taken_for_silent(cast: Cast) -> None:
    children = cast.start_all(
        "busy_and_ahead", limits={"max_unread_bytes": 1 << 20}, timeouts={"silence_s": 3.0}
    )
    outcomes = [child.outcome() for child in children]
    assert [outcome.get("result") for outcome in outcomes] == [1 << 23, 8 << 15, 0], outcomes


def test_strangers_hold_up_nobody(cast: Cast, tmp_path: Path) -> None:
    children = [cast.start("bank_a")]
    at = ("127.0.0.1", cast.ports["bank_a"])
    with contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            for _ in range(3000):
                with contextlib.suppress(ConnectionRefusedError):
                    return stack.enter_context(socket.create_connection(at, timeout=10))
                time.sleep(0.02)
            raise AssertionError(f"nobody listens at {at}")

        for silent in [connect() for _ in range(80)][:10]:
            silent.close()
        connect().sendall(b"GET / HTTP/1.1\r\n\r\n" * 1000)
        connect().sendall(b"\x16\x03\x01\xff\xff" + bytes(70_000))
        for version, who in (("TLSv1_3", "stranger"), ("TLSv1_3", None), ("TLSv1_2", "bank_b")):
            context = tls_client(version)
            if who is not None:
                (create_identity("bank_b") if who == "stranger" else cast.load(who)).load_into(context)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                talk(context, connect())
        children += [cast.start("bank_b"), cast.start("bank_c")]
        assert [c.outcome()["result"] for c in children] == [18, 18, 18]
    dropped = [line for line in children[0].log.splitlines() if "dropped" in line]
    whats = ("has no certificate that is known here", "does not speak TLS; is it a secagg party?")
    for what in (*whats, "shows no certificate", "does not speak TLS 1.3"):
        assert any(
            re.search(rf"bank_a dropped a connection: 127.0.0.1:\d+ {re.escape(what)}$", d) for d in dropped
        )
    assert not re.search(r"_ssl\.c|SSL:|Traceback", children[0].log)
    assert "anything" not in children[0].log


def test_a_party_killed_before_all_are_there_may_come_back(cast: Cast) -> None:
    children = [cast.start("bank_a"), first := cast.start("bank_b", tells_meeting=True)]
    first.wait_for("met")
    first.kill()
    children[1:] = [cast.start("bank_b"), cast.start("bank_c")]
    assert [c.outcome()["result"] for c in children] == [18, 18, 18]


# Parties that vanish, stall, or give up.


@pytest.mark.parametrize("victim", NAMES)
@pytest.mark.parametrize("stage", ["start", "unneeded", "sending"])
def test_kill_9_of_any_party_at_any_stage_ends_the_others_who_name_it(
    cast: Cast, stage: str, victim: str
) -> None:
    children = cast.start_all("stuck_at", arguments={"stage": stage, "victim": victim})
    culprit = children[NAMES.index(victim)]
    culprit.wait_for(stage)
    time.sleep(0.2)
    culprit.kill()
    for child in children:
        if child is not culprit:
            child.go_on()
    for child in children:
        if child is not culprit:
            outcome = child.outcome()
            assert outcome["error"] in {"PeerVanishedError", "AbortedError"}
            assert named(outcome) == victim
            assert victim in outcome["text"]


def test_a_stopped_process_is_named_after_the_silence(cast: Cast) -> None:
    children = cast.start_all(
        "stuck_at", arguments={"stage": "start", "victim": "bank_b"}, timeouts={"silence_s": 3.0}
    )
    children[1].wait_for("start")
    children[1].send_signal(signal.SIGSTOP)
    for child in (children[0], children[2]):
        outcome = child.outcome()
        assert outcome["error"] in {"PeerVanishedError", "AbortedError"}
        assert named(outcome) == "bank_b"
        assert re.search(r"nothing came from bank_b for \d+ s|its connection ended", outcome["text"])


def test_a_peer_that_ended_without_sending_is_named(cast: Cast) -> None:
    children = cast.start_all("wait_for_nothing")
    assert children[0].outcome()["result"] == 0
    for child in children[1:]:
        outcome = child.outcome()
        assert named(outcome) == "bank_a"
        assert "bank_a has ended its part and sends nothing more" in outcome["text"]


def test_a_living_peer_that_never_sends_is_named_after_the_message_timeout(cast: Cast) -> None:
    children = cast.start_all("deadlocked", timeouts={"message_s": 4.0, "silence_s": 3.0})
    for child in children:
        outcome = child.outcome()
        assert outcome["error"] in {"PeerVanishedError", "AbortedError"}
        assert "waited for Values from" in outcome["text"]


def test_an_error_in_one_party_ends_the_others_and_tells_its_kind_only(cast: Cast) -> None:
    children = cast.start_all("fail")
    assert children[1].outcome() == {
        "error": "KeyError",
        "text": "'secret 4711'",
        "peer": None,
        "accused": None,
    }
    for child in (children[0], children[2]):
        outcome = child.outcome()
        assert outcome["error"] == "AbortedError"
        assert "bank_b ended the run: KeyError" in outcome["text"]
        if outcome["peer"] != "bank_b":  # the other one was told first, and this one by that one
            assert re.match("bank_[ac]: bank_b ended the run: ", outcome["text"])
        assert "4711" not in outcome["text"] + child.log


def test_ctrl_c_ends_the_others_who_name_who_pressed_it(cast: Cast) -> None:
    children = cast.start_all("stuck_at", arguments={"stage": "start", "victim": "bank_c"})
    children[2].wait_for("start")
    children[2].send_signal(signal.SIGINT)
    assert children[2].outcome()["error"] == "KeyboardInterrupt"
    for child in children[:2]:
        outcome = child.outcome()
        assert outcome["error"] == "AbortedError"
        if outcome["peer"] == "bank_c":
            assert "bank_c ended the run: it was stopped" in outcome["text"]
        else:  # the other one was told first, and ended in its turn
            assert re.search("bank_[ab]: bank_c was stopped", outcome["text"])
        assert "KeyboardInterrupt" not in outcome["text"]


# Parties that are not who or what they should be.


def test_a_wrong_certificate_where_one_dials_is_named_with_the_fingerprint(cast: Cast) -> None:
    cast.start("bank_a", key="other/bank_a.key", pins={"bank_a": "other/bank_a.crt"})
    pinned = cast.load("bank_a").fingerprint
    for child in [cast.start("bank_b"), cast.start("bank_c")]:
        outcome = child.outcome()
        assert outcome["error"] in {"AuthenticationError", "AbortedError"}
        # The second may be told by the first.
        assert outcome["peer"] == "bank_a" or "bank_a is to blame" in outcome["text"]
        assert f"expected bank_a with certificate {pinned}" in outcome["text"]
        assert "compare fingerprints with bank_a" in outcome["text"]


def test_a_wrong_certificate_of_one_who_dials_is_told_to_both(cast: Cast) -> None:
    names = NAMES[:2]
    b = cast.start("bank_b", names=names, key="other/bank_b.key", pins={"bank_b": "other/bank_b.crt"})
    a = cast.start("bank_a", names=names, timeouts={"connect_s": 5.0})
    outcome = b.outcome()
    assert (outcome["error"], outcome["peer"]) == ("AuthenticationError", "bank_a")
    used = load_identity("bank_b", cast.directory / "other/bank_b.key", cast.directory / "other/bank_b.crt")
    assert f"this party's certificate {used.fingerprint}" in outcome["text"]
    outcome = a.outcome()
    assert (outcome["error"], outcome["peer"]) == ("AuthenticationError", "bank_b")
    assert "turned away for its certificate" in outcome["text"]
    assert "fingerprints with bank_b" in outcome["text"]


def test_a_party_that_never_comes_is_named_after_the_connect_timeout(cast: Cast) -> None:
    b = cast.start("bank_b", names=NAMES[:2], timeouts={"connect_s": 0.5})
    outcome = b.outcome()
    assert (outcome["error"], outcome["peer"]) == ("PeerVanishedError", "bank_a")
    assert f"bank_a at 127.0.0.1:{cast.ports['bank_a']} (Connection refused)" in outcome["text"]


@pytest.mark.parametrize(
    ("difference", "error", "text"),
    [
        ({"release": "9.9.9"}, "RemoteProtocolError", "runs secagg .*run the same release"),
        ({"wire_version": 200}, "WireError", "speaks wire version .*run the same release"),
        ({"agreement": "ab" * 32}, "JobError", "job differs from this one .*compare the files"),
        ({"names": NAMES[::-1]}, "JobError", "list of parties differs .*compare the files"),
    ],
)
def test_a_difference_is_told_to_everybody_and_nothing_is_started(
    cast: Cast, difference: dict[str, Any], error: str, text: str
) -> None:
    children = [cast.start("bank_a"), cast.start("bank_b"), cast.start("bank_c", **difference)]
    outcomes = [c.outcome() for c in children]
    for outcome in outcomes:
        assert outcome["error"] in {error, "AbortedError"}
        assert re.search(text, outcome["text"])
    assert outcomes[2]["error"] == error
    assert error in {outcomes[0]["error"], outcomes[1]["error"]}


def test_a_second_instance_on_the_same_machine_finds_the_port_in_use(cast: Cast) -> None:
    children = cast.start_all("compute_meanwhile")
    children[1].wait_for("computing")
    outcome = cast.start("bank_b").outcome()
    children[1].go_on()
    assert outcome["error"] == "UsageError"
    assert "Address already in use; is bank_b running already?" in outcome["text"]
    assert [c.outcome()["result"] for c in children] == [18, 18, 18]


@pytest.mark.parametrize("met", [False, True])
def test_a_second_instance_elsewhere_is_turned_away_and_the_first_goes_on(cast: Cast, met: bool) -> None:
    children = [
        cast.start(name, "compute_meanwhile", tells_meeting=not met) for name in NAMES[0 if met else 1 :]
    ]
    for child in children:
        child.wait_for("computing" if met else "met")
    with reserved_ports(1) as (port,):
        outcome = cast.start("bank_c", listen=port).outcome()
    assert outcome["error"] == "AbortedError"
    assert outcome["peer"] in {"bank_a", "bank_b"}  # which turned it away
    assert "bank_c is connected to bank_" in outcome["text"]
    assert "was it started twice?" in outcome["text"]
    if not met:
        children.insert(0, cast.start("bank_a", "compute_meanwhile"))
    children[1].go_on()
    assert [c.outcome()["result"] for c in children] == [18, 18, 18]


# What the caller gets wrong.


def test_plain_connections_are_for_this_machine_alone() -> None:
    for host in ("192.0.2.1", "0.0.0.0", "bank.example", "localhost", "::"):
        with pytest.raises(UsageError, match="without TLS expected loopback addresses"):
            run_party_insecure_plain(ring_sum, me="a", addresses={"a": ("127.0.0.1", 1), "b": (host, 2)})


def test_parties_and_certificates_must_fit_together(directory: Path) -> None:
    identities = {
        name: load_identity(name, directory / f"{name}.key", directory / f"{name}.crt") for name in NAMES
    }
    peers = [Peer(name, "127.0.0.1", 1, i.certificate) for name, i in identities.items()]
    common: dict[str, Any] = {"listen": ("127.0.0.1", 0), "agreement": bytes(32)}
    a = identities["bank_a"]
    with pytest.raises(UsageError, match="expected bank_a's identity and peers of distinct names"):
        run_party(ring_sum, me="bank_a", identity=a, peers=peers[1:], **common)
    with pytest.raises(UsageError, match="expected bank_b's identity"):
        run_party(ring_sum, me="bank_b", identity=a, peers=peers, **common)
    with pytest.raises(UsageError, match="distinct names"):
        run_party(ring_sum, me="bank_a", identity=a, peers=[*peers, peers[1]], **common)
    with pytest.raises(UsageError, match="is not that of this identity"):
        run_party(ring_sum, me="bank_a", identity=create_identity("bank_a"), peers=peers, **common)
    wrong = Peer("bank_d", "127.0.0.1", 1, a.certificate)
    with pytest.raises(UsageError, match="expected a certificate for bank_d, got one for bank_a"):
        run_party(ring_sum, me="bank_a", identity=a, peers=[*peers, wrong], **common)
    with pytest.raises(UsageError, match="digest of 32 bytes, got 3"):
        run_party(ring_sum, me="bank_a", identity=a, peers=peers, listen=("127.0.0.1", 0), agreement=b"abc")
    with pytest.raises(UsageError, match="cannot listen at"):
        run_party(
            ring_sum, me="bank_a", identity=a, peers=peers, listen=("192.0.2.1", 1), agreement=bytes(32)
        )
    with pytest.raises(UsageError, match="above 0 s"):
        Timeouts(silence_s=0)


def test_a_party_alone_runs(directory: Path) -> None:
    a = load_identity("bank_a", directory / "bank_a.key", directory / "bank_a.crt")
    peers = [Peer("bank_a", "127.0.0.1", 1, a.certificate)]
    result, _ = run_party(
        ring_sum, me="bank_a", identity=a, peers=peers, listen=("127.0.0.1", 0), agreement=bytes(32)
    )
    assert result == 3


def test_sessions_depend_on_every_part_and_on_where_it_ends() -> None:
    nonces = {"a": bytes(32), "b": b"\1" * 32}
    session = derive_session(bytes(32), nonces)
    assert len(session) == 32
    others = [
        derive_session(b"\1" * 32, nonces),
        derive_session(bytes(32), {"a": bytes(32), "b": b"\2" * 32}),
        derive_session(bytes(32), {"a": b"\1" * 32, "b": bytes(32)}),
        derive_session(bytes(32), {"b": b"\1" * 32, "a": bytes(32)}),
        derive_session(bytes(32), {"ab": bytes(32), "": b"\1" * 32}),
        derive_session(bytes(32), {"a": bytes(32)}),
    ]
    assert len({session, *others}) == 7
