"""`experiments.train_value` and `experiments.decode`: a value function for a run's model, and its use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml

from covlab.launch.trained import open_run
from experiments import decode, train_value
from tracking import load_run

pytestmark = pytest.mark.long

SMALL = (
    "steps=4", "batch_size=4", "log_every=4", "evaluation.num_examples=2", "evaluation.schedule.every=4",
    "tracking.wandb=disabled", "tracking.figures=false", "tracking.progress=false",
)  # fmt: skip


@pytest.mark.slow
def test_a_value_function_is_trained_and_guides_a_decoder(
    call: Callable[..., Any], tiny_run: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_run, base)
    ended = call(train_value.main, f"run={base}", "name=v", "optimizer.learning_rate=1e-30", *SMALL)
    assert ended.status == 0, ended.err
    path = tmp_path / "runs" / "value" / "v"
    config = yaml.safe_load((path / "config.yaml").read_text())
    sha256 = open_run(base).digest("finetune", 20)
    assert config["base"] == {"run": str(base), "phase": "finetune", "step": 20, "sha256": sha256}
    assert (config["seed"], config["seeds"]) == (0, 2)
    records = load_run(path)
    assert {"eval/squared_error", "eval/excess", "eval/calibration_error"} <= set(records.columns)
    # With next to no learning rate the network still is the base model it started from, seed by seed.
    theirs, own = open_run(base).parameters("finetune", 20), open_run(path).parameters("train", 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-20), own, theirs)
    asked = ("num_prompts=2", "samples=2", "batch_size=8", "pass_ns=[1,2]", "out=answer", "show=1")
    ended = call(decode.main, f"run={base}", f"value={path}", "decoding=action_rejection", *asked)
    assert ended.status == 0, ended.err
    assert "Samples of the first seed" in ended.out
    content = json.loads((base / "evaluations" / "answer.json").read_text())
    assert set(content["seeds"]) == {"0", "1"}
    found = content["seeds"]["0"]
    assert found["pass/1"]["estimate"] == pytest.approx(found["accuracy"]["estimate"])
    assert found["pass/2"]["estimate"] >= found["pass/1"]["estimate"]
    assert found["tokens"]["estimate"] > 0
    assert "G1/queries" in found


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "run: none is named; valid: run=<run directory>"),
        (["run=nowhere"], "nowhere/config.yaml"),
        (["run={run}", "checkpoint_of=finetune:3"], "checkpoints: finetune:3 asked of"),
        (["run={run}", "seeds=5"], "seed: 2 is not in"),
        (["run={run}", "evaluation.table_prompts=2"], "evaluation.table_prompts: 2; a value function"),
        (["run={run}", "task=layered_graph"], "task: is the run's"),
        (["run={run}", "model=gpt_tiny"], "model: another one than the base model's"),
        (["run={run}", "initial=random"], "initial: 'random' is not one of base, fresh"),
        (["run={run}", "task_overrides={depth: 3}"], "run: "),
        (["run={run}", "source.per_prompt=0"], "source.per_prompt: 0 is not an integer >= 1"),
        (["run={run}", "objective.loss=hinge"], "objective.loss: 'hinge' is not one of squared, log"),
    ],
)
def test_bad_value_runs_are_refused_in_one_line(
    overrides: list[str], message: str, call: Callable[..., Any], tiny_run: Path, tmp_path: Path
) -> None:
    named = [text.replace("{run}", str(tiny_run)) for text in overrides]
    ended = call(train_value.main, *named, *(each for each in SMALL if "table" not in each))
    assert ended.status == 2
    assert message in ended.err, ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["run=null"], "run: none is named"),
        (["samples=0"], "samples: 0 is not an integer >= 1"),
        (["samples=2", "pass_ns=[3]"], "pass_ns: [3]; valid: integers from 1 to samples = 2"),
        (["value=nowhere"], "value: 'nowhere' is neither a run directory nor one of exact, rollouts"),
        (["value={run}"], "is no value function; valid: a run of experiments.train_value"),
        (["corruption=-1"], "corruption: -1 is not a number >= 0"),
        (["temperature=0"], "temperature: 0 is not a positive number"),
        (["decoding.budget=0"], "budget: 0 is not an integer >= 1"),
        (["checkpoint_of=train:7"], "checkpoints: train:7 asked of"),
        (["seeds=[9]"], "seeds: 9 is not in the run"),
        (["out=a/b"], "out: 'a/b' is not a file name"),
        (["value=exact"], "value: exact; LayeredGraph knows no value function"),
    ],
)
def test_bad_decoding_is_refused_in_one_line(
    overrides: list[str], message: str, call: Callable[..., Any], tiny_run: Path
) -> None:
    named = [text.replace("{run}", str(tiny_run)) for text in overrides]
    ended = call(decode.main, *([] if "run=null" in named else [f"run={tiny_run}"]), *named)
    assert ended.status == 2
    assert message in ended.err, ended.err
    assert ended.err.count("\n") == 1
    assert not (tiny_run / "evaluations").exists()


def test_a_decoder_that_uses_no_values_takes_a_task_without_them(
    tiny_run: Path, compose_config: Callable[..., Any]
) -> None:
    for name in ("ancestral", "outcome_rejection", "test_time_training"):
        decode.check(compose_config("decode", f"run={tiny_run}", f"decoding={name}", "value=exact"))


def test_the_default_pass_at_n_follows_the_number_of_samples(
    tiny_run: Path, compose_config: Callable[..., Any]
) -> None:
    asked = ("decode", f"run={tiny_run}", "decoding=ancestral", "value=constant")
    assert decode.check(compose_config(*asked, "samples=2")).pass_ns == (1,)
    assert decode.check(compose_config(*asked)).pass_ns == (1, 4, 16)
