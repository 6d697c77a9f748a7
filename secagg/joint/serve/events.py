"""What happened at a party that serves, as JSON lines for a log; each field is one of a fixed set.

No field holds a message of an error in the party's own data, for that may name rows. What a line says: when, what happened,
which job, and, as far as known, its state, phase, type of error, and the peer to blame.
"""

from __future__ import annotations

import datetime
import json
import os
from collections import deque
from pathlib import Path
from typing import Any, Final, TextIO

from secagg.printable import printable

FIELDS: Final = frozenset(
    {"job", "state", "phase", "error", "peer", "tries", "folder", "address", "person", "seconds"}
)
_LENGTH: Final = 200
_KEPT: Final = 500  # lines that the page shows
_MAX_FILE_BYTES: Final = 1 << 24


class Events:
    """Writes what happened to a file of JSON lines, and to a stream.

    Args:
      path: readable by its owner alone; at 16 MiB it begins anew, and the old one is kept as `.1`.
      stream: where lines go besides.
    """

    def __init__(self, path: Path | None, stream: TextIO | None = None) -> None:
        self._path = path
        self._stream = stream
        self.latest: deque[dict[str, Any]] = deque(maxlen=_KEPT)

    def note(self, event: str, **fields: str | int | float) -> None:
        """Note an event.

        Raises:
          ValueError: a field that is none of `FIELDS`.
        """
        if strange := set(fields) - FIELDS:
            raise ValueError(f"an event has no field {', '.join(sorted(strange))}")
        shown = {
            name: printable(value, _LENGTH) if isinstance(value, str) else value
            for name, value in fields.items()
        }
        line = {
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "event": event,
            **shown,
        }
        self.latest.append(line)
        text = json.dumps(line) + "\n"
        if self._stream is not None:
            self._stream.write(text)
            self._stream.flush()
        if self._path is not None:
            if self._path.exists() and self._path.stat().st_size > _MAX_FILE_BYTES:
                self._path.replace(self._path.with_suffix(".1"))
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "a", encoding="utf-8") as file:
                file.write(text)
