"""docs/add_a_claim.md is executed: its files go into a copy of the project, its commands run there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from covlab.report.verdict import Verdict
from experiments.ledger import MARKS

FILES = (
    *(
        f"experiments/hard_prompts/{name}.py"
        for name in ("measure", "checks", "figures", "__init__", "__main__")
    ),
    *(f"tests/experiments/hard_prompts/{name}" for name in ("contract.yaml", "test_checks.py")),
)


@pytest.fixture(scope="module")
def guide(open_guide: Callable[[str], Any]) -> Any:
    return open_guide("add_a_claim.md")


def test_the_page_names_the_files_of_a_claim(guide: Any) -> None:
    assert tuple(guide.sections()) == FILES


@pytest.mark.long
def test_the_claim_of_the_page_is_under_the_contract(guide: Any) -> None:
    said = guide.run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "hard_prompts"),
        *("tests/experiments/test_contract.py", "tests/experiments/hard_prompts"),
        "tests/covlab/launch/test_number_fields.py",
    )
    # Nine of the contract, six of its checks, one of its number fields.
    assert int(re.findall(r"(\d+) passed", said)[-1]) == 16


def test_the_claim_of_the_page_passes_the_linters(guide: Any) -> None:
    said = guide.run("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    assert " 0 broken" in said
    python = [name for name in FILES if name.endswith(".py")]
    guide.run("-m", "ruff", "check", "--no-cache", *python)
    guide.run("-m", "ruff", "format", "--check", "--no-cache", *python)


@pytest.mark.slow
def test_the_commands_of_the_page_run_in_their_order(guide: Any) -> None:
    readme = (guide.root / "README.md").read_text()
    assert [module for module, _ in guide.commands()] == ["experiments.hard_prompts", "experiments.ledger"]
    for module, arguments in guide.commands():
        guide.run("-m", module, *shlex.split(arguments))
    verdict = Verdict.read(guide.root / "results" / "hard_prompts_cpu" / "verdict.json")
    assert (verdict.scale, verdict.holds) == ("cpu", True)
    assert (guide.root / "runs" / "hard_prompts" / "cpu" / "report.html").is_file()
    assert (guide.root / "results" / "hard_prompts_cpu" / "failures.png").is_file()
    assert "| hard_prompts | " in (guide.root / "docs" / "claims.md").read_text()
    table = (guide.root / "README.md").read_text().partition(MARKS[0])[2].partition(MARKS[1])[0]
    (line,) = (each for each in table.split("\n") if verdict.title in each)
    assert "| cpu | holds: 8 of 8 checks | 1000 |" in line
    assert verdict.title not in readme
