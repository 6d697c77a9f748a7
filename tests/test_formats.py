"""docs/formats.md lists every file that secagg writes and every format that it numbers, with their vectors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = (ROOT / "docs/formats.md").read_text("utf-8")
VECTORS: Final = {path.stem for path in (ROOT / "tests/vectors").glob("*.json")}

# By module, the rows of the page that what it writes or numbers belongs to.
JOB_FILES, KEYS, TABLES, EMPTY = "job files", "party keys and certificates", "tables:", "locks, marks"
PEOPLE, DATABASE, CONSORTIA = "reports, plots", "an organisation's database", "member files"
NODE_KEYS, RESULTS, RANDOM = "public keys of nodes", "results of `secagg bench`", "the key of checkpoints"
WRITERS: Final[dict[str, tuple[str, ...]]] = {
    "bench.page": (PEOPLE,),
    "bench.plots": (PEOPLE,),
    "bench.store": (RESULTS,),
    "bench.table": (TABLES,),
    "cli.bench": ("results of `secagg bench utility`", PEOPLE),
    "cli.consent": ("proofs of absence",),
    "cli.demo": (EMPTY, JOB_FILES),
    "cli.job": (JOB_FILES,),
    "cli.report": (PEOPLE,),
    "cli.synthesize": (TABLES, PEOPLE),
    "data.synthetic": (TABLES, PEOPLE),
    "federated.budget": ("budgets of nodes", EMPTY),
    "federated.identities": (KEYS, NODE_KEYS),
    "federated.replay_guard": (EMPTY,),
    "he.key_files": ("files of secret keys",),
    "he.paillier.table_speed": ("measured speeds",),
    "he.rlwe.decryption_log": ("decryption log",),
    "home": (DATABASE, EMPTY),
    "jobs.checkpoints": ("checkpoints", RANDOM),
    "jobs.example_files": (JOB_FILES, TABLES),
    "jobs.local": (JOB_FILES,),
    "jobs.output": ("run records", TABLES),
    "jobs.shards.sharded": ("shards of workers",),
    "jobs.shards.worker": (EMPTY,),
    "jobs.signature": ("run records",),
    "joint.approval.approval": ("approvals",),
    "joint.approval.keys": ("keys of approvers",),
    "joint.approval.policy": ("rule files",),
    "joint.audit.bundle": ("bundles of",),
    "joint.audit.entry": ("audit log",),
    "joint.audit.log": ("audit log",),
    "joint.consent.proofs": ("proofs of absence",),
    "joint.consortium.changes": (KEYS,),
    "joint.consortium.consortium": (CONSORTIA,),
    "joint.serve.events": (PEOPLE,),
    "joint.serve.guard": (RANDOM,),
    "joint.serve.page": (JOB_FILES,),
    "joint.serve.supervisor": (EMPTY,),
    "network.identity": (KEYS,),
    "network.stepwise": ("state of a stepwise party",),
    "bench.utility": ("results of `secagg bench utility`",),
    "protocols.masked_sum.spool": ("what a divided masked sum keeps",),
    "toml_files": (JOB_FILES,),
    "wire": ("frames between parties",),
}
# They write what is no file of anybody's, or what others named here give them.
NO_FILES: Final = {
    "bench.relay": "a setting of the process",
    "bench.system": "a setting of the process",
    "files": "what is given",
}
_WRITING: Final = {
    *("write_text", "write_bytes", "write_file", "write_sealed", "savefig", "touch", "pwrite", "copyfile"),
    *("savez", "to_csv", "to_parquet", "mkstemp", "NamedTemporaryFile", "check_format"),
}


def _rows(heading: str) -> dict[str, str]:
    """Return the rows of the table under a heading, by their first cell."""
    lines = PAGE.partition(f"{heading}\n")[2].partition("\n## ")[0].splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    return {row[2:].partition(" | ")[0]: row for row in rows}


NUMBERED, UNNUMBERED = _rows("# Formats"), _rows("## Without a number")


def _writes(call: ast.Call) -> bool:
    function, text = call.func, ast.unparse(call)
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name == "connect":
        return "sqlite3" in text
    if name == "ZipFile":
        return "'w'" in text
    if name != "open":
        return name in _WRITING
    modes = [
        arg.value for arg in (*call.args, *(k.value for k in call.keywords)) if isinstance(arg, ast.Constant)
    ]
    given = [mode for mode in modes if isinstance(mode, str) and set(mode) <= set("rwxab+t")]
    return "O_CREAT" in text or "O_WRONLY" in text or any(set(mode) & set("wxa+") for mode in given)


def writers() -> Iterator[str]:
    """Yield the modules that write files, and those that say that a format's number is too new."""
    for path in sorted((ROOT / "secagg").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        if any(isinstance(node, ast.Call) and _writes(node) for node in ast.walk(tree)):
            yield ".".join(path.relative_to(ROOT / "secagg").with_suffix("").parts).removesuffix(".__init__")


def test_what_writes_is_found() -> None:
    for text in (
        "open(p, 'w')",
        "p.open('ab+')",
        "os.open(p, os.O_CREAT)",
        "p.write_text(t)",
        "sqlite3.connect(p)",
    ):
        assert _writes(ast.parse(text, mode="eval").body), text  # type: ignore[arg-type]
    for text in (
        "open(p)",
        "p.open('rb')",
        "os.open(p, os.O_RDONLY)",
        "duckdb.connect()",
        "engine.open(x, to=t)",
    ):
        assert not _writes(ast.parse(text, mode="eval").body), text  # type: ignore[arg-type]


def test_every_module_that_writes_a_file_or_checks_a_format_has_its_rows_on_the_page() -> None:
    found = set(writers()) - NO_FILES.keys()
    found |= {"wire"}  # it writes bytes, and says itself that a version is another
    assert found == WRITERS.keys(), "docs/formats.md needs rows for what these write; here stands which"
    rows = [*NUMBERED, *UNNUMBERED]
    for module, begins in WRITERS.items():
        for begin in begins:
            assert sum(row.startswith(begin) for row in rows) >= 1, (module, begin)


def test_every_row_of_the_page_is_written_by_somebody() -> None:
    begins = tuple(begin for rows in WRITERS.values() for begin in rows)
    computed = (
        "state of a client",
        "state of a node",
        "what a node",
        "encryption keys",
    )  # bytes that the caller keeps
    assert [row for row in (*NUMBERED, *UNNUMBERED) if not row.startswith((*begins, *computed))] == []


def test_every_numbered_format_has_vectors_and_every_vector_is_on_the_page() -> None:
    for name, row in NUMBERED.items():
        number, vectors = row.split(" | ")[2:4]
        assert number == "1", name
        named = set(re.findall(r"`(\w+)`", vectors))
        assert named <= VECTORS, name
        assert named or vectors == "as job files", name
    assert set(re.findall(r"`(\w+)`", PAGE)) & VECTORS == VECTORS


def test_parties_of_every_kind_compare_releases_when_they_meet() -> None:
    told = {"network/hello.py", "federated/messages.py", "jobs/shards/workers.py"}
    checking = {
        str(path.relative_to(ROOT / "secagg"))
        for path in (ROOT / "secagg").rglob("*.py")
        if re.search(r"^def _?check_release\(", path.read_text("utf-8"), re.MULTILINE)
    }
    assert checking == told
    assert len(_rows("## When parties meet")) == len(told) + 1
