"""All parties of a run as processes on this machine over TLS 1.3, each forked off one that has made the inputs.

The processes belong to one user, who made all inputs up: nothing here protects anybody's data. Each party makes its own
`Party` after the fork, so that none draws another's secrets. Results come back through pipes as plain data. With a network,
all bytes between parties pass a `relay`, which delays and throttles them.
"""

from __future__ import annotations

import dataclasses
import os
import selectors
import signal
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from secagg.bench.relay import Relay, relayed
from secagg.bench.system import forget_peak
from secagg.cost.network import Network
from secagg.errors import PeerVanishedError, SecaggError, UsageError
from secagg.jobs.local import free_addresses
from secagg.jobs.plain import decode, encode
from secagg.ledger import Ledger, Traffic, Usage
from secagg.network.identity import Identity, create_identity
from secagg.network.memory import peak_bytes
from secagg.network.simulated import Outcome
from secagg.network.tcp import Peer, run_party
from secagg.party import Party, PartyId, Program
from secagg.protocols.bounded_sum import BoundedSum
from secagg.protocols.he_sum.terms import EncryptedSum
from secagg.protocols.masked_sum import MaskedSum
from secagg.protocols.roles import SumResult

# What programs return beside plain data, by name.
_RESULTS: Final = {kind.__name__: kind for kind in (SumResult, MaskedSum, BoundedSum, EncryptedSum)}
_PATIENCE_S: Final = 600.0
MAX_PARTIES: Final = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """What one party's process measured beside its ledger.

    Attributes:
      begun, ended: when its program did; `time.monotonic`, which all processes of one machine read.
      peak_bytes: the most memory that it held.
    """

    begun: float
    ended: float
    peak_bytes: int


class Processes:
    """Drives programs as `simulate` does, each in a process of its own over TLS.

    Args:
      network: what the relay makes of this machine's loopback interface; None for the interface itself.

    Attributes:
      measured: of the last run, by party.
      relay_late_s: by how much too late the relay of the last run passed bytes on, in the mean.

    `Outcome.seconds` is the time from when the last party has met all others to when the last has ended.
    """

    def __init__(self, network: Network | None = None) -> None:
        self._network = network
        self.measured: dict[PartyId, Measured] = {}
        self.relay_late_s = 0.0

    def __call__(
        self,
        programs: Mapping[PartyId, Program[Any]],
        *,
        network: Network | None = None,  # noqa: ARG002  # of the simulator
        faults: Sequence[Any] = (),
        starts: Mapping[PartyId, float] | None = None,  # noqa: ARG002  # processes begin when all are there
    ) -> Outcome[Any]:
        """Run the programs.

        Raises:
          UsageError: faults, or more parties than processes are sensible.
          PeerVanishedError: a process ended without a word, or did not end.
          SecaggError: an error ended a party; its kind is in the text.
        """
        if faults:
            raise UsageError("expected a run without faults over TLS; the simulator has them")
        if len(programs) > MAX_PARTIES:
            raise UsageError(
                f"expected at most {MAX_PARTIES} parties as processes on one machine, got {len(programs)}; leave out --tcp"
            )
        names = tuple(programs)
        addresses = dict(zip(names, free_addresses(len(names)), strict=True))
        identities = {name: create_identity(name) for name in names}
        with relayed(self._network, addresses) as relay:
            children = {
                name: _fork(name, program, identities, addresses, relay) for name, program in programs.items()
            }
            answers, running = _answers(children)
            if running:
                raise PeerVanishedError(
                    f"the process of {' and of '.join(running)} did not end within {_PATIENCE_S:g} s, and was killed",
                    peer=running[0],
                )
            outcome = self._outcome(names, answers)
            ready = max(each.begun for each in self.measured.values())
            self.relay_late_s = 0.0 if relay is None else relay.late_s(ready)
        return outcome

    def _outcome(self, names: Sequence[PartyId], answers: Mapping[PartyId, bytes]) -> Outcome[Any]:
        outcome: Outcome[Any] = Outcome()
        self.measured = {}
        failed = {}
        for name in names:
            if not answers[name]:
                raise PeerVanishedError(f"the process of {name} ended without a result; see above", peer=name)
            found = decode(answers[name])
            if "error" in found:
                failed[name] = found["error"]
                continue
            outcome.results[name] = _result(found["result"])
            outcome.ledgers[name] = _ledger(found["ledger"], found["depth"])
            self.measured[name] = Measured(found["begun"], found["ended"], found["peak"])
        for name, text in failed.items():
            raise SecaggError(f"{name}: {text}")
        ready = max(each.begun for each in self.measured.values())
        outcome.seconds = max(each.ended for each in self.measured.values()) - ready
        outcome.messages = sum(ledger.total().sent.messages for ledger in outcome.ledgers.values())
        return outcome


