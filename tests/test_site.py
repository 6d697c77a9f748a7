"""The site of the documentation is whole: every page, every public name, and nothing from another host."""

from __future__ import annotations

import functools
import importlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from browser import browser, console_messages  # noqa: F401  # a fixture
from secagg import errors
from website.build import AT_THE_ROOT, DECISIONS, ROOT, build, navigation
from website.commands import every_command

DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_every_page_is_in_the_navigation_once() -> None:
    listed = navigation()
    assert len(set(listed)) == len(listed)
    own = {name for name in listed if not name.startswith("reference/")}
    assert own == {name for name in PAGES if not DECISIONS.fullmatch(name)} | set(AT_THE_ROOT), (
        "website/zensical.toml holds the navigation; a new page belongs there"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; a warning, a broken link or an anchor that is not there ends the build."""
    folder = tmp_path_factory.mktemp("site")
    build(folder)
    return folder


LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}


class Tags(HTMLParser):
    """What a page holds: how many elements of each kind, their ids, and what it loads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.loaded: list[str] = []
        self.counts = dict.fromkeys(("li", "table", "pre", "h2"), 0)
        self._text = False
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or "")
        if (name := LOADING.get(tag)) and given.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(given.get(name) or "")
        if tag == "article":
            self._text = True
        if self._text and tag in self.counts:
            self.counts[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._text = False


@functools.cache
def tags(page: Path) -> Tags:
    return Tags(page)


@pytest.mark.slow
def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    loaded = {address for page in pages for address in tags(page).loaded}
    styles = {
        address
        for style in site.rglob("*.css")
        for address in re.findall(r"url\(([^)]+)\)", style.read_text("utf-8"))
    }
    assert any("bundle" in address for address in loaded)
    assert [a for a in loaded | styles if re.match(r"[\"']?(?:https?:)?//", a)] == []


@pytest.mark.slow
def test_pages_have_the_lists_tables_and_blocks_that_their_sources_have(site: Path) -> None:
    """Markdown as the builder reads it is not quite what other readers of the files take it for."""
    differ = {}
    for name in [*PAGES, *AT_THE_ROOT]:
        built = "adr/index.html" if name == "adr/README.md" else f"{name.removesuffix('.md')}.html"
        expected, found = counted((ROOT if name in AT_THE_ROOT else DOCS) / name), tags(site / built).counts
        if expected != found:
            differ[name] = (expected, found)
    assert differ == {}


def test_a_bar_in_code_of_a_table_stands_without_the_backslash_of_its_source(site: Path) -> None:
    assert r"`p & q, p \| q`" in (DOCS / "operations.md").read_text("utf-8")
    page = (site / "operations.html").read_text("utf-8")
    assert "<code>p &amp; q, p | q</code>" in page.replace("&#124;", "|")
    commands = (site / "reference/commands.html").read_text("utf-8")
    assert "<code>--reveal [result|owners]</code>" in commands.replace("&#124;", "|")
    assert "&#91;required&#93;" in commands
    assert "\\&#91;" not in commands
    assert '<h2 id="secagg-bench">' in commands


def test_every_page_shows_where_code_and_tables_are_cut_off_on_a_phone(site: Path) -> None:
    assert "no-repeat local" in (site / "assets/site.css").read_text("utf-8")
    assert "./assets/site.css" in tags(site / "costs.html").loaded
    assert "../assets/site.css" in tags(site / "reference/commands.html").loaded


def counted(source: Path) -> dict[str, int]:
    kinds = {"list_item_open": "li", "table_open": "table", "fence": "pre", "code_block": "pre"}
    counts = dict.fromkeys(("li", "table", "pre", "h2"), 0)
    for token in MarkdownIt().enable("table").parse(source.read_text("utf-8")):
        kind = kinds.get(token.type, token.tag if token.type == "heading_open" else "")
        if kind in counts:
            counts[kind] += 1
    return counts


@pytest.mark.slow
def test_the_reference_of_a_module_has_every_public_name(site: Path) -> None:
    modules = [Path(name).stem for name in navigation() if name.startswith("reference/secagg")]
    named = {f"{module}.{name}" for module in modules for name in importlib.import_module(module).__all__}
    ids = set().union(*(tags(site / f"reference/{module}.html").ids for module in modules))
    assert named - ids == set()


@pytest.mark.slow
def test_every_command_and_every_error_can_be_linked_to(site: Path) -> None:
    commands = {path.replace(" ", "-") for path, _ in every_command()}
    assert commands <= tags(site / "reference/commands.html").ids
    assert {name.lower() for name in errors.__all__} <= tags(site / "errors.html").ids


# The search box stands in a shadow of its own.
_BOX = (
    "return [...document.querySelectorAll('div')].find(e => e.shadowRoot?.querySelector('input'))?.shadowRoot"
)


@pytest.mark.slow
def test_search_works_in_a_site_that_is_opened_from_a_folder(site: Path, browser: Any) -> None:  # noqa: F811
    ui = pytest.importorskip("selenium.webdriver.support.ui")
    console_messages(browser)  # those of others
    browser.get((site / "index.html").as_uri())
    wait = ui.WebDriverWait(browser, 60).until
    wait(lambda b: b.find_elements("css selector", ".md-search__button"))[0].click()
    wait(lambda b: b.execute_script(_BOX)).find_element("css selector", "input").send_keys(
        "PeerVanishedError"
    )
    found = wait(
        lambda b: [a.get_attribute("href") for a in b.execute_script(_BOX).find_elements("css selector", "a")]
    )
    assert any("errors.html" in address for address in found)
    assert console_messages(browser) == []
