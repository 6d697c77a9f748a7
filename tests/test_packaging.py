"""What is installed: one import name, every module, few dependencies."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import secagg

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "secagg").rglob("*.py"))
BANNED = {"numba", "pickle", "dill", "cloudpickle", "torch"}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names of all files in the wheel that is made from the source distribution."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = out.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        return set(archive.namelist())


def test_the_wheel_claims_one_import_name(wheel: set[str]) -> None:
    assert {name.partition("/")[0] for name in wheel} == {"secagg", f"secagg-{secagg.__version__}.dist-info"}


def test_the_wheel_holds_every_module_and_template_and_nothing_else(wheel: set[str]) -> None:
    packed = {name for name in wheel if name.startswith("secagg/")}
    templates = [
        path for path in (ROOT / "secagg").rglob("templates/*") if path.suffix in (".html", ".css", ".md")
    ]
    assert packed == {str(path.relative_to(ROOT)) for path in (*SOURCES, *templates)} | {"secagg/py.typed"}


def test_the_wheel_carries_the_license(wheel: set[str]) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("name", ["he", "mpc", "protocols"])
def test_the_parts_are_linked_at_the_top_of_the_repository(name: str) -> None:
    link = ROOT / name
    assert link.is_symlink()
    assert link.readlink() == Path("secagg") / name
    assert (link / "__init__.py").is_file()


@pytest.mark.parametrize(
    "statements",
    [
        "import he, secagg.he; assert he is secagg.he",
        "import he.scheme, secagg.he.scheme; assert he.scheme is secagg.he.scheme",
        "from he.scheme import Header; from secagg.he.scheme import Header as H; assert Header is H",
        "import secagg.mpc.bits; from mpc import bits; assert bits is secagg.mpc.bits",
        "from protocols.masked_sum import choose; import secagg.protocols.masked_sum as m; assert choose is m.choose",
        "import he.scheme; assert he.scheme.__spec__.name == 'secagg.he.scheme'",
        "import importlib, he.scheme; assert importlib.reload(he.scheme) is he.scheme",
    ],
)
def test_an_import_through_a_link_gives_the_very_same_module(statements: str) -> None:
    ended = subprocess.run([sys.executable, "-c", statements], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_module_that_is_not_behind_a_link_is_missed_by_its_name() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import he.nothing"], cwd=ROOT, capture_output=True, text=True
    )
    assert "No module named 'secagg.he.nothing'" in ended.stderr


class Source(NamedTuple):
    """What a file says: the top-level names that it imports, wherever in it, whether it asserts, and its docstring."""

    imported: frozenset[str]
    asserts: bool
    docstring: str | None
    empty: bool


@functools.cache
def source(path: Path) -> Source:
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    asserts = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
        asserts |= isinstance(node, ast.Assert)
    return Source(frozenset(names), asserts, ast.get_docstring(tree), not tree.body)


def test_numba_is_nowhere(pyproject: dict[str, Any]) -> None:
    for folder in ("secagg", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not re.search(r"^\s*(import|from) numba", path.read_text("utf-8"), re.MULTILINE), path
    project = pyproject["project"]
    groups = [*pyproject["dependency-groups"].values(), *project.get("optional-dependencies", {}).values()]
    declared = [*project["dependencies"], *(text for group in groups for text in group)]
    assert not [text for text in declared if "numba" in text]


# What an extra brings, and who alone may import it.
OPTIONAL = {
    "gmpy2": ("he/paillier/", "integrations/phe.py", "protocols/intersection/"),
    "phe": ("integrations/phe.py",),
    "tenseal": ("he/ckks/", "integrations/tenseal.py"),
    "zstandard": ("he/ckks/",),
    "dp_accounting": ("dp/",),
    "flwr": ("integrations/flower/",),
    "nvflare": ("integrations/nvflare/",),
    "openfl": ("integrations/openfl/",),
    "torch": ("integrations/crypten/library.py",),
    "crypten": ("integrations/crypten/library.py",),
    "ibis": ("query/builder.py",),
    "starlette": ("joint/serve/",),
    "uvicorn": ("cli/serve.py",),
    "prometheus_client": ("joint/serve/metrics.py",),
    "cronsim": ("joint/serve/turns.py",),
    "jax": ("dp/synthesis.py",),
    "mbi": ("dp/synthesis.py",),
    **dict.fromkeys(("pandas", "polars", "pyarrow"), ("bench/table.py",)),
    "matplotlib": ("bench/plots.py",),
    "sklearn": ("bench/utility.py",),
    "distributed": ("integrations/dask.py",),
    "ray": ("integrations/ray.py",),
}
DISTRIBUTIONS = {
    "ibis": "ibis_framework",
    "sklearn": "scikit_learn",
}  # where it is not called as what is imported
# Not imported here: the first by the name that a job gives, the last by starlette, the others by CrypTen. Drivers are
# imported by SQLAlchemy, which is imported where a source file names a database, and a keyring where it names one.
FOR_OTHERS = {"python_stdnum", "omegaconf", "pyyaml", "python_multipart", "sqlalchemy", "psycopg", "keyring"}
# In no extra: a caller has the package whose table it asks for.
CALLERS_OWN = {"pandas", "polars", "pyarrow"}
# In no extra: what it requires cannot be installed, so it is installed without.
BY_HAND = {"crypten"}


def optional_in(path: Path) -> set[str]:
    """Return what an extra brings and a module may import."""
    place = str(path.relative_to(ROOT / "secagg"))
    return {name for name, places in OPTIONAL.items() if place.startswith(places)}


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", text)[0].lower().replace("-", "_") for text in requirements}


def test_what_is_imported_is_what_is_declared(pyproject: dict[str, Any]) -> None:
    extras = names_of(
        [text for group in pyproject["project"]["optional-dependencies"].values() for text in group]
    )
    assert (
        extras
        == {DISTRIBUTIONS.get(name, name) for name in set(OPTIONAL) - BY_HAND - CALLERS_OWN} | FOR_OTHERS
    )
    used: set[str] = set()
    for path in SOURCES:
        used |= source(path).imported - optional_in(path)
    used -= {*sys.stdlib_module_names, "secagg"}
    assert used == names_of(pyproject["project"]["dependencies"])


def test_the_base_install_is_small() -> None:
    """Follow the requirements, without extras, of what is installed here."""
    pending, seen = ["secagg"], set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # for another system
            continue
        pending += [
            re.split(r"[^A-Za-z0-9_.-]", text)[0].lower() for text in requirements if "extra ==" not in text
        ]
    assert not seen & BANNED
    assert len(seen) < 30


def test_the_command_line_imports_nothing_heavy() -> None:
    # With what `secagg run` imports when it begins.
    code = (
        "import sys, secagg.cli.commands, secagg.cli.run, secagg.jobs.job_file, secagg.jobs.run, secagg.jobs.local, "
        "secagg.jobs.record, secagg.joint.gates, secagg.joint.resume\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "secagg" in done.stdout.split()
    assert not {"numba", "torch", "pandas", "scipy"} & set(done.stdout.split())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "secagg")))
def test_a_module_keeps_the_rules_of_the_source(path: Path) -> None:
    read = source(path)
    assert not read.imported & (BANNED - optional_in(path))
    assert not read.asserts, "checks of input must not vanish under -O"
    assert read.docstring or read.empty, "a module says what it is"


def test_the_version_stands_in_one_place_and_is_the_same_wherever_it_is_told(
    pyproject: dict[str, Any],
) -> None:
    assert pyproject["project"]["dynamic"] == ["version"]
    assert secagg.__version__ == importlib.metadata.version("secagg")
    cited = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    wheels = [v for page in pages for v in re.findall(r"secagg-(\d+\.\d+\.\d+)-py3", page.read_text("utf-8"))]
    assert wheels
    assert {*cited, *wheels} == {secagg.__version__}


def test_the_changelog_goes_by_release_the_newest_first() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    first, *releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert first == "Unreleased"
    found = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+) - (\d{4}-\d\d-\d\d)", heading) for heading in releases]
    versions = [(tuple(map(int, match.groups()[:3])), match[4]) for match in found if match]
    assert len(versions) == len(releases)
    assert versions == sorted(set(versions), reverse=True)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
