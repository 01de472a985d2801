"""Tasks with classes that are evaluated and never trained on, from the command line to the metrics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from covlab.launch.runs import train_run
from experiments import evaluate
from tracking import read_records

pytestmark = pytest.mark.long

SMALL = (
    "model=gpt_tiny", "model.width=16", "model.num_layers=1", "model.num_heads=2", "steps=4", "batch_size=8",
    "evaluation.schedule.every=4", "evaluation.num_examples=16", "evaluation.table_prompts=2",
    "tracking.wandb=disabled", "tracking.figures=false", "tracking.progress=false",
)  # fmt: skip
TASKS = {
    "group_word": (["task.group=z2", "task.length=5", "task.longer=[8,12]"], ["length_3_5", "length_9_12"]),
    "group_word running": (
        ["task.group=s3", "task.answer=running", "task.noise=0.1", "task.length=3", "task.longer=[5]"],
        ["length_3_3", "length_4_5"],
    ),
    "sorting": (["task.length=4", "task.longer=[7]", "task.num_symbols=5"], ["length_3_4", "length_5_7"]),
    "modular_addition": (["task.modulus=11", "task.fraction=0.3"], ["train", "held_out"]),
    "text": (["task.context=16", "task.continuation=2"], ["train", "held_out"]),
}
POINT_MASS = ("group_word", "sorting", "modular_addition", "text")


@pytest.mark.parametrize("name", TASKS)
def test_every_class_has_its_metrics(
    name: str, compose_config: Callable[..., Any], call: Callable[..., Any], tmp_path: Path
) -> None:
    overrides, classes = TASKS[name]
    path = tmp_path / "runs" / "train" / "one"
    config = compose_config("train", f"task={name.split()[0]}", *overrides, *SMALL)
    assert train_run(config, path).state == "complete"
    last = [row for row in read_records(path / "metrics.jsonl") if "eval/kl" in row][-1]
    for group in classes:
        for metric in ("kl", "cov/2", "accuracy"):
            assert f"eval/{group}/{metric}" in last
    # With noise responses are not enumerated, and Pass@N is estimated from samples.
    assert ("eval/pass/1" in last) == (name in POINT_MASS)
    assert ("eval/sampled_pass/1" in last) == (name not in POINT_MASS)
    # The mixture is the class that is trained on.
    assert last[f"eval/{classes[0]}/kl"] == pytest.approx(last["eval/kl"], rel=1e-6)
    if name in ("sorting", "group_word running"):
        # Evaluated alike.
        return
    ended = call(evaluate.main, f"run={path}", "num_examples=8", "num_samples=0", "out=again")
    assert ended.status == 0, ended.err
    document = json.loads((path / "evaluations" / "again.json").read_text())
    measured = document["checkpoints"][0]["seeds"]["0"]
    assert {f"{group}/accuracy" for group in classes} <= set(measured)
