from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.ledger import COLUMNS, HOW_TO, collect, main, markdown, parse
from experiments.verdict import Check, Verdict


def write(
    folder: Path, claim: str = "alpha", scale: str = "cpu", started: str = "2026-01-01", **changes
) -> Path:
    fields = {
        "source": "Paper, section 1",
        "checks": (Check("score", 0.75, (0.5, 1.0), ">= 0.5", True),),
        "seeds": (0, 1, 2, 3),
        "wall_seconds": 1.0,
        "hardware": {"cpu": "A CPU", "cores": 2, "memory_gib": 8.0, "accelerators": []},
        "command": f"python -m experiments.{claim} scale={scale}",
        "versions": {"python": "3.11", "jax": "0.10", "covlab": "0.1"},
    }
    verdict = Verdict(claim=claim, scale=scale, started=started, **fields | changes)
    return verdict.write(folder / "verdict.json")


def run(tmp_path: Path) -> int:
    return main(
        [f"runs={tmp_path / 'runs'}", f"results={tmp_path / 'results'}", f"out={tmp_path / 'claims.md'}"]
    )


def test_newest_verdict_of_each_claim_and_scale_in_order(tmp_path):
    write(tmp_path / "runs" / "b" / "1", "beta", started="2026-01-05T10:00:00+00:00")
    write(tmp_path / "runs" / "b" / "2", "beta", started="2026-01-05T11:30:00+02:00")
    write(tmp_path / "results" / "a-paper", "alpha", "paper", "2026-01-02")
    write(tmp_path / "runs" / "a", "alpha", "cpu", "2026-01-03")
    verdicts, warnings = collect((tmp_path / "runs", tmp_path / "results", tmp_path / "absent"))
    assert [(v.claim, v.scale, v.started) for v in verdicts] == [
        ("alpha", "cpu", "2026-01-03"),
        ("alpha", "paper", "2026-01-02"),
        ("beta", "cpu", "2026-01-05T10:00:00+00:00"),
    ]
    assert warnings == []


def test_a_tie_goes_to_the_last_path_and_a_file_counts_once(tmp_path):
    write(tmp_path / "runs" / "1", seeds=(1,))
    write(tmp_path / "runs" / "2", seeds=(2,))
    verdicts, _ = collect((tmp_path / "runs", tmp_path / "runs" / "2", tmp_path))
    assert [v.seeds for v in verdicts] == [(2,)]


def test_markdown_row_states_every_column(tmp_path):
    checks = (
        Check("score", 0.75, (0.5, 1.0), ">= 0.5", True),
        Check("gap", None, None, "lower end of the interval > 0", False),
    )
    write(tmp_path / "runs", checks=checks)
    text = markdown(collect((tmp_path,))[0])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == f"| {' | '.join(COLUMNS)} |"
    assert [cell.strip() for cell in lines[2].strip("|").split(" | ")] == [
        "alpha",
        "Paper, section 1",
        "cpu",
        "1. score: 0.75 [0.5, 1]<br>2. gap: —",
        "1. &gt;= 0.5 (passed)<br>2. lower end of the interval &gt; 0 (not passed)",
        "does not hold",
        "4",
        "A CPU, 2 cores, 8.0 GiB",
        "python -m experiments.alpha scale=cpu",
        "2026-01-01",
    ]


def test_headline_is_three_checks_and_every_failed_one(tmp_path):
    checks = [Check(f"c{i}", float(i), None, f"< {i + 1}", True) for i in range(6)]
    checks[4] = Check("c4", 4.0, None, "< 1", False)
    write(tmp_path, checks=tuple(checks))
    text = markdown(collect((tmp_path,))[0])
    assert "1. c0: 0<br>2. c1: 1<br>3. c2: 2<br>4. c4: 4<br>and 2 more, passed" in text
    assert "c3" not in text
    assert "c5" not in text


def test_text_cannot_break_the_table(tmp_path):
    write(tmp_path, source="a | b <script>\nc & d")
    assert "| a \\| b &lt;script&gt; c &amp; d |" in markdown(collect((tmp_path,))[0])


def test_writing_twice_gives_the_same_bytes(tmp_path, capsys):
    write(tmp_path / "runs")
    assert run(tmp_path) == 0
    first = (tmp_path / "claims.md").read_bytes()
    assert run(tmp_path) == 0
    assert (tmp_path / "claims.md").read_bytes() == first
    shown = capsys.readouterr().out
    for word in ("alpha", "score", "0.75 [0.5, 1]", "holds", "A CPU"):
        assert word in shown


def test_a_broken_file_is_named_and_the_others_are_shown(tmp_path, capsys):
    write(tmp_path / "runs" / "good")
    broken = tmp_path / "runs" / "bad" / "verdict.json"
    broken.parent.mkdir()
    broken.write_text('{"claim": 3}')
    assert run(tmp_path) == 0
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert warning.startswith("warning: ")
    assert str(broken) in warning
    assert "alpha" in (tmp_path / "claims.md").read_text()


def test_no_verdict_says_how_to_make_one_and_keeps_the_old_table(tmp_path, capsys):
    (tmp_path / "claims.md").write_text("old")
    assert run(tmp_path) == 0
    assert capsys.readouterr().out.strip() == HOW_TO
    assert (tmp_path / "claims.md").read_text() == "old"


def test_settings_have_defaults():
    assert parse([]) == {"runs": "runs", "results": "results", "out": "docs/claims.md"}
    assert parse(["out=x=y.md"])["out"] == "x=y.md"


@pytest.mark.parametrize("argument", ["rnus=x", "runs", "out=", "--help"])
def test_a_bad_argument_is_one_line_and_status_2(argument, capsys):
    assert main([argument]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert argument in error
    assert "valid: runs=PATH, results=PATH, out=PATH" in error


def test_an_output_that_cannot_be_written_is_one_line_and_status_2(tmp_path, capsys):
    write(tmp_path / "runs")
    (tmp_path / "file").write_text("")
    assert (
        main([f"runs={tmp_path / 'runs'}", f"results={tmp_path}", f"out={tmp_path / 'file' / 'claims.md'}"])
        == 2
    )
    assert capsys.readouterr().err.startswith("error: out: ")


def test_the_module_is_a_command(tmp_path):
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "experiments.ledger", f"runs={tmp_path}", f"results={tmp_path}"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, HOW_TO)
