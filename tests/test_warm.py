"""What tests fork in place of a fresh process is one to whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import secagg
import warm

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm")]
SECAGG = [sys.executable, "-P", "-m", "secagg"]


def test_a_forked_command_has_its_own_streams_folder_environment_and_status(tmp_path: Path) -> None:
    done = subprocess.run([*SECAGG, "--version"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{secagg.__version__}\n", "")
    assert (os.getpid(), warm.SECAGG.place) in warm._servers
    process = subprocess.Popen(
        [*SECAGG, "identity", "new", "north", "--out", "here"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert os.getsid(process.pid) == process.pid
    assert process.wait() == 0
    assert (tmp_path / "here" / "north.key").exists()
    homeless = {**os.environ, "SECAGG_HOME": str(tmp_path / "none")}
    failed = subprocess.run([*SECAGG, "audit", "verify"], stderr=subprocess.PIPE, text=True, env=homeless)
    assert failed.returncode == 2
    assert str(tmp_path / "none") in failed.stderr
