"""`sum` and `mean` over all clients' updates in one process, each by the real protocol."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from numpy.typing import NDArray

from secagg.aggregation.arguments import (
    Clip,
    Dropouts,
    MaxWeight,
    Updates,
    Weights,
    by_name,
    choice_of,
    clips_of,
    leaving,
    weights_of,
)
from secagg.aggregation.choice import Choice, Task
from secagg.aggregation.coding import Request, check_numbers
from secagg.aggregation.report import Aggregate, Report, role_costs
from secagg.aggregation.structure import Structure
from secagg.party import PartyId


def sum(  # noqa: A001  # called as secagg.sum
    updates: Updates,
    *,
    protocol: str | Choice = "masked",
    clip: Clip | None = None,
    precision: float | None = None,
    names: Sequence[PartyId] | None = None,
    dropouts: Dropouts = (),
    executor: Executor | None = None,
) -> Aggregate:
    """Return the sum of all clients' updates, computed as they would among themselves.

    All parties run in this process, whose owner sees everything: this shows what a protection does and costs, and is
    the reference for what runs between processes.

    Args:
      updates: of each client, by name or in order. An update is an array, or dictionaries, lists and tuples of
        arrays, however deep; float16, float32, float64 and integers; the same names, shapes and dtypes at all.
        Tensors are taken as well.
      protocol: "masked", "additive", "paillier", "ckks" or "rlwe", or one of `secagg.aggregation`'s `Masked`,
        `Additive`, `Paillier`, `Ckks` and `Rlwe` with settings.
      clip: largest absolute value of a number, agreed on beforehand; larger ones are moved to it, and counted in
        the report. A mapping gives each array its own, by path ("layer/weight"; a path stands for all below it,
        "" for the rest). "max" takes the largest absolute value that there is, in any update: **in a deployment, this
        would tell everybody that value, before the protocol has begun.**
      precision: largest absolute error of one client's number; by default 2**-20 of the clip. Integers are exact,
        and CKKS has an error of its own.
      names: of clients whose updates come in order; without it client0, client1, ...
      dropouts: for trying out: clients that vanish, before they send their update or in the round given.
      executor: threads for heavy work.

    Returns arrays of numpy in the structure and dtypes of the updates, with a report.

    Raises:
      UsageError: no clip, unknown names or protocols, settings that do not go together, too few clients.
      ShapeError: updates that differ in structure, shape or dtype, or hold something else than numbers.
      RangeError: NaN or infinity.
      PlanError: sums that could overflow, or that the protocol has no room for; the message says what would do.
      TooFewPartiesError: too few clients stayed.
      PeerMissingError: a client vanished that the protocol cannot do without.
      ImportError: the protocol needs a package that is not installed; the message says which.
    """
    return _aggregate(
        by_name(updates, names), choice_of(protocol), clip, precision, dropouts, executor, is_mean=False
    )


def mean(
    updates: Updates,
    weights: Weights | None = None,
    *,
    protocol: str | Choice = "masked",
    clip: Clip | None = None,
    precision: float | None = None,
    max_weight: MaxWeight | None = None,
    names: Sequence[PartyId] | None = None,
    dropouts: Dropouts = (),
    executor: Executor | None = None,
) -> Aggregate:
    """Return the weighted mean of all clients' updates, sum of w x / sum of w, with hidden weights.

    A weight goes the way of the updates, as one more coordinate; whoever learns the mean learns the sum of weights.
    Means of integer arrays are float64. Otherwise as `sum`.

    Args:
      updates, protocol, clip, names, dropouts, executor: as in `sum`.
      weights: positive numbers, by name or in order, such as numbers of examples; without them all are 1.
      precision: largest absolute error of the mean with integer weights or none. With others, of one client's
        number if it has the largest weight; the report's error then grows as weights are below that.
      max_weight: largest weight, agreed on beforehand. An int: weights are integers, and count exactly. A
        float: any positive numbers; vectors are shorter by as many bits as the int would have. "max" takes the
        largest, which in a deployment would be told to everybody.

    Raises:
      RangeError: also weights that are not positive, or above max_weight.
      UsageError: also weights without max_weight, or not one for each client.
      For all others see `sum`.
    """
    return _aggregate(
        by_name(updates, names),
        choice_of(protocol),
        clip,
        precision,
        dropouts,
        executor,
        is_mean=True,
        weights=weights,
        max_weight=max_weight,
    )


def _aggregate(
    updates: dict[PartyId, Any],
    choice: Choice,
    clip: Clip | None,
    precision: float | None,
    dropouts: Dropouts,
    executor: Executor | None,
    *,
    is_mean: bool,
    weights: Weights | None = None,
    max_weight: MaxWeight | None = None,
) -> Aggregate:
    began = time.perf_counter()
    clients = tuple(updates)
    choice.check(len(clients))
    absent = leaving(dropouts, clients, choice)
    known, largest = weights_of(weights, max_weight, clients)
    structure = Structure(updates[clients[0]], clients[0])
    arrays = {name: structure.flatten(update, name) for name, update in updates.items()}
    for name, parts in arrays.items():
        check_numbers(structure, parts, name)
    clips = clips_of(clip, structure, list(arrays.values()))
    coding = choice.coding(Request(structure, is_mean, clips, precision, len(clients), largest))
    vectors: dict[PartyId, NDArray[Any]] = {}
    clipped: dict[PartyId, int] = {}
    for name in clients:
        vectors[name], clipped[name] = coding.encode(arrays[name], known.get(name, 1))
    opened = choice.run(Task(vectors, coding.plan, absent, executor))
    decoded = coding.decode(opened.total, len(opened.contributors), opened.error)
    present = set(opened.contributors)
    asked = {name: f"vanished in round {stage}, as was asked for" for name, stage in absent.items()}
    why = {**opened.missed, **asked}
    report = Report(
        operation="mean" if is_mean else "sum",
        protocol=choice,
        protection=opened.protection,
        parameters=opened.parameters,
        contributors=opened.contributors,
        dropped={name: why.get(name, "left out") for name in clients if name not in present},
        vanished={name: why[name] for name in clients if name in present and name in why},
        clipped=clipped,
        error=max(decoded.errors.values()),
        errors=decoded.errors,
        weight=decoded.weight,
        clips=clips,
        plan=coding.plan,
        coding=coding.about,
        bits=opened.bits,
        length=coding.length,
        roles=role_costs(opened.roles, opened.ledgers),
        ledgers=opened.ledgers,
        seconds=time.perf_counter() - began,
        setup_s=opened.setup_s,
    )
    return Aggregate(structure.build(decoded.arrays), report)
