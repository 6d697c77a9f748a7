"""`secagg consortium` and `secagg approver` as people type them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from secagg.cli import main
from secagg.home import Home
from secagg.joint.approval.policy import Policy
from secagg.joint.consortium import Consortium


class Typed:
    """What a command line printed, and its status."""

    def __init__(self, capsys: pytest.CaptureFixture[str], home: Path, *words: str) -> None:
        with pytest.raises(SystemExit) as end:
            main([*words, "--home", str(home)])
        captured = capsys.readouterr()
        self.status, self.out, self.err = end.value.code, captured.out, captured.err


@pytest.mark.slow
def test_an_organisation_keeps_its_consortium_and_its_approvers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secagg.joint.approval.keys._LOG_N", 14)
    north, south = tmp_path / "north", tmp_path / "south"
    password = tmp_path / "password"
    password.write_text("a password of anna's")
    password.chmod(0o600)
    for home in (north, south):
        words = ("consortium", "new", "banks", "--as", home.name, "--address", "127.0.0.1:7400")
        assert Typed(capsys, home, *words).status == 0
    again = Typed(capsys, north, "consortium", "new", "banks", "--as", "north", "--address", "127.0.0.1:1")
    assert again.status == 2
    assert "is there already" in again.err
    assert stat.S_IMODE((north / "keys" / "north.key").stat().st_mode) == 0o600

    with pytest.raises(SystemExit):
        main(["approver", "new", "anna", "--out", str(tmp_path), "--password-file", str(password)])
    key = str(tmp_path / "anna.approver")
    assert Typed(capsys, north, "approver", "add", "anna", key).status == 0
    wrong = Typed(capsys, north, "approver", "add", "bert", key)
    assert wrong.status == 2
    assert "is the key of anna, and not of bert" in wrong.err
    said = Typed(capsys, north, "approver", "needed", "--template", "3", "--run", "0")
    assert "3 for a template, 0 for a run" in said.out
    policy = Policy.load(Home.open(north))
    assert (policy.needed.template, policy.needed.run, list(policy.approvers)) == (3, 0, ["anna"])
    assert policy.unapproved == "refuse"
    assert Consortium.load(Home.open(north)).members["north"].needed == policy.needed

    Typed(capsys, south, "consortium", "add", str(north / "north.member.toml"))
    assert Typed(capsys, north, "consortium", "add", str(south / "south.member.toml")).status == 0
    assert Typed(capsys, south, "consortium", "rotate").status == 0
    assert Typed(capsys, south, "consortium", "change", "--table", "transfers", "--role", "input").status == 0
    both = Typed(capsys, north, "consortium", "add", str(south / "south.member.toml"))
    assert "south: its key before signed the new certificate" in both.out
    assert Typed(capsys, south, "consortium", "rotate", "--lost").status == 0
    lost = Typed(capsys, north, "consortium", "add", str(south / "south.member.toml"))
    assert lost.status == 1
    assert "ask south by phone for the fingerprint, and give it with --fingerprint" in lost.err
    shown = Typed(capsys, north, "consortium", "show")
    assert "north: approvers anna; 3 for a template, 0 for a run" in shown.out
    assert "Warning: south has no approvers" in shown.out
    Typed(capsys, south, "consortium", "change", "--role", "computing")  # whoever puts in no data needs none
    assert "Warning: south" not in Typed(capsys, south, "consortium", "show").out
    assert Typed(capsys, north, "approver", "remove", "anna").status == 0
    assert "north: approvers none" in Typed(capsys, north, "consortium", "show").out
    gone = Typed(capsys, north, "consortium", "remove", "south")
    assert "south is removed, and its certificate is refused from now on" in gone.out
    assert "revoked, once of south: SHA256:" in Typed(capsys, north, "consortium", "show").out
