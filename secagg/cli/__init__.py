"""The command line: what a person types and sees."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["main"]

if TYPE_CHECKING:
    from secagg.cli.commands import main
else:
    __getattr__, __dir__ = face("secagg.cli", {"secagg.cli.commands": "main"})
