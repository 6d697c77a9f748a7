"""Statistics of patients split over hospitals, beside those of the pooled tables by lifelines, statsmodels, scipy and numpy.

    python -m benchmarks.hospitals                       all of gbsg2, rossi, flchain, whas500 and aids
    python -m benchmarks.hospitals --rows 100            so many rows of each, drawn at random
    python -m benchmarks.hospitals --variants 100000     and so many variants of 2,000 made-up patients
    python -m benchmarks.hospitals --tls --only flchain  curves, log-rank and Cox with every hospital as a process

Four hospitals hold very different parts: one has nobody with the event, one a single patient. Three of them compute, in
the simulator: seconds are those of all parties on one processor, and have no network in them. With `--tls` they are those
of processes that talk over TLS, and processor seconds of the one that spends most stand beside. The last line says how
many statistics are within 1e-6 of their references (relative to those above 1).
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.parties import one_thread, run_parties

one_thread()

import numpy as np  # noqa: E402  # after one_thread

from secagg import mpc, simulate  # noqa: E402
from secagg.patterns import Terms  # noqa: E402
from secagg.patterns.health import CORRELATION, COX, CROSSTAB, DESCRIBE, LOGRANK, SURVIVAL  # noqa: E402
from secagg.statistics.variants import association, t_test, trait_sums, variant_sums  # noqa: E402

HOSPITALS = ("elm", "fir", "oak", "yew")
TERMS = Terms(HOSPITALS, {"input": HOSPITALS, "computing": HOSPITALS[:3]})
FINEST = mpc.fixed(30)
TOLERANCE = 1e-6


class Data(NamedTuple):
    """A data set: a row a patient."""

    name: str
    time: Any
    event: Any
    arm: Any
    covariates: tuple[str, ...]
    x: Any


def datasets(rows: int | None) -> Iterator[Data]:
    """Yield the data sets, with at most so many rows."""
    from lifelines.datasets import load_rossi
    from sksurv.datasets import load_aids, load_flchain, load_gbsg2, load_whas500

    def cut(name: str, when: Any, event: Any, arm: Any, columns: Mapping[str, Any]) -> Data:
        taken = np.random.default_rng(0).permutation(len(when))[:rows]
        x = np.column_stack([np.asarray(column, float) for column in columns.values()])[taken].round(6)
        texts = np.asarray(arm).astype(str).astype(object)[taken]
        event, when = np.asarray(event).astype(bool)[taken], np.asarray(when).astype(np.int64)[taken]
        return Data(name, when, event, texts, tuple(columns), x)

    x, y = load_gbsg2()
    treated = x["horTh"] == "yes"
    yield cut(
        "gbsg2", y["time"], y["cens"], x["tgrade"], {"age": x["age"], "size": x["tsize"], "treated": treated}
    )
    r = load_rossi()
    yield cut("rossi", r["week"], r["arrest"], r["fin"], {n: r[n] for n in ("fin", "age", "race", "prio")})
    x, y = load_flchain()
    columns = {
        "age": x["age"],
        "male": x["sex"] == "M",
        "kappa": np.log(x["kappa"]),
        "mgus": x["mgus"] == "yes",
    }
    yield cut("flchain", y["futime"], y["death"], x["sex"], columns)
    x, y = load_whas500()
    yield cut("whas500", y["lenfol"], y["fstat"], x["chf"], {n: x[n] for n in ("age", "bmi", "hr", "chf")})
    x, y = load_aids()
    yield cut("aids", y["time"], y["censor"], x["strat2"], {n: x[n] for n in ("age", "cd4", "priorzdv")})


def parts(event: Any) -> dict[str, Any]:
    """Return which rows lie at which hospital."""
    without = np.flatnonzero(~event)
    caseless = without[: max(1, len(without) // 4)]
    rest = np.setdiff1d(np.arange(len(event)), caseless)
    cut = 1 + 4 * (len(rest) - 1) // 5
    return dict(zip(HOSPITALS, [caseless, rest[:1], rest[1:cut], rest[cut:]], strict=True))


def texts(values: Sequence[Any]) -> Any:
    """Return texts as identifiers are read."""
    return np.array([*map(str, values), None], object)[:-1]


def tables(data: Data) -> dict[str, dict[str, Any]]:
    """Return each hospital's tables for all patterns."""
    found = {}
    k = len(data.covariates)
    units = np.rint(data.x * 10**6).astype(np.int64)
    for name, rows in parts(data.event).items():
        who = texts([f"p{i}" for i in rows])
        outcome = np.where(data.event[rows], "yes", "no")
        found[name] = {
            "patients": {
                "patient": who,
                "arm": texts(data.arm[rows]),
                "time": data.time[rows],
                "event": data.event[rows],
            },
            "covariates": {
                "patient": np.repeat(who, k),
                "covariate": texts(data.covariates * len(rows)),
                "value": units[rows].reshape(-1),
            },
            "facts": {
                "patient": np.tile(who, 2),
                "variable": texts(["arm"] * len(rows) + ["outcome"] * len(rows)),
                "value": texts([*data.arm[rows], *outcome]),
            },
            "measurements": {"patient": who, "arm": texts(data.arm[rows]), "value": units[rows, 0]},
        }
    return found


