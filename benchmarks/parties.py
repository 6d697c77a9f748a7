"""Run one function a party, each in a process of its own on this machine, over TLS or plain loopback."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from secagg.network.identity import create_identity, load_certificate, load_identity
from secagg.network.tcp import Peer, run_party, run_party_insecure_plain

Program = Callable[..., Any]
_IMPORTED = (
    *(
        "benchmarks.engine",
        "secagg.dp.accounting",
        "secagg.learn",
        "secagg.network.tcp",
        "secagg.patterns.registry",
    ),
    "secagg.statistics",
)


def one_thread() -> None:
    """Keep BLAS from starting threads: there is one process a party already. Call before numpy is imported."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def free_ports(count: int) -> list[int]:
    """Return ports at which nobody listens, below those that the system gives to whoever dials: none is taken meanwhile."""
    draw, sockets = secrets.SystemRandom(), list[socket.socket]()
    with contextlib.ExitStack() as stack:
        while len(sockets) < count:
            s = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                s.bind(("127.0.0.1", draw.randrange(20_000, 32_000)))
                sockets.append(s)
        return [s.getsockname()[1] for s in sockets]


def _party(
    program: Program, me: str, names: Sequence[str], ports: Sequence[int], folder: str | None, out: Any
) -> None:
    try:
        if folder is None:
            addresses = {name: ("127.0.0.1", port) for name, port in zip(names, ports, strict=True)}
            result, ledger = run_party_insecure_plain(program, me=me, addresses=addresses)
        else:
            where = Path(folder)
            peers = [
                Peer(name, "127.0.0.1", port, load_certificate((where / f"{name}.crt.pem").read_bytes()))
                for name, port in zip(names, ports, strict=True)
            ]
            identity = load_identity(me, where / f"{me}.key.pem", where / f"{me}.crt.pem")
            listen = ("127.0.0.1", ports[names.index(me)])
            result, ledger = run_party(
                program, me=me, identity=identity, peers=peers, listen=listen, agreement=bytes(32)
            )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        out.send((result, ledger.as_dict(), ledger.depth, peak))
    except BaseException as error:
        out.send(error)
        raise


def run_parties(
    programs: dict[str, Program], *, tls: bool = True
) -> dict[str, tuple[Any, dict[str, Any], int, int]]:
    """Return, for each party, its program's result, its ledger, its causal depth and its peak memory in bytes.

    Programs are top-level functions or partials of them.
    """
    # Forked off one process that has imported what most need, as to import it takes longer than many runs.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    names = list(programs)
    ports = free_ports(len(names))
    with TemporaryDirectory() as folder:
        if tls:
            for name in names:
                key, certificate = create_identity(name).save(Path(folder))
                key.rename(Path(folder) / f"{name}.key.pem")
                certificate.rename(Path(folder) / f"{name}.crt.pem")
        pipes, processes = {}, []
        for name, program in programs.items():
            pipes[name], child = context.Pipe(duplex=False)
            arguments = (program, name, names, ports, folder if tls else None, child)
            processes.append(context.Process(target=_party, args=arguments))
            processes[-1].start()
            child.close()
        results = {}
        for name, pipe in pipes.items():
            try:
                results[name] = pipe.recv()
            except EOFError:
                sys.exit(f"{name} ended without a result")
        for process in processes:
            process.join()
    for result in results.values():
        if isinstance(result, BaseException):
            raise result
    return results
