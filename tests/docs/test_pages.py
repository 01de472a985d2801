"""Pages of the documentation: whole links and tables, unique headings, files and commands that exist."""

from __future__ import annotations

import base64
import importlib
import json
import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
EVERY_PAGE = pytest.mark.parametrize("name", NAMES)
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
FILE = re.compile(r"`((?:\w+/)+\w+\.(?:py|yaml|md|json|sh))`")
ROW = re.compile(r"\|.*\|")


def prose(name: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", (ROOT / name).read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(name: str) -> list[str]:
    """Anchors of headings as on GitHub: lower case, no punctuation, hyphens for spaces."""
    plain = [re.sub(r"[^\w\- ]", "", heading).lower() for heading in HEADING.findall(prose(name))]
    return [heading.strip().replace(" ", "-") for heading in plain]


def links(name: str) -> list[str]:
    """Targets of the links and pictures that are not on another site."""
    found = re.findall(r"\]\(([^)\s]*)\)", prose(name))
    return [target for target in found if not re.match(r"\w+:", target)]


def broken(name: str, target: str) -> bool:
    """True if there is no such file, or no such heading in it."""
    path, sign, anchor = target.partition("#")
    page = ((ROOT / name).parent / path).resolve() if path else ROOT / name
    if not page.exists() or not (path or anchor):
        return True
    return bool(sign) and anchor not in anchors(str(page.relative_to(ROOT)))


def tables(name: str) -> list[list[str]]:
    """Blocks of lines that begin with a bar."""
    blocks = re.findall(r"(?:^ *\|.*\n?)+", prose(name), re.MULTILINE)
    return [block.strip().split("\n") for block in blocks]


def cells(line: str) -> int:
    """Columns of a row; a bar behind a backslash is none, one in code or in a formula is."""
    return len(line.replace("\\|", "").strip().strip("|").split("|"))


@EVERY_PAGE
def test_links_lead_somewhere(name: str) -> None:
    assert [target for target in links(name) if broken(name, target)] == []


@EVERY_PAGE
def test_no_heading_stands_twice(name: str) -> None:
    assert [heading for heading, times in Counter(anchors(name)).items() if times > 1] == []


@EVERY_PAGE
def test_no_part_of_a_section_stands_twice(name: str) -> None:
    """A part begins with a bold word at the start of a paragraph."""
    for section in re.split(r"^#{1,6} ", prose(name), flags=re.MULTILINE):
        leads = re.findall(r"^\*\*([^*]+)\*\*", section, re.MULTILINE)
        twice = [lead for lead, times in Counter(leads).items() if times > 1]
        assert twice == [], section.split("\n")[0]


@EVERY_PAGE
def test_tables_are_whole(name: str) -> None:
    """A table has a header, a rule under it, and as many cells in every row."""
    for table in tables(name):
        assert len(table) > 2, table
        assert re.fullmatch(r" *\|(?:\s*:?-+:?\s*\|)+", table[1]), table[:2]
        assert {cells(line) for line in table} == {cells(table[1])}, table[0]


GUIDES = (
    *(f"docs/add_{what}.md" for what in ("a_task", "a_model", "an_objective", "a_claim")),
    "docs/extending.md",
)
"""Their files are the reader's; tests/docs/test_add_*.py and test_extending.py write and run them."""


@pytest.mark.parametrize("name", [name for name in NAMES if name not in GUIDES])
def test_files_that_a_page_names_exist(name: str) -> None:
    named = [file for file in FILE.findall(prose(name)) if (ROOT / file.split("/")[0]).is_dir()]
    assert [file for file in named if not (ROOT / file).exists()] == []


def test_faults_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "page.md").write_text("# A `b`, c\n\n[x](#a-b-c) [y](#) [z](no.md) [w](#other)\n")
    assert [broken("page.md", target) for target in links("page.md")] == [False, True, True, True]


COMMANDS = re.findall(
    r"^covlab (\w+)((?: [^\s#-]\S*)*) *(?:#.*)?$", (ROOT / "README.md").read_text(), re.MULTILINE
)
"""(command, overrides) of the README, without the commands that have options."""


