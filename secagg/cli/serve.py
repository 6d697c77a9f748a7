"""`secagg serve`: wait for approved jobs and run them, with a page for people who do not type commands."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from secagg.cli.run import HomeOption, duration_of
from secagg.cli.show import say, stdout
from secagg.errors import UsageError
from secagg.files import read_file
from secagg.home import Home

__all__ = ["serve"]

_NEEDS = ("starlette", "uvicorn", "multipart", "prometheus_client", "cronsim")
_SHORTEST_PASSWORD = 12


def serve(
    page: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the page is; none where this is empty.")
    ] = "127.0.0.1:7480",
    password_file: Annotated[
        Path | None,
        typer.Option(help="A file with the page's password; needed where it is not at the loopback."),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="The page's TLS certificate, in PEM; needed where it is not at the loopback."),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The key of the page's certificate, in PEM.")] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(help="A name under which browsers ask for the page (repeat for several)."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where Prometheus reads metrics, such as 127.0.0.1:9464."),
    ] = None,
    wait: Annotated[
        str,
        typer.Option(metavar="TIME", help="How long a run waits for the other parties, such as 30m or 8h."),
    ] = "24h",
    home: HomeOption = None,
) -> None:
    """Wait for approved jobs and run them; show a page.

    Jobs are the files in jobs/ of the folder. Each is run once it is approved, or as often as serve.toml says. A run that is
    interrupted goes on. Results and records are in runs/, what happened is in serve.log.
    """
    from secagg.jobs.job_parties import parse_address

    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"secagg serve needs {', '.join(missing)}: pip install 'secagg[serve]'")
    from secagg.joint.serve.events import Events
    from secagg.joint.serve.metrics import Metrics
    from secagg.joint.serve.supervisor import Supervisor, log_path

    duration_of(wait)
    own = Home.open(home)
    numbers = Metrics()
    supervisor = Supervisor(own, Events(log_path(own), sys.stderr), numbers, wait=wait)
    if metrics is not None:
        numbers.listen(parse_address(metrics))
    server = None
    if page:
        server, link = _page(supervisor, page, password_file, certificate, key, host or [])
        say(stdout(), f"The page of {supervisor.me}: {link}")
    try:
        supervisor.serve(threading.Event())  # until a signal comes
    finally:
        if server is not None:
            server.should_exit = True


def _page(
    supervisor: Any,
    page: str,
    password_file: Path | None,
    certificate: Path | None,
    key: Path | None,
    names: list[str],
) -> tuple[Any, str]:
    """Start the page in a thread; return its server, and the link by which one comes in."""
    import uvicorn

    from secagg.jobs.job_parties import parse_address
    from secagg.joint.serve.guard import Guard, is_loopback, page_key
    from secagg.joint.serve.page import Page

    address = parse_address(page)
    local = is_loopback(address[0])
    if local:
        if password_file is not None or certificate is not None or key is not None:
            raise UsageError("a page at the loopback needs no password and no certificate; leave them out")
        secret = page_key(supervisor.home.keys)
    else:
        if password_file is None or certificate is None or key is None:
            raise UsageError(
                f"others can reach a page at {address[0]}; it needs --password-file, --certificate and --key"
            )
        content = read_file(password_file, what="the page's password", max_bytes=1000, private=True)
        secret = content.decode("utf-8", "replace").strip()
        if len(secret) < _SHORTEST_PASSWORD:
            raise UsageError(
                f"expected a password of at least {_SHORTEST_PASSWORD} characters in {password_file}"
            )
    guard = Guard(address, secret, local, tuple(names))
    tls = {} if local else {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
    config = uvicorn.Config(
        Page(supervisor, guard).app(),
        host=address[0],
        port=address[1],
        log_level="warning",
        access_log=False,  # the link has a key in it
        server_header=False,
        proxy_headers=False,
        limit_concurrency=50,
        **tls,  # type: ignore[arg-type]
    )
    server = uvicorn.Server(config)
    started = threading.Thread(target=_serving, args=(server,), name="secagg page", daemon=True)
    started.start()
    while not server.started and started.is_alive():
        started.join(0.05)
    if not server.started:
        raise UsageError(f"the page cannot be served at {page}; is another program there?")
    return server, f"{guard.origin}/enter?key={secret}" if local else f"{guard.origin}/"


def _serving(server: Any) -> None:
    try:
        server.run()
    except SystemExit:  # uvicorn's answer to an address that is taken
        return
