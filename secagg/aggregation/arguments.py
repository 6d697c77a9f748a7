"""What callers pass to `sum` and `mean`, checked: who, with which weights and clips, and who shall drop out.

Long, as each check says what was expected, what came, from whom, and what to do.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence, Set
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.aggregation.additive import Additive
from secagg.aggregation.bounded import Bounded
from secagg.aggregation.encrypted import Ckks, Paillier, Rlwe
from secagg.aggregation.masked import Masked
from secagg.aggregation.protection import Protection
from secagg.errors import RangeError, UsageError
from secagg.party import PartyId
from secagg.updates.coding import check_precision
from secagg.updates.compression import Compression
from secagg.updates.forms import belongs
from secagg.updates.privacy import Privacy
from secagg.updates.structure import Structure

Updates: TypeAlias = Mapping[PartyId, Any] | Sequence[Any] | NDArray[Any]
Weights: TypeAlias = Mapping[PartyId, float] | Sequence[float] | NDArray[Any]
Clip: TypeAlias = float | Literal["max"] | Mapping[str, float]
MaxWeight: TypeAlias = float | Literal["max"]
Dropouts: TypeAlias = Iterable[PartyId] | Mapping[PartyId, str]


@dataclass(frozen=True, slots=True)
class Options:
    """What callers of `sum` and `mean` pass beside the updates; see there."""

    operation: Literal["sum", "mean"]
    protection: Protection
    clip: Clip | None
    precision: float | None
    privacy: Privacy | None
    round_number: int
    names: Sequence[PartyId] | None
    simulate_dropouts: Dropouts
    executor: Executor | None
    weights: Weights | None = None
    max_weight: MaxWeight | None = None
    compression: Compression | None = None


PROTECTIONS: Final[tuple[type[Protection], ...]] = (Masked, Additive, Bounded, Paillier, Ckks, Rlwe)


def protection_of(protocol: str | Protection) -> Protection:
    """Return a protection by name, with its usual settings, or the one given.

    Raises:
      UsageError: an unknown name, or a class without its settings.
    """
    if isinstance(protocol, Protection):
        return protocol
    for kind in PROTECTIONS:
        if protocol == kind.name:
            return kind()
    known = ", ".join(f'"{kind.name}"' for kind in PROTECTIONS)
    objects = ", ".join(kind.__name__ for kind in PROTECTIONS)
    given: object = protocol
    got = f"{given!r:.80}"
    if isinstance(given, type) and issubclass(given, Protection):
        got = f"the class {given.__name__}: call it, {given.__name__}()"
    raise UsageError(f"expected a protocol among {known}, or one of {objects} with settings; got {got}")


def by_name(updates: Updates, names: Sequence[PartyId] | None) -> tuple[dict[PartyId, Any], bool]:
    """Return every client's update by name, and whether they came in order, without names of their own.

    Of a Series of pandas the index says whose each update is, of a DataFrame whose each row.

    Raises:
      UsageError: no updates, names that come twice or are no text, or more or fewer names than updates.
    """
    in_order = not isinstance(updates, Mapping)
    if isinstance(updates, Mapping):
        if names is not None:
            raise UsageError("updates by name have their names already; leave `names` out")
        named = dict(updates)
    else:
        listed, called = _listed(updates)
        in_order = called is None
        if called is not None and names is not None:
            raise UsageError("the index of the updates names the clients already; leave `names` out")
        if called is None:
            called = [f"client{i}" for i in range(len(listed))] if names is None else _ordered(names, "names")
        if len(called) != len(listed):
            raise UsageError(f"expected as many names as updates, got {len(called)} and {len(listed)}")
        named = dict(zip(called, listed, strict=True))
        if len(named) != len(listed):
            repeated = sorted({str(name) for name in called if called.count(name) > 1})
            raise UsageError(f"expected distinct names, got more than once: {', '.join(repeated[:5])}")
    if not named:
        raise UsageError("expected updates of at least 2 clients, got none")
    for name in named:
        if not isinstance(name, str) or not name:
            raise UsageError(f"a client's name is text that is not empty, not {name!r:.80}")
    return named, in_order


def _listed(updates: Any) -> tuple[list[Any], list[Any] | None]:
    """Return updates in order, and the names that they carry."""
    if belongs(updates, "pandas", "DataFrame"):
        if len(set(updates.dtypes)) > 1:
            raise UsageError(
                f"expected a DataFrame of updates, one a row, with columns of one dtype, got {len(set(updates.dtypes))}; "
                "convert it, or pass the updates in a dictionary"
            )
        # Of a row the name says whose it is.
        return [updates.iloc[i].rename(None) for i in range(len(updates))], _labels(updates.index)
    if belongs(updates, "pandas", "Series"):
        return list(updates), _labels(updates.index)
    tensors = belongs(updates, "torch", "Tensor") or belongs(updates, "jax", "Array")
    if isinstance(updates, list | tuple) or (
        (isinstance(updates, np.ndarray) or tensors) and getattr(updates, "ndim", None)
    ):
        if hasattr(updates, "_fields"):
            raise UsageError(
                f"expected updates by client in a mapping, got a {type(updates).__name__}, whose fields are names; pass "
                "_asdict()"
            )
        return list(updates), None
    raise UsageError(
        f"expected updates by client in a mapping, or in order in a list, got a {type(updates).__name__}"
    )


def _labels(index: Any) -> list[Any] | None:
    """Return the labels of an index of pandas; None where it only counts."""
    return (
        None
        if belongs(index, "pandas", "RangeIndex") and index.equals(type(index)(len(index)))
        else list(index)
    )


def _ordered(values: Any, what: str) -> list[Any]:
    """Return what is given in an order as a list."""
    if isinstance(values, str | bytes | Set | Mapping) or not isinstance(values, Iterable):
        raise UsageError(
            f"expected {what} in the order of the updates, in a list, got a {type(values).__name__}"
        )
    return list(values)


def leaving(dropouts: Dropouts, clients: Sequence[PartyId], protection: Protection) -> dict[PartyId, str]:
    """Return who shall vanish in which round.

    Raises:
      UsageError: who is no client, or a round that there is not.
    """
    if isinstance(dropouts, str):
        raise UsageError(
            f"expected simulate_dropouts as a collection of names, got the text {dropouts!r:.80}"
        )
    by_stage = dropouts if isinstance(dropouts, Mapping) else dict.fromkeys(dropouts, protection.usual_stage)
    for name, stage in by_stage.items():
        if name not in clients:
            raise UsageError(f"{name!r:.80} cannot drop out: it is not among the clients")
        if stage not in protection.stages:
            raise UsageError(
                f"{name} cannot drop out in round {stage!r:.80}: {protection.name} has {', '.join(protection.stages)}"
            )
    return dict(by_stage)


def weights_of(
    weights: Weights | None,
    max_weight: MaxWeight | None,
    clients: Sequence[PartyId],
    *,
    in_order: bool = True,
) -> tuple[dict[PartyId, float], float | None]:
    """Return each client's weight, and the largest that is planned for; both int if weights are integers.

    Without weights, none and None. Weights with labels are matched by them: names of clients, or positions where the
    updates came in order.

    Raises:
      UsageError: not one number for each client, no max_weight, or fractions where that is an int.
      RangeError: weights that are not positive, or above max_weight.
    """
    if weights is None:
        if max_weight is not None:
            raise UsageError("max_weight is for weights, and there are none")
        return {}, None
    listed = _weights_in_order(weights, clients, in_order=in_order)
    if max_weight is None:
        raise UsageError(
            "give max_weight, the largest weight that anybody may have: an int if weights are integers, a float if not; "
            'or "max" to take the largest there is, which in a deployment tells it to everybody'
        )
    known = {name: _number(weight, f"{name}'s weight") for name, weight in zip(clients, listed, strict=True)}
    for name, weight in known.items():
        if not 0 < weight < math.inf:
            raise RangeError(f"{name}'s weight is not a positive number; leave out who is not to count")
    if max_weight == "max":
        largest = max(known.values())
        largest = int(largest) if all(float(w).is_integer() for w in known.values()) else float(largest)
    else:
        largest = _number(max_weight, "max_weight")
        if not 0 < largest < math.inf:
            raise UsageError(f"expected a positive number as max_weight, got {largest}")
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
        for key in clip:
            if not isinstance(key, str):
                raise UsageError(
                    f'expected clips by path, which is text such as "{key!r:.20}" or "layer/weight", got a '
                    f"{type(key).__name__}"
                )
            if key and key not in structure.paths:
                there = ", ".join(repr(leaf.path) for leaf in structure.leaves[:5])
                raise UsageError(
                    f"there is a clip for {key!r:.80}, where the updates have nothing; they have {there:.200}"
                )
        return {key: _number(value, f"the clip of {key!r:.80}") for key, value in clip.items()}
    if clip != "max":
        return {"": _number(clip, "clip")}
    # Where all numbers are zero any clip will do.
    return {
        leaf.path: max(_largest(arrays[i]) for arrays in updates) or 1.0
        for i, leaf in enumerate(structure.leaves)
    }


def _weights_in_order(weights: Any, clients: Sequence[PartyId], *, in_order: bool) -> list[Any]:
    """Return weights in the order of the clients.

    Raises:
      UsageError: not one for each client, labels that say of whom they are not, or no order.
    """
    labels: list[Any] | None = None
    if isinstance(weights, Mapping):
        labels, listed = list(weights), list(weights.values())
    elif belongs(weights, "pandas", "Series"):
        labels, listed = _labels(weights.index), weights.tolist()
        if labels is None and not in_order:
            raise UsageError(
                "expected weights with the names of the clients as their index, got a Series that is only numbered; set the "
                "index, or pass its tolist() to give them in the order of the updates"
            )
    elif belongs(weights, "xarray", "DataArray") and weights.ndim == 1:
        index = weights.indexes.get(weights.dims[0])
        labels, listed = None if index is None else list(index), weights.to_numpy().tolist()
    elif belongs(weights, "pyarrow", "Array", "ChunkedArray"):
        listed = weights.to_pylist()
    elif belongs(weights, "polars", "Series"):
        listed = weights.to_list()
    elif belongs(weights, "torch", "Tensor") or belongs(weights, "jax", "Array"):
        listed = _ordered(weights.tolist(), "weights")
    elif hasattr(weights, "columns") or hasattr(weights, "column_names") or hasattr(weights, "dims"):
        raise UsageError(
            f"expected one weight for each client, by name or in order, got a {type(weights).__name__}; pass one column"
        )
    else:
        listed = _ordered(weights, "weights")
    if labels is None:
        if len(listed) != len(clients):
            raise UsageError(f"expected weights for {len(clients)} clients, got {len(listed)}")
        return listed
    known: dict[Any, Any] = dict(zip(labels, listed, strict=True))
    wanted: Sequence[Any] = clients
    if in_order and set(known) == set(range(len(clients))):
        wanted = range(len(clients))
    if len(known) != len(listed) or set(known) != set(wanted):
        missing = [name for name in clients if name not in known]
        strange = [name for name in known if name not in set(clients)]
        shown = missing or strange or [name for name in labels if labels.count(name) > 1]
        what = "none for" if missing else "one for" if strange else "more than one for"
        raise UsageError(
            "expected weights by name for each client and nobody else, got "
            f"{what} {', '.join(f'{name!r:.40}' for name in shown[:5])}"
        )
    return [known[name] for name in wanted]


def precision_of(precision: float | None) -> float | None:
    """Return the precision as a number, if there is one.

    Raises:
      UsageError: no number, or not a positive one.
    """
    if precision is None:
        return None
    number = float(_number(precision, "precision"))
    check_precision(number)
    return number


def check_privacy(options: Options) -> None:
    """Refuse what does not go with noise, before anybody's data are looked at.

    Raises:
      UsageError: a clip, a precision, a largest weight that depends on the data, or a protection without support for noise;
        a round without privacy, or one that is not among the planned ones.
    """
    privacy, round_number, protection = options.privacy, options.round_number, options.protection
    if not isinstance(round_number, int) or isinstance(round_number, bool):
        raise UsageError(f"expected round_number as an integer, got a {type(round_number).__name__}")
    if privacy is None:
        if round_number != 1:
            raise UsageError("round_number counts the rounds of a budget: give privacy, or leave it out")
        return
    if not isinstance(privacy, Privacy):
        raise UsageError(f"expected secagg.aggregation.Privacy as privacy, got a {type(privacy).__name__}")
    if not 1 <= round_number <= privacy.rounds:
        raise UsageError(
            f"round {round_number} is not among the {privacy.rounds} that the budget is for; before the first plan "
            "Privacy(rounds=...) for all"
        )
    if not protection.supports_dp:
        *others, last = [f'"{kind.name}"' for kind in PROTECTIONS if kind.supports_dp]
        raise UsageError(
            f"{protection.name} does not go with privacy: {protection.no_dp_because}; use {', '.join(others)} or {last}"
        )
    if options.clip is not None:
        raise UsageError("with privacy an update is scaled down to Privacy(norm=...); leave clip out")
    if options.precision is not None:
        raise UsageError("with privacy the step of numbers follows from norm and noise; leave precision out")
    if options.max_weight == "max":
        raise UsageError(
            "the largest weight that there is tells about the data; with privacy agree on max_weight beforehand"
        )


def check_compression(options: Options) -> None:
    """Refuse what does not go with compression, before anybody's data are looked at.

    Raises:
      UsageError: privacy, or a protection that would send as much.
    """
    compression, protection = options.compression, options.protection
    if compression is None:
        return
    if not isinstance(compression, Compression):
        raise UsageError(f"expected secagg.Compression as compression, got a {type(compression).__name__}")
    if compression.error_feedback:
        raise UsageError(
            "error feedback is for rounds of training, in which clients remember what was cut off; a single sum has no "
            "memory: leave error_feedback out"
        )
    if options.privacy is not None:
        raise UsageError(
            "with privacy the step of numbers follows from norm and noise; leave compression out"
        )
    if protection.no_compression_because:
        *others, last = [f'"{kind.name}"' for kind in PROTECTIONS if not kind.no_compression_because]
        raise UsageError(
            f"{protection.name} does not go with compression: {protection.no_compression_because}; use "
            f"{', '.join(others)} or {last}"
        )


def _number(value: Any, what: str) -> float:
    """Return a number as a Python int, if it is an integer by type, or a float."""
    if isinstance(value, np.ndarray) and not value.ndim and value.dtype.kind in "iuf":
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        shown = f"the text {value!r:.40}" if isinstance(value, str) else type(value).__name__
        raise UsageError(f"expected a number as {what}, got {shown}")
    try:
        number = float(value)
    except OverflowError:
        raise UsageError(f"expected a number that float64 can hold as {what}, got a larger one") from None
    return int(value) if isinstance(value, numbers.Integral) else number


def _largest(array: NDArray[Any]) -> float:
    if not array.size:
        return 0.0
    largest = max(abs(np.max(array).item()), abs(np.min(array).item()))
    # Up to the next number where float64 does not hold an integer, so that it is not clipped.
    return float(largest) if float(largest) >= largest else math.nextafter(float(largest), math.inf)
