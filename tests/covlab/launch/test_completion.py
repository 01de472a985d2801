"""Tab completion: in a real bash, zsh and fish, and what each place of a line offers."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from covlab.__main__ import _configured
from covlab.launch.commands import commands
from covlab.launch.completion import SHELLS, answer, candidates, main
from covlab.launch.schema import register_schemas
from experiments import train

SIZES = ("medium", "mine", "paper", "small", "teacherless", "tiny")
ROOT = Path(__file__).parents[3]
SCRIPT = f"#!{sys.executable}\nimport sys\nfrom covlab.__main__ import main\nsys.exit(main())\n"
BASH = """
eval "$(covlab --completion bash)"
COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
[[ $(complete -p covlab) == *"-F _covlab"* ]] || exit 3
tab() {
    COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9
    read -ra COMP_WORDS <<< "${1//=/ = }"
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _covlab
    printf '%s|' "${COMPREPLY[@]}"; echo
}
"""


def environ_with_covlab(folder: Path) -> dict[str, str]:
    """The environment of a shell in which `covlab` is this source."""
    script = folder / "covlab"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{folder}:{os.environ['PATH']}"}


def replies(folder: Path, *command: str) -> list[str]:
    """Lines that the shell prints."""
    ended = subprocess.run(
        command, cwd=folder, env=environ_with_covlab(folder), capture_output=True, text=True, check=True
    )
    assert ended.stderr == ""
    return ended.stdout.splitlines()


def bash(folder: Path, *lines: str) -> list[str]:
    """The replies of bash to a tab at the end of each line, with | behind each reply."""
    return replies(folder, "bash", "--norc", "-c", BASH + "\n".join(f"tab '{line}'" for line in lines))


@pytest.mark.long
def test_bash_completes_commands_groups_options_and_keys(tmp_path: Path) -> None:
    assert bash(
        tmp_path,
        "covlab train_v",
        "covlab train task=fixed_",
        "covlab train task=dyck task.max_",
        "covlab train optimizer.schedule=",
    ) == [
        "train_value |",
        "fixed_dyck |fixed_dyck_whole |",
        "task.max_depth=|task.max_enumerated=|task.max_length=|",
        "constant |cosine |",
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("covlab --comp", ["--completion "]),
        ("covlab --completion ", ["bash ", "zsh ", "fish "]),
        ("covlab train opt", ["optimizer.", "optimizer="]),
        ("covlab train task.de", ["task.depth="]),
        ("covlab train -m task=dyck,parity,pa", ["task=dyck,parity,parity ", "task=dyck,parity,path_star "]),
        ("covlab train tracking.per_seed=", ["tracking.per_seed=true ", "tracking.per_seed=false "]),
        ("covlab train +ste", ["+steps="]),
        ("covlab train nonsense=3 task=dyck task.nois", ["task.noise="]),
        ("covlab train --m", ["--multirun "]),
        ("covlab train --cfg ", ["job "]),
        ("covlab figure1 blind", ["blindness_examples="]),
        ("covlab tournament pair_me", ["pair_members="]),
        ("covlab decode run=runs/", ["run=runs/train/"]),
        ("covlab compare ru", ["runs/"]),
        ("covlab train --config-dir own model=gpt_", [f"model=gpt_{name} " for name in SIZES]),
        ("covlab train hydra", []),
        ("covlab no_such_command ta", []),
    ],
)
def test_what_is_offered(
    line: str, offered: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "train").mkdir(parents=True)
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "gpt_mine.yaml").write_text("width: 8\n")
    monkeypatch.chdir(tmp_path)
    register_schemas()
    found = candidates(line, _configured)
    # `runs` is a key of `compare`, too.
    assert [each for each in found if each not in ("runs=", "run=")] == list(offered)


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_commands_options_and_keys(tmp_path: Path) -> None:
    lines = ("covlab train_v", "covlab train task=fixed_", "covlab train optimizer.lear")
    script = "covlab --completion fish | source\n" + "\n".join(f'complete -C "{line}"' for line in lines)
    assert replies(tmp_path, "fish", "--no-config", "-c", script) == [
        "train_value",
        "task=fixed_dyck",
        "task=fixed_dyck_whole",
        "optimizer.learning_rate=",
    ]


def zsh(folder: Path, line: str, expected: str) -> str:
    """The screen of an interactive zsh after a tab at the end of the line; waits at most a minute for
    `expected`."""
    terminal, inside = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        cwd=folder,
        env={**environ_with_covlab(folder), "TERM": "dumb"},
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )

    def read(until: str) -> str:
        seen, end = "", time.monotonic() + 60
        while until not in seen and time.monotonic() < end:
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 65_536).decode(errors="replace")
        return seen

    try:
        # The terminal shows what is typed, in which the answer is not yet one word.
        os.write(terminal, b'autoload -U compinit; compinit -u -D; eval "$(covlab --completion zsh)"\n')
        os.write(terminal, b'echo re""ady\n')
        assert "ready" in read("ready")
        os.write(terminal, line.encode() + b"\t")
        return read(expected)
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)
        os.close(inside)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("covlab train_v", "covlab train_value "),
        ("covlab train task=parit", "task=parity "),
        ("covlab train optimizer.lear", "optimizer.learning_rate="),
    ],
)
def test_zsh_completes_commands_options_and_keys(tmp_path: Path, line: str, expected: str) -> None:
    assert expected in zsh(tmp_path, line, expected)


def test_bash_replaces_only_what_follows_the_last_break() -> None:
    line = "covlab train task=dy ta"
    environ = {"COMP_LINE": line, "COMP_POINT": str(len(line) - 3), "COMP_WORDBREAKS": " \t\n=:"}
    assert answer("bash", environ) == "dyck \n"
    assert answer("zsh", environ) == "task=dyck \n"
    assert answer("fish", environ) == "task=dyck\n"
    assert answer("bash", {**environ, "COMP_WORDBREAKS": " \t\n"}) == "task=dyck \n"


def test_hydras_own_flag_answers_too(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for line in ("python -m experiments.train task=fixed_dyck_", "covlab train task=fixed_dyck_"):
        monkeypatch.setenv("COMP_LINE", line)
        assert call(train.main, "--shell-completion", "query=bash").out.split() == ["task=fixed_dyck_whole"]
    monkeypatch.delenv("COMP_LINE")
    assert call(train.main, "-sc", "query=bash").status == 0
    assert "complete -o nospace -F _covlab covlab" in call(train.main, "-sc", "install=bash").out
    wrong = call(train.main, "-sc", "query=tcsh")
    assert (wrong.status, wrong.err.count("\n")) == (2, 1)


def test_scripts_of_all_shells(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in SHELLS:
        assert main("--completion", [shell], _configured) == 0
        assert f"--complete {shell}" in capsys.readouterr().out
    assert main("--completion", ["tcsh"], _configured) == 2
    assert "valid: one of bash, zsh, fish" in capsys.readouterr().err
    assert set(candidates("covlab ")) == {f"{name} " for name in commands()}