def test_commands_of_the_readme_are_valid(compose_config: Callable[..., Any]) -> None:
    """Each command exists, and those that train or need no run compose."""
    assert len(COMMANDS) > 15
    for command, overrides in COMMANDS:
        assert importlib.util.find_spec(f"experiments.{command}") is not None, command
        if command not in ("compare", "ledger", "select") and "run=" not in overrides:
            compose_config(command, *shlex.split(overrides))


def titles(nav: list[Any]) -> list[str]:
    """Pages of the site's navigation."""
    return [
        page
        for entry in nav
        for value in entry.values()
        for page in (titles(value) if isinstance(value, list) else [value])
    ]


def test_every_page_is_in_the_navigation_of_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    site = importlib.import_module("build_site")
    pages = [site.name_on_site(page).as_posix() for page in site.sources()]
    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    assert sorted(titles(nav)) == sorted([*pages, *(f"reference/{name}.md" for name in site.REFERENCE)])


def test_pages_are_staged_for_the_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    site = importlib.import_module("build_site")
    (tmp_path / "docs").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.png").write_bytes(b"picture")
    (tmp_path / "Makefile").touch()
    page = Path("docs/page.md")
    (tmp_path / page).write_text(
        "[x](../README.md#y) ![z](../results/a.png) [w](https://w.org/a.md)\n```\n[v](v.md)\n```\n"
    )
    site.stage_page(page, tmp_path, tmp_path / "staged")
    assert (tmp_path / "staged" / "page.md").read_text() == (
        "[x](index.md#y) ![z](results/a.png) [w](https://w.org/a.md)\n```\n[v](v.md)\n```\n"
    )
    assert (tmp_path / "staged" / "results" / "a.png").read_bytes() == b"picture"
    (tmp_path / page).write_text("[x](../Makefile)\n")
    with pytest.raises(ValueError, match=r"^docs/page\.md: link to Makefile; valid: pages of the site"):
        site.stage_page(page, tmp_path, tmp_path / "staged")
    outputs = [{"data": {"image/png": base64.b64encode(b"plot").decode()}}, {"text": ["[a](b)\n"]}]
    cells = [
        {"cell_type": "markdown", "source": ["[x](../page.md#y)"]},
        {"cell_type": "code", "source": ["run.plot()"], "outputs": outputs},
    ]
    page = Path("docs/notebooks/first.ipynb")
    (tmp_path / page).parent.mkdir()
    (tmp_path / page).write_text(json.dumps({"cells": cells}))
    site.stage_page(page, tmp_path, tmp_path / "staged")
    assert (tmp_path / "staged" / "notebooks" / "first.md").read_text() == (
        "[x](../page.md#y)\n\n```python\nrun.plot()\n```\n\n"
        '<img src="first_1.png" alt="output">\n\n```text\n[a](b)\n```\n'
    )
    assert (tmp_path / "staged" / "notebooks" / "first_1.png").read_bytes() == b"plot"


def test_faults_of_the_site_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    page = (
        '<html><script src="https://cdn.org/x.js">a<b</script><img src=//i.org/y.png><a href="https://ok.org">p</a>'
        '<link rel=stylesheet href="a.css"><style>a{background:url(http://c.org/z)}</style> in <root>/runs'
    )
    addresses = ("https://cdn.org/x.js", "//i.org/y.png", "http://c.org/z")
    assert importlib.import_module("build_site").faults_of_page(page) == [
        *(f"loaded from another site: {address}" for address in addresses),
        "text in angle brackets outside code: <root",
    ]
    plain = importlib.import_module("plain_docstrings").plain
    assert plain("p*<q, `a*<b`\n\n    law*\n\nArgs:\n    x: y*.\n") == (
        "p\\*&lt;q, `a*<b`\n\n    law*\n\nArgs:\n    x: y\\*.\n"
    )


def test_the_records_of_a_version_agree() -> None:
    """The wheel's description begins as the README does and has no links."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == project["version"]
    assert (ROOT / "README.md").read_text().split("\n\n")[1] in project["readme"]["text"]
    assert "](" not in project["readme"]["text"]


def test_hooks_are_local_and_locked() -> None:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    lock = (ROOT / "requirements.lock").read_text()
    tools = {Path(hook["entry"].split()[0]).name for hook in repositories[0]["hooks"]} - {"python"}
    packages = {"ruff": "ruff", "mypy": "mypy", "lint-imports": "import-linter"}
    assert tools == set(packages)
    assert all(f"\n{package}==" in lock for package in packages.values())
