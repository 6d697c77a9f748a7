"""`secagg errors`: what each kind of error means and what to do about it, without the pages of the documentation."""

from __future__ import annotations

import inspect
from typing import Annotated, Final

import typer

from secagg import errors as tree
from secagg.cli.show import say, stdout
from secagg.errors import SecaggError, UsageError

# Whose doing an error is, and what to do: of the branches of the tree, as docs/errors.md has them.
REMEDIES: Final[dict[type[SecaggError], str]] = {
    tree.UsageError: "Whose doing: yours. Change the input and start again.",
    tree.RemoteProtocolError: "Whose doing: a peer's. Find out what the named peer runs; do not just start again.",
    tree.RefusedError: "Whose doing: the named party's checks. Ask the named party's people; nothing was shared.",
    tree.PeerMissingError: "Whose doing: a peer that is away, or the network. Wait for the named peer, or go on without it.",
    tree.InexactError: "Whose doing: this machine's. Take another machine or another numpy.",
    tree.SecaggError: "Whose doing: secagg's own. Report it, with the command line and the version.",
}


def errors(
    name: Annotated[
        str, typer.Argument(help="One of the kinds, such as JobError; all of them where it is left out.")
    ] = "",
) -> None:
    """Explain the kinds of errors, and what to do about each.

    The page errors of the documentation has the same names, and lists messages with causes and remedies.
    """
    known = {each.lower(): each for each in tree.__all__}
    if name and name.lower() not in known:
        raise UsageError(f"expected one of {', '.join(tree.__all__)}, got {name!r:.100}")
    for shown in [known[name.lower()]] if name else tree.__all__:
        kind: type[SecaggError] = getattr(tree, shown)
        say(stdout(), f"{shown}: {explained(kind)}")


def explained(kind: type[SecaggError]) -> str:
    """Return what a kind of error says, whose doing it is, and where the documentation has more."""
    remedy = next(REMEDIES[base] for base in kind.__mro__ if base in REMEDIES)
    first = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")
    return f"{first} {remedy} More: docs/errors.md#{kind.__name__.lower()}"
