"""What goes through NVFlare's messages: a step and a frame in a Shareable, and what a site's work depends on."""

from __future__ import annotations

from typing import Any, Final

from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from nvflare.app_common.app_constant import AppConstants

from secagg.errors import RemoteProtocolError, UsageError, WireError
from secagg.federated.replies import DIFFERENCE, MODEL, Arrays, digest_of, made_anew
from secagg.signing import digest

TOPIC: Final = "secagg"
HEADER: Final = "secagg"
_LABEL: Final = "secagg.integrations.nvflare"
_STEP, _FRAME, _REASON = "step", "frame", "reason"
_RECORDS: Final = {DataKind.WEIGHTS: MODEL, DataKind.WEIGHT_DIFF: DIFFERENCE}
KINDS: Final = {record: kind for kind, record in _RECORDS.items()}
# What NVFlare itself needs to bring a result back; the server chooses these for each site.
_CARRIED: Final = (
    ReservedHeaderKey.TASK_NAME,
    ReservedHeaderKey.TASK_ID,
    ReservedHeaderKey.COOKIE_JAR,
    ReservedHeaderKey.PEER_PROPS,
)
_ROUNDS: Final = (AppConstants.CURRENT_ROUND, AppConstants.NUM_ROUNDS)


def pack(step: str, frame: bytes) -> Shareable:
    """Return an auxiliary message."""
    message = Shareable()
    message[_STEP], message[_FRAME] = step, frame
    return message


def unpack(message: Any, *, peer: str) -> tuple[str, bytes]:
    """Return step and frame of an auxiliary message.

    Raises:
      WireError: there are none.
    """
    step, frame = (message.get(key) if isinstance(message, dict) else None for key in (_STEP, _FRAME))
    if not isinstance(step, str) or not isinstance(frame, bytes):
        raise WireError(f"expected a message of a protected sum from {peer}, got another", peer=peer)
    return step, frame


def refusal(reason: str) -> Shareable:
    """Return the reply of a site that does not go on."""
    reply = make_reply(ReturnCode.ERROR)
    reply[_REASON] = reason
    return reply


def open_reply(reply: Any, step: str, peer: str) -> bytes:
    """Return the frame in a reply.

    Raises:
      RemoteProtocolError: there is none, it failed, or it answers something else.
    """
    if not isinstance(reply, Shareable):
        raise RemoteProtocolError(f"did not answer to {step}", peer=peer)
    code = reply.get_return_code()
    if code != ReturnCode.OK:
        reason = reply.get(_REASON, "")
        raise RemoteProtocolError(f"failed at {step}: {str(code)!r:.80} {str(reason)!r:.500}", peer=peer)
    got, frame = unpack(reply, peer=peer)
    if got != step:
        raise RemoteProtocolError(f"expected an answer to {step} from {peer}, got {got!r:.20}", peer=peer)
    return frame


def header_of(message: Shareable) -> bytes | None:
    """Return what is told beside the framework's own message; None if there is nothing."""
    value = message.get_header(HEADER)
    return value if isinstance(value, bytes) else None


def model_in(message: Shareable) -> DXO:
    """Return the model or update in a message.

    Raises:
      UsageError: it holds something else than arrays of weights, or of their differences.
    """
    try:
        dxo = from_shareable(message)
    except (TypeError, ValueError) as error:
        raise UsageError(f"expected a DXO with weights, got none: {str(error)!r:.200}") from None
    if dxo.data_kind not in _RECORDS or not isinstance(dxo.data, dict):
        raise UsageError(
            f"expected a DXO of {' or '.join(_RECORDS)}, got {dxo.data_kind!r:.40}, which is not averaged here"
        )
    return dxo


def record_of(dxo: DXO) -> str:
    """Return what the arrays are to `secagg.federated`."""
    return _RECORDS[dxo.data_kind]


def weight_of(dxo: DXO) -> Any:
    """Return how many steps or examples are behind an update.

    Raises:
      UsageError: the executor does not say.
    """
    weight = dxo.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND, None)
    if weight is None:
        raise UsageError(
            f"expected the executor to say its weight in the DXO's meta {MetaKey.NUM_STEPS_CURRENT_ROUND!r}"
        )
    return weight


def as_asked(message: Shareable, dxo: DXO) -> tuple[Shareable, bytes]:
    """Return the task made anew of what a digest covers, and the digest.

    Task ids, cookies and the server's public context are chosen by the server for each site, and stay as they are.

    Raises:
      UsageError: as `replies.made_anew`; or numbers of rounds that are none.
    """
    arrays: Arrays = made_anew(dxo.data)
    made = DXO(dxo.data_kind, data=dict(arrays)).to_shareable()
    for name in _CARRIED:
        if (value := message.get_header(name)) is not None:
            made.set_header(name, value)
    said = [str(message.get_header(ReservedHeaderKey.TASK_NAME)).encode()]
    for name in _ROUNDS:
        value = message.get_header(name)
        if value is not None and type(value) is not int:
            raise UsageError(f"expected an integer as {name!r} of the task, got a {type(value).__name__}")
        made.set_header(name, value)
        said.append(repr(value).encode())
    return made, task_digest(arrays, dxo.data_kind, said)


def task_digest(arrays: Arrays, data_kind: str, said: list[bytes]) -> bytes:
    """Return a digest of what a task asks: name of the task, rounds, kind of the data, and arrays in their order."""
    return digest_of(f"{_LABEL}/task", arrays, [data_kind.encode(), *said])


def rounds_said(task_name: str, message: Shareable) -> list[bytes]:
    """Return what the server says beside the arrays, as `as_asked` does at a site."""
    return [task_name.encode(), *(repr(message.get_header(name)).encode() for name in _ROUNDS)]


def run_number(job_id: str) -> int:
    """Return a number for a job's id, in 63 bits."""
    return int.from_bytes(digest(f"{_LABEL}/run", [job_id.encode()])[:8], "big") >> 1
