"""`python -m secagg` and `secagg` are the command line."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command line; a signal that comes while it is still being imported ends it with one line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    from secagg.cli import main as run

    run()


def _end(_number: int, _frame: object) -> None:
    os.write(2, b"secagg: stopped\n")
    os._exit(130)  # an exception could be taken for a fault of what is being imported


if __name__ == "__main__":
    main()
