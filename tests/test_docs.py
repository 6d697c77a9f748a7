"""The documents name what is there: tags in the code are in the bibliography, tests in soundness.md exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from secagg import errors

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
# Authors' initials or a name, perhaps "+", and two digits: AFLNO16, Bat68, RRK+20.
TAG = re.compile(r"\b[A-Z][A-Za-z]+\+?\d{2}\b")
BRACKETS = re.compile(r"\[([^\[\]]+)\](?!\()")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def bibliography() -> set[str]:
    return set(re.findall(r"\*\*\[([^\]]+)\]\*\*", (DOCS / "bibliography.md").read_text("utf-8")))


def cited(text: str) -> set[str]:
    return {tag for inside in BRACKETS.findall(text) for tag in TAG.findall(inside)}


class Words(NamedTuple):
    """What a module says: in docstrings and comments, and in its text constants."""

    prose: str
    constants: list[str]


@functools.cache
def words(path: Path) -> Words:
    source = path.read_text("utf-8")
    prose, constants = re.findall(r"#.*$", source, re.MULTILINE), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            prose.append(ast.get_docstring(node) or "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            constants.append(node.value)
    return Words("\n".join(prose), constants)


@functools.cache
def cited_by(path: Path) -> set[str]:
    """Return what a module cites."""
    return cited(words(path).prose)


@functools.cache
def functions_of(path: Path) -> set[str]:
    return {n.name for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, ast.FunctionDef)}


def test_citations_are_found() -> None:
    assert cited("as in [AFLNO16, section 2.1; Bat68] and [RRK+20]") == {"AFLNO16", "Bat68", "RRK+20"}
    assert cited("an array [U64, SHA256], a [link](https://example.org/Bat68), AFLNO16") == set()


@pytest.mark.slow
def test_every_work_cited_in_the_code_is_in_the_bibliography() -> None:
    known = bibliography()
    citations = {path: cited_by(path) for path in sorted((ROOT / "secagg").rglob("*.py"))}
    assert sum(map(len, citations.values())) > 10
    assert {path.name: tags - known for path, tags in citations.items() if tags - known} == {}


@pytest.mark.slow
def test_every_work_in_the_bibliography_is_cited() -> None:
    documents = [path.read_text("utf-8") for path in DOCS.glob("*.md") if path.name != "bibliography.md"]
    code = [cited_by(path) for path in (ROOT / "secagg").rglob("*.py")]
    papers = {tag for tag in bibliography() if TAG.fullmatch(tag)}
    assert papers - set().union(*map(cited, documents), *code) == set()


@pytest.mark.parametrize("document", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_work_cited_in_a_document_is_in_the_bibliography(document: str) -> None:
    assert cited((DOCS / document).read_text("utf-8")) - bibliography() == set()


@pytest.mark.slow
def test_every_test_that_holds_a_statement_exists() -> None:
    named = [test for path in DOCS.glob("soundness*.md") for test in TEST.findall(path.read_text("utf-8"))]
    assert len(named) > 200
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).is_file() or name not in functions_of(ROOT / file)
    ]
    assert missing == []


@pytest.mark.parametrize("document", sorted(str(path.relative_to(ROOT)) for path in PAGES))
def test_links_within_the_documents_lead_somewhere(document: str) -> None:
    page = ROOT / document
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if not target.startswith("https://"):
            file, _, anchor = target.partition("#")
            there = page.parent / file if file else page
            assert there.is_file(), target
            assert not anchor or anchor in anchors_of(there), target


def test_what_choosing_says_that_computations_cost_stands_in_the_section_of_benchmarks_that_it_names() -> (
    None
):
    section = (
        (DOCS / "choosing.md").read_text("utf-8").partition("\n## Beyond sums\n")[2].partition("\n## ")[0]
    )
    benchmarks = re.split(r"^#+ (.+)$", (DOCS / "benchmarks.md").read_text("utf-8"), flags=re.MULTILINE)
    number = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
    stated = {
        heading.lower().replace(" ", "-"): {each.strip(",") for each in number.findall(text)}
        for heading, text in zip(benchmarks[1::2], benchmarks[2::2], strict=True)
    }
    figures = re.findall(r"\[([^]]*)\]\(benchmarks\.md#([\w-]+)\)([^\n|[]*)", section)
    assert len(figures) > 12
    for words, anchor, rest in figures:
        found = {each.strip(",") for each in number.findall(words + rest)}
        assert found, words
        assert found <= stated[anchor], (anchor, found - stated[anchor])


@functools.cache
def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.slow
def test_every_name_and_module_on_the_pages_is_one_of_the_codes() -> None:
    folders = ("secagg", "tests", "benchmarks", "examples", "release", "website")
    modules = {str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py")}
    sources = [*modules, "pyproject.toml", "Makefile"]
    known = {word for name in sources for word in re.findall(r"\w+", name + (ROOT / name).read_text("utf-8"))}
    unknown = []
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # it tells of names that are gone
            continue
        text = page.read_text("utf-8")
        for name in re.findall(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\([^`]*\))?`", text):
            unknown += [f"{page.name}: {name}"] * (not known.issuperset(name.split(".")))
        for name in re.findall(r"`([\w/]+\.py)`", text):
            unknown += [f"{page.name}: {name}"] * (not any(f"/{m}".endswith(f"/{name}") for m in modules))
    assert unknown == []


# docs/errors.md


def sections(text: str) -> dict[str, str]:
    """Return a page's sections of the second level by heading."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def words_of_the_code() -> str:
    """Return all text constants of the package in one line."""
    found = [text for path in (ROOT / "secagg").rglob("*.py") for text in words(path).constants]
    return " ".join(" ".join(found).split())


