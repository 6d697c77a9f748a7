"""A PostgreSQL server of a test's own, from the binaries that the package pgserver carries.

The package's own start changes permissions up to the root directory and makes a user. Here the binaries are copied to a
folder that `nobody` may enter: PostgreSQL refuses to run as root.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ports import reserved_ports

_START_S = 60


class Postgres:
    """A running server whose superuser is `owner`; logins over TCP need a password.

    Attributes:
      port: on 127.0.0.1.
      password: of each user that `user` makes, and of `owner`.
    """

    password = "open-sesame-4711"  # made up, and looked for in whatever must not show it

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder, self._data = folder, folder / "data"
        self._bin = _copied(folder)
        self._as: dict[str, Any] = {}
        self._data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self._data, nobody.pw_uid, nobody.pw_gid)
            folder.chmod(0o755)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        secret = self._data.parent / "password"
        secret.write_text(self.password)
        self._run("initdb", "-D", str(self._data), "-U", "owner", "--auth=scram-sha-256", "--encoding=UTF8",
                  "--no-sync", "--locale=C", f"--pwfile={secret}")  # fmt: skip
        self._process: subprocess.Popen[Any] | None = None
        self.start()

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [self._bin / program, *words], capture_output=True, text=True, env=_ENV, **self._as
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start the server; a new one does not start while processes of one that was killed still end."""
        until = time.monotonic() + _START_S
        while True:
            if self._process is None or self._process.poll() is not None:
                self._process = self._started()
            try:
                self.connect().close()
            except Exception as error:
                if time.monotonic() > until:
                    raise AssertionError((self._folder / "log").read_text()) from error
                time.sleep(0.02)
            else:
                return

    def _started(self) -> subprocess.Popen[Any]:
        words = ["-D", str(self._data), "-k", str(self._data), "-h", "127.0.0.1", "-p", str(self.port), "-F"]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self._bin / "postgres", *words], env=_ENV, stdout=log, stderr=log, **self._as
            )

    def stop(self) -> None:
        """End every connection at once, as a crash of the machine would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def connect(self, database: str = "postgres") -> Any:
        import psycopg

        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="owner",
            password=self.password,
            dbname=database,
            autocommit=True,
        )

    def execute(self, *statements: str, database: str = "postgres") -> None:
        with contextlib.closing(self.connect(database)) as connection:
            for statement in statements:
                connection.execute(statement)

    def url(self, database: str = "postgres", user: str = "owner") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"


_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _copied(folder: Path) -> Path:
    found = importlib.util.find_spec("pgserver")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    shutil.copytree(
        package / "pginstall",
        folder / "pgserver/pginstall",
        symlinks=True,
        ignore=shutil.ignore_patterns("include"),
    )
    shutil.copytree(package.parent / "pgserver.libs", folder / "pgserver.libs")
    return folder / "pgserver/pginstall/bin"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for all tests of a process; skipped where the binaries or the driver are missing."""
    for module in ("pgserver", "psycopg", "sqlalchemy"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install --group dev")
    with reserved_ports(1) as (port,), tempfile.TemporaryDirectory(prefix="secagg-postgres-") as folder:
        server = Postgres(Path(folder), port)
        try:
            yield server
        finally:
            server.stop()