def run(pattern: Any, parameters: Any, own: Mapping[str, Any]) -> tuple[list[Any], float]:
    """Return what the first hospital is told, and the seconds that it took."""
    pattern.check(parameters, TERMS)

    async def take_part(party: Any) -> Any:
        wanted = {
            table: {c: own[party.me][table][c] for c in schema} for table, schema in pattern.inputs.items()
        }
        contribution = pattern.prepare(parameters, TERMS, wanted)
        agreed = await pattern.agree(party, parameters, TERMS, contribution)
        return await pattern.run(party, parameters, TERMS, agreed)

    start = time.perf_counter()
    told = simulate(dict.fromkeys(HOSPITALS, take_part)).values()[0]
    return list(told or []), time.perf_counter() - start


async def over_tls(
    party: Any, *, name: str, rows: int | None, statistic: str
) -> tuple[float, float, float, Any]:
    """Return begin, end (machine clock), processor seconds and what this hospital is told."""
    data = next(one for one in datasets(rows) if one.name == name)
    pattern, parameters, _ = STATISTICS[statistic](data)
    own = tables(data)[party.me]
    wanted = {table: {c: own[table][c] for c in schema} for table, schema in pattern.inputs.items()}
    contribution = pattern.prepare(parameters, TERMS, wanted)
    begun, busy = time.monotonic(), time.process_time()
    agreed = await pattern.agree(party, parameters, TERMS, contribution)
    told = await pattern.run(party, parameters, TERMS, agreed)
    return begun, time.monotonic(), time.process_time() - busy, list(told or [])


def run_over_tls(data: Data, rows: int | None, statistic: str) -> tuple[list[Any], float, float]:
    """Return what the first hospital is told, seconds, and processor seconds."""
    program = functools.partial(over_tls, name=data.name, rows=rows, statistic=statistic)
    spans = [result[0] for result in run_parties(dict.fromkeys(HOSPITALS, program)).values()]
    wall = max(span[1] for span in spans) - max(span[0] for span in spans)
    return spans[0][3], wall, max(span[2] for span in spans)


def survival(data: Data) -> tuple[Any, Any, Any]:
    """Return pattern, parameters and reference of the curves."""
    from lifelines import KaplanMeierFitter

    last = int(data.time.max())
    times = tuple(int(t) for t in np.unique(np.linspace(last / 8, last, 8).astype(int)))
    arms = tuple(np.unique(data.arm))
    expected = []
    for arm in arms:
        of = data.arm == arm
        fitted = KaplanMeierFitter().fit(data.time[of], data.event[of])
        at = fitted.survival_function_.index.searchsorted(times, side="right") - 1
        columns = np.column_stack(
            [fitted.survival_function_.to_numpy(), fitted.confidence_interval_.to_numpy()]
        )
        expected += [
            [t, *row] for t, row in zip(times, columns[at], strict=True) if (data.time[of] >= t).any()
        ]
    parameters = SURVIVAL.Parameters(
        arms=arms, times=times, last_time=last, max_patients=len(data.time), min_at_risk=1
    )
    return SURVIVAL, parameters, np.array(expected).reshape(-1)


