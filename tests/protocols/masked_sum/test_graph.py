from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from secagg.errors import PlanError, UsageError
from secagg.protocols.masked_sum import Graph, GraphParameters, choose, graph
from secagg.protocols.threat_model import ThreatModel

KEY = bytes(32)


def exact_tail(n: int, marked: int, drawn: int, at_least: int) -> Fraction:
    every = math.comb(n, drawn)
    return sum(
        (
            Fraction(math.comb(marked, m) * math.comb(n - marked, drawn - m), every)
            for m in range(at_least, min(marked, drawn) + 1)
        ),
        Fraction(0),
    )


# The complete graph.


@pytest.mark.parametrize("threat_model", ["semi-honest", "malicious"])
@pytest.mark.parametrize("n", range(2, 101))
def test_up_to_100_clients_the_graph_is_complete_and_its_thresholds_hold_always(
    n: int, threat_model: ThreatModel
) -> None:
    c = r = n // 3
    if n - r < c + 2 or (threat_model == "malicious" and 2 * (n - r) <= n + c):
        with pytest.raises(PlanError, match="allow fewer dropouts"):
            choose(n, max_dropout=1 / 3, threat_model=threat_model)
        r -= 1
        while n - r < c + 2 or (threat_model == "malicious" and 2 * (n - r) <= n + c):
            r -= 1
    p = choose(n, threat_model=threat_model)
    assert p.complete
    assert (p.n_corrupt, p.n_dropouts) == (c, r)
    assert p.threshold == p.min_clients == n - r
    assert p.threshold > c
    assert p.min_clients - c >= 2
    assert p.log2_insecure == p.log2_failure == -math.inf
    if threat_model == "malicious":
        assert 2 * p.threshold > n + c
        assert 2 * p.quorum > n + c


def test_a_third_of_300_clients_is_100_whatever_rounding_does() -> None:
    p = choose(300, max_corrupt=1 / 3, max_dropout=1 / 3)
    assert (p.n_corrupt, p.n_dropouts) == (100, 100)


# The sparse graph: figures.


@pytest.mark.parametrize(("n", "k", "t"), [(200, 128, 66), (300, 174, 89), (500, 234, 120), (1000, 318, 163)])
def test_degrees_for_a_third_corrupt_and_a_third_dropping_out(n: int, k: int, t: int) -> None:
    p = choose(n, max_corrupt=1 / 3, max_dropout=1 / 3)
    assert (p.degree, p.threshold) == (k, t)
    assert p.log2_insecure <= -40
    assert p.log2_failure <= -30


@pytest.mark.parametrize(
    ("n", "corrupt", "dropouts", "k", "t"),
    [
        (1000, 0.33, 0.33, 286, 150),
        (10_000, 0.33, 0.33, 422, 221),
        (1000, 0.05, 0.33, 72, 24),
        (1000, 0.33, 0.05, 78, 60),
        (1_000_000, 0.33, 0.33, 518, 270),
    ],
)
def test_degrees_equal_those_published_with_the_authors_code(
    monkeypatch: pytest.MonkeyPatch, n: int, corrupt: float, dropouts: float, k: int, t: int
) -> None:
    # graph_parameter_finder_test.cc of google-parfait/federated-compute: 2**-40 and 2**-20, semi-honest server.
    monkeypatch.setattr(graph, "_FAILURE_BITS", 20.0)
    p = choose(n, max_corrupt=corrupt, max_dropout=dropouts)
    assert (p.degree, p.threshold) == (k, t)


def test_a_malicious_server_needs_more_than_two_disjoint_sets_of_holders_would() -> None:
    # 2 t > k + corrupt neighbours alone would do with 248 neighbours; no separation by choice of dropouts takes more.
    p = choose(1000, max_corrupt=1 / 3, max_dropout=1 / 10, threat_model="malicious")
    assert p.degree > 248
    assert not p.complete
    assert 2 * p.quorum > 1000 + 333
    assert p.quorum <= p.min_clients == 900


