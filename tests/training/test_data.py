"""Batches of a training step."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest
from oracles.toy import ToyTask

from covlab.testing.statistics import chi_square_p
from models import GPT
from tasks import LayeredGraph, stream
from training import CrossEntropy, EvaluationSchedule, Phase
from training.batch_loss import batch_loss
from training.feed import batch_of_step
from training.optimizers import sgd
from training.sources import demonstrations

TASK = LayeredGraph(depth=1, width=2, branching=1, num_ids=60)
FRESH = Phase(
    name="fresh",
    task=TASK,
    objective=CrossEntropy(),
    optimizer=sgd(steps=10),
    steps=10,
    batch_size=16,
    dataset_size=None,
    schedule=EvaluationSchedule(),
    log_every=5,
)
STEPS = (0, 1, 2, 3)
FIXED = dataclasses.replace(FRESH, name="fixed", dataset_size=7)


@functools.cache
def feed(phase: Phase) -> Any:
    return jax.jit(jax.vmap(lambda seed, step: batch_of_step(phase, seed, step), in_axes=(None, 0)))


def batches(phase: Phase, seed: int, steps: tuple[int, ...]) -> Any:
    """All examples of these steps, flat."""
    found = feed(phase)(np.uint32(seed), np.asarray(steps))
    return jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:]), found)


def prompts(examples: Any) -> set[tuple[int, ...]]:
    return {tuple(prompt) for prompt in examples.prompt.tolist()}


@pytest.mark.long
def test_a_data_set_is_fixed_and_all_of_it_is_reached() -> None:
    data = stream(3, "train", "fixed", "data")
    own = jax.jit(jax.vmap(lambda i: TASK.sample(jax.random.fold_in(data, i))))(np.arange(7))
    seen = batches(FIXED, 3, tuple(range(20)))
    assert len(seen.prompt) == 320
    expected = {(tuple(p), tuple(r)) for p, r in zip(own.prompt.tolist(), own.response.tolist(), strict=True)}
    assert len(expected) == 7
    assert {
        (tuple(p), tuple(r)) for p, r in zip(seen.prompt.tolist(), seen.response.tolist(), strict=True)
    } == expected


@pytest.mark.long
def test_fresh_examples_never_repeat_between_steps_seeds_and_phases() -> None:
    streams = [
        batches(FRESH, 0, STEPS),
        batches(FRESH, 1, STEPS),
        batches(dataclasses.replace(FRESH, name="other"), 0, STEPS),
    ]
    found = [prompts(examples) for examples in streams]
    assert [len(one) for one in found] == [64, 64, 64]
    assert len(set.union(*found)) == 192


def test_a_step_has_its_batch_whatever_came_before() -> None:
    in_order, turned = batches(FRESH, 0, STEPS), batches(FRESH, 0, STEPS[::-1])
    by_step = turned.prompt.reshape(4, 16, -1)[::-1]
    np.testing.assert_array_equal(in_order.prompt.reshape(4, 16, -1), by_step)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"steps": -1}, "phases.fresh.steps: -1 is not an integer >= 0"),
        ({"batch_size": 0}, "phases.fresh.batch_size: 0 is not an integer >= 1"),
        ({"log_every": 2.5}, "phases.fresh.log_every: 2.5 is not an integer >= 1"),
        ({"dataset_size": 0}, "phases.fresh.dataset_size: 0 is neither null nor an integer >= 1"),
    ],
)
def test_bad_phases_are_refused_in_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="phases") as refused:
        dataclasses.replace(FRESH, **options)
    assert str(refused.value) == line


def test_boundaries_are_evaluations_and_records_on_an_absolute_grid() -> None:
    phase = dataclasses.replace(FRESH, steps=11, log_every=5, schedule=EvaluationSchedule(every=4))
    assert phase.boundaries == (0, 4, 5, 8, 10, 11)


MIXED = ToyTask(easy=0.9)
RARE_OFTEN = dataclasses.replace(FRESH, name="rare", task=MIXED, class_proposal={"hard": 0.75, "easy": 0.25})


def test_a_proposal_draws_rare_classes_more_often_and_weighs_them_less() -> None:
    drawn = batches(RARE_OFTEN, 0, tuple(range(250))).group
    assert chi_square_p(drawn.tolist(), {0: 0.25, 1: 0.75}) > 1e-3
    assert chi_square_p(drawn.tolist(), {0: 0.9, 1: 0.1}) < 1e-6
    assert RARE_OFTEN.class_weights == pytest.approx((0.9 / 0.25, 0.1 / 0.75))
    assert FRESH.class_weights is None


@pytest.mark.long
def test_weighted_losses_have_the_mixtures_expectation() -> None:
    """E over q of p/q times a class's loss is E over p: by class means of one large batch, exactly."""
    model = GPT(vocab_size=6, prompt_length=3, response_length=2, num_layers=1, num_heads=1, width=8)
    params = jax.jit(model.init)(stream(0, "init"))
    examples = demonstrations(jax.jit(jax.vmap(MIXED.sample))(jax.random.split(stream(0, "batch"), 64)))
    scored = jax.jit(lambda own, weights: batch_loss(model, CrossEntropy(), params, own, weights))

    def loss(keep: np.ndarray, weights: tuple[float, ...] | None) -> float:
        return float(scored(jax.tree.map(lambda leaf: leaf[keep], examples), weights))

    classes = np.asarray(examples.group)
    easy, hard = (np.flatnonzero(classes == group) for group in (0, 1))
    assert min(len(easy), len(hard)) >= 3
    by_class = np.array([loss(easy, None), loss(hard, None)])
    chosen = np.concatenate([easy[:1], hard[:3]])  # a batch in the proposal's proportions
    weighted = loss(chosen, RARE_OFTEN.class_weights)
    expected = 0.9 * loss(easy[:1], None) + 0.1 * loss(hard[:3], None)
    assert weighted == pytest.approx(expected, rel=1e-5)
    assert abs(by_class[0] - by_class[1]) > 1e-4, (
        "the classes' losses must differ for this test to see anything"
    )


@pytest.mark.parametrize(
    ("proposal", "line"),
    [
        ({"easy": 1.0}, " is neither null nor a probability for each of easy, hard"),
        ("uniform", "'uniform' is neither null nor a probability for each of easy, hard"),
        ({"easy": 1.0, "hard": 0.0}, "phases.rare.class_proposal.hard: 0.0 is not a number in"),
        ({"easy": 0.5, "hard": 0.6}, "sum to 1.1, not to 1"),
    ],
)
def test_a_proposal_that_is_no_distribution_over_the_classes_is_refused(proposal: Any, line: str) -> None:
    with pytest.raises(ValueError, match=r"phases\.rare\.class_proposal") as refused:
        dataclasses.replace(RARE_OFTEN, class_proposal=proposal)
    assert line in str(refused.value)