def test_the_page_of_errors_has_a_section_for_each_class_and_names_no_other() -> None:
    page = (DOCS / "errors.md").read_text("utf-8")
    assert sorted(sections(page)) == sorted(errors.__all__)
    named = set(re.findall(r"\b[A-Z]\w+Error\b", page))
    assert named - set(errors.__all__) == {"ValueError", "ArithmeticError"}


def test_a_section_says_of_which_class_its_class_is() -> None:
    for name, text in sections((DOCS / "errors.md").read_text("utf-8")).items():
        (base,) = [
            c.__name__
            for c in getattr(errors, name).__mro__[1:]
            if c.__name__ in (*errors.__all__, "Exception")
        ][:1]
        if base not in ("Exception", "SecaggError"):
            assert f"`{base}`" in text, name


@pytest.mark.slow
def test_each_message_on_the_page_of_errors_is_one_of_the_codes() -> None:
    known, strange = words_of_the_code(), []
    for name, text in sections((DOCS / "errors.md").read_text("utf-8")).items():
        rows = re.findall(r"^\| (.+?) \| .+ \| .+ \|$", text, re.MULTILINE)[1:]
        assert rows or name == "PeerMissingError"
        for row in rows:
            for message in row.split("; "):
                # What the message fills in stands as a word in italics, as "..." or as N, M or K.
                pieces = re.split(r"\*[^*]+\*|…|\b[NMK]\b|, ", message)
                if not any(piece.strip() in known for piece in pieces if len(piece.strip()) > 5):
                    strange.append((name, message))
    assert strange == []


# docs/adr


def test_the_index_of_decisions_lists_every_page_under_its_title() -> None:
    pages = sorted(path for path in (DOCS / "adr").glob("*.md") if path.name != "README.md")
    titles = {path.name: path.read_text("utf-8").partition("\n")[0].removeprefix("# ") for path in pages}
    listed = re.findall(
        r"^- \[(\d+)\]\((.+)\) (.+)$", (DOCS / "adr" / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert {name: f"{number} {title}" for number, name, title in listed} == titles


@pytest.mark.parametrize("path", sorted((DOCS / "adr").glob("0*.md")), ids=lambda path: path.stem)
def test_a_decision_has_context_decision_and_consequences(path: Path) -> None:
    assert list(sections(path.read_text("utf-8"))) == ["Context", "Decision", "Consequences"]
    assert path.stem.startswith(path.read_text("utf-8")[2:6])
