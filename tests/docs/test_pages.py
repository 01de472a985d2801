"""Pages of the documentation: links lead somewhere, headings are unique, tables are whole, files exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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


GUIDES = ("docs/add_a_task.md", "docs/add_an_objective.md", "docs/add_a_claim.md", "docs/extending.md")
"""Their files are the reader's; tests/docs/test_add_*.py and test_extending.py write and run them."""


@pytest.mark.parametrize("name", [name for name in NAMES if name not in GUIDES])
def test_files_that_a_page_names_exist(name: str) -> None:
    named = [file for file in FILE.findall(prose(name)) if (ROOT / file.split("/")[0]).is_dir()]
    assert [file for file in named if not (ROOT / file).exists()] == []


def test_faults_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "page.md").write_text("# A `b`, c\n\n[x](#a-b-c) [y](#) [z](no.md) [w](#other)\n")
    assert [broken("page.md", target) for target in links("page.md")] == [False, True, True, True]
