"""A server whose work is divided gives clients the same messages, and the same sum, as one that does all itself.

Long, as all cases compare the same two servers, which are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from secagg import wire
from secagg.errors import RemoteProtocolError, TooFewPartiesError, UsageError
from secagg.network.simulated import simulate
from secagg.party import Party
from secagg.protocols.masked_sum import (
    Division,
    GraphParameters,
    Keys,
    MaskedSum,
    PeerKeys,
    Server,
    ShardedServer,
    aggregate,
    arcs,
    reference,
)
from secagg.protocols.masked_sum.keys import sign_keys
from secagg.protocols.masked_sum.shamir import SHARE_BYTES
from secagg.protocols.masked_sum.spool import Records, Spool
from secagg.wire import Message


def in_bytes(seen: list[arcs.Task]) -> Callable[[Iterable[arcs.Task]], Iterator[arcs.Answer]]:
    """Do tasks that went through bytes, as those of other processes, and keep them."""

    def do(tasks: Iterable[arcs.Task]) -> Iterator[arcs.Answer]:
        for task in tasks:
            seen.append(task)
            answer = arcs.do(wire.from_bytes(wire.to_bytes(task), type(task)))
            yield wire.from_bytes(wire.to_bytes(answer), type(answer))

    return do


@pytest.fixture
def seen() -> list[arcs.Task]:
    return []


@pytest.fixture
def division(tmp_path: Path, seen: list[arcs.Task]) -> Division:
    return Division(tmp_path / "spool", clients=5, slices=3, do=in_bytes(seen))


def frames(messages: Mapping[str, Message] | Iterable[tuple[str, Message]]) -> dict[str, bytes]:
    pairs = messages.items() if isinstance(messages, Mapping) else messages
    return {name: wire.to_bytes(message) for name, message in pairs}


def play_both(
    p: Any, server: ShardedServer, *, without: tuple[str, str, str, str]
) -> tuple[MaskedSum, MaskedSum]:
    """Play a round against two servers that get the same messages; at each step one client more is silent."""
    first, second, third, fourth = without
    whole = Server(p.where)
    for name in (n for n in p.names if n != first):
        message = p.clients[name].advertise()
        whole.take_keys(name, message)
        server.take_keys(name, message)
    keys = whole.close_keys()
    assert frames(server.close_keys()) == frames(keys)
    for name in (n for n in keys if n != second):
        message = p.clients[name].share(keys[name])
        whole.take_shares(name, message)
        server.take_shares(name, message)
    inboxes = whole.close_shares()
    assert frames(server.close_shares()) == frames(inboxes)
    for name in (n for n in inboxes if n != third):
        message = p.clients[name].mask(p.xs[name], inboxes[name])
        whole.take_input(name, message)
        server.take_input(name, message)
    request: Any = whole.close_inputs()
    assert wire.to_bytes(server.close_inputs()) == wire.to_bytes(request)
    if p.terms.malicious:
        for name in whole.included:
            message = p.clients[name].consent(request)
            whole.take_consent(name, message)
            server.take_consent(name, message)
        request = whole.close_consents()
        assert wire.to_bytes(server.close_consents()) == wire.to_bytes(request)
    for name in (n for n in whole.included if n != fourth):
        message = p.clients[name].unmask(request)
        whole.take_answer(name, message)
        server.take_answer(name, message)
    return whole.finish(), server.finish()


def test_clients_get_the_same_messages_and_the_server_the_same_sum_in_arcs_and_slices(
    play: Any, division: Division, seen: list[arcs.Task], variant: dict[str, Any]
) -> None:
    sparse = "parameters" in variant
    p = play(**variant | ({} if sparse else {"clients": 15}) | {"length": 45})
    with ShardedServer(p.where, division) as server:
        names = p.names
        lost = ("", names[0], names[3], names[4])
        whole, divided = play_both(p, server, without=lost)
    kept = {name: p.xs[name] for name in divided.contributors}
    np.testing.assert_array_equal(divided.total, reference(kept, p.terms))
    assert (divided.contributors, divided.dropped) == (whole.contributors, whole.dropped)
    assert divided.dropped == (names[0], names[3])
    n = len(names)
    expanded = [(t.start, t.length) for t in seen if isinstance(t, arcs.Expand)]
    assert sorted(set(expanded)) == [(0, 16), (16, 16), (32, 13)]
    assert len(expanded) == 3 * -(-n // 5)
    assert not any(division.folder.iterdir())


def test_too_few_answers_are_laid_to_the_silent_of_the_sum_alone(play: Any, division: Division) -> None:
    p = play(5, length=20)
    with ShardedServer(p.where, division) as server:
        for name in p.names:
            message = p.clients[name].advertise()
            p.server.take_keys(name, message)
            server.take_keys(name, message)
        list(server.close_keys())
        keys = p.server.close_keys()
        for name in p.names:
            message = p.clients[name].share(keys[name])
            p.server.take_shares(name, message)
            server.take_shares(name, message)
        list(server.close_shares())
        inboxes = p.server.close_shares()
        for name in p.names[:4]:
            server.take_input(name, p.clients[name].mask(p.xs[name], inboxes[name]))
        request = server.close_inputs()
        for name in p.names[:3]:
            server.take_answer(name, p.clients[name].unmask(request))
        with pytest.raises(
            TooFewPartiesError, match="c0's secret from at least 4 clients, got 3; "
        ) as caught:
            server.finish()
    assert "c3" in str(caught.value)
    assert "c4" not in str(caught.value)


def test_slices_of_elements_of_a_byte_are_the_whole_vectors(play: Any, division: Division) -> None:
    p = play(5, bits=8, length=20)
    with ShardedServer(p.where, division) as server:
        _, divided = play_both(p, server, without=("", "", "", ""))
    np.testing.assert_array_equal(divided.total, reference(p.xs, p.terms))


def test_masks_of_another_length_than_asked_of_a_worker_are_refused(play: Any, tmp_path: Path) -> None:
    def do(asked: Iterable[arcs.Task]) -> Iterator[arcs.Answer]:
        for task in asked:
            answer = arcs.do(task)
            yield replace(answer, total=answer.total[:1]) if isinstance(answer, arcs.Masks) else answer

    p = play(5, length=20)
    with (
        ShardedServer(p.where, Division(tmp_path / "spool", clients=5, do=do)) as server,
        pytest.raises(UsageError, match="expected masks of 20 elements from a worker"),
    ):
        play_both(p, server, without=("", "", "", ""))


def altered(message: Any, field: str, at: int) -> Any:
    changed = np.array(getattr(message, field))
    changed.reshape(-1)[at] ^= 1
    return replace(message, **{field: changed})


def test_keys_that_neighbours_would_refuse_are_refused_when_keys_are_closed_and_their_owners_named(
    play: Any, division: Division, sparse: Any
) -> None:
    p = play(parameters=sparse)
    forged, doubled, weak, copied = p.names[2], p.names[5], p.names[7], p.names[8]
    with ShardedServer(p.where, division) as server:
        messages = {name: p.clients[name].advertise() for name in p.names}
        messages[forged] = altered(messages[forged], "signature", 0)
        messages[weak] = replace(messages[weak], keys=np.zeros((2, 32), np.uint8))
        messages[doubled] = replace(messages[doubled], keys=np.repeat(messages[doubled].keys[:1], 2, axis=0))
        for name in p.names:
            if name != copied:
                server.take_keys(name, messages[name])
        with pytest.raises(RemoteProtocolError, match=f"fresh keys from {copied}"):
            server.take_keys(copied, replace(messages[copied], keys=messages[p.names[0]].keys))
        with pytest.raises(RemoteProtocolError, match=f"from {p.names[0]} came twice"):
            server.take_keys(p.names[0], messages[p.names[0]])
        with pytest.raises(TooFewPartiesError):  # four of twelve are out, and two may be
            server.close_keys()
        assert set(server.refused) == {forged, doubled, weak}
        assert all(error.peer == name and name in str(error) for name, error in server.refused.items())


def test_a_second_public_key_of_low_order_is_refused_when_keys_are_closed(
    play: Any, division: Division, sparse: Any
) -> None:
    p = play(parameters=sparse)
    refused = {p.names[2]: 0, p.names[5]: 1}  # which of their keys is of low order: u = 0, u = 1
    with ShardedServer(p.where, division) as server:
        for number, name in enumerate(p.names):
            message = p.clients[name].advertise()
            if name in refused:
                both = np.array(message.keys)
                both[refused[name]] = [refused[name]] + [0] * 31
                signature = sign_keys(p.identities[name], p.where, number, both.tobytes())
                message = Keys(both, np.frombuffer(signature, np.uint8))
            server.take_keys(name, message)
        server.close_keys()
        assert set(server.refused) == set(refused)


def test_a_key_that_another_client_sent_is_refused_whichever_of_its_two_it_is(
    play: Any, division: Division, sparse: Any
) -> None:
    p = play(parameters=sparse)
    with ShardedServer(p.where, division) as server:
        first, second = (p.clients[name].advertise() for name in p.names[:2])
        server.take_keys(p.names[0], first)
        copied = replace(second, keys=np.stack([second.keys[0], first.keys[1]]))
        with pytest.raises(RemoteProtocolError, match=f"fresh keys from {p.names[1]}"):
            server.take_keys(p.names[1], copied)


@pytest.mark.slow
def test_shares_of_who_sent_no_keys_and_answers_of_who_is_not_in_the_sum_are_refused(
    play: Any, tmp_path: Path
) -> None:
    p = play(10, length=20).until_request()
    first, others = p.names[0], p.names[1:]
    with ShardedServer(p.where, Division(tmp_path / "without keys", clients=5)) as server:
        for name in others:
            server.take_keys(name, p.keys[name])
        list(server.close_keys())
        with pytest.raises(RemoteProtocolError, match="dropped out before"):
            server.take_shares(first, p.shares[first])
    with ShardedServer(p.where, Division(tmp_path / "without an input", clients=5)) as server:
        for name in p.names:
            server.take_keys(name, p.keys[name])
        list(server.close_keys())
        for name in p.names:
            server.take_shares(name, p.shares[name])
        list(server.close_shares())
        for name in others:
            server.take_input(name, p.inputs[name])
        answer = p.clients[others[0]].unmask(server.close_inputs())
        with pytest.raises(RemoteProtocolError, match="dropped out before"):
            server.take_answer(first, answer)


def test_a_client_whose_keys_are_refused_ends_nobody_elses_run(world: Any, division: Division) -> None:
    w = world(5)

    async def forger(party: Party) -> None:
        keys = Keys(np.zeros((2, 32), np.uint8), np.zeros(64, np.uint8))
        party.send("server", keys)
        await party.receive(PeerKeys, "server")

    async def server(party: Party) -> tuple[MaskedSum, dict[str, Any]]:
        result = await aggregate(party, terms=w.terms, division=division)
        return result, dict(party.failed)

    w.programs["server"] = server
    w.programs["c1"] = forger
    result, failed = simulate(w.programs).results["server"]
    assert result.dropped == ("c1",)
    assert "signature" in str(failed["c1"])
    np.testing.assert_array_equal(
        result.total, reference({name: w.xs[name] for name in result.contributors}, w.terms)
    )
    assert not any(division.folder.iterdir())


def unmasked(p: Any, server: Any, wrong: Mapping[str, list[int]]) -> MaskedSum | str:
    """Return the sum, or the error, where some holders' shares of some owners' secrets are wrong."""
    for name in p.names:
        server.take_keys(name, p.keys[name])
    for _ in server.close_keys():
        pass
    for name in p.names:
        server.take_shares(name, p.shares[name])
    for _ in server.close_shares():
        pass
    for name in p.names:
        server.take_input(name, p.inputs[name])
    request = server.close_inputs()
    for name in p.names:
        if name not in p.answers:
            p.answers[name] = p.clients[name].unmask(request)
        answer = p.answers[name]
        for owner in wrong.get(name, []):
            answer = altered(answer, "shares", owner * SHARE_BYTES)
        server.take_answer(name, answer)
    with pytest.raises(RemoteProtocolError, match="came twice"):
        server.take_answer(name, answer)
    try:
        result: MaskedSum = server.finish()
    except RemoteProtocolError as error:
        return str(error)
    np.testing.assert_array_equal(result.total, reference(p.xs, p.terms))
    return result


def test_a_wrong_share_is_laid_to_its_holder_in_whatever_arc_it_is(play: Any, division: Division) -> None:
    p = play(10, length=20).until_request()
    with ShardedServer(p.where, division) as server:
        result: Any = unmasked(p, server, {"c2": [9]})
    assert result.suspects == ("c2",)


def test_wrong_shares_of_several_holders_may_end_a_sum_that_is_divided_or_one_that_is_not_and_no_sum_is_wrong(
    play: Any, tmp_path: Path
) -> None:
    p = play(10, length=20).until_request()
    assert p.terms.parameters.threshold == 8

    def both(wrong: Mapping[str, list[int]]) -> tuple[Any, Any]:
        with ShardedServer(p.where, Division(tmp_path / "spool", clients=5)) as server:
            return unmasked(p, Server(p.where), wrong), unmasked(p, server, wrong)

    # One holder, or one owner who deals to two: no difference.
    for wrong in ({"c1": [0, 3, 8]}, {"c1": [4], "c9": [4]}):
        whole, divided = both(wrong)
        assert whole.suspects == divided.suspects == ("c1",)
    # Whoever lied of c0 and c3 is suspected when c8's turn comes, but for a worker of another arc.
    whole, divided = both({"c1": [0, 8], "c2": [3, 8]})
    assert whole.suspects == ("c1", "c2")
    assert "c8's secret" in divided
    # c1 dealt c3 a wrong share. So c9's share of c8's secret is used in place of c3's, which is right.
    whole, divided = both({"c3": [1], "c1": [8], "c9": [8]})
    assert "c8's secret" in whole
    assert divided.suspects == ("c1", "c3")
    # c8's own share is used where c1 is suspected.
    whole, divided = both({"c1": [0], "c8": [8]})
    assert (whole.suspects, divided.suspects) == (("c1", "c8"), ("c1",))


def test_what_a_worker_is_given_does_not_grow_with_the_number_of_clients(
    play: Any, tmp_path: Path, seen: list[arcs.Task]
) -> None:
    most = []
    for n in (60, 120):
        p = play(parameters=GraphParameters(n, 2, 2, "semi-honest", 6, 4, n - 2, 0, -10.0, -10.0))
        with ShardedServer(p.where, Division(tmp_path, clients=20, do=in_bytes(seen))) as server:
            for name in p.names:
                server.take_keys(name, p.clients[name].advertise())
            server.close_keys()
        tasks = [task for task in seen if isinstance(task, arcs.Check)]
        assert len(tasks) == n // 20
        assert sorted(int(c) for t in tasks for c in t.around.clients[: t.around.own]) == list(range(n))
        most.append(max(len(task.around.clients) for task in tasks))
        seen.clear()
    assert most == [20 + 6, 20 + 6]


def test_a_sum_that_fails_leaves_no_file_and_a_folder_serves_a_round_once(
    play: Any, division: Division
) -> None:
    p = play(5)
    with ShardedServer(p.where, division) as server:
        assert all(one.stat().st_mode & 0o077 == 0 for one in division.folder.iterdir())
        with pytest.raises(UsageError, match="cannot make"):
            ShardedServer(p.where, division)
        with pytest.raises(TooFewPartiesError):
            server.close_keys()
    assert not any(division.folder.iterdir())


def test_files_that_cannot_be_deleted_are_told_of(
    play: Any, division: Division, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    server = ShardedServer(play(5).where, division)
    with monkeypatch.context() as patched:
        patched.setattr("secagg.protocols.masked_sum.sharded.shutil.rmtree", refuse)
        server.close()
    assert "which holds what clients sent: Permission denied" in caplog.text
    server.close()
    assert not any(division.folder.iterdir())


def test_records_that_are_cut_short_or_gone_are_not_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "records")
    begins = [spool.append(b"first"), spool.append(b"second")]
    spool.close()
    assert spool.path.stat().st_mode & 0o077 == 0
    with Records(spool.path) as records:
        assert [records.read(begins[1], 6), records.read(begins[0], 5)] == [b"second", b"first"]
        with pytest.raises(UsageError, match="expected 7 bytes at 5"):
            records.read(begins[1], 7)
    with pytest.raises(UsageError, match="cannot write"):
        Spool(spool.path)
    spool.path.unlink()
    with pytest.raises(UsageError, match="cannot read"):
        Records(spool.path)


def test_a_division_of_no_clients_or_slices_is_refused(tmp_path: Path) -> None:
    wrongs: list[dict[str, Any]] = [{"clients": 0}, {"clients": 1 << 15}, {"slices": 0}]
    for wrong in wrongs:
        with pytest.raises(UsageError, match="clients in an arc"):
            Division(tmp_path, **wrong)
