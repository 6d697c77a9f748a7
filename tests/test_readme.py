"""What the README shows is so."""

from __future__ import annotations

import functools
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from secagg.cli import main
from secagg.cli.job_shown import opened_table
from secagg.jobs.job_file import parse_job
from secagg.jobs.run import READ
from secagg.network.identity import create_identity
from secagg.network.unable import tell_unable
from secagg.patterns import Terms
from secagg.patterns.banking import COLLECTORS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm")]

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the README's code blocks of a language, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", README, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def commands(program: str) -> list[list[str]]:
    """Return the words after `program` of each command that the README shows."""
    lines = [line for text in blocks("console") for line in text.splitlines()]
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if line.startswith("$ ")]
    return [rest for name, *rest in words if name == program]


@pytest.mark.parametrize(
    "code",
    blocks("python"),
    ids=["a joint computation", "a query", "a mean of updates", "a sum under encryption"],
)
def test_the_python_examples_print_what_they_say(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "README.md", "exec"), {})
    (promised,) = re.findall(r"# prints: (.*)", code)
    assert capsys.readouterr().out == promised + "\n"
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 10
    assert len([line for line in code.splitlines() if "import" in line]) == 1


def test_the_make_commands_exist() -> None:
    shown = commands("make")
    assert shown == [["demo"], ["test"], ["quick"]]
    for words in shown:
        subprocess.run(["make", "--dry-run", *words], cwd=ROOT, check=True, capture_output=True)


def test_the_demonstration_shows_every_phase() -> None:
    (output,) = blocks("text")
    (costs,) = re.findall(r"^Cost at bank_a\nphase .*\n((?:.+\n)+?)total", output, re.MULTILINE)
    # In the order in which a party enters them: some run side by side.
    assert sorted(line.split()[0] for line in costs.splitlines()) == sorted([READ, *COLLECTORS.phases])


def test_the_demonstration_shows_everything_that_is_opened(capsys: pytest.CaptureFixture[str]) -> None:
    banks = ("bank_a", "bank_b", "bank_c")
    terms = Terms(banks, {"input": banks, "computing": banks})
    Console(width=110).print(opened_table(COLLECTORS.opens(COLLECTORS.Parameters(), terms), banks))
    (output,) = blocks("text")
    shown = output[output.index("Opened, and to whom") :].removesuffix("...\n")
    assert shown.split() == capsys.readouterr().out.split()


def test_the_job_file_is_accepted_and_its_commands_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = blocks("toml")
    (tmp_path / "job.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("secagg.jobs.unable.tell_unable", functools.partial(tell_unable, wait_s=0.01))
    make_identity, check, make_tables, run_local, run, run_west, verify = commands("secagg")
    for name in ("south", "east", "west"):
        create_identity(name).save(tmp_path)
    for words in (make_identity, check, [*make_tables, "--rows", "1500"], run_local):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert not end.value.code, capsys.readouterr().err
        if words is make_identity:
            shutil.copy("keys/north.crt", ".")  # beside the job file
        if words is check:
            (warning,) = re.findall(r"Warning: .*", capsys.readouterr().out)
            assert 'approval = "off"' in warning
    truth = json.loads((tmp_path / "tables/truth.json").read_text())
    flagged = (tmp_path / "try/north.collectors-2026-09.csv").read_text()
    assert sum(account in flagged for account in truth["collectors"]) > len(truth["collectors"]) / 2
    # The real runs need real machines: north's gets as far as looking for its table, west's for its key.
    for words, says in (
        (run, "transfers.parquet: there is no such file"),
        (run_west, "cannot read west's certificate"),
    ):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2
        assert says in capsys.readouterr().err
    (tmp_path / "try").rename(tmp_path / "results")
    record = json.loads((tmp_path / "results/north.collectors-2026-09.json").read_text())
    (tmp_path / "north.crt").write_text(record["signature"]["certificate"])  # a local run makes its own
    with pytest.raises(SystemExit) as end:
        main(verify)
    assert not end.value.code, capsys.readouterr().err
    job = parse_job(text, file=tmp_path / "job.toml")
    assert job.name == "collectors-2026-09"


def test_the_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
