"""Reinforcement learning from a run's checkpoint, and as a phase of experiments.train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from omegaconf import DictConfig

from covlab.launch.build import build
from covlab.launch.trained import open_run
from experiments import train_rl
from tracking import load_run
from training import CrossEntropy, OnPolicy, PolicyGradient, TailSFT

pytestmark = pytest.mark.long

SMALL = (
    "steps=4", "batch_size=4", "log_every=2", "evaluation.num_examples=4",
    "evaluation.schedule.every=4", "evaluation.table_prompts=0", "tracking.wandb=disabled",
    "tracking.figures=false", "tracking.progress=false",
)  # fmt: skip


@pytest.mark.slow
def test_training_starts_from_the_checkpoint_of_each_seed(
    call: Callable[..., Any], tiny_run: Path, tmp_path: Path
) -> None:
    asked = (f"run={tiny_run}", "checkpoint_of=finetune:10", "name=r", "optimizer.learning_rate=1e-30")
    ended = call(train_rl.main, *asked, "objective.kl_weight=0.1", *SMALL)
    assert ended.status == 0, ended.err
    path = tmp_path / "runs" / "rl" / "r"
    config = yaml.safe_load((path / "config.yaml").read_text())
    sha256 = open_run(tiny_run).digest("finetune", 10)
    assert config["base"] == {"run": str(tiny_run), "phase": "finetune", "step": 10, "sha256": sha256}
    assert (config["seed"], config["seeds"]) == (0, 2)
    theirs, own = open_run(tiny_run).parameters("finetune", 10), open_run(path).parameters("train", 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-20), own, theirs)
    records = load_run(path)
    assert {"train/reward", "eval/pass/1", "eval/cov/2"} <= set(records.columns)
    # And on from there, with other settings and one of the seeds.
    asked = (f"run={path}", "name=again", "objective=rloo", "source.updates_per_batch=2", "seed=1")
    ended = call(train_rl.main, *asked, "task_overrides={mixture: {G1: 0.0, G2: 1.0, G3: 0.0}}", *SMALL)
    assert ended.status == 0, ended.err
    again = open_run(tmp_path / "runs" / "rl" / "again")
    assert again.setup.seeds == (1,)
    assert again.setup.phases[0].task.groups == ("G2",)


@pytest.mark.slow
def test_supervised_fine_tuning_starts_from_a_checkpoint_too(
    call: Callable[..., Any], tiny_run: Path, tmp_path: Path
) -> None:
    """Its base is the reference of an objective that compares with the start."""
    asked = (f"run={tiny_run}", "checkpoint_of=finetune:10", "name=r", "source=demonstrations")
    tail = ("objective=tail_sft", "objective.schedule=ramp", "optimizer.learning_rate=1e-30")
    ended = call(train_rl.main, *asked, *tail, "dataset_size=8", *SMALL)
    assert ended.status == 0, ended.err
    path = tmp_path / "runs" / "rl" / "r"
    theirs, own = open_run(tiny_run).parameters("finetune", 10), open_run(path).parameters("train", 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-20), own, theirs)
    phase = open_run(path).setup.phases[0]
    assert phase.objective == TailSFT(schedule="ramp")
    assert phase.source.model == open_run(tiny_run).setup.model
    assert "train/reward" not in load_run(path).columns


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "run: none is named; valid: run=<run directory>, whose checkpoint"),
        (["run=nowhere"], "nowhere/config.yaml"),
        (["run={run}", "checkpoint_of=finetune:3"], "checkpoints: finetune:3 asked of"),
        (["run={run}", "seeds=5"], "seed: 2 is not in"),
        (["run={run}", "task=layered_graph"], "task: is the run's; valid: no task, or task_overrides"),
        (["run={run}", "model=gpt_tiny"], "model: is the run's; valid: no model"),
        (["run={run}", "task_overrides={depth: 3}"], "run: "),
        (["run={run}", "source.per_prompt=1"], "source.per_prompt: 1 is not an integer >= 2"),
        (
            ["run={run}", "objective.clip=2"],
            "objective.clip: 2 is neither null nor a number strictly",
        ),
        (["run={run}", "source=rollouts"], "PolicyGradient learns from responses of the model in training"),
    ],
)
def test_bad_requests_are_refused_in_one_line(
    overrides: list[str], message: str, call: Callable[..., Any], tiny_run: Path, tmp_path: Path
) -> None:
    named = [text.replace("{run}", str(tiny_run)) for text in overrides]
    ended = call(train_rl.main, *named, *SMALL)
    assert ended.status == 2
    assert message in ended.err, ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_phase_of_experiments_train_may_be_of_another_kind(
    compose_config: Callable[..., DictConfig], tiny: tuple[str, ...]
) -> None:
    """Another class takes the run's place with its own fields; the optimizer's schedule counts updates."""
    source = "source:{_target_:training.OnPolicy,per_prompt:4,updates_per_batch:3}"
    objective = "objective:{_target_:training.PolicyGradient,kl_weight:0.1}"
    phases = f"+phases={{pretrain:{{}},rl:{{{source},{objective},optimizer:{{warmup:30}}}}}}"
    setup = build(compose_config("train", *tiny, "steps=20", phases))
    first, second = setup.phases
    assert isinstance(first.objective, CrossEntropy)
    assert second.objective == PolicyGradient(kl_weight=0.1)
    assert second.source == OnPolicy(per_prompt=4, updates_per_batch=3)
    wrong = compose_config("train", *tiny, phases.replace("kl_weight:0.1", "normalisation:token"))
    with pytest.raises(ValueError, match=r"phases\.rl\.objective\.normalisation: no such field; valid are "):
        build(wrong)
