"""Options of workers on shards that fit neither the job nor the workers are refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from secagg.cli.worker_options import workplace_of
from secagg.errors import UsageError

WHOLE: Any = SimpleNamespace(name="job", shards=1)
DIVIDED: Any = SimpleNamespace(name="job", shards=8)


def test_the_memory_of_local_workers_is_bounded(tmp_path: Path) -> None:
    place = workplace_of(DIVIDED, None, folder=tmp_path, memory="4G")
    assert place is not None
    assert place.memory_bytes == 4 << 30
    assert workplace_of(WHOLE, None, folder=tmp_path, memory=None) is None


@pytest.mark.parametrize(
    ("job", "where", "memory", "reason"),
    [
        (WHOLE, "local", None, "not divided into shards"),
        (WHOLE, None, "4G", "not divided into shards"),
        (DIVIDED, "ray:auto", "4G", "let the cluster bound its own"),
        (DIVIDED, "dask:tcp://scheduler:8786", "4G", "let the cluster bound its own"),
        (DIVIDED, "local", "4 G", "expected --worker-memory of 256M or more"),
        (DIVIDED, "elsewhere", None, "expected --workers local"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, job: Any, where: Any, memory: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        workplace_of(job, where, folder=tmp_path, memory=memory)
