"""A run of openmined-psi, both roles in one process; prints its seconds as JSON.

    python openmined_psi.py ROWS {common,count}        lists of ROWS identifiers a side, half of them in common

To install: `python -m venv PSI && PSI/bin/pip install openmined-psi` (2.0.6 was measured).
"""

from __future__ import annotations

import json
import sys
import time

import private_set_intersection.python as psi


def main(rows: int, told: str) -> None:
    reveal = told == "common"
    ours = [f"account-{i:08}" for i in range(rows)]
    theirs = [f"account-{i:08}" for i in range(rows // 2, rows + rows // 2)]
    start = time.perf_counter()
    client, server = psi.client.CreateWithNewKey(reveal), psi.server.CreateWithNewKey(reveal)
    setup = server.CreateSetupMessage(1e-9, rows, theirs, psi.DataStructure.RAW)
    response = server.ProcessRequest(client.CreateRequest(ours))
    found = client.GetIntersection(setup, response) if reveal else client.GetIntersectionSize(setup, response)
    seconds = time.perf_counter() - start
    count = len(found) if reveal else found
    if count != rows - rows // 2:
        raise SystemExit(f"expected {rows - rows // 2} in common, got {count}")
    print(json.dumps({"seconds": seconds}))


main(int(sys.argv[1]), sys.argv[2])
