"""Everything in this folder needs the accountant."""

from __future__ import annotations

import pytest

pytest.importorskip("dp_accounting", reason="differential privacy needs dp-accounting")
