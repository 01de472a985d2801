"""Value functions through the training program: exact values are learned, with one base model per seed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.toy import TabularModel, ToyTask, class_blind_params

from metrics.evaluators import make_held_out
from metrics.values import ValueEvaluator
from models import GPT, Model
from tasks.tabular import Tabular
from training import EvaluationSchedule, Phase, Rollouts, ValueRegression, make_program
from training.optimizers import adamw

pytestmark = pytest.mark.long


def trained(
    model: Model, phase: Phase, evaluator: ValueEvaluator, seeds: tuple[int, ...], fixed: Any, devices: int
) -> Any:
    """(metrics of every seed before training, after it)."""
    held_out = make_held_out(phase.task, 16, 16, 0)
    program = make_program(model, phase, (evaluator,), held_out, devices)
    array = jnp.asarray(seeds, jnp.uint32)
    state = program.begin(program.init(array), jnp.full(len(seeds), -1, jnp.int32))

    def metrics() -> list[dict[str, float]]:
        scores = jax.tree.map(np.asarray, program.score(state.params, fixed)["value"])
        return [
            dict(evaluator.reduce({k: v[i][: held_out.num_examples] for k, v in scores.items()}, held_out))
            for i in range(len(seeds))
        ]

    before = metrics()
    state, _ = program.run(state, array, 0, phase.steps, fixed)
    return before, metrics()


def test_regression_on_rollouts_finds_the_exact_values() -> None:
    task = Tabular(length=3, num_symbols=2, num_prompts=1)
    optimizer = adamw(steps=400, learning_rate=1e-2, schedule="cosine")
    phase = Phase(
        "v", task, ValueRegression(), optimizer, 400, 64, None, EvaluationSchedule(), 400,
        source=Rollouts(per_prompt=4),
    )  # fmt: skip
    model = GPT(task.vocab_size, task.prompt_length, 3, num_layers=1, num_heads=1, width=16)
    before, after = trained(model, phase, ValueEvaluator(samples=16), (1,), (), 1)
    assert before[0]["rmse"] > 0.2
    assert after[0]["rmse"] < 0.03
    assert after[0]["excess"] < 0
    assert after[0]["reward"] == before[0]["reward"]


def test_every_seed_learns_from_its_own_base_model() -> None:
    """Seed 0's base model repeats the word, seed 1's never does: V = 1 and 0 on easy prompts."""
    base = TabularModel()
    rows = [class_blind_params(p, 1 - p, base) for p in (1 - 1e-6, 1e-6)]
    fixed = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    phase = Phase(
        "v", ToyTask(easy=0.999), ValueRegression("log"), adamw(steps=60, learning_rate=0.2), 60, 8, None,
        EvaluationSchedule(), 60, source=Rollouts(base),
    )  # fmt: skip
    _, after = trained(base, phase, ValueEvaluator(base, samples=2), (0, 1), fixed, 2)
    assert [seed["easy/reward"] for seed in after] == [1.0, 0.0]
    assert max(seed["easy/squared_error"] for seed in after) < 0.01
