"""`python -m secagg` is the command line."""

from __future__ import annotations

from secagg.cli import main

if __name__ == "__main__":
    main()
