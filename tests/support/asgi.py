"""A client of an ASGI application in this process, as a browser would ask it: with cookies, and no redirects followed."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status_code: int
    headers: dict[str, str]
    text: str


@dataclass
class Client:
    """One browser.

    Attributes:
      app: the application.
      host: that it asks for.
      cookies: by name, with their attributes as the last answer set them.
    """

    app: Any
    host: str
    cookies: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, b"", headers or {})

    def post(
        self,
        path: str,
        data: Mapping[str, str],
        files: Mapping[str, tuple[str, bytes]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a form of fields and files."""
        parts = [
            f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in data.items()
        ]
        parts += [
            f'--edge\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'.encode()
            + content
            + b"\r\n"
            for name, (file, content) in (files or {}).items()
        ]
        kind = {"content-type": "multipart/form-data; boundary=edge"}
        return self.ask("POST", path, b"".join(parts) + b"--edge--\r\n", kind | dict(headers or {}))

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        given = {"host": self.host, "content-length": str(len(body)), **headers}
        if self.cookies:
            given["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        where, _, query = path.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": urllib.parse.unquote(where), "raw_path": where.encode(),
            "query_string": query.replace(" ", "%20").encode(), "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        sent: list[dict[str, Any]] = []
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if waiting:
                return waiting.pop()
            await asyncio.sleep(3600)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        if (cookie := found.get("set-cookie")) is not None:
            pair, *attributes = cookie.split("; ")
            name, _, value = pair.partition("=")
            self.cookies[name] = value
            self.attributes = {a.partition("=")[0].lower(): a.partition("=")[2] for a in attributes}
        text = b"".join(message.get("body", b"") for message in sent[1:]).decode()
        return Answer(sent[0]["status"], found, text)
