"""docs/extending.md is executed as a newcomer would: covlab's wheel is installed, the page's files go into an
empty folder, its commands run there. Nothing sees this checkout."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from oracles.installed import ROOT, Installed

from covlab.report.verdict import Verdict

pytestmark = pytest.mark.long

PAGE = (ROOT / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"^## \d+\. `([^`]+)`\n.*?^```\w+\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line for language, block in BLOCKS if not language for line in block.splitlines()]
(LOADING,) = (block for _, block in BLOCKS if "load_runs(" in block)
INSTALL, SHOW, *OTHERS = COMMANDS


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The installed wheel, and a folder with the page's files, installed too."""
    made = Installed(tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("lab"))
    for name, text in FILES.items():
        (made.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (made.folder / name).write_text(text)
    program, *arguments = shlex.split(INSTALL)
    assert program == "pip"
    made.pip(*arguments, "--no-deps", "--no-build-isolation")
    return made


def do(lab: Installed, line: str, *more: str) -> str:
    """Run a command of the page, with more arguments."""
    program, *arguments = shlex.split(line)
    assert program in ("covlab", "python")
    return lab.run(*arguments, *more, program=program)


def test_a_command_of_the_wheel_sees_a_task_of_ones_own(lab: Installed) -> None:
    shown = do(lab, SHOW)
    assert "Counting(numbers=8, length=3, down=0.1)" in shown
    assert shown.count("its pi_D(y|x)") == 2


@pytest.mark.slow
def test_the_first_command_of_the_readme_moves_coverage_and_best_of_n(lab: Installed) -> None:
    (first,) = re.findall(r"^(covlab train) +#", (ROOT / "README.md").read_text(), re.MULTILINE)
    asked = ("root=elsewhere", "name=first", "tracking.wandb=disabled", "tracking.progress=false")
    assert "complete" in do(lab, first, *asked)
    shown = "frame.iloc[[0, -1]][['eval/cov/2', 'eval/pass/12']].to_numpy().tolist()"
    code = f"import covlab; frame = covlab.load('elsewhere/train/first').metrics; print({shown})"
    (cov_start, pass_start), (cov, passed) = json.loads(lab.run("-c", code))
    assert (cov_start, pass_start < 0.05) == (1.0, True)
    assert cov < 0.9
    assert passed > 0.5


@pytest.mark.slow
def test_a_newcomers_walk(lab: Installed) -> None:
    """Training, a sweep and a longer run with task and model of one's own; results, a claim, contracts."""
    quiet = ("tracking.wandb=disabled", "tracking.progress=false")
    train, sweep, longer, select, claim, ledger, contracts = OTHERS

    assert "complete" in do(lab, train, *quiet)
    assert "sweep of 2 jobs: 2 complete" in do(lab, sweep, *quiet)
    assert "sweep of 2 jobs: 2 skipped" in do(lab, sweep, *quiet)
    assert "complete" in do(lab, longer, *quiet)
    assert "min_kl" in do(lab, select)

    shown = "frame['step'].max(), sorted(set(frame['seed'])), sorted(set(swept['task.down']))"
    assert lab.run("-c", f"{LOADING}print({shown})") == "500 [0, 1] [0.1, 0.3]\n"

    do(lab, claim, *quiet)
    verdict = Verdict.read(lab.folder / "runs" / "collapse" / "cpu" / "verdict.json")
    assert (verdict.holds, len(verdict.checks)) == (True, 5)
    assert verdict.command.startswith("python -m my_lab.collapse scale=cpu")
    said = do(lab, ledger)
    assert "collapse (cpu)  holds:   5 of 5 checks, 4 seeds" in said

    passed = re.search(r"^(\d+) passed in", do(lab, contracts, "-p", "no:cacheprovider"), re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) == 29
    assert not [file for file in lab.folder.rglob("*.py") if str(ROOT) in file.read_text()]
