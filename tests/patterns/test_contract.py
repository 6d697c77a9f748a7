"""A pattern for a third kind of table is one file: found by its entry point, explained, checked, run and recorded.

The module is long because patterns that no distribution holds are written out in it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from secagg.cli import main
from secagg.data.tables import read_table
from secagg.errors import JobError, UsageError
from secagg.jobs.example_files import write_example
from secagg.jobs.inputs import InputTables
from secagg.jobs.job import Job
from secagg.jobs.job_file import parse_job
from secagg.jobs.output import Output
from secagg.jobs.record import declared
from secagg.jobs.results import check_result
from secagg.jobs.run import Part, run_job
from secagg.jobs.signature import read_record
from secagg.network.identity import create_identity
from secagg.network.simulated import simulate
from secagg.patterns import registry
from secagg.patterns.example import example_of, not_found
from secagg.patterns.pattern import Agreed, Disclosure, Pattern, Risk, Terms
from secagg.patterns.registry import Origin, find, names

FILE = Path(__file__).parent / "installed" / "hospital_patterns.py"
HOSPITALS = ("elm", "oak", "yew")


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, name: str = "hospital-patterns", version: str = "1.2",
    module: str = FILE.read_text(), points: str = "readmissions = hospital_patterns:READMISSIONS\n"
    "headcount = hospital_patterns:HEADCOUNT\n",
) -> None:  # fmt: skip
    """Install a distribution with one module, for this process and for those that it starts."""
    site = folder / f"{name}-{version}"
    site.mkdir()
    (site / "hospital_patterns.py").write_text(module)
    about = site / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(f"[secagg.patterns]\n{points}")
    root = str(Path(registry.__file__).parents[2])
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.setenv("PYTHONPATH", f"{site}:{root}")
    monkeypatch.delitem(sys.modules, "hospital_patterns", raising=False)
    importlib.invalidate_caches()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "200")
    install(tmp_path, monkeypatch)
    return tmp_path


def job_text(pattern: str, parameters: str = "", roles: str = "") -> str:
    roles = roles or f"input = {json.dumps(HOSPITALS)}\ncomputing = {json.dumps(HOSPITALS)}"
    parties = dict.fromkeys(re.findall(r'"(\w+)"', roles))
    text = f'name = "test"\npattern = "{pattern}"\n[parameters]\n{parameters}\n[roles]\n{roles}\n'
    for i, name in enumerate(parties):
        text += (
            f'[[parties]]\nname = "{name}"\naddress = "127.0.0.1:{7000 + i}"\ncertificate = "{name}.crt"\n'
        )
    return text


def parsed(text: str) -> Job:
    return parse_job(text, file=Path("job.toml"), with_certificates=False)


def write_stays(folder: Path, rng: np.random.Generator, hospital: str) -> Path:
    lines = ["patient,diagnosis,age"]
    lines += [
        f"P{rng.integers(0, 30)},{rng.choice(['I21', 'E11'])},{rng.integers(40, 100)}" for _ in range(60)
    ]
    path = folder / f"{hospital}.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def secagg(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    status = end.value.code
    return (status if isinstance(status, int) else 1, *capsys.readouterr())


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_pattern_for_a_third_kind_of_table_is_one_file(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(3)
    files = {name: write_stays(installed, rng, name) for name in HOSPITALS}
    job_file = installed / "job.toml"
    job_file.write_text(job_text("readmissions", 'diagnosis = "I21"\nmin_stays = 3\n'))
    job = parsed(job_file.read_text())
    found = find("readmissions")
    assert isinstance(found.pattern, Pattern)
    origin = f"{found.origin.distribution} {found.origin.version}"
    assert origin == "hospital-patterns 1.2"

    status, out, err = secagg(capsys, "patterns")
    assert status == 0, err
    assert "readmissions: patients whom several hospitals treated" in out
    assert f"from hospital-patterns 1.2 (module SHA-256 {found.origin.module_sha256})" in out
    assert "stays: patient (identifier), diagnosis (identifier), age (integer, 0 to 130)" in out

    _, out, _ = secagg(capsys, "check", job_file, "--rows", 500)
    assert "The pattern is that of hospital-patterns 1.2" in out
    assert "for each patient that it put in: whether it is flagged and, only if so, its joint stays" in out
    assert "Expected cost: " in out
    assert '"I21"' in out

    status, out, err = secagg(capsys, "data", "check", files["elm"], "--job", job_file)
    assert status == 0, err
    assert "A run would take this table." in out
    assert "Times" not in out

    files["oak"].write_text(files["oak"].read_text() + "P1,I21,131\n")
    status, out, err = secagg(capsys, "data", "check", files["oak"], "--job", job_file)
    assert status == 2
    assert "age lies outside 0 to 130" in err

    data = [f"--data={name}={path}" for name, path in files.items()]
    status, out, err = secagg(
        capsys, "run", job_file, "--local", "--out", installed / "out", "--bad-rows", "skip", *data
    )
    assert status == 0, err
    tables = {}
    for name, path in files.items():
        read = read_table(path, job.pattern.inputs["stays"], bad_rows="skip")
        tables[name] = {"stays": read.columns}
    told = job.pattern.reference(job.parameters, job.terms, tables)
    assert sum(map(len, told.values())) > 5
    for name in HOSPITALS:
        lines = (installed / f"out/{name}.test.csv").read_text().splitlines()
        assert lines == ["patient,stays", *(f"{who},{stays}" for who, stays in told[name])]
        record = json.loads((installed / f"out/{name}.test.json").read_text())
        sha256 = found.origin.module_sha256
        about = {"distribution": "hospital-patterns", "version": "1.2", "module_sha256": sha256}
        assert record["pattern"] == {"name": "readmissions", **about}
        assert record["parameters"]["diagnosis"] == '"I21"'
        assert record["opened"][-1]["what"].endswith("its joint stays")


@pytest.mark.slow
def test_a_pattern_may_have_other_roles_several_tables_and_an_engine_of_its_own(installed: Path) -> None:
    job = parsed(job_text("headcount", roles='input = ["elm", "oak"]\nresult = ["ministry"]'))
    for name, beds in (("elm", (10, 20)), ("oak", (5,))):
        (installed / f"{name}.wards.csv").write_text("ward,beds\n" + "".join(f"w{b},{b}\n" for b in beds))
        (installed / f"{name}.staff.csv").write_text("who,ward\nann,w5\nbo,w10\n")
    parts: dict[str, Any] = {"ministry": Part(job, "ministry", None)}
    tables = {}
    for name in ("elm", "oak"):
        sources = [f"{kind}={installed}/{name}.{kind}.csv" for kind in ("staff", "wards")]
        own = InputTables(job, sources, mapping=["staff.person=who", "staff.ward=ward"])
        tables[name] = own()
        parts[name] = Part(job, name, own)
        assert own.described().keys() == {"wards", "staff"}
        assert own.described()["staff"]["columns"] == {"person": ["who"], "ward": ["ward"]}
    outcome = simulate({name: parts[name] for name in job.roster})
    outcome.values()
    assert outcome.results == {"elm": None, "oak": None, "ministry": [("elm", 30, 2), ("oak", 5, 2)]}
    assert job.pattern.reference(job.parameters, job.terms, tables)["ministry"] == outcome.results["ministry"]


@pytest.mark.slow
def test_a_pattern_brings_example_data_of_its_own(installed: Path) -> None:
    files = write_example("readmissions", installed / "example", seed=1)
    tables = {
        name: InputTables(files.job, [f"stays={own['stays']}"], me=name)()
        for name, own in files.tables.items()
    }
    found = files.job.pattern.reference(files.job.parameters, files.job.terms, tables)
    assert not_found(files.example, found) == []
    assert not_found(replace(files.example, planted=[("bob", 6)]), found) == [("bob", 6)]
    with pytest.raises(UsageError, match=r"headcount brings no example data; .* by a method example\(seed\)"):
        example_of(find("headcount").pattern, 1)


def test_tables_are_told_apart_by_name_where_a_pattern_takes_several(installed: Path) -> None:
    job = parsed(job_text("headcount", roles='input = ["elm", "oak"]\nresult = ["ministry"]'))
    with pytest.raises(UsageError, match=r"--data to begin with a table \(wards= or staff=\), got 'x\.csv'"):
        InputTables(job, ["x.csv"])
    with pytest.raises(UsageError, match="a table for each of wards, staff, got none for staff"):
        InputTables(job, ["wards=x.csv"])
    with pytest.raises(UsageError, match=r"--map to begin with a table \(wards\. or staff\.\), got 'beds=b'"):
        InputTables(job, ["wards=x.csv", "staff=y.csv"], mapping=["beds=b"])


def test_a_window_for_tables_without_times_is_refused(installed: Path) -> None:
    text = job_text("readmissions").replace("[roles]", "[window]\nstart = 5\n[roles]")
    with pytest.raises(JobError, match=r"job\.toml:5: window: stays have no times; leave the window out"):
        parsed(text)


@pytest.mark.parametrize("text", ["I21", 'a "quoted" \\\\ text', "\x7f", "ü\u2028\ud7ff", "two\nlines\t\x01"])
def test_parameters_that_are_texts_go_through_a_job_file_as_they_are(installed: Path, text: str) -> None:
    written = json.dumps(text).replace("\x7f", "\\u007f")
    identities = {name: create_identity(name).certificate for name in HOSPITALS}
    job = parsed(job_text("readmissions", f"diagnosis = {written}\n"))
    assert job.parameters.diagnosis == text
    moved = job.moved(dict.fromkeys(HOSPITALS, ("h", 1)), identities)
    moved = replace(
        moved, members=tuple(replace(m, address=("h", i + 1)) for i, m in enumerate(moved.members))
    )
    assert parse_job(moved.to_toml(), file=Path("job.toml")).digest == moved.digest


def test_roles_are_those_of_the_pattern(installed: Path) -> None:
    for roles, says in (
        ('input = ["elm", "oak"]\ncomputing = ["ministry"]', "roles.computing: there is no such role; headcount has input"),
        ('input = ["elm", "oak"]', "roles.result: this field is missing"),
        ('input = ["elm", "oak"]\nresult = ["elm", "oak"]', "roles.result: expected 1 parties, got 2"),
    ):  # fmt: skip
        with pytest.raises(JobError, match=re.escape(says)):
            parsed(job_text("headcount", roles=roles))


@pytest.mark.slow
def test_the_pattern_of_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(registry.__file__).parents[2] / "docs/patterns.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (points,) = re.findall(r'\[project\.entry-points\."secagg\.patterns"\]\n(.*?)```', page, re.DOTALL)
    install(tmp_path, monkeypatch, module=program, points=points.replace('"', ""))
    job = parsed(job_text("readmissions"))
    parts = {}
    stays = {"elm": ["ann", "bo", "ann"], "oak": ["ann", "cy", "cy", "cy"], "yew": ["bo"]}
    for name, who in stays.items():
        (tmp_path / f"{name}.csv").write_text("patient,age\n" + "".join(f"{w},50\n" for w in who))
        parts[name] = Part(job, name, InputTables(job, str(tmp_path / f"{name}.csv")))
    outcome = simulate(parts)
    outcome.values()
    assert outcome.results == {"elm": [("ann", 3)], "oak": [("ann", 3)], "yew": []}


# Who offers a pattern.


def test_an_unknown_pattern_is_answered_by_what_is_installed(installed: Path) -> None:
    assert names() == (*registry._OWN, "headcount", "readmissions")
    with pytest.raises(JobError, match=r"installed \(collectors, .*, headcount, readmissions\), got 'crime'"):
        parsed(job_text("crime"))


def test_parties_with_other_versions_or_other_copies_of_a_pattern_have_other_jobs(installed: Path) -> None:
    identities = {name: create_identity(name).certificate for name in HOSPITALS}
    job = parsed(job_text("readmissions")).moved(dict.fromkeys(HOSPITALS, ("h", 1)), identities)
    origin = job.installed.origin
    others = [
        Origin("hospital-patterns", "1.3", origin.module_sha256), Origin("hospital-patterns", "1.2", "0" * 64),
        Origin("hospital", "1.2", origin.module_sha256),
    ]  # fmt: skip
    for other in others:
        elsewhere = replace(job, installed=replace(job.installed, origin=other))
        assert elsewhere.digest != job.digest
        differ = {n for n, d in job.field_digests.items() if elsewhere.field_digests[n] != d}
        assert differ == {"the pattern's origin"}


BASE = """
from hospital_base import Tunable
READMISSIONS = Tunable("everybody")
"""


def test_every_file_that_defines_a_pattern_changes_its_origin(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = find("readmissions").origin.module_sha256
    assert plain == hashlib.sha256(FILE.read_bytes()).hexdigest()  # as sha256sum shows it
    site = installed / "hospital-patterns-1.2"
    digests = []
    for instance, base in (("", ""), ("# changed", ""), ("", "# changed")):
        (site / "hospital_base.py").write_text(
            f"{FILE.read_text()}\nclass Tunable(Readmissions):\n    def __init__(self, flags): ...\n{base}"
        )
        (site / "hospital_patterns.py").write_text(BASE + instance)
        for module in ("hospital_base", "hospital_patterns"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()
        digests.append(find("readmissions").origin.module_sha256)
    assert len({plain, *digests}) == 4


def test_a_pattern_made_of_a_class_of_pythons_own_is_known_by_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for version, rest in (("1", ""), ("2", "# changed")):
        module = f"""{FILE.read_text()}
