"""Build the site of the documentation: python -m website.build [FOLDER], or make docs.

Pages come from docs/, from the root of the repository, and from the package itself: what each public module names in
`__all__`, and what each command takes. They are put together in a folder of their own, so that links between them are
links within one folder. A warning ends the build.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from website.commands import commands_page
from website.reference import reference_page

ROOT: Final = Path(__file__).parents[1]
HERE: Final = Path(__file__).parent
AT_THE_ROOT: Final = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
DECISIONS: Final = re.compile(r"adr/\d+-.*\.md")  # listed on their own index
# A link to the README leads to the start page, which says the same in fewer words.
_TO_README: Final = re.compile(r"\]\(((?:\.\./)*)\.\./README\.md(?:#[^)]*)?\)")
# A page that is named by its file is named by its title on the site.
_BY_FILE: Final = re.compile(r"\[([\w-]+\.md)(?=(?:, [^\]]*)?\]\()")
# In a table, GitHub's Markdown writes | in code as \|; that of the site would show the backslash.
_CODE_WITH_BAR: Final = re.compile(r"`([^`\n]*\\\|[^`\n]*)`")
_TO_THE_ROOT: Final = re.compile(rf"\]\(((?:\.\./)*)\.\./({'|'.join(map(re.escape, AT_THE_ROOT))})")


def navigation() -> list[str]:
    """Return the pages of the navigation, in its order."""

    def pages(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for each in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(each)

    return list(pages(tomllib.loads((HERE / "zensical.toml").read_text("utf-8"))["project"]["nav"]))


def gather(folder: Path) -> None:
    """Put every page of the site into a folder, as Markdown."""
    shutil.copytree(ROOT / "docs", folder)
    for name in AT_THE_ROOT:
        text = (ROOT / name).read_text("utf-8").replace("](docs/", "](").replace("](README.md", "](index.md")
        (folder / name).write_text(text, "utf-8")
    titles = {page.name: _title(page) for page in folder.glob("*.md")}
    for page in folder.rglob("*.md"):
        text = _TO_README.sub(r"](\1index.md)", page.read_text("utf-8"))
        text = _BY_FILE.sub(lambda found: f"[{titles.get(found[1], found[1])}", text)
        page.write_text(_TO_THE_ROOT.sub(r"](\1\2", text), "utf-8")
    (folder / "reference").mkdir()
    modules = [
        name.removeprefix("reference/").removesuffix(".md")
        for name in navigation()
        if name.startswith("reference/secagg")
    ]
    for module in modules:
        (folder / f"reference/{module}.md").write_text(reference_page(module, modules), "utf-8")
    (folder / "reference" / "commands.md").write_text(commands_page(), "utf-8")
    for page in folder.rglob("*.md"):
        text = page.read_text("utf-8")
        if r"\|" in text:
            text = re.sub(
                r"^\|.*$", lambda row: _CODE_WITH_BAR.sub(_as_html, row[0]), text, flags=re.MULTILINE
            )
            page.write_text(text, "utf-8")


def _as_html(code: re.Match[str]) -> str:
    return f"<code>{html.escape(code[1].replace(chr(92) + '|', '|')).replace('|', '&#124;')}</code>"


def _title(page: Path) -> str:
    return page.read_text("utf-8").partition("\n")[0].removeprefix("# ")


def build(out: Path) -> None:
    """Build the site into a folder, in place of what is there.

    Raises:
      SystemExit: a page could not be built without a warning.
    """
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        gather(work / "docs")
        shutil.copy(HERE / "zensical.toml", work)
        shutil.copytree(HERE / "theme", work / "theme")
        (work / "secagg").symlink_to(ROOT / "secagg")
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        done = subprocess.run(
            command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode or re.search(r"^(?:griffe|Warning|Error)", done.stdout, re.MULTILINE):
            raise SystemExit(f"{done.stdout}\nthe site has faults")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(work / "site", out)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "site"
    build(target)
    print(f"built {target}/index.html")
