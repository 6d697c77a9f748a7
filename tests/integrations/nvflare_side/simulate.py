"""Run a job in NVFlare's simulator: python simulate.py FOLDER PEERS ROUNDS LOST (JSON); writes to FOLDER."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from nvflare.private.fed.app.simulator.simulator_runner import SimulatorRunner
from site_code import model

PROTECTION = {"max_corrupt": 0.2, "max_dropout": 0.2, "threat_model": "malicious"}
HERE = Path(__file__).parent


def write_job(folder: Path, keys: str, rounds: int, lost: dict[str, list[str]]) -> Path:
    config = folder / "job" / "app" / "config"
    config.mkdir(parents=True)
    custom = folder / "job" / "app" / "custom"
    custom.mkdir()
    for name in ("site_code.py", "persistor.py"):
        shutil.copy(HERE / name, custom)
    given = {"identity": f"{keys}/{{site}}.key", "peers": f"{keys}/peers.toml", "protection": PROTECTION}
    leaving = {"path": "site_code.LeavingFilter", "args": {**given, "lost": lost}}
    chain = [{"tasks": ["train"], "filters": [leaving]}]
    client = {
        "format_version": 2,
        "executors": [
            {
                "tasks": ["train"],
                "executor": {"path": "site_code.Trainer", "args": {"folder": str(folder), "lost": lost}},
            }
        ],
        "task_data_filters": chain,
        "task_result_filters": chain,
        "components": [],
    }
    server = {
        "format_version": 2,
        "components": [
            {"id": "persistor", "path": "persistor.Fixed"},
            {
                "id": "generator",
                "path": "nvflare.app_common.shareablegenerators.full_model_shareable_generator"
                ".FullModelShareableGenerator",
            },
            {
                "id": "aggregator",
                "path": "site_code.ReportingAggregator",
                "args": {"peers": given["peers"], "protection": PROTECTION, "folder": str(folder)},
            },
        ],
        "workflows": [
            {
                "id": "rounds",
                "path": "nvflare.app_common.workflows.scatter_and_gather.ScatterAndGather",
                "args": {
                    "min_clients": 4,
                    "num_rounds": rounds,
                    "start_round": 0,
                    "wait_time_after_min_received": 5,
                    "aggregator_id": "aggregator",
                    "persistor_id": "persistor",
                    "shareable_generator_id": "generator",
                    "train_task_name": "train",
                    "train_timeout": 0,
                    "ignore_result_error": True,
                },
            }
        ],
    }
    (config / "config_fed_client.json").write_text(json.dumps(client))
    (config / "config_fed_server.json").write_text(json.dumps(server))
    meta = {"name": "rounds", "resource_spec": {}, "min_clients": 4, "deploy_map": {"app": ["@ALL"]}}
    (folder / "job" / "meta.json").write_text(json.dumps(meta))
    return folder / "job"


if __name__ == "__main__":
    folder, keys, rounds, lost = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
    job = write_job(folder, keys, rounds, lost)
    np.savez(folder / "model", **model())
    sites = ",".join(f"site-{i}" for i in range(1, 6))
    runner = SimulatorRunner(str(job), str(folder / "workspace"), clients=sites, threads=5)
    sys.exit(runner.run())
