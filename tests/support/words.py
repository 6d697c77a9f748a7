"""Whether a text holds a word, and not only its letters within a key, a signature or a session in base64."""

from __future__ import annotations

import re

__all__ = ["holds_word"]


def holds_word(text: str, word: str) -> bool:
    return re.search(rf"(?<![0-9A-Za-z+/_-]){re.escape(word)}(?![0-9A-Za-z+/_-])", text) is not None