import types
WORDS = [word for word in dir(HEADCOUNT) if not word.startswith("_")]
HEADCOUNT = types.SimpleNamespace(**{{word: getattr(HEADCOUNT, word) for word in WORDS}})
{rest}"""
        install(tmp_path, monkeypatch, module=module, name=f"patterns{version}",
                points="headcount = hospital_patterns:HEADCOUNT\n")  # fmt: skip
        digests.append(find("headcount").origin.module_sha256)
        assert digests[-1] == hashlib.sha256(module.encode()).hexdigest()
        monkeypatch.setattr(sys, "path", sys.path[1:])
    assert len(set(digests)) == 2


def test_a_pattern_of_a_common_class_is_known_by_the_module_of_its_parameters_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither the entry point nor the class names the module in which the pattern is made.
    digests = []
    for version, rest in (("1", ""), ("2", "# changed")):
        install(tmp_path, monkeypatch, module="from hospital_maker import HEADCOUNT\n", name=f"patterns{version}",
                points="headcount = hospital_patterns:HEADCOUNT\n")  # fmt: skip
        (tmp_path / f"patterns{version}-1.2" / "hospital_maker.py").write_text(f"""{FILE.read_text()}
import types
WORDS = [word for word in dir(HEADCOUNT) if not word.startswith("_")]
HEADCOUNT = types.SimpleNamespace(**{{word: getattr(HEADCOUNT, word) for word in WORDS}})
{rest}""")
        monkeypatch.delitem(sys.modules, "hospital_maker", raising=False)
        digests.append(find("headcount").origin.module_sha256)
        monkeypatch.setattr(sys, "path", sys.path[1:])
    assert len(set(digests)) == 2


def test_a_class_that_stands_in_no_file_is_no_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, module=f"{FILE.read_text()}\nHeadcount.__module__ = 'nowhere'\n")
    with pytest.raises(UsageError, match="is defined in nowhere, which is no file"):
        find("headcount")


def test_a_name_that_two_distributions_offer_is_refused(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(installed, monkeypatch, name="other-patterns", version="3")
    with pytest.raises(
        UsageError, match=r"offered by hospital-patterns 1\.2 and other-patterns 3; uninstall all"
    ):
        find("headcount")


def test_nobody_takes_the_place_of_secaggs_own_patterns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, points="collectors = hospital_patterns:HEADCOUNT\n")
    with pytest.raises(
        UsageError, match=r"is secagg's own, and hospital-patterns 1\.2 offers one of the same name"
    ):
        find("collectors")


def struct(*fields: str) -> str:
    lines = "".join(f"    {field}\n" for field in fields)
    return (
        f"class P(msgspec.Struct, frozen=True, forbid_unknown_fields=True):\n{lines}Headcount.Parameters = P"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("HEADCOUNT = Headcount", "expected an instance, got a class"),
        ("HEADCOUNT = 5", "it has no name, summary"),
        (
            "raise ValueError('broken')",
            "cannot be loaded from hospital_patterns:HEADCOUNT: ValueError: broken",
        ),
        ("del HEADCOUNT", "cannot be loaded"),
        ("Headcount.name = 'other'", "the entry point's name, .*got 'other'"),
        ("Headcount.summary = 'a\\x1b[2J'", "printable and on one line"),
        ("Headcount.inputs = {}", "inputs that map names to schemas"),
        ("Headcount.results = ('a',)", "results that are a schema"),
        ("Headcount.roles = {'result': RoleSize(1, 1)}", "'input' among them"),
        ("Headcount.phases = ['count']", "a tuple of names"),
        ("del Headcount.opens", "it has no opens"),
        ("Headcount.Parameters = dict", "a msgspec.Struct"),
        (
            "Headcount.Parameters = msgspec.defstruct('P', [('n', int)], frozen=True)",
            "forbid_unknown_fields=True",
        ),
        (
            "Headcount.Parameters = msgspec.defstruct('P', [('n', int)], frozen=True, forbid_unknown_fields=True)",
            "a default of the parameter n",
        ),
        (struct("limit: int = 1", "limit_cents: int = 100"), "a job file calls limit and limit_cents limit"),
        (struct("floor_cents: int | None = None"), "a whole number for the amount floor_cents"),
        (struct("floor_cents: float = 1.0"), "a whole number for the amount floor_cents"),
        (struct("floor_cents: int = 1.0"), "a whole number for the amount floor_cents"),
        (
            struct("max_cents_per_ward: int = msgspec.field(default_factory=int)"),
            "the amount max_cents_per_ward",
        ),
        (struct("threshold: float = float('inf')"), "a finite default of the parameter threshold, got inf"),
    ],
)
@pytest.mark.slow
def test_what_breaks_the_contract_is_refused_when_it_is_asked_for_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, says: str
) -> None:
    install(tmp_path, monkeypatch, module=f"{FILE.read_text()}\n\n{change}\n")
    with pytest.raises(UsageError, match=rf"the pattern headcount of hospital-patterns 1\.2 .*{says}"):
        find("headcount")


@pytest.mark.slow
@pytest.mark.parametrize("change", ["HEADCOUNT = 5", "raise ValueError('broken')"])
def test_a_pattern_that_breaks_the_contract_is_named_beside_the_others_that_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    install(tmp_path, monkeypatch, module=f"{FILE.read_text()}\n\n{change}\n")
    status, out, err = secagg(capsys, "patterns")
    assert status == 0
    assert "collectors: " in out  # one that is broken hides no other
    assert "headcount of hospital-patterns 1.2" in " ".join(err.split())


PARAMETERS = """
import datetime
class Tuned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    threshold: float = 1.0
    weights: list[float] = []
    anything: Any = None
    floor_cents: int = -5
    since: datetime.date | None = None
