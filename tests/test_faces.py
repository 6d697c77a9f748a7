"""What packages show is there, and is imported when it is asked for."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import secagg

ROOT = Path(__file__).parent.parent
# Their frameworks are in environments of their own, in which tests/integrations runs them.
ELSEWHERE = {"secagg.integrations.nvflare", "secagg.integrations.openfl"}
PACKAGES = sorted(
    {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "secagg").rglob("__init__.py")}
    - ELSEWHERE
)
# Those that import their modules when asked.
LAZY = [
    "secagg",
    "secagg.cost",
    "secagg.data",
    "secagg.he",
    "secagg.integrations",
    "secagg.jobs",
    "secagg.learn",
    "secagg.mpc",
    "secagg.network",
    "secagg.patterns",
    "secagg.protocols",
    "secagg.protocols.he_sum",
]
PUBLIC = {
    "LAN LOOPBACK MOBILE WAN simulate Party",
    "sum mean Masked Additive Bounded Paillier Ckks Rlwe Privacy Compression",
    "aggregation bench cost dp errors federated he jobs learn mpc network patterns protocols",
    "__version__",
}


def fresh(code: str) -> Any:
    """Return what an expression is, as JSON, in an interpreter that has imported nothing of secagg."""
    program = f"import importlib, json, sys\n{code}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def with_commands() -> Any:
    """What the package shows once a run is imported, what it says that it shows, and what is imported then."""
    return fresh(
        "import secagg, secagg.network.tcp, secagg.cli.commands, secagg.cli.run, secagg.cli.check\n"
        "import secagg.jobs.job_file, secagg.jobs.run, secagg.jobs.local, secagg.joint.gates, secagg.joint.resume\n"
        "print(json.dumps([dir(secagg), secagg.__all__, list(sys.modules)]))"
    )


@pytest.mark.slow
def test_commands_start_without_what_only_some_jobs_need(with_commands: Any) -> None:
    assert not {"sqlglot", "jinja2", "secagg.query.planner", "secagg.patterns.health"} & set(with_commands[2])


@pytest.mark.slow
def test_the_package_shows_its_public_names_and_nothing_else(with_commands: Any) -> None:
    shown, named, _ = with_commands
    assert sorted(shown) == sorted(named) == sorted(" ".join(PUBLIC).split())


def test_the_package_says_what_each_public_name_is_for() -> None:
    assert secagg.__doc__ is not None
    said = set(re.findall(r"\w+", secagg.__doc__))
    assert said >= set(secagg.__all__) - {"__version__"}


@pytest.mark.slow
@pytest.mark.parametrize("package", LAZY)
def test_a_face_shows_what_works_from_a_fresh_start_and_nothing_else(package: str) -> None:
    code = (
        f"package = importlib.import_module('{package}')\n"
        "before = dir(package)\n"
        "for name in before: getattr(package, name)\n"
        "print(json.dumps([before, dir(package), package.__all__]))\n"
    )
    before, after, named = fresh(code)
    assert before == after == sorted(named)
    assert len(named) > 2


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_is_public_and_has_it(package: str) -> None:
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__) > 0
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert dir(module) == sorted(module.__all__)


@pytest.mark.parametrize("package", LAZY)
def test_no_name_of_a_face_changes_its_meaning_when_a_module_is_imported(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        path = Path(ROOT, *package.split("."), name)
        if path.is_dir() or path.with_suffix(".py").exists():
            assert getattr(module, name) is importlib.import_module(f"{package}.{name}")


@pytest.mark.parametrize("package", LAZY)
def test_a_name_that_a_face_does_not_have_is_missed_by_its_package(package: str) -> None:
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match=re.escape(f"module '{package}' has no attribute 'nothing'")):
        module.nothing  # noqa: B018


@pytest.mark.parametrize("package", [name for name in LAZY if name != "secagg"])
def test_a_face_imports_nothing_before_it_is_asked(package: str) -> None:
    loaded = fresh(f"import {package}\nprint(json.dumps(sorted(sys.modules)))")
    parents = [package.rsplit(".", i)[0] for i in range(package.count(".") + 1)]
    assert {name for name in loaded if name.startswith("secagg")} == {
        *parents,
        "secagg",
        "secagg.faces",
        "secagg.release",
    }


def test_importing_the_package_imports_neither_numpy_nor_its_parts() -> None:
    loaded = fresh(
        "before = set(sys.modules)\nimport secagg\nprint(json.dumps(sorted({*sys.modules} - before)))"
    )
    assert {name for name in loaded if name.startswith("secagg")} == {
        "secagg",
        "secagg.faces",
        "secagg.release",
    }
    assert len(loaded) < 15


@pytest.mark.slow
def test_a_scheme_that_is_not_installed_does_not_keep_others_from_being_used() -> None:
    code = (
        "sys.modules['gmpy2'] = sys.modules['tenseal'] = None\n"
        "from secagg import he\n"
        "said = []\n"
        "for name in ('paillier', 'ckks'):\n"
        "    try:\n"
        "        getattr(he, name)\n"
        "    except ImportError as error:\n"
        "        said.append(str(error))\n"
        "print(json.dumps([*said, he.rlwe.SecretKey.__name__]))\n"
    )
    paillier, ckks, key = fresh(code)
    assert ("secagg[paillier]" in paillier, "secagg[ckks]" in ckks, key) == (True, True, "SecretKey")
