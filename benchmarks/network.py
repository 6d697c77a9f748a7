"""What the TLS network moves, against two plain `ssl` sockets that do nothing else.

Two processes on this machine, each on a core of its own where there are two. Throughput: messages of 8 MB one
way, the receiver making an array of each; its limit is a loop of sendall and recv_into. Round trip: 64 bytes
there and back; its limit is a loop of send and recv. Each repetition measures all of them one after the
other, for the speed of a shared machine changes from minute to minute.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.ledger import Ledger
from secagg.network.identity import (
    Identity,
    create_identity,
    load_certificate,
    load_identity,
)
from secagg.network.tcp import Peer, run_party, run_party_insecure_plain
from secagg.party import Party, Program
from secagg.wire import Message

NAMES = ("left", "right")
SMALL_BYTES = 64
KINDS = ("ssl sockets", "secagg TLS", "plain sockets", "secagg plain")


class Block(Message, frozen=True):
    """Bytes that mean nothing."""

    x: NDArray[np.uint8]


def pair(messages: int, nbytes: int, trips: int) -> Program[dict[str, float]]:
    """Return the program of both: left sends and measures, right answers."""

    async def program(party: Party) -> dict[str, float]:
        peer = party.others[0]
        small = np.zeros(SMALL_BYTES, np.uint8)
        if party.me == NAMES[1]:
            for _ in range(messages):
                await party.receive(Block, peer)
            party.send(peer, Block(small))
            for _ in range(trips):
                party.send(peer, await party.receive(Block, peer))
            return {}
        large = np.frombuffer(os.urandom(nbytes), np.uint8)
        begun = time.perf_counter()
        for _ in range(messages):
            party.send(peer, Block(large))
        await party.receive(Block, peer)
        seconds = time.perf_counter() - begun
        took = []
        for _ in range(trips):
            begun = time.perf_counter()
            party.send(peer, Block(small))
            await party.receive(Block, peer)
            took.append(time.perf_counter() - begun)
        return summary(messages * nbytes, seconds, took)

    return program


def raw_pair(sock: socket.socket, me: str, messages: int, nbytes: int, trips: int) -> dict[str, float]:
    """Do what `pair` does with bare blocking sockets."""

    def receive(view: memoryview) -> None:
        done = 0
        while done < len(view):
            got = sock.recv_into(view[done:])
            if not got:
                raise ConnectionError("the other process ended")
            done += got

    small = memoryview(bytearray(SMALL_BYTES))
    if me == NAMES[1]:
        into = np.zeros(nbytes, np.uint8).data
        for _ in range(messages):
            receive(into)
        sock.sendall(small)
        for _ in range(trips):
            receive(small)
            sock.sendall(small)
        return {}
    large = np.frombuffer(os.urandom(nbytes), np.uint8).data
    begun = time.perf_counter()
    for _ in range(messages):
        sock.sendall(large)
    receive(small)
    seconds = time.perf_counter() - begun
    took = []
    for _ in range(trips):
        begun = time.perf_counter()
        sock.sendall(small)
        receive(small)
        took.append(time.perf_counter() - begun)
    return summary(messages * nbytes, seconds, took)


def summary(nbytes: int, seconds: float, trips: list[float]) -> dict[str, float]:
    return {"bytes_per_s": nbytes / seconds, "trip_s": statistics.median(trips)}


def raw_connection(me: str, ports: list[int], identity: Identity | None, other: bytes) -> socket.socket:
    """Return a connected socket, with TLS 1.3 and mutual authentication where there is an identity."""
    if me == NAMES[0]:
        with socket.create_server(("127.0.0.1", ports[0])) as listener:
            sock, _ = listener.accept()
    else:
        deadline = time.monotonic() + 30
        while True:
            try:
                sock = socket.create_connection(("127.0.0.1", ports[0]))
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if identity is None:
        return sock
    listening = me == NAMES[0]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if listening else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=other.decode())
    identity.load_into(context)
    return context.wrap_socket(sock, server_side=listening)


def child(me: str, directory: Path, options: dict[str, Any]) -> None:
    """Be one of the two processes: one measurement, printed as JSON."""
    kind, ports = options["kind"], options["ports"]
    sizes = (options["messages"], options["nbytes"], options["trips"])
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[NAMES.index(me)]})
    identity = load_identity(me, directory / f"{me}.key", directory / f"{me}.crt")
    pems = {name: (directory / f"{name}.crt").read_bytes() for name in NAMES}
    outcome: tuple[dict[str, float], Ledger | None]
    if kind.startswith("secagg"):
        program = pair(*sizes)
        addresses = {name: ("127.0.0.1", port) for name, port in zip(NAMES, ports, strict=True)}
        if kind == "secagg plain":
            outcome = run_party_insecure_plain(program, me=me, addresses=addresses)
        else:
            peers = [Peer(name, *addresses[name], load_certificate(pems[name])) for name in NAMES]
            outcome = run_party(
                program,
                me=me,
                identity=identity,
                peers=peers,
                listen=addresses[me],
                agreement=bytes(32),
                keep_memory=options["keep_memory"],
            )
    else:
        other = pems[NAMES[1 - NAMES.index(me)]]
        with raw_connection(me, ports, identity if kind == "ssl sockets" else None, other) as sock:
            outcome = raw_pair(sock, me, *sizes), None
    print(json.dumps(outcome[0]))


def measure(directory: Path, **options: Any) -> dict[str, float]:
    """Start both processes and return what the left one measured."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in NAMES]
    options["ports"] = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    command = [sys.executable, __file__, "--child", str(directory), json.dumps(options)]
    processes = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True, env={**os.environ})
        for name in NAMES
    ]
    out = [process.communicate(timeout=300)[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"a process of the measurement {options['kind']!r} failed; see above")
    result: dict[str, float] = json.loads(out[0])
    return result


def main(argv: list[str] | None = None) -> None:
    """Print throughput, round trips and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=7, help="measurements of each kind")
    parser.add_argument("--messages", type=int, default=64, help="large messages a measurement")
    parser.add_argument(
        "--mbytes", type=float, default=8, help="size of a large message in MB of 10**6 bytes"
    )
    parser.add_argument("--trips", type=int, default=3000, help="round trips a measurement")
    parser.add_argument("--tiny", action="store_true", help="once, few and small: to see that it runs")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child:
        directory, options, me = arguments.child
        child(me, Path(directory), json.loads(options))
        return
    if arguments.tiny:
        arguments.repeat, arguments.messages, arguments.mbytes, arguments.trips = 1, 2, 0.1, 5
    sizes = {
        "messages": arguments.messages,
        "nbytes": int(1e6 * arguments.mbytes),
        "trips": arguments.trips,
    }
    kinds: list[tuple[str, Callable[[Path], dict[str, float]]]] = [
        (kind, lambda d, kind=kind: measure(d, kind=kind, keep_memory=True, **sizes)) for kind in KINDS
    ]
    kinds.append(
        ("secagg TLS, memory freed", lambda d: measure(d, kind="secagg TLS", keep_memory=False, **sizes))
    )
    results: dict[str, list[dict[str, float]]] = {name: [] for name, _ in kinds}
    with tempfile.TemporaryDirectory() as directory:
        for name in NAMES:
            create_identity(name).save(Path(directory))
        for _ in range(arguments.repeat):
            for name, run in kinds:
                results[name].append(run(Path(directory)))
    print(
        f"{arguments.messages} messages of {arguments.mbytes:g} MB, {arguments.trips} round trips of {SMALL_BYTES} bytes, "
        f"{arguments.repeat} repetitions, {ssl.OPENSSL_VERSION}, {os.cpu_count()} cores"
    )
    print(f"{'':26}{'MB/s: quartiles':>24}{'best':>8}{'round trip us: quartiles':>30}{'best':>8}")
    for name, measured in results.items():
        rates = [m["bytes_per_s"] / 1e6 for m in measured]
        trips = [m["trip_s"] * 1e6 for m in measured]
        print(
            f"{name:26}{quartiles(rates, 0):>24}{max(rates):8.0f}{quartiles(trips, 1):>30}{min(trips):8.1f}"
        )
    for ours, limit in (("secagg TLS", "ssl sockets"), ("secagg plain", "plain sockets")):
        rate = [
            a["bytes_per_s"] / b["bytes_per_s"] for a, b in zip(results[ours], results[limit], strict=True)
        ]
        trip = [a["trip_s"] / b["trip_s"] for a, b in zip(results[ours], results[limit], strict=True)]
        print(
            f"{ours} / {limit}: throughput {statistics.median(rate):.2f} (wanted: 0.7 or more), "
            f"round trip {statistics.median(trip):.2f} (wanted: 1.5 or less); medians over repetitions"
        )


def quartiles(values: list[float], digits: int) -> str:
    return " ".join(f"{q:.{digits}f}" for q in np.percentile(values, [25, 50, 75]))


if __name__ == "__main__":
    main()
