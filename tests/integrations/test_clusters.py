"""Workers on clusters of separate processes answer, and one whose process is killed is lost; skipped without the cluster."""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from secagg.errors import UsageError

pytestmark = pytest.mark.slow

HERE = ("127.0.0.1", 1)
# As `jobs.shards.worker` does, it notices that it was begun before.
MODULE = """\
import os, signal, time
def run(task):
    what, marker = task.decode().split(" ")
    if what == "die":
        if os.path.exists(marker):
            return b"begun before"
        open(marker, "x").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fail":
        raise ValueError
    if what == "sleep":
        open(marker + ".asleep", "x").close()
        time.sleep(3600)
    return task
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "cluster_task.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))  # processes that Python spawns take this path over
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return "cluster_task"


def answers(workers: Any, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes | None]:
    marker = str(tmp_path / "marker")
    tasks = [f"{what} {marker}".encode() for what in ("ok", "die", "fail")]
    found: list[bytes | None] = []
    for task in tasks:  # a cluster of one worker: one after the other
        found += workers.gather([workers.start(0, HERE, module, task)])
    monkeypatch.setattr(f"{type(workers).__module__}._BACK_S", 0.1, raising=False)
    with pytest.raises(UsageError, match=r"at 192\.0\.2\.1, where the job has worker 3"):
        workers.start(3, ("192.0.2.1", 1), module, b"")
    assert workers.address(0, HERE) == HERE
    asleep = workers.start(0, HERE, module, f"sleep {marker}".encode())
    while not Path(f"{marker}.asleep").exists():
        time.sleep(0.05)
    workers.end([asleep])
    assert workers.gather([asleep]) == [None]
    return found


@pytest.mark.parametrize(("name", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_without_the_cluster_s_package_the_error_says_what_to_install(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"secagg.integrations.{name}", raising=False)
    with pytest.raises(ImportError, match=rf'pip install "secagg\[{name}\]"'):
        importlib.import_module(f"secagg.integrations.{name}")


def test_dask_workers_answer_and_a_killed_one_is_lost(module, tmp_path, monkeypatch):
    distributed = pytest.importorskip(
        "distributed", reason="Dask is not installed: pip install 'secagg[dask]'"
    )
    from secagg.integrations.dask import DaskWorkers

    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        ok, died, failed = answers(DaskWorkers(client), module, tmp_path, monkeypatch)
    assert ok is not None
    assert ok.startswith(b"ok ")
    # Dask begins a lost task anew, which the task notices; or gives it up.
    assert died in (b"begun before", None)
    assert failed is None


def test_ray_workers_answer_and_a_killed_one_is_lost(module, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'secagg[ray]'")
    from secagg.integrations.ray import RayWorkers

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        ok, died, failed = answers(RayWorkers(None), module, tmp_path, monkeypatch)
    finally:
        ray.shutdown()
    assert ok is not None
    assert ok.startswith(b"ok ")
    assert died is None
    assert failed is None
