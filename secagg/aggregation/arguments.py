"""What callers pass to `sum` and `mean`, checked: who, with which weights and clips, and who shall drop out."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.aggregation.additive import Additive
from secagg.aggregation.bounded import Bounded
from secagg.aggregation.choice import Choice
from secagg.aggregation.encrypted import Ckks, Paillier, Rlwe
from secagg.aggregation.masked import Masked
from secagg.aggregation.privacy import Privacy
from secagg.aggregation.structure import Structure
from secagg.errors import RangeError, UsageError
from secagg.party import PartyId

Updates: TypeAlias = Mapping[PartyId, Any] | Sequence[Any] | NDArray[Any]
Weights: TypeAlias = Mapping[PartyId, float] | Sequence[float] | NDArray[Any]
Clip: TypeAlias = float | Literal["max"] | Mapping[str, float]
MaxWeight: TypeAlias = float | Literal["max"]
Dropouts: TypeAlias = Iterable[PartyId] | Mapping[PartyId, str]

_CHOICES: Final[tuple[type[Choice], ...]] = (Masked, Additive, Bounded, Paillier, Ckks, Rlwe)


def choice_of(protocol: str | Choice) -> Choice:
    """Return a protection by name, with its usual settings, or the one given.

    Raises:
      UsageError: an unknown name.
    """
    if isinstance(protocol, Choice):
        return protocol
    for kind in _CHOICES:
        if protocol == kind.name:
            return kind()
    known = ", ".join(f'"{kind.name}"' for kind in _CHOICES)
    objects = ", ".join(kind.__name__ for kind in _CHOICES)
    raise UsageError(
        f"expected a protocol among {known}, or one of {objects} with settings; got {protocol!r:.80}"
    )


def by_name(updates: Updates, names: Sequence[PartyId] | None) -> dict[PartyId, Any]:
    """Return every client's update by name.

    Raises:
      UsageError: no updates, names that come twice or are no text, or more or fewer names than updates.
    """
    if isinstance(updates, Mapping):
        if names is not None:
            raise UsageError("updates by name have their names already; leave `names` out")
        named = dict(updates)
    elif isinstance(updates, list | tuple) or (isinstance(updates, np.ndarray) and updates.ndim):
        listed = list(updates)
        called = [f"client{i}" for i in range(len(listed))] if names is None else list(names)
        if len(called) != len(listed):
            raise UsageError(f"expected as many names as updates, got {len(called)} and {len(listed)}")
        named = dict(zip(called, listed, strict=True))
        if len(named) != len(listed):
            repeated = sorted({str(name) for name in called if called.count(name) > 1})
            raise UsageError(f"expected distinct names, got more than once: {', '.join(repeated[:5])}")
    else:
        raise UsageError(
            f"expected updates by client in a mapping, or in order in a list, got a {type(updates).__name__}"
        )
    if not named:
        raise UsageError("expected updates of at least 2 clients, got none")
    for name in named:
        if not isinstance(name, str) or not name:
            raise UsageError(f"a client's name is text that is not empty, not {name!r:.80}")
    return named


def leaving(dropouts: Dropouts, clients: Sequence[PartyId], choice: Choice) -> dict[PartyId, str]:
    """Return who shall vanish in which round.

    Raises:
      UsageError: who is no client, or a round that there is not.
    """
    if isinstance(dropouts, str):
        raise UsageError(f"expected dropouts as a collection of names, got the text {dropouts!r:.80}")
    by_stage = dropouts if isinstance(dropouts, Mapping) else dict.fromkeys(dropouts, choice.usual_stage)
    for name, stage in by_stage.items():
        if name not in clients:
            raise UsageError(f"{name!r:.80} cannot drop out: it is not among the clients")
        if stage not in choice.stages:
            raise UsageError(
                f"{name} cannot drop out in round {stage!r:.80}: {choice.name} has {', '.join(choice.stages)}"
            )
    return dict(by_stage)


def weights_of(
    weights: Weights | None, max_weight: MaxWeight | None, clients: Sequence[PartyId]
) -> tuple[dict[PartyId, float], float | None]:
    """Return each client's weight, and the largest that is planned for; both int if weights are integers.

    Without weights, none and None.

    Raises:
      UsageError: not one number for each client, no max_weight, or fractions where that is an int.
      RangeError: weights that are not positive, or above max_weight.
    """
    if weights is None:
        if max_weight is not None:
            raise UsageError("max_weight is for weights, and there are none")
        return {}, None
    if isinstance(weights, Mapping):
        if set(weights) != set(clients):
            raise UsageError("expected weights by name for each client and nobody else")
        listed = [weights[name] for name in clients]
    else:
        listed = list(weights)
        if len(listed) != len(clients):
            raise UsageError(f"expected weights for {len(clients)} clients, got {len(listed)}")
    if max_weight is None:
        raise UsageError(
            "give max_weight, the largest weight that anybody may have: an int if weights are integers, a float if not; "
            'or "max" to take the largest there is, which in a deployment tells it to everybody'
        )
    known = {name: _number(weight, f"{name}'s weight") for name, weight in zip(clients, listed, strict=True)}
    for name, weight in known.items():
        if not (math.isfinite(weight) and weight > 0):
            raise RangeError(f"{name}'s weight is not a positive number; leave out who is not to count")
    if max_weight == "max":
        largest = max(known.values())
        largest = int(largest) if all(float(w).is_integer() for w in known.values()) else float(largest)
    else:
        largest = _number(max_weight, "max_weight")
    for name, weight in known.items():
        if weight > largest:
            raise RangeError(f"{name}'s weight is above max_weight={largest}; plan for a larger one")
        if isinstance(largest, int) and not float(weight).is_integer():
            raise UsageError(
                f"{name}'s weight is no integer, and max_weight={largest} is one; give max_weight={float(largest)}"
            )
    return known, largest


def clips_of(
    clip: Clip | None, structure: Structure, updates: Sequence[Sequence[NDArray[Any]]]
) -> dict[str, float]:
    """Return clips by path, "" for all that are not named.

    Raises:
      UsageError: no clip, or one for a path that leads nowhere.
    """
    if clip is None:
        raise UsageError(
            "give clip, the largest absolute value that a number may have, agreed on without looking at the updates; or "
            '"max" to take the largest there is, which in a deployment tells it to everybody'
        )
    if isinstance(clip, Mapping):
        paths = [leaf.path for leaf in structure.leaves]
        for key in clip:
            if key and not any(f"{path}/".startswith(f"{key}/") for path in paths):
                raise UsageError(f"there is a clip for {key!r:.80}, where the updates have nothing")
        return {key: _number(value, f"the clip of {key!r:.80}") for key, value in clip.items()}
    if clip != "max":
        return {"": _number(clip, "clip")}
    # Where all numbers are zero any clip will do.
    return {
        leaf.path: max(_largest(arrays[i]) for arrays in updates) or 1.0
        for i, leaf in enumerate(structure.leaves)
    }


def check_privacy(
    privacy: Privacy | None,
    round_number: int,
    choice: Choice,
    *,
    clip: Clip | None,
    precision: float | None,
    max_weight: MaxWeight | None,
) -> None:
    """Refuse what does not go with noise, before anybody's data are looked at.

    Raises:
      UsageError: a clip, a precision, a largest weight that depends on the data, or a protection that bears no noise;
        or a round without privacy.
      RangeError: a round that is not among the planned ones.
    """
    if not isinstance(round_number, int) or isinstance(round_number, bool):
        raise UsageError(f"expected round_number as an integer, got a {type(round_number).__name__}")
    if privacy is None:
        if round_number != 1:
            raise UsageError("round_number counts the rounds of a budget: give privacy, or leave it out")
        return
    if not isinstance(privacy, Privacy):
        raise UsageError(f"expected secagg.aggregation.Privacy as privacy, got a {type(privacy).__name__}")
    if not 1 <= round_number <= privacy.rounds:
        raise RangeError(
            f"round {round_number} is not among the {privacy.rounds} that the budget is for; before the first plan "
            "Privacy(rounds=...) for all"
        )
    if not choice.bears_noise:
        *others, last = [f'"{kind.name}"' for kind in _CHOICES if kind.bears_noise]
        raise UsageError(
            f"{choice.name} does not go with privacy: {choice.no_noise_because}; use {', '.join(others)} or {last}"
        )
    if clip is not None:
        raise UsageError("with privacy an update is scaled down to Privacy(norm=...); leave clip out")
    if precision is not None:
        raise UsageError("with privacy the step of numbers follows from norm and noise; leave precision out")
    if max_weight == "max":
        raise UsageError(
            "the largest weight that there is tells about the data; with privacy agree on max_weight beforehand"
        )


def _number(value: Any, what: str) -> float:
    """Return a number as a Python int, if it is an integer by type, or a float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        shown = f"the text {value!r:.40}" if isinstance(value, str) else type(value).__name__
        raise UsageError(f"expected a number as {what}, got {shown}")
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _largest(array: NDArray[Any]) -> float:
    if not array.size:
        return 0.0
    largest = max(abs(np.max(array).item()), abs(np.min(array).item()))
    # Up to the next number where float64 does not hold an integer, so that it is not clipped.
    return float(largest) if float(largest) >= largest else math.nextafter(float(largest), math.inf)