Readmissions.Parameters = Tuned
Readmissions.fields = lambda *_: (Field("stays", 10, at_least=1),)
"""


def tuned(parameters: str) -> Job:
    return parsed(job_text("readmissions", parameters))


@pytest.fixture
def with_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, module=FILE.read_text() + PARAMETERS)


@pytest.mark.usefixtures("with_parameters")
@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "1e400"])
@pytest.mark.parametrize(
    "field", ["threshold = %s", "anything = %s", "weights = [1.0, %s]", "anything = {a = [%s]}"]
)
def test_a_parameter_that_is_no_finite_number_is_refused(field: str, number: str) -> None:
    with pytest.raises(JobError, match=r"job\.toml:4: parameters\.\w+.*: expected a finite number, got"):
        tuned(field % number)


@pytest.mark.slow
@pytest.mark.usefixtures("with_parameters")
def test_jobs_whose_parameters_differ_in_value_or_type_have_other_digests() -> None:
    identities = {name: create_identity(name).certificate for name in HOSPITALS}
    texts = ["2026-09-01", '"2026-09-01"', "07:30:00", '"07:30:00"', "2026-09-01T00:00:00", '"2026-09-01T00:00:00"',
             "1", "1.0", '"1"', "true", "[]", '""', '"null"', "[0.5]", '["0.5"]', "{}", "{a = 1}"]  # fmt: skip
    jobs = [
        tuned(text).moved(dict.fromkeys(HOSPITALS, ("h", 1)), identities)
        for text in ["", "threshold = -1.0", "since = 2026-09-01", *(f"anything = {text}" for text in texts)]
    ]
    jobs += [
        replace(jobs[0], parameters=msgspec.structs.replace(jobs[0].parameters, threshold=number))
        for number in (float("inf"), float("-inf"), float("nan"), None)
    ]
    assert len({job.digest for job in jobs}) == len(jobs)
    assert len({job.field_digests["parameters.anything"] for job in jobs}) == len(texts) + 1
    assert tuned("anything = [0.5]").parameters.anything == [0.5]
    assert tuned("weights = [0.5, 1]").parameters.weights == [0.5, 1.0]


@pytest.mark.usefixtures("with_parameters")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "floor = -0.05",
        "floor = -12.5\nthreshold = -1e22",
        "since = 2026-09-01",
        'anything = {"a b" = [1, {c = "d"}], e = {}}\nweights = [0.5]',
    ],
)
def test_parameters_read_back_as_they_are_shown(text: str) -> None:
    job = tuned(text)
    lines = [f"{name} = {value}" for name, value in job.shown_parameters().items()]
    assert tuned("\n".join(lines)).parameters == job.parameters


@pytest.mark.parametrize(
    ("me", "result", "says"),
    [
        ("elm", [("elm", 1, 2)], "expected none at elm, got one"),
        ("ministry", None, "expected a result at ministry, got none"),
        ("ministry", [("elm", 1)], "rows of hospital (str), beds (int), staff (int), got one of str, int"),
        ("ministry", [("elm", 1, 2.5)], "got one of str, int, float"),
        ("ministry", [("elm", np.int64(1), 2)], "got one of str, int64, int"),
        ("ministry", [("elm", 1, 2, 3)], "got one of str, int, int, int"),
        ("ministry", (row for row in [("elm", 1, 2)]), "expected a sequence of rows, got generator"),
    ],
)
def test_a_result_that_a_pattern_does_not_declare_is_not_reported(
    installed: Path, me: str, result: Any, says: str
) -> None:
    job = parsed(job_text("headcount", roles='input = ["elm", "oak"]\nresult = ["ministry"]'))
    check_result(job, "ministry", [("elm", 1, 2)], expected=True)
    with pytest.raises(UsageError, match=re.escape(says)) as refused:
        check_result(job, me, result, expected=me == "ministry")
    assert "the pattern headcount of hospital-patterns 1.2" in str(refused.value)


def test_a_run_ends_where_a_pattern_tells_somebody_what_it_did_not_declare(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = parsed(job_text("headcount", roles='input = ["elm", "oak"]\nresult = ["ministry"]'))
    tables = {
        "wards": {"ward": np.array(["w"], object), "beds": np.array([3])},
        "staff": {"person": np.array(["ann"], object), "ward": np.array(["w"], object)},
    }

    async def telling(*_: Any) -> list[tuple[Any, ...]]:
        return [("oak", 3, 1)]

    monkeypatch.setattr(type(job.pattern), "run", telling)
    parts = {name: Part(job, name, (lambda: tables) if name != "ministry" else None) for name in job.roster}
    outcome = simulate(parts)
    assert "ministry" in outcome.results
    for name in ("elm", "oak"):
        assert f"expected none at {name}, got one; nothing is reported" in str(outcome.errors[name])


@pytest.mark.parametrize(
    ("word", "returned", "says"),
    [
        ("opens", ["beds"], "expected Disclosures of opens"),
        ("risks", [("chance", -40.0)], "Risks of risks"),
        ("opens", [Disclosure("beds", cast(Any, {"ministry"}))], "JSON .*type set is not JSON"),
        ("opens", None, "no list"),
        ("risks", None, "no list"),
        ("risks", [Risk("chance", "it happens", float("nan"))], "JSON .*not JSON compliant"),
        ("risks", [Risk("chance", "it happens", -40.0)] * 2, "Risks of different names"),
        ("recipients", None, "no list"),
        ("agree", {"recorded": {"commitment": b"secret"}}, "JSON .*type bytes is not JSON"),
        ("agree", {"private": {"salt": b"secret"}}, "JSON .*type bytes is not JSON"),
        ("agree", {"recorded": {"scale": float("inf")}}, "JSON .*not JSON compliant"),
    ],
)
def test_what_no_record_could_hold_ends_a_run_before_anything_is_computed(
    installed: Path, monkeypatch: pytest.MonkeyPatch, word: str, returned: Any, says: str
) -> None:
    job = parsed(job_text("headcount", roles='input = ["elm", "oak"]\nresult = ["ministry"]'))

    def returning(*_: Any) -> Any:
        if returned is None:
            raise ValueError("no list")
        return returned

    async def agreeing(_self: Any, _party: Any, _parameters: Any, _terms: Any, contribution: Any) -> Agreed:
        return Agreed(rows={}, state=contribution, **returned)

    async def computing(*_: Any) -> None:
        raise AssertionError("the computation has begun")

    monkeypatch.setattr(type(job.pattern), word, agreeing if word == "agree" else returning)
    monkeypatch.setattr(type(job.pattern), "run", computing)
    tables = {"wards": {"beds": np.array([3])}, "staff": {"person": np.array(["ann"], object)}}
    parts = {name: Part(job, name, (lambda: tables) if name != "ministry" else None) for name in job.roster}
    outcome = simulate(parts)
    assert outcome.errors.keys() == set(job.roster)
    for error in outcome.errors.values():
        assert re.search(says, str(error))
        assert "secret" not in str(error)


def test_a_pattern_that_fails_once_the_computation_is_done_costs_nobody_a_result(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identities = {name: create_identity(name) for name in ("elm", "oak", "ministry")}
    job = parsed(job_text("headcount", roles='input = ["elm", "oak"]\nresult = ["ministry"]')).moved(
        dict.fromkeys(identities, ("h", 1)), {name: own.certificate for name, own in identities.items()}
    )
    job = replace(job, approval="off")

    def failing(_: Any) -> Any:
        raise ValueError("the pattern was asked again")

    def run_party(part: Part, **_: Any) -> tuple[Any, None]:
        part.declared = declared(job, Agreed(rows={}))
        for word in [word for word in dir(type(job.pattern)) if not word.startswith("_")]:
            monkeypatch.setattr(type(job.pattern), word, property(failing))
        return [("elm", 3, 1)], None

    monkeypatch.setattr("secagg.jobs.run.run_party", run_party)
    result = run_job(job, me="ministry", identity=identities["ministry"], read=None)
    output = Output.probe(installed / "out", me="ministry", job="test")
    table, record = result.write(output, identities["ministry"])
    assert table is not None
    assert table.read_text() == "hospital,beds,staff\nelm,3,1\n"
    assert read_record(record)["pattern"]["name"] == "headcount"


def test_terms_round_row_counts_up() -> None:
    terms = Terms(HOSPITALS, {"input": HOSPITALS}, pad_rows_to=50)
    assert [terms.padded(rows) for rows in (0, 1, 50, 51)] == [0, 50, 50, 100]


def test_a_role_that_nobody_needs_is_left_out_of_a_job_or_given() -> None:
    assert parsed(job_text("intersection_sum")).terms.roles["result"] == ()
    roles = f'input = {json.dumps(HOSPITALS)}\ncomputing = {json.dumps(HOSPITALS)}\nresult = ["fir"]'
    job = parsed(job_text("intersection_sum", roles=roles))
    assert job.pattern.recipients(job.terms) == ("fir",)