def _fork(
    name: PartyId,
    program: Program[Any],
    identities: Mapping[PartyId, Identity],
    addresses: Mapping[PartyId, tuple[str, int]],
    relay: Relay | None,
) -> tuple[int, int]:
    """Return the process of a party and the end of the pipe from which its answer is read."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _be_party(name, program, identities, addresses, relay, writing)
    os.close(writing)
    return child, reading


def _be_party(
    name: PartyId,
    program: Program[Any],
    identities: Mapping[PartyId, Identity],
    addresses: Mapping[PartyId, tuple[str, int]],
    relay: Relay | None,
    writing: int,
) -> NoReturn:
    """Run a party in this process, which was forked off for it, and end the process whatever happens."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        try:
            answer = _run(name, program, identities, addresses, relay)
        except SecaggError as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(encode(answer))
        status = 0
    except Exception:  # noqa: BLE001  # else it would go on as its parent
        traceback.print_exc()
    finally:
        os._exit(status)


def _run(
    name: PartyId,
    program: Program[Any],
    identities: Mapping[PartyId, Identity],
    addresses: Mapping[PartyId, tuple[str, int]],
    relay: Relay | None,
) -> dict[str, Any]:
    forget_peak()
    at: list[float] = []

    async def timed(party: Party) -> Any:
        begun = time.monotonic()
        result = await program(party)
        at.extend((begun, time.monotonic()))
        return result

    ways = addresses if relay is None else relay.ways(name)
    peers = [Peer(other, *ways[other], identities[other].certificate) for other in addresses]
    result, ledger = run_party(
        timed, me=name, identity=identities[name], peers=peers, listen=addresses[name], agreement=bytes(32)
    )
    return {
        "result": _plain(result),
        "ledger": ledger.as_dict(),
        "depth": ledger.depth,
        "begun": at[0],
        "ended": at[1],
        "peak": peak_bytes(),
    }


def _answers(children: Mapping[PartyId, tuple[int, int]]) -> tuple[dict[PartyId, bytes], list[PartyId]]:
    """Return what the processes wrote, and those that had to be killed; at the end none of them is left."""
    answers, running = dict.fromkeys(children, b""), list[PartyId]()
    deadline = time.monotonic() + _PATIENCE_S
    try:
        with selectors.DefaultSelector() as selector:
            for name, (_, reading) in children.items():
                selector.register(reading, selectors.EVENT_READ, name)
            while selector.get_map() and time.monotonic() < deadline:
                for key, _ in selector.select(timeout=1.0):
                    chunk = os.read(key.fd, 1 << 20)
                    answers[key.data] += chunk
                    if not chunk:
                        selector.unregister(key.fd)
            running = [key.data for key in selector.get_map().values()]
    finally:
        for child, reading in children.values():
            os.close(reading)
            end(child)
    return answers, running


def end(child: int) -> None:
    """Wait for a process that was forked here, and end it if it does not end by itself at once."""
    for _ in range(100):
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _plain(result: Any) -> Any:
    if type(result).__name__ in _RESULTS and dataclasses.is_dataclass(result):
        fields = {
            field.name: getattr(result, field.name) for field in dataclasses.fields(result) if field.init
        }
        return {"kind": type(result).__name__, "fields": fields}
    return {"kind": "", "fields": result}


def _result(found: Mapping[str, Any]) -> Any:
    kind = found["kind"]
    return _RESULTS[kind](**found["fields"]) if kind else found["fields"]


def _ledger(found: Mapping[str, Any], depth: int) -> Ledger:
    ledger = Ledger()
    for phase, usage in found["phases"].items():
        sent, received = Traffic(**usage["sent"]), Traffic(**usage["received"])
        ledger.phases[phase] = Usage(**{**usage, "sent": sent, "received": received})
    ledger.sent_to = {peer: Traffic(**traffic) for peer, traffic in found["sent_to"].items()}
    ledger.received_from = {peer: Traffic(**traffic) for peer, traffic in found["received_from"].items()}
    ledger.depth = depth
    return ledger
