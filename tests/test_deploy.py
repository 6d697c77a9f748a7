"""The files of `deploy` can be read, and each command in them is one of the command line that is installed.

No container engine and no systemd runs here: what these make of the files is not tested.
"""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
import yaml

from secagg.cli.commands import app, main
from secagg.jobs.job_file import load_job

DEPLOY = Path(__file__).parent.parent / "deploy"
TRY_OUT, OWN, KUBERNETES = "compose.try-out.yaml", "compose.yaml", "kubernetes.yaml"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text("utf-8")))


UNITS = ("secagg@.service", "secagg-serve.service")


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(DEPLOY / name)
    return parser


def shell_lines(script: str) -> Iterator[list[str]]:
    """Yield the words after `secagg` in each line of a script that calls it."""
    for line in script.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["secagg"]:
            yield words[1:]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every command in the files, with where it stands."""
    for name in (TRY_OUT, OWN):
        for service, about in documents(name)[0]["services"].items():
            place = f"{name}:{service}"
            if "entrypoint" in about:
                yield from ((place, words) for words in shell_lines(about["command"][0]))
            else:
                yield place, about["command"]
    for document in documents(KUBERNETES):
        if document["kind"] == "Job":
            (container,) = document["spec"]["template"]["spec"]["containers"]
            yield KUBERNETES, container["args"]
    for name in UNITS:
        for key in unit(name)["Service"].keys() & {"ExecStartPre", "ExecStart"}:
            program, *words = shlex.split(unit(name)["Service"][key])
            assert program == "/opt/secagg/bin/secagg"
            yield f"{name}:{key}", words
    page = (DEPLOY.parent / "docs/operation.md").read_text("utf-8")
    for script in re.findall(r"```sh\n(.*?)```", page, re.DOTALL):
        yield from (("docs/operation.md", words) for words in shell_lines(script))


def parse(words: list[str]) -> None:
    """Parse a command line without running it; raises click's errors."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("secagg", list(words), resilient_parsing=True)
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
        context = command.make_context(name, list(words), parent=context)


@pytest.mark.slow
def test_every_command_is_one_of_the_command_line() -> None:
    places = set()
    for place, words in commands():
        try:
            parse([str(word) for word in words])
        except click.UsageError as error:
            pytest.fail(f"{place}: {error.format_message()}")
        places.add(place.partition(":")[0])
    assert places == {TRY_OUT, OWN, KUBERNETES, *UNITS, "docs/operation.md"}


@pytest.mark.slow
def test_a_command_that_is_none_is_noticed() -> None:
    for words in (["run", "job.toml", "--out", "x", "--no-such"], ["run", "job.toml"]):
        with pytest.raises(Exception, match=r"(?i)no such option|missing parameter"):
            parse(words)


@pytest.mark.parametrize("name", [TRY_OUT, OWN])
def test_containers_have_no_privilege_and_write_to_their_volumes_alone(name: str) -> None:
    for service, about in documents(name)[0]["services"].items():
        assert about["read_only"] is True
        assert about["security_opt"] == ["no-new-privileges:true"]
        assert about["cap_drop"] == ([] if service == "setup" else ["ALL"])
        assert "privileged" not in about
        assert about["tmpfs"] == ["/tmp"]  # where a key is handed to OpenSSL, encrypted
    (user,) = re.findall(r"^USER (.*)$", (DEPLOY / "Containerfile").read_text("utf-8"), re.MULTILINE)
    assert user == "10001:10001"


def test_a_pod_has_no_privilege_and_its_keys_are_made_readable_by_itself_alone() -> None:
    (job,) = (one for one in documents(KUBERNETES) if one["kind"] == "Job")
    pod = job["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    mounts = {volume["name"] for volume in pod["volumes"]}
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {one["name"] for one in container["volumeMounts"]} <= mounts
    assert "install -m 600 /keys/north.key" in pod["initContainers"][0]["args"][0]
    labels = job["spec"]["template"]["metadata"]["labels"]
    for one in documents(KUBERNETES):
        spec = one["spec"]
        chosen = (
            spec["podSelector"]["matchLabels"]
            if one["kind"] == "NetworkPolicy"
            else spec.get("selector", labels)
        )
        assert chosen == labels


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_gives_a_service_nothing_that_it_does_not_need(name: str) -> None:
    service = unit(name)["Service"]
    for key, value in (
        ("User", "secagg"), ("UMask", "0077"), ("LimitCORE", "0"), ("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"), ("CapabilityBoundingSet", ""), ("StateDirectoryMode", "0700"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ):  # fmt: skip
        assert service[key] == value
    assert service["Environment"].removeprefix("SECAGG_HOME=") == "/var/lib/" + service["StateDirectory"]


@pytest.mark.slow
def test_the_try_out_sets_itself_up_and_its_job_is_that_of_its_services(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services = documents(TRY_OUT)[0]["services"]
    for words in shell_lines(services["setup"]["command"][0]):
        with pytest.raises(SystemExit) as ended:
            main([word.replace("/work", str(tmp_path)) for word in words])
        assert ended.value.code == 0, capsys.readouterr().err
    (tmp_path / "job.toml").write_text(
        (DEPLOY / "try-out.toml").read_text("utf-8").replace("/work", str(tmp_path))
    )
    job = load_job(tmp_path / "job.toml")
    assert {member.address for member in job.members} == {
        (name, 7400) for name in services if name != "setup"
    }
    for name in job.roster:
        words = services[name]["command"]
        assert words[words.index("--as") + 1] == name
        assert Path(words[words.index("--data") + 1].replace("/work", str(tmp_path))).is_file()
