"""How the command line ends: its exit statuses, which docs/operation.md lists."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from secagg.cli.progress import Style
from secagg.errors import SecaggError, UsageError
from secagg.jobs.local import error_line

__all__ = ["FAILED", "STOPPED", "WRITTEN_ELSEWHERE", "WRONG_USE", "errors_as_asked", "status_of"]

FAILED: Final = 1
WRONG_USE: Final = 2
WRITTEN_ELSEWHERE: Final = 3
STOPPED: Final = 130  # what shells give a program that Ctrl-C ended


def status_of(error: SecaggError) -> int:
    """Return the status of a program that ends with this error."""
    return WRONG_USE if isinstance(error, UsageError) else FAILED


@contextmanager
def errors_as_asked(style: Style) -> Iterator[None]:
    """Tell errors as JSON where progress is."""
    try:
        yield
    except SecaggError as error:
        if style is not Style.json:
            raise
        print(error_line(error), file=sys.stderr, flush=True)  # noqa: T201
        raise typer.Exit(status_of(error)) from None
