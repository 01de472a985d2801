"""The command `covlab`: what it lists, what it answers without JAX, and where it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from covlab.__main__ import main, start
from covlab.claims import claim
from covlab.launch.commands import command_of, commands
from covlab.launch.import_path import search_here_last

ROOT = Path(__file__).parents[2]
OURS = ("tasks", "models", "decoding", "metrics", "training", "tracking", "theory", "conf")
SCRIPT = f"#!{sys.executable}\nimport sys\nfrom covlab.__main__ import main\nsys.exit(main())\n"


@pytest.fixture
def console_script(tmp_path: Path) -> Path:
    """The script that an installation makes of [project.scripts], in a folder of its own."""
    script = tmp_path / "bin" / "covlab"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    script.chmod(0o755)
    return script


def run(*command: str | Path, cwd: Path, code: int = 0, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    ended = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert ended.returncode == code, ended.stdout
    return ended.stdout


def test_every_command_and_claim_is_found_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    folder = ROOT / "experiments"
    there = {
        file.stem if file.parent == folder else file.parent.name
        for file in (*folder.glob("*.py"), *folder.glob("*/__main__.py"))
    } - {"__init__"}
    known = commands()
    assert set(known) == there
    assert {name for name, each in known.items() if each.is_claim} == {
        file.parent.name for file in folder.glob("*/checks.py")
    }
    assert main(["--help"]) == 0
    listed = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    for name, each in known.items():
        assert [name, each.summary] in listed
        assert each.summary.endswith((".", "?"))
        assert "python -m" not in each.summary


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trian", "error: trian: no such command; did you mean train"),
        ("task=dyck", "error: task=dyck: a command comes first, as in covlab train task=dyck\n"),
        ("no_such.module", "error: no_such.module: no such module"),
    ],
)
def test_an_unknown_command_is_one_line(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == 1


ANSWERS = """
import os, sys
from hydra.core.global_hydra import GlobalHydra
from covlab.__main__ import main
for line in ({lines}):
    GlobalHydra.instance().clear()
    os.environ["COMP_LINE"] = "covlab train optimizer.sch"
    sys.argv = ["covlab", *line]
    try:
        print("status", main())
    except SystemExit as ended:
        print("status", ended.code)
print("loaded", *sorted({{"jax", "numpy", "optax"}} & set(sys.modules)))
"""


@pytest.mark.long
def test_what_is_no_run_is_answered_without_jax(tmp_path: Path) -> None:
    lines = (
        ["train", "task.dpeth=3"],
        ["figure1", "seeeds=3"],
        ["tournament", "delat=0.1"],
        ["train", "task=dyck", "--help"],
        ["--complete", "fish"],
    )
    said = run(sys.executable, "-c", ANSWERS.format(lines=lines), cwd=tmp_path).splitlines()
    assert [line for line in said if line.startswith("status ")] == [
        *(f"status {status}" for status in (2, 2, 2, 0, 0))
    ]
    errors = [line for line in said if line.startswith("error: ")]
    for error, near in zip(errors, ("depth?", "seeds?", "delta?"), strict=True):
        assert error.endswith(f"did you mean {near}")
    assert "optimizer.schedule=" in said
    assert said[-1] == "loaded"


PROBE = f"""
from importlib.util import find_spec
for name in {OURS!r}:
    print(find_spec(name).origin)
print(find_spec("mine").origin)
"""


@pytest.mark.parametrize("how", ["console script", "python -m covlab", "python -m experiments"])
def test_modules_of_the_user_hide_nothing_and_are_found(
    how: str, console_script: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    for name in OURS:
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text("")
    (here / "mine.py").write_text("")
    (here / "own").mkdir()
    (here / "own" / "probe.py").write_text(PROBE)
    if how == "python -m experiments":
        # The probe stands where a command of the lab stands.
        code = f"import sys; sys.argv = ['-m']; sys.path.insert(0, ''); import experiments\n{PROBE}"
        said = run(sys.executable, "-c", code, cwd=here)
    else:
        start_of = [console_script] if how == "console script" else [sys.executable, "-m", "covlab"]
        said = run(*start_of, "own.probe", cwd=here)
    *ours, mine = said.splitlines()
    assert [Path(file).parents[1] for file in ours] == [ROOT] * len(OURS)
    assert Path(mine) == here / "mine.py"


def test_the_folder_of_the_lab_stays_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for here, last in ((ROOT, "/elsewhere"), (tmp_path, str(tmp_path))):
        monkeypatch.chdir(here)
        monkeypatch.setattr(sys, "path", [str(here), "/elsewhere"])
        search_here_last()
        assert sys.path[-1] == last
        assert len(sys.path) == 2


def test_a_claim_is_run_with_its_settings(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that trains and one that trains nothing, whose settings are read from the source."""
    seen = []

    def judged(known: claim.Claim[Any, Any], config: Any) -> int:
        seen.append((known.name, config.group, config.seed))
        return 0

    monkeypatch.setattr(claim, "run", judged)
    for name in ("figure1", "mle_horizon"):
        # The arguments are in sys.argv, as they are in `main`.
        ended = call(lambda name=name: start(command_of(name)), "seed=7")
        assert ended.status == 0, ended.err
    assert seen == [("figure1", "figure1", 7), ("mle_horizon", "mle_horizon", 7)]
