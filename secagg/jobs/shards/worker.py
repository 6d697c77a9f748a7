"""What a worker does: one step of one shard, in an ordinary session with the workers of the other parties.

A task and what comes of it are bytes of `jobs.plain`. An error comes back as its kind and text; the main process raises it.

What a step keeps for the next one is a file in the organisation's folder, encrypted under a key that came with the task. It
holds one party's shares. What a step of a shard is, the kind of work says (`sharded`).
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization

from secagg import errors
from secagg.errors import (
    AuthenticationError,
    CheatingError,
    PeerMissingError,
    SecaggError,
    UsageError,
)
from secagg.jobs.checkpoints import UnwritableError
from secagg.jobs.plain import decode, encode
from secagg.jobs.shards.sharded import Kept, Plain, doing
from secagg.jobs.shards.workers import check_release
from secagg.ledger import Ledger
from secagg.network.identity import Identity, PrivateKey, load_certificate
from secagg.network.memory import peak_bytes
from secagg.network.tcp import Peer, Timeouts, run_party
from secagg.party import Party
from secagg.signing import digest

_LABEL: Final = "secagg.jobs.shards: worker"

# Another attempt may end well: the error lies with the network, another party's worker, which may be lost, or a full disk.
_COMES_ONCE: Final = (PeerMissingError, AuthenticationError, UnwritableError)


def run(task: bytes) -> bytes:
    """Do a task and return what came of it."""
    told = decode(task)
    if told["memory_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_AS, (told["memory_bytes"], told["memory_bytes"]))
    try:
        return encode(_done(told))
    except SecaggError as error:
        return encode(_error(error))


def _done(told: Plain) -> Plain:
    check_release(told.get("release"))
    path, begun = Path(told["folder"]), time.thread_time()
    if not _claimed(path, told["attempt"]):
        # A cluster that starts a lost task again does not know that the others have left its session.
        return {"lost": True}
    do = doing(told["kind"])
    kept = Kept.of(path, told["kept_key"], told["run"], told["me"], told["kept"])

    async def program(party: Party) -> Plain:
        return await do(party, told["step"], told["shard"], told["public"], told["own"], kept)

    result, ledger = _session(told, program)
    return {
        "result": result,
        "ledger": json.dumps(ledger.as_dict()),
        "peak_bytes": peak_bytes(),
        "processor_s": time.thread_time() - begun,  # a cluster's process may do other work beside
    }


def _claimed(folder: Path, attempt: str) -> bool:
    """Note that an attempt has begun; return whether it is the first time."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (folder / f"{attempt}.begun").open("xb"):
            return True
    except FileExistsError:
        return False
    except OSError as error:
        raise UsageError(f"cannot write to {folder}, where shards are kept: {error.strerror}") from None


def _session(told: Plain, program: Any) -> tuple[Any, Ledger]:
    return run_party(program, **session_of(told), timeouts=Timeouts(*told["timeouts"]))


def session_of(told: Plain) -> dict[str, Any]:
    """Return what `run_party` is told of who takes part in a task's session."""
    me = told["me"]
    peers = [Peer(name, host, port, load_certificate(pem)) for name, host, port, pem in told["peers"]]
    key = serialization.load_pem_private_key(told["secret_key"], password=None)
    if not isinstance(key, PrivateKey):
        raise UsageError(f"expected a key that signs, got {type(key).__name__}")
    certificate = next(peer.certificate for peer in peers if peer.name == me)
    host, port = told["listen"]
    return {
        "me": me,
        "identity": Identity(me, certificate, key),
        "peers": peers,
        "listen": (host, port),
        "agreement": agreement_of(told),
    }


def agreement_of(told: Plain) -> bytes:
    """Return the digest of what a worker compares with those whom it meets.

    It is made of what the worker was told, so that one that was told something else than the others meets nobody.
    """
    about = {name: told[name] for name in ("step", "shard", "attempt", "kept", "kind", "public")}
    members = [part for name, _, _, pem in told["peers"] for part in (name.encode(), pem)]
    return digest(_LABEL, [told["run"], encode(about), *members])


def _error(error: SecaggError) -> Plain:
    return {
        "error": type(error).__name__,
        "text": error.for_record(),
        "peer": getattr(error, "peer", ""),
        "accused": getattr(error, "accused", ""),
        "suspects": list(error.suspects) if isinstance(error, CheatingError) else [],
        "lost": isinstance(error, _COMES_ONCE),
    }


def raised(told: Plain, what: str) -> SecaggError:
    """Return the error of a worker, as the main process raises it.

    Args:
      what: whose worker it was.
    """
    kind, text = getattr(errors, told["error"]), f"{what}: {told['text']}"
    if issubclass(kind, CheatingError):
        error: SecaggError = CheatingError(text, suspects=tuple(told["suspects"]))
    elif issubclass(kind, errors.RemoteProtocolError | errors.PeerMissingError):
        error = kind(text, peer=told["peer"])
    else:
        error = kind(text)
    return error
