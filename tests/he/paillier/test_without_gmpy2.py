"""Where an optional package is missing, the message says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("missing", "module", "extra"),
    [
        ("gmpy2", "secagg.he.paillier", "secagg[paillier]"),
        ("gmpy2", "secagg.he.paillier.threshold", "secagg[paillier]"),
        ("phe", "secagg.integrations.phe", "secagg[phe]"),
        ("gmpy2", "secagg.integrations.phe", "secagg[phe]"),
    ],
)
def test_the_import_says_which_extra_to_install(missing, module, extra):
    if missing == "phe":
        pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")
    program = f"import sys; sys.modules[{missing!r}] = None; import {module}"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode
    assert "ImportError: " in result.stderr
    assert f'pip install "{extra}"' in result.stderr
