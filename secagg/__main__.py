"""`python -m secagg` and `secagg` are the command line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Run the command line; a signal that comes while it is still being imported ends it with one line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as for what runs in the background
            signal.signal(number, _end)
    from secagg.cli import main as run

    status = 1
    try:
        run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    with contextlib.suppress(OSError):  # whoever read it has gone
        sys.stdout.flush()
        sys.stderr.flush()
    # Freeing what a large run holds, object by object, takes longer than somebody who pressed Ctrl-C wants to wait.
    os._exit(status)


def _end(_number: int, _frame: object) -> None:
    os.write(2, b"secagg: stopped\n")
    os._exit(130)  # an exception could be taken for a fault of what is being imported


if __name__ == "__main__":
    main()
