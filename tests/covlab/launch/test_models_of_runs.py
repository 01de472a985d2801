"""What a run's model has beyond its own fields: heads that an objective asks for, and fields that a command
replaces after training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from omegaconf import DictConfig

from covlab.launch.base_model import base_parameters, rl_config
from covlab.launch.build import build, plain
from covlab.launch.longer import longer
from covlab.launch.runs import train_run
from covlab.launch.trained import open_run
from experiments import evaluate
from models import MultiTokenGPT, Recursive

Compose = Callable[..., DictConfig]
QUICK = (
    "steps=2", "batch_size=4", "log_every=2", "evaluation.num_examples=4", "evaluation.schedule.every=2",
    "evaluation.table_prompts=0", "tracking.wandb=disabled", "tracking.figures=false",
    "tracking.progress=false", "checkpoint.every_seconds=0",
)  # fmt: skip
AHEAD = ("objective=multi_token", "objective.k=2")


def written(path: Path, config: DictConfig) -> Path:
    (path / "config.yaml").write_text(yaml.safe_dump(plain(config), sort_keys=False))
    return path


def test_the_model_has_the_heads_that_any_phase_asks_for(
    compose_config: Compose, tiny: tuple[str, ...]
) -> None:
    def ahead(*overrides: str) -> int:
        return build(compose_config("train", *tiny, *QUICK, *overrides)).model.ahead

    further = "objective: {_target_: training.MultiToken, k: 3}"
    assert ahead() == 0
    assert ahead(*AHEAD) == 1
    assert ahead("+phases.a={}", "+phases.b={" + further + "}") == 2
    # The model's fields, and so the run's configuration, are those of a run without heads.
    assert "ahead" not in compose_config("train", *tiny, *QUICK, *AHEAD).model
    with pytest.raises(ValueError, match=r"^model: TeacherlessGPT predicts the next token alone") as refused:
        ahead(*AHEAD, "model=gpt_teacherless")
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=r"^phases\.train\.objective: MultiToken predicts 99 tokens at once"):
        ahead("objective=multi_token", "objective.k=99")


@pytest.mark.long
def test_a_run_with_heads_is_trained_evaluated_and_a_base(
    compose_config: Compose, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    assert train_run(compose_config("train", *tiny, *QUICK, *AHEAD), path).state == "complete"
    run = open_run(path)
    phase, step = run.checkpoints(["last"])[0]
    params = run.parameters(phase, step)
    assert len(params["ahead"]) == 1
    asked = compose_config("evaluate", f"run={path}", "num_samples=0", "num_examples=4")
    (result,) = evaluate.measure(asked, run)
    assert all(np.isfinite(of_seed["kl"][""].estimate) for of_seed in result.seeds.values())
    # Whoever starts from the run has the heads too, since they are among the parameters.
    config = rl_config(compose_config("train_rl", f"run={path}", *QUICK))
    setup = build(config)
    assert setup.model.ahead == setup.phases[0].source.model.ahead == 1  # type: ignore[union-attr]
    jax.tree.map(np.testing.assert_array_equal, base_parameters(config, setup), params)
    more = compose_config("train_rl", f"run={path}", *QUICK, "objective=multi_token", "objective.k=3")
    with pytest.raises(
        ValueError, match=r"^objective: predicts 3 tokens at once; training starts from .*"
    ) as no:
        base_parameters(rl_config(more), build(rl_config(more)))
    assert str(no.value).endswith("whose model predicts 2; valid: at most as many")


def test_a_phase_that_asks_for_heads_is_not_added_to_a_run_without(
    compose_config: Compose, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    written(tmp_path, compose_config("train", *tiny, *QUICK, "+phases.train={}"))
    later = "+phases.later={objective: {_target_: training.MultiToken, k: 2}}"
    config = compose_config("train", *tiny, *QUICK, "+phases.train={}", later)
    with pytest.raises(ValueError, match=r"^phases: predict 2 tokens at once; the model of .* for 1; valid:"):
        longer(tmp_path, plain(config), build(config))


def test_fields_that_change_no_parameter_are_replaced_after_training(
    compose_config: Compose, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    small = ("model=recursive", "model.width=16", "model.num_heads=2", "model.num_layers=1")
    config = compose_config("train", *QUICK, *small, "model.test_recursions=4")
    run = open_run(written(tmp_path, config))
    assert isinstance(run.setup.model, Recursive)
    assert run.setup.model.num_recursions == 3

    def recursions(overrides: dict[str, Any]) -> int:
        model = run.with_model(overrides).model
        assert isinstance(model, Recursive)
        return model.num_recursions

    assert recursions({}) == 4
    assert recursions({"test_recursions": 6}) == 6
    assert recursions({"test_recursions": None}) == 3
    assert run.with_model({}) is run
    for overrides, line in (
        ({"width": 32}, r"model_overrides: {'width': 32} make parameter .*float32\[.*; valid: fields that"),
        (
            {"test_recursions": 0},
            r"model_overrides: model\.test_recursions: 0 is neither null nor an integer >= 1",
        ),
        ({"depth": 3}, r"model_overrides\.depth: no such field"),
        ({"vocab_size": 3}, r"model_overrides\.vocab_size: is the task's; valid: task_overrides"),
    ):
        with pytest.raises(ValueError, match="^" + line) as refused:
            run.with_model(overrides)
        assert "\n" not in str(refused.value)


def test_a_gpt_takes_another_number_type_after_training(
    compose_config: Compose, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    run = open_run(written(tmp_path, compose_config("train", *tiny, *QUICK, *AHEAD)))
    model = run.with_model({"dtype": "bfloat16"}).model
    assert isinstance(model, MultiTokenGPT)
    assert (model.dtype, model.ahead) == ("bfloat16", 1)
