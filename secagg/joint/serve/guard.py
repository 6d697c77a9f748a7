"""Who may use the page: whoever came in by the link or the password, from this page's own address.

*Host.* A request for another host name is refused, so that a site whose name was made to point here reads nothing.
*Cookie.* A session's identifier, 32 random bytes: HttpOnly, SameSite=Strict, Secure under TLS; gone when the process ends.
*Token.* Each form has the HMAC of the session's identifier. A form is taken only with it, and only with an Origin that is
the page's own, where the browser sends an Origin. *Coming in.* At the loopback, by a link with a key from a file that its
owner alone may read; elsewhere, by a password under TLS. After ten wrong keys or passwords within a minute, all are refused
for a minute.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from starlette.datastructures import FormData
from starlette.requests import Request

from secagg.errors import UsageError
from secagg.files import read_file, write_file
from secagg.jobs.job import Address

COOKIE: Final = "secagg_page"
_KEY_FILE: Final = "page.key"
_MOST_WRONG: Final = 10
_WITHIN_S: Final = 60.0
SESSION_S: Final = 12 * 3600.0
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with none at all, browsers hide the origin of forms too
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class NotAllowedError(Exception):
    """A request that is not answered.

    Args:
      status: of HTTP.
      why: what is shown.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def page_key(keys: Path) -> str:
    """Return the key of the link by which one comes in at the loopback; it is made where there is none.

    Raises:
      UsageError: it cannot be read or written, or others can read it.
    """
    path = keys / _KEY_FILE
    try:
        write_file(path, secrets.token_urlsafe(32).encode(), mode=0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    return (
        read_file(path, what="the key of the page", max_bytes=200, private=True)
        .decode("ascii", "replace")
        .strip()
    )


@dataclass(slots=True)
class Guard:
    """Sessions of the page, and the checks of requests.

    Attributes:
      address: at which the page is.
      names: other host names under which it may be asked for.
      secret: of the link, or the password.
      by_link: whether one comes in by a link.
    """

    address: Address
    secret: str = field(repr=False)
    by_link: bool
    names: tuple[str, ...] = ()
    _sessions: dict[str, float] = field(default_factory=dict, repr=False)
    _wrong: deque[float] = field(default_factory=deque, repr=False)
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def origin(self) -> str:
        """Where the page is."""
        host, port = self.address
        shown = f"[{host}]" if ":" in host else host
        return f"{'http' if self.by_link else 'https'}://{shown}:{port}"

    def check_host(self, request: Request) -> None:
        """Refuse a request for another host."""
        port = self.address[1]
        hosts = [self.address[0], *self.names, *(["localhost", "127.0.0.1"] if self.by_link else [])]
        shown = [f"[{host}]" if ":" in host else host for host in hosts]
        allowed = {f"{host}:{port}" for host in shown}
        if port == (80 if self.by_link else 443):  # browsers leave it out then
            allowed |= set(shown)
        if request.headers.get("host", "") not in allowed:
            raise NotAllowedError(421, "This page is not at that address.")

    def come_in(self, given: str) -> str:
        """Return a new session for the right key or password."""
        at = time.monotonic()
        while self._wrong and at - self._wrong[0] > _WITHIN_S:
            self._wrong.popleft()
        if len(self._wrong) >= _MOST_WRONG:
            raise NotAllowedError(429, "Too many wrong tries. Wait for a minute.")
        if not hmac.compare_digest(given.encode(), self.secret.encode()):
            self._wrong.append(at)
            raise NotAllowedError(403, "That is not the right one.")
        session = secrets.token_urlsafe(32)
        self._sessions[session] = at
        return session

    def session(self, request: Request) -> str | None:
        """Return the session of a request, None where nobody has come in."""
        session = request.cookies.get(COOKIE, "")
        began = self._sessions.get(session)
        if began is None or time.monotonic() - began > SESSION_S:
            self._sessions.pop(session, None)
            return None
        return session

    def leave(self, session: str) -> None:
        """End a session."""
        self._sessions.pop(session, None)

    def token(self, session: str) -> str:
        """Return what forms of a session hold."""
        return hmac.new(self._key, session.encode(), hashlib.sha256).hexdigest()

    def check_origin(self, request: Request) -> None:
        """Refuse a form that another site's page sent."""
        origin = request.headers.get("origin")
        scheme = "http" if self.by_link else "https"
        if origin is not None and origin != f"{scheme}://{request.headers.get('host', '')}":
            raise NotAllowedError(403, "That form is not of this page.")
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise NotAllowedError(403, "That form is not of this page.")

    def check_form(self, request: Request, session: str, form: FormData) -> None:
        """Refuse a form that this session's pages do not hold."""
        self.check_origin(request)
        given = form.get("token")
        if not isinstance(given, str) or not hmac.compare_digest(given, self.token(session)):
            raise NotAllowedError(403, "That form is too old. Load the page again.")
