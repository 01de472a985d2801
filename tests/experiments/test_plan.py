"""covlab plan: a page for this machine, and one line for what cannot be planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from covlab.plan import target
from experiments import plan

pytestmark = pytest.mark.long

TINY = (
    *("task=dyck", "model.width=8", "model.num_layers=1", "model.num_heads=2", "evaluation.num_examples=4"),
    *("batch_size=4", "steps=10", "tracking.wandb=disabled", "evaluation.table_prompts=0"),
)


@pytest.mark.slow
def test_a_run_is_planned_for_this_machine(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COVLAB_CACHE", str(tmp_path / "cache"))
    ended = call(plan.main, "target=cpu", "seeds=2", "out=pages/plan.md", *TINY)
    assert ended.status == 0, ended.err
    assert (tmp_path / "pages" / "plan.md").read_text(encoding="utf-8") == ended.out
    rows = [line.split("|")[2].strip() for line in ended.out.splitlines() if line.startswith("| train")]
    assert rows == ["initialisation", "optimizer state", "training step", "evaluation"]
    assert "2 seeds on 1 of 1 devices" in ended.out
    assert "- Seeds that fit, in proportion to 2: " in ended.out
    assert "compiling train, training step for cpu:1" in ended.err
    again = call(plan.main, "target=cpu", "seeds=2", "out=pages/plan.md", *TINY)
    assert again.out == ended.out
    assert "compiling" not in again.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["target=v7"], "error: target: 'v7' names no known chip; valid: "),
        (["target=h100"], "error: target: h100:1 needs the compiler of the package jax_plugins.xla_cuda12"),
        (["target=v5e", "claim=figure1", "scale=cpu"], "error: target: v5e:1x1 needs the compiler of"),
        (["target=cpu", "claim=figure9"], "error: claim: 'figure9' is no claim; valid: architectures, dco, "),
        (["target=cpu", "claim=best_of_n"], "error: claim: 'best_of_n' trains nothing; valid: "),
        (["target=cpu", "batch_size=0"], "error: phases.train.batch_size: 0 is not an integer >= 1"),
        (["target=cpu", "scale=cpu"], "error: scale: 'cpu' without a claim; valid: claim=<name>"),
        (["target=cpu", "search=1"], "error: search: 1 is not true or false"),
        (["target=cpu", "search=true", "claim=figure1"], "error: search: true with a claim; valid: false"),
        (["target=cpu", "stepz=3"], "error: stepz"),
        (["target=cpu", "claim=figure1", "scale=cpu", "stepz=3"], "error: stepz"),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    arguments: list[str], line: str, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "_is_installed", lambda module: False)
    ended = call(plan.main, *arguments)
    assert ended.status == 2
    assert ended.err.startswith(line), ended.err
    assert len(ended.err.splitlines()) == 1
