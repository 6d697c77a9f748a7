"""An organisation's folder: whose it is, and that what must not race does not."""

from __future__ import annotations

import contextlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from secagg.errors import UsageError
from secagg.home import Home


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home")
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    home.path.chmod(0o750)
    with pytest.raises(UsageError, match=r"others on this machine may enter .*; run: chmod 700"):
        Home.open(home.path)


def test_the_folder_is_where_the_variable_says_and_an_empty_one_means_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SECAGG_HOME", raising=False)
    assert Home.find() is None
    made = Home.create()
    assert Home.find() == made == Home(tmp_path / ".secagg")
    monkeypatch.setenv("SECAGG_HOME", "")
    assert Home.find() is None
    monkeypatch.setenv("SECAGG_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"nowhere, and there is none; make it with"):
        Home.find()


def test_transactions_do_not_race_and_an_error_undoes_one(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home")
    with home.transaction() as connection:
        connection.execute("CREATE TABLE counted (n INTEGER)")
        connection.execute("INSERT INTO counted VALUES (0)")
    assert stat.S_IMODE((home.path / "state.sqlite").stat().st_mode) == 0o600

    def count(_: int) -> None:
        with home.transaction() as connection:
            (n,) = connection.execute("SELECT n FROM counted").fetchone()
            connection.execute("UPDATE counted SET n = ?", (n + 1,))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(20)))
    with contextlib.suppress(KeyError), home.transaction() as connection:
        connection.execute("UPDATE counted SET n = 99")
        raise KeyError
    connection = home.database()
    assert connection.execute("SELECT n FROM counted").fetchone() == (20,)
    connection.close()
    with (
        pytest.raises(UsageError, match="no such table: other; nothing was done"),
        home.transaction() as connection,
    ):
        connection.execute("INSERT INTO other VALUES (1)")
