"""`secagg identity`: keys and certificates, by which parties know each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.show import say, stdout

__all__ = ["app"]

app = typer.Typer(help="Make and show keys and certificates.", no_args_is_help=True)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="The party's name, as in job files.")],
    out: Annotated[Path, typer.Option(help="Where to write NAME.key and NAME.crt.")] = Path(),
) -> None:
    """Make a key and a certificate for the party NAME.

    Nothing is overwritten. The key stays here; the certificate goes to the other parties.
    """
    from secagg.network.identity import create_identity

    identity = create_identity(name)
    key, certificate = identity.save(out)
    console = stdout()
    say(console, f"{key}  keep this secret; it never leaves this machine")
    say(console, f"{certificate}  give this to the other parties")
    say(console, "fingerprint, to be compared by phone:")
    say(console, identity.fingerprint)


@app.command("show")
def show(file: Annotated[Path, typer.Argument(help="A certificate (.crt).")]) -> None:
    """Print the fingerprint of a certificate FILE.

    Compare it with its owner by phone. What the certificate says of itself is its maker's word alone.
    """
    from secagg.network.identity import fingerprint, read_certificate

    certificate = read_certificate(file)
    console = stdout()
    say(console, fingerprint(certificate))
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    say(console, f"it says that it is for {certificate.subject.rfc4514_string()}")
    say(console, f"valid {begin:%Y-%m-%d} to {end:%Y-%m-%d}")
