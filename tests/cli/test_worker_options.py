"""Options of workers on shards that fit neither the job nor the workers are refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from secagg.cli.worker_options import workplace_of
from secagg.errors import UsageError


def divided(query_on_groups: bool) -> Any:
    """Return what is asked of a job in shards: a query on groups, or a plan of SQL."""
    groups = (lambda parameters, terms: "a query") if query_on_groups else (lambda parameters, terms: None)
    pattern = SimpleNamespace(
        groups=groups, announced=groups, told=groups, phases=("share", "compute", "open")
    )
    return SimpleNamespace(name="job", shards=8, pattern=pattern, parameters=None, terms=None)


WHOLE: Any = SimpleNamespace(name="job", shards=1)
DIVIDED, PLAN = divided(True), divided(False)


def test_the_memory_of_local_workers_is_bounded(tmp_path: Path) -> None:
    place = workplace_of(DIVIDED, None, folder=tmp_path, memory="4G")
    assert place is not None
    assert place.memory_bytes == 4 << 30
    for job, least in ((DIVIDED, "256M"), (PLAN, "512M")):
        assert workplace_of(job, None, folder=tmp_path, memory=least) is not None
    assert workplace_of(WHOLE, None, folder=tmp_path, memory=None) is None


@pytest.mark.parametrize(
    ("job", "where", "memory", "reason"),
    [
        (WHOLE, "local", None, "not divided into shards"),
        (WHOLE, None, "4G", "not divided into shards"),
        (DIVIDED, "ray:auto", "4G", "let the cluster bound its own"),
        (DIVIDED, "dask:tcp://scheduler:8786", "4G", "let the cluster bound its own"),
        (DIVIDED, "local", "4 G", "expected --worker-memory of 256M or more"),
        (DIVIDED, "local", "255M", "expected --worker-memory of 256M or more"),
        (PLAN, "local", "511M", "expected --worker-memory of 512M or more"),
        (DIVIDED, "elsewhere", None, "expected --workers local"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, job: Any, where: Any, memory: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        workplace_of(job, where, folder=tmp_path, memory=memory)
