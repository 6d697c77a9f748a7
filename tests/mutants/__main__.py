"""Change modules a little and see which changes no test notices: python tests/mutants [MODULES] [--sample N].

The checkout is never altered: each worker has a copy of it. Results are kept in .mutants/results.jsonl by the text of
the mutant, so a run that was ended goes on where it was; a mutant that survived is tried again.

Whether the tests are green without a change is looked at first, and how long they take: a mutant on which they take
three times as long is killed by that.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from hand_made import HAND_MADE
from mutations import mutants
from targets import ROOT, TARGETS, noticed_by

_COPIED: Final = (
    "secagg",
    "tests",
    "docs",
    "benchmarks",
    "examples",
    "pyproject.toml",
    "Makefile",
    "LICENSE",
)
_KEPT: Final = ROOT / ".mutants" / "results.jsonl"


class Case(NamedTuple):
    """A mutant to be tried: the module, what was changed, its text, and the tests that have to notice."""

    module: str
    name: str
    source: str
    tests: tuple[str, ...]

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.module}\0{self.source}".encode()).hexdigest()[:24]


def cases(
    patterns: Iterable[str], sample: int, seed: int, named: str, *, only_hand_made: bool
) -> Iterator[Case]:
    """Yield the mutants of all modules that fit a pattern, those made by hand first."""
    modules = sorted({str(p.relative_to(ROOT)) for pattern in patterns for p in ROOT.glob(pattern)})
    if not modules:
        raise SystemExit(f"no module fits {' '.join(patterns)}")
    for change in HAND_MADE:
        if change.module in modules:
            yield Case(
                change.module, change.name, change.apply(ROOT), change.tests or noticed_by(change.module)
            )
    for module in [] if only_hand_made else modules:
        made = [m for m in mutants((ROOT / module).read_text("utf-8")) if re.search(named, m.name)]
        chosen = sorted(random.Random(seed).sample(range(len(made)), min(sample or len(made), len(made))))
        for i in chosen:
            yield Case(module, made[i].name, made[i].source, noticed_by(module))


class Tree:
    """A copy of the checkout in which one module at a time is changed."""

    _ticks = int(time.time())
    _lock = threading.Lock()

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._changed = ("", "")
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "mutants")
                shutil.copytree(source, directory / name, ignore=ignored)
            elif source.exists():
                shutil.copy(source, directory / name)
        for path in ROOT.glob("*.md"):
            shutil.copy(path, directory)
        shutil.copytree(ROOT / "tests" / "mutants", directory / "tests" / "mutants", dirs_exist_ok=True)

    def change(self, module: str, source: str) -> None:
        """Put other text in a module's place, until `restore`."""
        self._changed = module, (self.directory / module).read_text("utf-8")
        self.write(module, source)

    def restore(self) -> None:
        """Undo the change; the checkout itself may look otherwise by now."""
        self.write(*self._changed)

    def write(self, module: str, source: str) -> None:
        path = self.directory / module
        path.write_text(source, "utf-8")
        with Tree._lock:  # a time of its own for each text, or Python takes the one that it has compiled
            Tree._ticks += 2
            os.utime(path, (Tree._ticks, Tree._ticks))

    def run(self, tests: tuple[str, ...], timeout_s: float | None) -> tuple[bool, str]:
        """Return whether the tests are green, and if not which was not."""
        files = [str(p.relative_to(self.directory)) for t in tests for p in sorted(self.directory.glob(t))]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
        environment = os.environ | {"PYTHONPATH": str(self.directory), "OPENBLAS_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command,
                cwd=self.directory,
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False, "out of time"
        if done.returncode == 0:
            return True, ""
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return False, failed[0] if failed else f"pytest ended with {done.returncode}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", default=list(TARGETS), help="paths or patterns; default: all")
    parser.add_argument("--sample", type=int, default=20, help="mutants a module; 0 for all (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--named", default="", help="only changes whose name holds this regular expression")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--hand-made", action="store_true", help="only the changes listed in hand_made.py")
    options = parser.parse_args()
    wanted = list(
        cases(options.modules, options.sample, options.seed, options.named, only_hand_made=options.hand_made)
    )
    _KEPT.parent.mkdir(exist_ok=True)
    lines = _KEPT.read_text("utf-8").splitlines() if _KEPT.exists() else []
    killed = {entry["key"] for entry in map(json.loads, lines) if entry["by"]}
    todo = [case for case in wanted if case.key not in killed]
    print(f"{len(wanted)} mutants, {len(wanted) - len(todo)} killed before", flush=True)
    survivors: list[Case] = []
    lock = threading.Lock()
    seconds: dict[str, float] = {}
    red: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="secagg-mutants-") as scratch:
        trees: queue.Queue[Tree] = queue.Queue()
        for i in range(options.workers):
            trees.put(Tree(Path(scratch) / str(i)))

        def measure(test: str) -> None:
            tree = trees.get()
            try:
                began = time.monotonic()
                green, failed = tree.run((test,), None)
                seconds[test] = time.monotonic() - began
                print(f"without a change {seconds[test]:4.0f} s {failed or 'green'} {test}", flush=True)
                if not green:
                    red.add(test)
            finally:
                trees.put(tree)

        def attempt(case: Case) -> None:
            tree = trees.get()
            try:
                tree.change(case.module, case.source)
                green, by = tree.run(case.tests, 30 + 3 * sum(seconds[test] for test in case.tests))
                tree.restore()
            finally:
                trees.put(tree)
            with lock:
                if green:
                    survivors.append(case)
                entry = {"key": case.key, "module": case.module, "name": case.name, "by": by}
                with _KEPT.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
                print(f"{'SURVIVES' if green else 'killed  '} {case.module}:{case.name}", flush=True)

        with ThreadPoolExecutor(options.workers) as pool:
            list(pool.map(measure, dict.fromkeys(test for case in todo for test in case.tests)))
            able = [case for case in todo if red.isdisjoint(case.tests)]
            list(pool.map(attempt, able))
    print(f"\n{len(survivors)} of {len(wanted)} survive")
    if len(able) < len(todo):
        print(
            f"{len(todo) - len(able)} were not tried: not green without a change are {', '.join(sorted(red))}"
        )
    for case in survivors:
        print(f"  {case.module}:{case.name}")
    return bool(survivors or red)


if __name__ == "__main__":
    sys.exit(main())
