"""`sum` and `mean` over all clients' updates in one process, each by the real protocol."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from secagg.aggregation.arguments import (
    Clip,
    Dropouts,
    MaxWeight,
    Options,
    Updates,
    Weights,
    by_name,
    check_compression,
    check_privacy,
    clips_of,
    leaving,
    precision_of,
    protection_of,
    weights_of,
)
from secagg.aggregation.protection import Protection, SumJob, SumOutcome
from secagg.aggregation.report import Aggregate, Report, role_costs
from secagg.errors import PeerVanishedError
from secagg.party import PartyId
from secagg.threads import helping
from secagg.updates.coding import Coding, Request, check_numbers
from secagg.updates.compressed import Compressed
from secagg.updates.compression import Compression
from secagg.updates.privacy import Privacy
from secagg.updates.structure import Structure

if TYPE_CHECKING:
    from secagg import dp


def sum(  # noqa: A001  # called as secagg.sum
    updates: Updates,
    *,
    protocol: str | Protection = "masked",
    clip: Clip | None = None,
    precision: float | None = None,
    privacy: Privacy | None = None,
    round_number: int = 1,
    compression: Compression | None = None,
    names: Sequence[PartyId] | None = None,
    simulate_dropouts: Dropouts = (),
    executor: Executor | None = None,
) -> Aggregate:
    """Return the sum of all clients' updates, computed as they would among themselves.

    All parties run in this process, whose owner sees everything. The call shows what a protection does and costs, and is
    the reference for what runs between processes.

    Args:
      updates: of each client, by name or in order. An update is an array, or containers of arrays, however deep;
        float16, bfloat16, float32, float64 and integers; the same names, shapes and dtypes at all. Arrays are numpy's,
        tensors of torch, arrays of jax, Series, DataArrays. Containers are dictionaries, lists, tuples, dataclasses,
        structured arrays, DataFrames, Arrow's tables, Datasets. **What has a name or a label is matched by it.** A
        Series or DataFrame of updates has the clients in its index.
      protocol: "masked", "additive", "bounded", "paillier", "ckks" or "rlwe", or one of `secagg`'s `Masked`, `Additive`,
        `Bounded`, `Paillier`, `Ckks` and `Rlwe` with settings.
      clip: largest absolute value of a number, agreed on beforehand; larger ones are moved to it, and counted in
        the report. From the smallest float64 to the largest. A mapping gives each array its own, by path
        ("layer/weight"; a path stands for all below it, "" for the rest). "max" takes the largest absolute value that there
        is, in any update: **in a deployment, this would tell everybody that value, before the protocol has begun.**
        Required without privacy, and none with.
      precision: largest absolute error of one client's number; by default 2**-20 of the clip. Integers are exact,
        CKKS has an error of its own, and bounded sums take the best that fits. None with privacy.
      privacy: what the sum may tell about one client. Each scales its update down to `privacy.norm`, all arrays
        together, and adds its share of noise before the protocol; integers come back rounded. Not with CKKS or "bounded".
      round_number: which of the `privacy.rounds` sums and means of these clients' data this is, from 1 on. Nobody counts
        here: **a call that is repeated is another round.**
      compression: few bits a number, rounded at random, or a part of the numbers; for less to send. The result is the
        exact one on average, and the report's `noise_std` says how far off it is. Floats only, with integer weights; none
        with precision or privacy, nor with CKKS or "bounded".
      names: of clients whose updates come in order; without it client0, client1, ...
      simulate_dropouts: clients that vanish, before they send their update or in the round given.
      executor: threads for heavy work. The call may itself run in one of them.

    Returns what the first update is, with the sums in it, and a report: the same classes, names, order and dtypes, on the
    same device. Arrays of other libraries come back as numpy arrays.

    Raises:
      UsageError: no clip, unknown names or protocols, settings that do not go together, too few clients; privacy with a
        clip, a precision or a protocol without support for noise; a round beyond the planned ones.
      ShapeError: updates that differ in structure, names, shape or dtype, or hold something else than numbers; two
        arrays that would have one path.
      RangeError: NaN or infinity.
      PlanError: sums that could overflow, or that the protocol has no room for; nobody left to count on for noise. The
        message says what would do.
      TooFewPartiesError: too few clients stayed.
      PeerMissingError: a client vanished that the protocol cannot do without.
      BaseException: whatever else is raised in a party's program is raised as it is, with a note that names the party. Only
        `simulate_dropouts` lets clients vanish.
      ImportError: the protocol, or privacy, needs a package that is not installed; the message says which.
    """
    options = Options(
        operation="sum",
        protection=protection_of(protocol),
        clip=clip,
        precision=precision,
        privacy=privacy,
        round_number=round_number,
        compression=compression,
        names=names,
        simulate_dropouts=simulate_dropouts,
        executor=executor,
    )
    return _aggregate(updates, options)


def mean(
    updates: Updates,
    weights: Weights | None = None,
    *,
    protocol: str | Protection = "masked",
    clip: Clip | None = None,
    precision: float | None = None,
    max_weight: MaxWeight | None = None,
    privacy: Privacy | None = None,
    round_number: int = 1,
    compression: Compression | None = None,
    names: Sequence[PartyId] | None = None,
    simulate_dropouts: Dropouts = (),
    executor: Executor | None = None,
) -> Aggregate:
    """Return the weighted mean of all clients' updates, sum of w x / sum of w, with hidden weights.

    A weight goes the way of the updates, as one more coordinate; whoever learns the mean learns the sum of weights.
    Means of integer arrays are float64 (float32 where jax or a device has no other). With
    privacy, a weighted mean is the ratio of a noisy sum and a noisy sum of weights. It is an estimate, nearly unbiased
    where the sum of weights is many times its noise. Otherwise as `sum`.

    Args:
      updates, protocol, clip, privacy, round_number, compression, names, simulate_dropouts, executor: as in `sum`.
      weights: positive numbers, such as numbers of examples; without them all are 1. By name in a dictionary or in
        the index of a Series, or in the order of the updates.
      precision: largest absolute error of the mean with integer weights or none. With others, of one client's
        number if it has the largest weight; the report's error then grows as weights are below that.
      max_weight: largest weight, agreed on beforehand. An int: weights are integers, and count exactly. A
        float: any positive numbers; vectors are shorter by as many bits as the int would have. "max" takes the
        largest, which in a deployment would be told to everybody; not with privacy.

    Raises:
      RangeError: also weights that are not positive, or above max_weight; or a noisy sum of weights that is not clearly
        above its noise, in which case the round is spent.
      UsageError: also weights without max_weight, or not one for each client.
      PlanError: also noise in which every sum of weights would be lost.
      SecaggError: all others as in `sum`.
    """
    options = Options(
        operation="mean",
        protection=protection_of(protocol),
        clip=clip,
        precision=precision,
        privacy=privacy,
        round_number=round_number,
        compression=compression,
        names=names,
        simulate_dropouts=simulate_dropouts,
        executor=executor,
        weights=weights,
        max_weight=max_weight,
    )
    return _aggregate(updates, options)


def _aggregate(given: Updates, options: Options) -> Aggregate:
    began = time.perf_counter()
    updates, in_order = by_name(given, options.names)
    clients, protection = tuple(updates), options.protection
    executor = None if options.executor is None else helping(options.executor)
    check_privacy(options)
    check_compression(options)
    protection.check(len(clients))
    absent = leaving(options.simulate_dropouts, clients, protection)
    weight_of, largest_weight = weights_of(options.weights, options.max_weight, clients, in_order=in_order)
    structure = Structure(updates[clients[0]], clients[0])
    arrays: dict[PartyId, list[NDArray[Any]]] = {}
    for name, update in updates.items():
        with _noting(name):
            arrays[name] = structure.flatten(update, name)
            check_numbers(structure, arrays[name], name)
    is_mean, n, privacy = options.operation == "mean", len(clients), options.privacy
    spent: dp.Report | None = None
    coding: Coding
    if privacy is None:
        clips = clips_of(options.clip, structure, list(arrays.values()))
        precision = precision_of(options.precision)
        request = Request(structure, is_mean, clips, precision, n, largest_weight)
        compression = options.compression
        coding = protection.coding(request) if compression is None else Compressed(request, compression)
    else:
        from secagg.updates.noisy import Noisy  # whoever adds no noise does without its packages

        clips = {"": privacy.norm}
        coding = noisy = Noisy(
            Request(structure, is_mean, clips, None, n, largest_weight),
            privacy,
            min_clients=protection.min_clients(n),
            colluders=protection.colluders(n),
            modular=protection.modular,
        )
        spent = noisy.report(options.round_number)
    vectors: dict[PartyId, NDArray[Any]] = {}
    clipped: dict[PartyId, int] = {}
    for name in clients:
        with _noting(name):
            vectors[name], clipped[name] = coding.encode(arrays[name], weight_of.get(name, 1))
    opened = protection.run(SumJob(vectors, coding.plan, absent, executor, coding))
    _check_contributors(opened, clients, absent, protection)
    decoded = coding.decode(opened.total, len(opened.contributors), opened.error)
    present = set(opened.contributors)
    asked = {name: f"vanished in round {stage}, as was asked for" for name, stage in absent.items()}
    why = {**opened.missed, **asked}
    report = Report(
        operation=options.operation,
        protection=protection,
        learns=opened.learns,
        parameters=opened.parameters,
        contributors=opened.contributors,
        dropped={name: why.get(name, "left out") for name in clients if name not in present},
        afterwards={name: why[name] for name in clients if name in present and name in why},
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
        spent=spent,
        privacy=privacy,
        noise_std=decoded.noise_std,
    )
    return Aggregate(structure.build(decoded.arrays), report)


@contextmanager
def _noting(client: PartyId) -> Iterator[None]:
    """Add whose update it was to whatever is raised inside."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"raised with the update of {client}")
        raise


def _check_contributors(
    opened: SumOutcome, clients: Sequence[PartyId], absent: Collection[PartyId], protection: Protection
) -> None:
    """Refuse a sum without the update of a client that nobody asked to vanish.

    Raises:
      PeerVanishedError: there is such a client; names it.
    """
    if absent and protection.clients_depend:
        return
    asked = {*absent, *protection.misbehaving, *opened.contributors}
    for name in clients:
        if name not in asked:
            why = opened.missed.get(name, "left out")
            raise PeerVanishedError(
                f"{name} was not to drop out, and its update is not in the sum ({why}); nothing is returned",
                peer=name,
            )