@pytest.mark.parametrize("n", [300, 400, 1001 * 3 // 3, 3000])
def test_a_malicious_server_with_a_third_corrupt_and_a_third_dropping_out_has_no_sparse_graph(n: int) -> None:
    c = r = math.floor(n / 3 + 1e-9)
    if 2 * (n - r) <= n + c:
        with pytest.raises(PlanError, match="allow fewer dropouts or fewer corrupt clients"):
            choose(n, max_dropout=1 / 3, threat_model="malicious")
    else:  # rounding leaves room in the complete graph alone
        assert choose(n, max_dropout=1 / 3, threat_model="malicious").complete


@pytest.mark.parametrize("threat_model", ["semi-honest", "malicious"])
@pytest.mark.parametrize(
    ("n", "corrupt", "dropouts"), [(150, 0.2, 0.1), (400, 0.1, 0.2), (1000, 0.3, 0.05), (1000, 0.0, 0.45)]
)
def test_the_probabilities_are_those_of_exact_tails(
    n: int, corrupt: float, dropouts: float, threat_model: ThreatModel
) -> None:
    p = choose(n, max_corrupt=corrupt, max_dropout=dropouts, threat_model=threat_model)
    assert not p.complete
    k, t, c, r = p.degree, p.threshold, p.n_corrupt, p.n_dropouts
    failure = n * exact_tail(n - 1, r, k, k - t + 1)
    if threat_model == "malicious":
        assert 2 * (p.quorum - 1) <= n + c < 2 * p.quorum
        insecure = n * exact_tail(n, c, k // 2, t - k // 2 - 1)
    else:
        cut = Fraction(n * (n - k - 1), 2) * exact_tail(n, c + r, k, k)
        insecure = n * exact_tail(n - 1, c, k, t) + cut
    for ours, exact in ((p.log2_failure, failure), (p.log2_insecure, insecure)):
        if exact == 0:
            assert ours == -math.inf
        else:
            assert ours == pytest.approx(math.log2(exact.numerator) - math.log2(exact.denominator), abs=1e-6)
    assert insecure <= Fraction(1, 2**40)
    assert failure <= Fraction(1, 2**30)


@pytest.mark.parametrize("threat_model", ["semi-honest", "malicious"])
def test_a_smaller_graph_would_not_do(threat_model: ThreatModel) -> None:
    n = 200
    p = choose(n, max_corrupt=0.2, max_dropout=0.1, threat_model=threat_model)
    k, c, r = p.degree - 2, p.n_corrupt, p.n_dropouts
    for t in range(2, k + 1):
        failure = n * exact_tail(n - 1, r, k, k - t + 1)
        if threat_model == "malicious":
            insecure = n * exact_tail(n, c, k // 2, max(0, t - k // 2 - 1))
            too_much = insecure > Fraction(1, 2**40)
        else:
            cut = Fraction(n * (n - k - 1), 2) * exact_tail(n, c + r, k, k)
            too_much = max(cut, n * exact_tail(n - 1, c, k, t)) > Fraction(1, 2**41)
        assert failure > Fraction(1, 2**30) or too_much


def test_more_security_takes_more_neighbours() -> None:
    degrees = [choose(1000, max_corrupt=0.1, max_dropout=0.1, security_bits=s).degree for s in (40, 60, 80)]
    assert degrees == sorted(set(degrees))


def test_parameters_say_what_they_are_and_with_what_probability_they_do_not_do() -> None:
    text = str(choose(1000))
    for part in ("318 neighbours", "threshold 163 of 319", "2^-41.", "2^-30.", "333 corrupt", "semi-honest"):
        assert part in text
    assert "complete graph" in str(choose(10))


@pytest.mark.parametrize(
    "options",
    [
        {"clients": 1},
        {"clients": 1 << 21},
        {"clients": 10, "max_corrupt": 1.0},
        {"clients": 10, "max_dropout": -0.1},
        {"clients": 10, "security_bits": 0},
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected"):
        choose(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"clients": 10, "max_dropout": 0.95},
        {"clients": 10, "max_corrupt": 0.5, "max_dropout": 0.5},
        {"clients": 10, "max_corrupt": 0.4, "max_dropout": 0.3, "threat_model": "malicious"},
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(PlanError):
        choose(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (choose(9), {"threshold": 3}),
        (choose(9), {"threshold": 10}),
        (choose(9), {"min_clients": 4}),  # of which 3 may be corrupt
        (choose(9), {"degree": 5}),
        (choose(9), {"n_dropouts": 8}),
        (choose(10, threat_model="malicious"), {"threshold": 6}),
        (choose(10, threat_model="malicious"), {"quorum": 6}),
        (choose(10, threat_model="malicious"), {"quorum": 8}),
        (
            choose(9, max_dropout=0.2, threat_model="malicious"),
            {"threshold": 6},
        ),  # twice 6 is 9 and 3 corrupt
        (choose(9, max_dropout=0.2, threat_model="malicious"), {"quorum": 6}),
        (choose(200, max_corrupt=0.1, max_dropout=0.1, threat_model="malicious"), {"threshold": 10}),
    ],
)
def test_parameters_that_bear_fewer_colluders_than_they_say_are_refused(
    base: GraphParameters, change: dict[str, int]
) -> None:
    with pytest.raises(PlanError):
        dataclasses.replace(base, **change)  # type: ignore[arg-type]


def test_thresholds_may_be_as_low_as_what_they_bear_allows() -> None:
    assert dataclasses.replace(choose(9), threshold=4, min_clients=5).n_corrupt == 3
    malicious = choose(9, max_dropout=0.2, threat_model="malicious")
    assert dataclasses.replace(malicious, threshold=7, quorum=7).min_clients == 8


# The graph.


def test_everybody_has_as_many_neighbours_and_is_its_neighbours_neighbour(sparse: GraphParameters) -> None:
    for parameters in (sparse, choose(10), choose(150, max_corrupt=0.1, max_dropout=0.1)):
        graph = Graph(parameters, KEY)
        near = [graph.neighbours(i) for i in range(parameters.clients)]
        for i, peers in enumerate(near):
            assert len(set(peers)) == len(peers) == parameters.degree
            assert peers == sorted(peers)
            assert i not in peers
            assert all(i in near[p] for p in peers)
            assert graph.holders(i) == sorted([*peers, i])


def test_the_order_is_fixed_by_the_key_alone(sparse: GraphParameters) -> None:
    def near(key: bytes) -> list[list[int]]:
        graph = Graph(sparse, key)
        return [graph.neighbours(i) for i in range(12)]

    assert near(KEY) == near(KEY)
    assert near(KEY) != near(b"\x01" * 32)


def test_neighbours_are_uniform_over_keys(sparse: GraphParameters) -> None:
    # Each of the 11 others is a neighbour with probability 6/11: over 2000 keys the count has a standard deviation of
    # 22.3; five of them are exceeded with probability under 1e-5 over all. The keys are fixed.
    counts = np.zeros(12)
    for seed in range(2000):
        counts[Graph(sparse, seed.to_bytes(32, "little")).neighbours(0)] += 1
    assert counts[0] == 0
    assert abs(counts[1:] - 2000 * 6 / 11).max() < 5 * 22.3


# Why the bounds are those of runs in a circle; exhaustively on small circles.


def circle(n: int, k: int) -> list[int]:
    """Return each place's neighbours in a circle, as bits."""
    return [sum(1 << (v + s) % n for d in range(1, k // 2 + 1) for s in (d, -d)) for v in range(n)]


def components(members: int, near: list[int]) -> list[int]:
    found = []
    while members:
        part = members & -members
        while True:
            grown = part
            for v in range(len(near)):
                if part >> v & 1:
                    grown |= near[v] & members
            if grown == part:
                break
            part = grown
        found.append(part)
        members &= ~part
    return found


def runs(n: int, length: int) -> list[int]:
    return [sum(1 << (v + d) % n for d in range(length)) for v in range(n)]


@pytest.mark.parametrize(("n", "k"), [(9, 4), (12, 4), (12, 6)])
def test_a_circle_falls_apart_only_where_two_runs_are_gone(n: int, k: int) -> None:
    near, gaps = circle(n, k), runs(n, k // 2)
    apart = 0
    for gone in range(1 << n):
        if len(components(~gone & (1 << n) - 1, near)) > 1:
            apart += 1
            missing = [v for v, run in enumerate(gaps) if run & gone == run]
            # two runs with somebody left on either side between them
            assert any((b - a) % n > k // 2 and (a - b) % n > k // 2 for a in missing for b in missing)
    assert apart


def separations(n: int, k: int, t: int, corrupt: int) -> int:
    """Count the choices of who shares and who is in the sum by which a server separates honest clients.

    corrupt: as bits; the server has them share whatever helps. Each honest client is absent, drops out after it has
    shared, or is in the sum, which it is only if it saw `t` holders of its shares share. The masking key of one that
    dropped out is opened if t of its holders answer. A set of clients is separated if it is a proper part of those
    in the sum and no unopened mask leads out of it.
    """
    near = circle(n, k)
    honest = [v for v in range(n) if not corrupt >> v & 1]
    count = 0
    for fates in itertools.product((0, 1, 2), repeat=len(honest)):
        included = sum(1 << v for v, fate in zip(honest, fates, strict=True) if fate == 2)
        dropped = sum(1 << v for v, fate in zip(honest, fates, strict=True) if fate == 1)
        shared = included | dropped | corrupt
        if any(included >> v & 1 and ((near[v] | 1 << v) & shared).bit_count() < t for v in honest):
            continue
        opened = sum(
            1 << v for v in honest if dropped >> v & 1 and (near[v] & (included | corrupt)).bit_count() >= t
        )
        parts = components((included | dropped) & ~opened, near)
        count += any(part & ~included == 0 and part != included for part in parts)
    return count


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k", "t"), [(8, 4, 4), (8, 4, 5), (9, 6, 6), (9, 6, 7)])
def test_no_choice_of_dropouts_separates_honest_clients_where_runs_hold_few_corrupt_ones(
    n: int, k: int, t: int
) -> None:
    half, cases = k // 2, 0
    for size in range(4):
        for others in itertools.combinations(range(1, n), max(0, size - 1)):
            corrupt = sum(1 << v for v in ((0, *others) if size else ()))
            if max((run & corrupt).bit_count() for run in runs(n, half)) <= t - half - 2:
                cases += 1
                assert separations(n, k, t, corrupt) == 0
    assert cases


def shown_apart(n: int, k: int, t: int, corrupt: int, views: dict[int, int]) -> int:
    """Count the choices by which a server learns another sum than that of all honest clients in it.

    As `separations`, with `views`: clients that are in the sum but were told other sets, and with which neighbours
    each of them masked its vector. They answer nothing; the others tell of their self masks.
    """
    near = circle(n, k)
    honest = [v for v in range(n) if not corrupt >> v & 1]
    others = [v for v in honest if v not in views]
    misled = sum(1 << v for v in views)
    count = 0
    for fates in itertools.product((0, 1, 2), repeat=len(others)):
        agreed = sum(1 << v for v, fate in zip(others, fates, strict=True) if fate == 2)
        dropped = sum(1 << v for v, fate in zip(others, fates, strict=True) if fate == 1)
        shared = agreed | dropped | misled | corrupt
        if any(agreed >> v & 1 and ((near[v] | 1 << v) & shared).bit_count() < t for v in others):
            continue
        told = [v for v in honest if not agreed >> v & 1 and (near[v] & (agreed | corrupt)).bit_count() >= t]
        opened = corrupt | sum(1 << v for v in told if dropped >> v & 1)
        # Unknown masks of those whose self masks are known; a mask that is in one vector alone hides all it touches.
        masks = {v: near[v] & shared & ~opened for v in others if agreed >> v & 1}
        masks |= {v: views[v] & ~opened for v in told if v in views}
        ends = {v: sum(1 << w for w in masks if masks[v] >> w & 1 and masks[w] >> v & 1) for v in masks}
        hidden = sum(1 << v for v in masks if ends[v] != masks[v])
        parts = components(sum(1 << v for v in masks), [ends.get(v, 0) for v in range(n)])
        shown = [part for part in parts if not part & hidden]
        count += shown not in ([], [agreed | misled])
    return count


def views_of(v: int, near: list[int], t: int) -> list[int]:
    return [view for view in range(near[v] + 1) if view & ~near[v] == 0 and view.bit_count() >= t - 1]


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k", "t"), [(8, 4, 4), (8, 4, 5)])
def test_clients_told_other_sets_do_not_help_to_separate_honest_ones(n: int, k: int, t: int) -> None:
    half, near, cases = k // 2, circle(n, k), 0
    for corrupt in (0, *(1 << v for v in range(1, n))):
        if max((run & corrupt).bit_count() for run in runs(n, half)) <= t - half - 2:
            for view in views_of(0, near, t):
                cases += 1
                assert shown_apart(n, k, t, corrupt, {0: view}) == 0
    for other in range(1, n // 2 + 1):
        for one_view, other_view in itertools.product(views_of(0, near, t), views_of(other, near, t)):
            cases += 1
            assert shown_apart(n, k, t, 0, {0: one_view, other: other_view}) == 0
    assert cases
    # Where two disjoint sets of holders are enough, a client masks with those that drop out, and the others show it.
    assert shown_apart(n, k, 3, 0, {0: 0b110}) > 0


def test_a_lower_threshold_would_let_a_server_separate_honest_clients() -> None:
    assert separations(9, 4, 3, 0b1) > 0
    assert separations(8, 4, 3, 0) > 0
