"""How a party's process ends that others of ours start and watch."""

from __future__ import annotations

from typing import Final

WRITTEN_ELSEWHERE: Final = 3  # it has its result, and other files than `--out` says hold it
