"""Many cases, one after the other, with what was measured before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from secagg.bench.case import Case, Kind, crossed
from secagg.bench.machine import where
from secagg.bench.measure import measure
from secagg.bench.store import Store
from secagg.bench.subjects import names
from secagg.bench.table import Table
from secagg.errors import UsageError


class Watcher(Protocol):
    """Who is told how far a campaign is."""

    def begin(self, case: Case) -> None:
        """A case begins."""

    def repeated(self, case: Case, done: int) -> None:
        """So many of its repetitions are done."""

    def end(self, case: Case, result: dict[str, Any], *, kept: bool) -> None:
        """It has a result, which was `kept` from before."""


def run(
    subjects: Sequence[str],
    *,
    parties: Sequence[int] = (),
    sizes: Sequence[int] = (),
    engines: Sequence[int] = (),
    networks: Sequence[str] = ("loopback", "lan", "wan", "mobile"),
    tcp: bool = False,
    repeat: int = 5,
    seed: int = 1,
    frac_bits: int = 0,
    folder: str | Path | None = None,
) -> Table:
    """Measure subjects with all combinations of sizes and return the table; for notebooks.

    Args:
      subjects: names of protocols, operations or patterns; `names` of this package lists them.
      parties: clients of sums, input parties of patterns.
      sizes: numbers a client, elements of an operation, rows a party.
      engines: how many parties compute, 3 or 4.
      networks: for which times are predicted; names, or latency and bandwidth such as `20ms/100mbit`.
      tcp: in processes over TLS on this machine, in place of the simulator.
      repeat: measurements of a case.
      seed: of made-up inputs.
      frac_bits: of sums; 0 for the usual ones.
      folder: where results are kept, so that a later call goes on; without one nothing is kept.

    Raises:
      UsageError: a name, a size or a network that there is not.
      SecaggError: a result is not that of the plaintext reference.
    """
    cases = list(
        crossed(
            [kind_of(name) for name in subjects],
            parties=parties,
            sizes=sizes,
            engines=engines,
            networks=tuple(networks),
            tcp=tcp,
            repeat=repeat,
            seed=seed,
            frac_bits=frac_bits,
        )
    )
    return run_cases(cases, None if folder is None else Store(Path(folder), where()))


def kind_of(name: str) -> tuple[Kind, str]:
    """Return what kind of subject has a name.

    Raises:
      UsageError: none has.
    """
    for kind, known in names().items():
        if name in known:
            return kind, name
    listed = "; ".join(f"{kind}s {', '.join(known)}" for kind, known in names().items())
    raise UsageError(f"expected a subject among {listed}, got {name!r:.80}")


def run_cases(cases: Sequence[Case], store: Store | None, watcher: Watcher | None = None) -> Table:
    """Measure cases in order, but for those that the store has; return all their results."""
    results = []
    for case in cases:
        known = None if store is None else store.finished(case.key)
        if watcher is not None:
            watcher.begin(case)
        result = known if known is not None else measure(case, _told(watcher, case))
        if store is not None and known is None:
            store.add(result)
        if watcher is not None:
            watcher.end(case, result, kept=known is not None)
        results.append(result)
    return Table.of(results)


def _told(watcher: Watcher | None, case: Case) -> Callable[[int], None]:
    return (lambda _: None) if watcher is None else (lambda done: watcher.repeated(case, done))
