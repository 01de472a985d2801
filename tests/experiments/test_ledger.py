from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from covlab.claims import running as ledger_run
from covlab.claims.running import chosen_claims, keep, known_claims, run_claims
from covlab.report.verdict import Check, Verdict, VerdictError
from experiments.ledger import (
    COLUMNS,
    HOW_TO,
    MARKS,
    collect,
    head,
    lines,
    main,
    markdown,
    parse,
    with_head,
)


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


def places(tmp_path: Path) -> list[str]:
    return [
        f"runs={tmp_path / 'runs'}",
        f"results={tmp_path / 'results'}",
        f"out={tmp_path / 'claims.md'}",
        f"readme={tmp_path / 'README.md'}",
    ]


def run(tmp_path: Path, *more: str) -> int:
    return main([*places(tmp_path), "write=true", *more])


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
        "1. &gt;= 0.5 (passed)<br>2. lower end of the interval &gt; 0 (open)",
        "open<br>1 check is open; more seeds alone may not decide it.",
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
    assert "alpha (cpu)  holds:   1 of 1 checks, 4 seeds, 2026-01-01\n" in capsys.readouterr().out


def test_without_being_asked_it_prints_one_line_per_claim_and_writes_nothing(tmp_path, capsys, monkeypatch):
    failed = Check("gap", None, None, "> 0", False)
    write(tmp_path / "runs" / "a", scale="cpu with\nseed=3", checks=tuple([failed] * 40))
    write(tmp_path / "runs" / "b", "beta")
    (tmp_path / "README.md").write_text(f"{MARKS[0]}\n{MARKS[1]}\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(places(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "alpha (cpu with seed=3)  open:    0 of 40 checks, 4 seeds, 2026-01-01",
        "beta (cpu)               holds:   1 of 1 checks, 4 seeds, 2026-01-01",
    ]
    monkeypatch.setattr(ledger_run.subprocess, "run", pretend({"figure1": 0}, []))
    assert main([*places(tmp_path), "run=figure1"]) == 0
    assert "figure1 (cpu)" in capsys.readouterr().out
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    # What ran lies in its own run directory, and nowhere else.
    own = tmp_path / "runs" / "figure1"
    assert {path: text for path, text in after.items() if own not in path.parents} == before
    assert lines(()) == []


def test_keys_that_every_command_takes_are_taken(tmp_path, capsys):
    write(tmp_path / "runs")
    common = ["tracking.wandb=disabled", "tracking=default", "name=x", "seed=3", "resume=never"]
    assert main([f"root={tmp_path / 'runs'}", f"results={tmp_path / 'none'}", *common]) == 0
    assert capsys.readouterr().out.startswith("alpha (cpu)")


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
    assert parse([]) == {
        "runs": "runs",
        "results": "results",
        "out": "docs/claims.md",
        "readme": "README.md",
        "run": "none",
        "scale": "cpu",
        "write": "false",
    }
    assert parse(["out=x=y.md"])["out"] == "x=y.md"


@pytest.mark.parametrize("argument", ["rnus=x", "runs", "out=", "seed=", "name", "--help"])
def test_a_bad_argument_is_one_line_and_status_2(argument, capsys):
    assert main([argument]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert argument in error
    assert "valid: runs=PATH, results=PATH, out=PATH, readme=PATH, run=RUN, scale=SCALE, write=WRITE" in error


def test_write_is_true_or_false(capsys):
    assert main(["write=yes"]) == 2
    assert capsys.readouterr().err == "error: write: 'yes' is neither true nor false\n"


def test_an_output_that_cannot_be_written_is_one_line_and_status_2(tmp_path, capsys):
    write(tmp_path / "runs")
    (tmp_path / "file").write_text("")
    assert run(tmp_path, f"out={tmp_path / 'file' / 'claims.md'}") == 2
    assert capsys.readouterr().err.startswith("error: out: ")


def test_the_module_is_a_command(tmp_path):
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "experiments.ledger", f"runs={tmp_path}", f"results={tmp_path}"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, HOW_TO)


def test_json_has_every_number(tmp_path):
    write(tmp_path / "runs", title="A title")
    assert run(tmp_path) == 0
    (record,) = json.loads((tmp_path / "results" / "claims.json").read_text())
    assert [record[key] for key in ("claim", "title", "holds", "outcome")] == [
        "alpha",
        "A title",
        True,
        "holds",
    ]
    assert record["checks"] == [
        {
            "name": "score", "measured": 0.75, "interval": [0.5, 1.0], "target": ">= 0.5", "passed": True,
            "state": "passed",
        }
    ]  # fmt: skip


