"""For all tests: where everything that they need is installed, none may be skipped; and none fails by being slow."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator

import pytest

# Container images often set this, which makes each worker and each of three hundred processes compile everything.
# It stands before hypothesis, which pytest compiles itself.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# The folder of whoever runs the tests is no part of them.
os.environ["SECAGG_HOME"] = ""

from hypothesis import HealthCheck, settings  # noqa: E402

from browser import browser as browser  # noqa: E402  # fixtures
from browser import chromium as chromium  # noqa: E402
from warm import warm as warm  # noqa: E402

# On a busy machine every example takes long; that says nothing about the code.
settings.register_profile(
    "any machine", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# A shell in the background ignores SIGINT, nohup SIGHUP, and children inherit that: no test could stop a program.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Begun first, the longest before the others: no core is idle while the last of them ends.
_LONG = (
    "test_flower_deployment.py",
    "test_nvflare.py",
    "test_benchmarks.py",
    "test_openfl.py",
    "test_tcp.py",
    "test_waiting.py",
    "test_sums.py",
    "test_commands.py",
    "test_examples.py",
    "test_resuming.py",
    "test_local.py",
    "test_query_jobs.py",
    "test_flower_simulation.py",
    "test_transcripts.py",
    "test_killed_homes.py",
    "test_site.py",
    "test_run.py",
    "test_hospital_patterns.py",
    "test_views.py",
    "test_shuffle.py",
    "test_single_key.py",
    "test_threshold_rlwe.py",
    "test_ckks.py",
    "test_table_check.py",
    "test_privacy.py",
    "test_serve.py",
)

_skipped: list[str] = []


# So many parameter sets of one test are quick, from the first to the last; the others are slow.
_QUICK = 4


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
    tests: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if not item.get_closest_marker("slow"):
            tests[item.nodeid.partition("[")[0]].append(item)
    for sets in tests.values():
        quick = {round(i * (len(sets) - 1) / (_QUICK - 1)) for i in range(_QUICK)}
        for i, item in enumerate(sets):
            if i not in quick:
                item.add_marker("slow")


def pytest_xdist_auto_num_workers() -> int:
    """Run three workers on two cores: where a test waits for a process or a timeout, another computes."""
    return len(os.sched_getaffinity(0)) * 3 // 2 or 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep what collects garbage from ten thousand tests, which live to the end, now and each time that it looks."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that skipped a test where SECAGG_NO_SKIPS is set: a test that never runs holds nothing."""
    if os.environ.get("SECAGG_NO_SKIPS") and _skipped and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("SECAGG_NO_SKIPS") and _skipped:
        terminalreporter.write_line(
            f"SECAGG_NO_SKIPS is set, and {len(_skipped)} tests were skipped", red=True
        )