def log_rank(data: Data) -> tuple[Any, Any, Any]:
    """Return pattern, parameters and reference of the test."""
    from lifelines.statistics import multivariate_logrank_test

    found = multivariate_logrank_test(data.time, data.arm, data.event)
    arms = tuple(np.unique(data.arm))
    parameters = LOGRANK.Parameters(arms=arms, last_time=int(data.time.max()), max_patients=len(data.time))
    return LOGRANK, parameters, np.array([found.test_statistic, len(arms) - 1, found.p_value])


def cox(data: Data, ties: str) -> tuple[Any, Any, Any]:
    """Return pattern, parameters and reference of the model."""
    from scipy import stats
    from statsmodels.duration.hazard_regression import PHReg

    x = data.x - data.x.mean(axis=0)  # so that the reference does not overflow
    spread = x.std(axis=0)
    model = PHReg(data.time, x / spread, status=data.event, ties=ties).fit(method="newton", tol=1e-12)
    b, errors = model.params / spread, model.bse / spread
    expected = np.column_stack([b, errors, 2 * stats.norm.sf(np.abs(b / errors)), np.zeros(len(b))])
    return COX, COX.Parameters(covariates=data.covariates, ties=ties, iterations=8), expected.reshape(-1)


def crosstab(data: Data) -> tuple[Any, Any, Any]:
    """Return pattern, parameters and reference of a table's test."""
    from scipy import stats

    arms = tuple(np.unique(data.arm))
    counts = np.array(
        [[np.sum((data.arm == arm) & (data.event == had)) for had in (False, True)] for arm in arms]
    )
    found = stats.chi2_contingency(counts, correction=False)
    parameters = CROSSTAB.Parameters(
        axes={"arm": arms, "outcome": ("no", "yes")}, tell="test", max_patients=len(data.time)
    )
    return CROSSTAB, parameters, np.array([found.statistic, found.dof, found.pvalue])


def describe(data: Data) -> tuple[Any, Any, Any]:
    """Return pattern, parameters and reference of the first covariate's description."""
    from scipy import stats

    value = data.x[:, 0].round(3)
    low, high = int(value.min()) - 1, int(value.max()) + 2
    decimals = 0 if (value == value.round()).all() else 2
    arms, expected = tuple(np.unique(data.arm)), []
    for arm in arms:
        of = value[data.arm == arm]
        if len(of) >= 5:
            half = stats.norm.ppf(0.975) * of.std(ddof=1) / np.sqrt(len(of))
            expected += [len(of), of.mean(), of.var(ddof=1), of.mean() - half, of.mean() + half]
            expected += [np.quantile(of, 0.5, method="inverted_cdf")] if len(of) >= 10 else []
    parameters = DESCRIBE.Parameters(arms=arms, low=low, high=high, decimals=decimals, quantiles=(0.5,))
    return DESCRIBE, parameters, np.array(expected)


def correlation(data: Data) -> tuple[Any, Any, Any]:
    """Return pattern, parameters and reference of the correlations."""
    from scipy import stats

    k = len(data.covariates)
    expected = []
    for i in range(k):
        for j in range(i + 1, k):
            found = stats.pearsonr(data.x[:, i], data.x[:, j])
            expected += [found.statistic, len(data.x), found.pvalue]
    low, high = data.x.min(axis=0), data.x.max(axis=0)
    parameters = CORRELATION.Parameters(data.covariates, tuple(map(float, low)), tuple(map(float, high)))
    return CORRELATION, parameters, np.array(expected)


STATISTICS: Mapping[str, Callable[[Data], tuple[Any, Any, Any]]] = {
    "survival": survival,
    "logrank": log_rank,
    "cox, Efron": functools.partial(cox, ties="efron"),
    "cox, Breslow": functools.partial(cox, ties="breslow"),
    "crosstab": crosstab,
    "describe": describe,
    "correlation": correlation,
}
_OVER_TLS = ("survival", "logrank", "cox, Efron")