def test_readme_shows_a_line_a_claim_between_its_marks(tmp_path):
    write(tmp_path / "runs" / "a", title="Better | worse")
    write(tmp_path / "runs" / "b", "beta", checks=(), seeds=(3, 5))
    (tmp_path / "README.md").write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    assert run(tmp_path) == 0
    assert run(tmp_path) == 0
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert lines[:2] == ["before", MARKS[0]]
    assert lines[-2:] == [MARKS[1], "after"]
    assert lines[4:-2] == [
        "| Better \\| worse | cpu | holds: 1 of 1 checks | 0-3 | A CPU, 2 cores, 8.0 GiB "
        "| `python -m experiments.alpha scale=cpu` |",
        "| beta | cpu | open: 0 of 0 checks | 3, 5 | A CPU, 2 cores, 8.0 GiB "
        "| `python -m experiments.beta scale=cpu` |",
    ]
    assert head(()).count("\n") == 1


@pytest.mark.parametrize("text", ["no marks", f"{MARKS[0]} only", f"only {MARKS[1]}"])
def test_a_text_without_both_marks_stays(text, tmp_path):
    assert with_head(text, ()) == text


def test_every_claim_of_this_project_is_known():
    known = known_claims("cpu")
    assert {"figure1", "figure2", "path_star", "vgb_delay", "vgb_dyck", "vgb_perturbation"} <= set(known)
    root = Path(__file__).resolve().parents[2]
    assert all((root / "experiments" / name / "__main__.py").exists() for name in known)
    assert chosen_claims("all", "cpu") == known
    assert chosen_claims("vgb_delay,figure1,vgb_delay", "cpu") == ("vgb_delay", "figure1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run=figure9",), "run: 'figure9' is no claim; valid: all, or some of "),
        (("run=all", "scale=huge"), "scale: 'huge'; valid: one of cpu, paper"),
    ],
)
def test_a_claim_or_scale_that_does_not_exist_runs_nothing(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ledger_run.subprocess, "run", lambda *_, **__: pytest.fail("ran"))
    assert run(tmp_path, *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def pretend(statuses: dict[str, int], ran: list[list[str]]):
    def start(command, **_):
        ran.append(command)
        name = command[3].removeprefix("experiments.")
        root = Path(command[-1].removeprefix("root="))
        if statuses[name] == 0:
            write(root / name / "cpu", name)
            figures = root / name / "cpu" / "figures"
            figures.mkdir(exist_ok=True)
            (figures / "new.png").write_bytes(b"new")
        return subprocess.CompletedProcess(command, statuses[name])

    return start


def test_a_failing_claim_stops_no_other_and_is_named(tmp_path, capsys, monkeypatch):
    ran: list[list[str]] = []
    monkeypatch.setattr(ledger_run.subprocess, "run", pretend({"vgb_delay": 1, "figure1": 0}, ran))
    old = tmp_path / "results" / "figure1_cpu"
    old.mkdir(parents=True)
    (old / "old.png").write_bytes(b"old")
    assert run(tmp_path, "run=vgb_delay,figure1") == 1
    assert [command[2:5] for command in ran] == [
        ["covlab", "experiments.vgb_delay", "scale=cpu"],
        ["covlab", "experiments.figure1", "scale=cpu"],
    ]
    assert sorted(path.name for path in old.iterdir()) == ["new.png", "verdict.json"]
    assert not (tmp_path / "results" / "vgb_delay_cpu").exists()
    assert capsys.readouterr().err == "failed: vgb_delay: exit status 1\n"
    assert "figure1" in (tmp_path / "claims.md").read_text()


def test_a_stopped_claim_stops_the_ledger(tmp_path, capsys, monkeypatch):
    ran: list[list[str]] = []
    monkeypatch.setattr(ledger_run.subprocess, "run", pretend({"vgb_delay": 130, "figure1": 0}, ran))
    assert run(tmp_path, "run=vgb_delay,figure1") == 130
    assert len(ran) == 1
    assert capsys.readouterr().err == "stopped; the same command continues\n"


def test_a_claim_that_leaves_no_verdict_is_a_failure_and_changes_nothing(tmp_path, monkeypatch):
    done = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(ledger_run.subprocess, "run", lambda *_, **__: done)
    (failure,) = run_claims(["figure1"], "cpu", tmp_path / "runs", tmp_path / "results")
    assert failure.startswith("figure1: ")
    assert not (tmp_path / "results").exists()


def test_keep_refuses_a_broken_verdict(tmp_path):
    write(tmp_path / "run").write_text("{}")
    with pytest.raises(VerdictError, match="lacks field"):
        keep(tmp_path / "run", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
