"""A process forked off another one has copies of everything, also of what may be used once.

Each test runs a program in a process of its own, which forks: pytest's may have threads.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.slow

PRELUDE = """
import multiprocessing, os, sys
import numpy as np

def tell(text):
    # At once: two processes share this output, and a print may be two writes.
    os.write(1, f"{text}\\n".encode())

def in_child(action):
    reader, writer = os.pipe()
    sys.stdout.flush()
    if not os.fork():
        try:
            told = action()
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writer, str(told).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    os.wait()
    return told
"""


def run(program: str) -> list[str]:
    """Return the lines that a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "draw",
    [
        "stream.bytes(32)",
        "stream.words(4)",
        "stream.ring(3, 16)",
        "stream.below(10, 3)",
        "stream.signed(5, 3)",
        "stream.permutation(5)",
        "stream.permutations(2, 5)",
        "stream.fill(np.zeros(2, np.uint64))",
        "stream.xor_into(np.zeros(2, np.uint64))",
    ],
)
def test_a_stream_draws_in_the_process_that_made_it_alone(draw: str) -> None:
    (told, after) = run(
        f"""
        from secagg.prg import system_stream
        stream = system_stream()
        print(in_child(lambda: {draw}))
        {draw}
        print("drawn", stream.position > 0)
        """
    )
    assert told.startswith("UsageError: a stream was made by process ")
    assert "was forked off it: both would use the same keys and masks" in told
    assert after == "drawn True"


def test_a_party_neither_sends_nor_draws_in_a_forked_process() -> None:
    told = run(
        """
        from secagg.party import Party
        from secagg.wire import Message

        class Number(Message, frozen=True):
            value: int

        party = Party("a", ("a", "b"), session=bytes(32))
        print(in_child(lambda: party.send("b", Number(1))))
        print(in_child(lambda: party.rng.bytes(3)))
        party.send("b", Number(1))
        print(len(party.outbox), len(party.rng.bytes(3)))
        """
    )
    assert told[0].startswith("UsageError: a party was made by process ")
    assert told[1].startswith("UsageError: a stream was made by process ")
    assert told[2] == "1 3"


def test_an_engine_neither_draws_nor_sends_in_a_forked_process() -> None:
    told = run(
        """
        from secagg.mpc.three.engine import ThreeEngine
        from secagg.mpc.three.streams import Purpose
        from secagg.network.simulated import simulate

        async def program(party):
            engine = await ThreeEngine.set_up(party, ("a", "b", "c"))
            engine.channel.k_own[Purpose.MUL].bytes(8)
            forked = [in_child(lambda p=p: engine.channel.k_own[p].bytes(8)) for p in (Purpose.MUL, Purpose.TRUNC)]
            return [*forked, len(engine.channel.k_own[Purpose.TRUNC].bytes(8))]

        for line in simulate({name: program for name in "abc"}).values()[0]:
            print(line)
        """
    )
    assert told[0].startswith("UsageError: a stream was made by process ")
    assert told[1].startswith("UsageError: the secret of a pair was made by process ")
    assert told[2] == "8"


def test_a_client_of_masked_sums_answers_nothing_in_a_forked_process() -> None:
    told = run(
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from secagg.protocols.masked_sum import Client, GraphParameters, Roles, SumInSession, Terms, choose
        from secagg.ring import Ring
        from secagg.wire import to_bytes

        names = ("c0", "c1", "c2")
        keys = {name: Ed25519PrivateKey.generate() for name in names}
        public = tuple(key.public_key().public_bytes_raw() for key in keys.values())
        terms = Terms(Roles(names, ("server",), ("server",)), public, 5, Ring(32), choose(3))
        client = Client(SumInSession(terms, bytes(32)), "c0", keys["c0"])
        stored = client.to_bytes()
        print(in_child(client.advertise))
        first = client.advertise()
        again = lambda: Client.from_bytes(stored, SumInSession(terms, bytes(32)), keys["c0"]).advertise()
        print(in_child(lambda: to_bytes(again()) == to_bytes(first)))
        """
    )
    assert told[0].startswith("UsageError: a client was made by process ")
    assert told[1] == "True"


def test_a_stepwise_party_is_not_stepped_in_a_forked_process_but_restored_there() -> None:
    told = run(
        """
        from secagg.network.stepwise import Stepwise
        from secagg.wire import Message

        class Bytes(Message, frozen=True):
            value: bytes

        async def program(party):
            party.send("b", Bytes(party.rng.bytes(8)))
            return 1

        made = dict(me="a", roster=("a", "b"), session=bytes(32))
        party = Stepwise(program, **made)
        print(in_child(party.step))
        stored = party.state()
        print(in_child(lambda: len(Stepwise.restore(program, stored).step())))
        print(len(party.step()), party.result())
        """
    )
    assert told[0].startswith("UsageError: a stepwise party was made by process ")
    assert told[1:] == ["1", "1 1"]


def test_a_program_that_forks_keeps_its_connections_and_its_child_sends_nothing_over_them() -> None:
    told = run(
        """
        import socket, threading
        from secagg.network.tcp import run_party_insecure_plain
        from secagg.wire import Message

        class Number(Message, frozen=True):
            value: int

        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            addresses = {"a": one.getsockname(), "b": two.getsockname()}

        async def waits(party):
            party.send("b", Number(1))
            return [(await party.receive(Number, "b")).value for _ in range(3)]

        async def forks(party):
            await party.receive(Number, "a")
            for how in ("returns", "raises", "waits"):
                if not os.fork():
                    if how == "returns":
                        return how
                    if how == "raises":
                        raise KeyError(how)
                    await party.receive(Number, "a")
                os.wait()
                party.send("a", Number(2))
                await party.gather(Number, ())
            return "parent"

        if not os.fork():
            tell(run_party_insecure_plain(waits, me="a", addresses=addresses)[0])
            os._exit(0)
        parent = os.getpid()
        try:
            tell(run_party_insecure_plain(forks, me="b", addresses=addresses)[0])
        except Exception as error:
            tell(f"{type(error).__name__}: {error}")
        if os.getpid() != parent:
            os._exit(0)
        os.wait()
        """
    )
    assert "[2, 2, 2]" in told
    assert "parent" in told
    assert "KeyError: 'raises'" in told
    assert sum(line.startswith("UsageError: a connection was made by process ") for line in told) == 2


def test_sums_work_in_children_forked_after_sums_in_their_parent() -> None:
    told = run(
        """
        import secagg
        from secagg.prg import system_stream

        updates = [np.full(5, float(i)) for i in range(4)]
        total = lambda protocol: secagg.sum(updates, protocol=protocol, clip=8.0).value.tolist()
        protocols = ("masked", "additive", "bounded")
        before = [total(p) for p in protocols]

        def work(number):
            return [total(p) for p in protocols], system_stream().bytes(16).hex()

        answers = [in_child(lambda: work(0)) for _ in range(2)]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            answers += map(str, pool.map(work, range(4), chunksize=1))
        print(before == [[6.0] * 5] * 3)
        print(all(answer.startswith(f"({before}") for answer in answers), len(set(answers)))
        """
    )
    assert told == ["True", "True 6"]