def error(told: Sequence[Sequence[Any]], expected: Any, zeros: Any) -> float:
    """Return the largest difference, relative to references above 1; infinity where there are other rows."""
    found = np.array([float(v) for row in told for v in row if not isinstance(v, str)])
    if found.shape != expected.shape:
        return float("inf")
    return float((np.abs(found - expected) * zeros / np.maximum(1, np.abs(expected))).max())


def variants(patients: int, count: int) -> tuple[float, float, float]:
    """Return largest error, seconds at hospitals and seconds together of an association study of made-up patients."""
    import statsmodels.api as sm

    rng = np.random.default_rng(1)
    covariates = np.clip(rng.normal(size=(patients, 3)) / 4, -1, 1)
    dosages = rng.binomial(2, rng.uniform(0.02, 0.5, count).astype(np.float32), (patients, count)).astype(
        np.int8
    )
    trait = np.clip(covariates[:, 0] / 5 + dosages[:, count // 2] / 15 + rng.normal(size=patients) / 5, -1, 1)
    ends = {"elm": slice(0, 1), "fir": slice(1, patients // 4), "oak": slice(patients // 4, None)}
    start = time.perf_counter()
    sums = {
        name: (*variant_sums(dosages[at], covariates[at], trait[at]), trait_sums(covariates[at], trait[at]))
        for name, at in ends.items()
    }
    at_home = time.perf_counter() - start

    async def program(party: Any) -> Any:
        engine = await mpc.Engine.create(party)
        total = [
            sum(
                engine.share(own[i] if party.me == n else None, owner=n, shape=own[i].shape, dtype=dtype)
                for n, own in sums.items()
            )
            for i, dtype in enumerate((mpc.int64, FINEST, FINEST))
        ]
        hits = association(*total, top=min(10, 1 + count // 1000))
        return await engine.open(hits.variant, hits.effect, hits.r2)

    start = time.perf_counter()
    places, effects, shares = simulate(dict.fromkeys(ends, program)).values()[0]
    joint = time.perf_counter() - start
    worst = 0.0
    for place, effect, share in zip(places, effects, shares, strict=True):
        fitted = sm.OLS(trait, np.column_stack([np.ones(patients), covariates, dosages[:, place]])).fit()
        se, p = t_test(effect, share, patients - 5)
        for found, expected in ((effect, fitted.params[-1]), (se, fitted.bse[-1]), (p, fitted.pvalues[-1])):
            worst = max(worst, abs(float(found) - float(expected)))
    return worst, at_home, joint


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--variants", type=int, default=0)
    parser.add_argument("--tls", action="store_true", help="over TLS, with every hospital as a process")
    parser.add_argument(
        "--tiny", action="store_true", help="a little of everything but Cox's model, for tests"
    )
    given = parser.parse_args(argv)
    if given.tiny:
        given.rows, given.only, given.variants = 90, ["rossi"], 20
    equal = count = 0

    def note(line: str, worst: float, seconds: float) -> None:
        nonlocal equal, count
        count, equal = count + 1, equal + (worst <= TOLERANCE)
        print(f"{line:<24} {worst:12.1e} {seconds:9.2f} s", flush=True)

    print(f"{'statistic':<24} {'error':>12} {'time':>11}")
    for data in datasets(given.rows):
        if given.only and data.name not in given.only:
            continue
        own = tables(data)
        for name, made in STATISTICS.items():
            if (given.tiny and name.startswith("cox")) or (given.tls and name not in _OVER_TLS):
                continue
            pattern, parameters, expected = made(data)
            if given.tls:
                told, seconds, cpu = run_over_tls(data, given.rows, name)
                line = f"{data.name} {name}, {cpu:.2f} s processor"
            else:
                told, seconds = run(pattern, parameters, own)
                line = f"{data.name} {name}"
            compared = np.ones(len(expected))
            if pattern is COX:
                compared[3::4] = 0  # the last step
            note(line, error(told, expected, compared), seconds)
    if given.variants:
        worst, at_home, joint = variants(2000, given.variants)
        note(f"{given.variants} variants", worst, joint)
        print(f"  of which {at_home:.2f} s more at hospitals, before anything is shared")
    print(f"{equal} of {count} statistics equal their reference")
    return int(equal < count)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of the references
    sys.exit(main())
