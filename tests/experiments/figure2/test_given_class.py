"""Figure 2 by pi_D given the class, on a model whose answer is known: it guesses."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from covlab.claims.matrices import RunMatrices
from covlab.launch.settings import EvaluationSettings
from experiments.figure2.checks import GUESSES
from experiments.figure2.measure import closed_forms, given_class
from tasks import LayeredGraph

PROBS = {"chain": 0.94, "xor": 0.05, "uniform": 0.01}
LN2 = math.log(2)


def test_given_the_class_eight_layers_are_as_any_other() -> None:
    for depth in (6, 8, 10):
        found = closed_forms(PROBS, depth, (16,), given_class=True)[GUESSES]
        assert found.kl == pytest.approx(0.05 * depth / 2 * LN2)
        assert found.cov == {16.0: pytest.approx(0.05 if depth >= 8 else 0)}


def guesser(depth: int, enumerated: int) -> tuple[LayeredGraph, EvaluationSettings, RunMatrices]:
    """A run whose two seeds take either node of every branching layer with probability 1/2."""
    task = LayeredGraph(depth=depth, width=2, num_ids=2 + 2 * depth, mixture=PROBS, max_enumerated=enumerated)
    evaluation = EvaluationSettings(num_examples=20, batch_size=60)
    held_out = evaluation.held_out(task)
    joint = held_out.weights[:, None] * held_out.candidate_weight
    kept = joint > 0
    layers = held_out.flat((held_out.batches.example.latent.passable >= 0).all(-1).sum(-1))
    matrices = RunMatrices(
        phase="train",
        steps=(0, 1),
        seeds=(0, 1),
        diverged=(),
        log_probs=np.broadcast_to(
            -LN2 * np.broadcast_to(layers[:, None], kept.shape)[kept], (2, 2, kept.sum())
        ),
        log_pi=held_out.log_pi[kept],
        weights=joint[kept] / joint.sum(),
        groups=np.broadcast_to(held_out.groups[:, None], kept.shape)[kept],
        log_prob_correct=None,
        prompt_weights=held_out.weights,
    )
    return task, evaluation, matrices


@pytest.mark.long
@pytest.mark.parametrize("enumerated", [0, 64])
@pytest.mark.parametrize("depth", [6, 8])
def test_a_guesser_given_the_class_has_the_closed_form(depth: int, enumerated: int) -> None:
    *run, matrices = guesser(depth, enumerated)
    found = given_class(*run, matrices)
    assert found is not None
    assert found.guesses.kl == pytest.approx(0.05 * depth / 2 * LN2)
    np.testing.assert_allclose(found.kl, np.full((2, 2), found.guesses.kl), rtol=1e-5)
    # The paper's N is the ratio of a fair guess at H = 8; given the prompt alone the ratio there is 13.5.
    np.testing.assert_allclose(found.cov, np.full((2, 2), 0.05 if depth == 8 else 0.0), atol=1e-9)
    assert found.guesses.cov == {16.0: pytest.approx(found.cov[0, 0])}
    np.testing.assert_array_equal(matrices.coverage((16,))[16.0], 0)


def test_a_held_out_set_of_an_earlier_version_is_not_scored_given_the_class() -> None:
    *run, matrices = guesser(8, 0)
    assert given_class(*run, dataclasses.replace(matrices, log_pi=matrices.log_pi + 0.1)) is None
    fewer: Any = {"log_pi": matrices.log_pi[1:], "log_probs": matrices.log_probs[..., 1:]}
    assert given_class(*run, dataclasses.replace(matrices, **fewer)) is None
