from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import token_log_probs
from training import ConfidencePenalty, CrossEntropy, LabelSmoothing, Objective, Scores
from training.regularised import entropy

LOGITS = np.array(
    [[[0.3, -1.0, 2.0, 0.5], [0.0, 0.0, 0.0, 0.0]], [[5.0, -5.0, 1.0, 0.0], [9.0, 9.0, -9.0, 9.0]]],
    np.float32,
)
RESPONSES = np.array([[2, 1], [1, 0]])
MASK = np.array([[True, True], [True, False]])


def scores(logits: jax.Array | np.ndarray) -> Scores:
    log_probs = jax.nn.log_softmax(jnp.asarray(logits))
    return Scores(token_log_probs(jnp.asarray(logits), RESPONSES), MASK, distributions=log_probs)


def positions() -> list[list[tuple[int, list[float]]]]:
    """(token, distribution) of the positions that count, in plain Python."""
    found = []
    for row, tokens, mask in zip(LOGITS.tolist(), RESPONSES.tolist(), MASK.tolist(), strict=True):
        own = []
        for logits, token, counts in zip(row, tokens, mask, strict=True):
            total = math.fsum(math.exp(each) for each in logits)
            if counts:
                own.append((token, [math.exp(each) / total for each in logits]))
        found.append(own)
    return found


def smoothed(smoothing: float) -> list[float]:
    """Cross-entropy with the target written out."""
    found = []
    for own in positions():
        loss = 0.0
        for token, p in own:
            target = [smoothing / len(p) + (1 - smoothing) * (a == token) for a in range(len(p))]
            loss -= math.fsum(q * math.log(each) for q, each in zip(target, p, strict=True))
        found.append(loss)
    return found


def penalised(weight: float) -> list[float]:
    found = []
    for own in positions():
        loss = 0.0
        for token, p in own:
            loss += -math.log(p[token]) + weight * math.fsum(each * math.log(each) for each in p)
        found.append(loss)
    return found


@pytest.mark.long
@pytest.mark.parametrize(
    ("objective", "by_hand"),
    [
        (LabelSmoothing(smoothing=0.25), smoothed(0.25)),
        (ConfidencePenalty(weight=0.5), penalised(0.5)),
        (LabelSmoothing(smoothing=0), smoothed(0)),
        (ConfidencePenalty(weight=0), penalised(0)),
    ],
)
def test_losses_of_a_plain_oracle(objective: Objective, by_hand: list[float]) -> None:
    np.testing.assert_allclose(objective(scores(LOGITS)), by_hand, rtol=1e-5)
    by_token = type(objective)(**{**vars(objective), "normalisation": "token"})
    np.testing.assert_allclose(by_token(scores(LOGITS)), np.array(by_hand) / [2, 1], rtol=1e-5)


def gradient(objective: Objective, logits: np.ndarray) -> np.ndarray:
    return np.asarray(jax.grad(lambda own: jnp.sum(objective(scores(own))))(jnp.asarray(logits)))


@pytest.mark.long
def test_the_smoothed_target_is_where_the_gradient_vanishes() -> None:
    """A model with exactly the smoothed labels, and one that is surer of them."""
    target = 0.25 / 4 + 0.75 * np.eye(4)[RESPONSES]
    np.testing.assert_allclose(
        gradient(LabelSmoothing(smoothing=0.25), np.log(target).astype(np.float32)), 0, atol=1e-6
    )
    surer = gradient(LabelSmoothing(smoothing=0.25), 2 * np.log(target).astype(np.float32))
    assert surer[0, 0, 2] > 0.01


def test_the_penalty_has_the_gradient_of_the_entropy() -> None:
    """d H / d logit_a = -p_a (ln p_a + H)."""
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    slope = p * (np.log(p) - (p * np.log(p)).sum(-1, keepdims=True)) * MASK[..., None]
    found = gradient(ConfidencePenalty(weight=0.5), LOGITS) - gradient(CrossEntropy(), LOGITS)
    np.testing.assert_allclose(found, 0.5 * slope, atol=1e-6)


def test_impossible_tokens_have_no_entropy_and_no_gradient() -> None:
    log_probs = jnp.log(jnp.array([0.25, 0.75, 0.0]))
    expected = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    value, slope = jax.value_and_grad(entropy)(log_probs)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert np.isfinite(slope).all()
    assert slope[2] == 0


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    [
        (LabelSmoothing, {"smoothing": 1.0}, "objective.smoothing: 1.0 is not a number in [0, 1)"),
        (LabelSmoothing, {"smoothing": "x"}, "objective.smoothing: 'x' is not a number in [0, 1)"),
        (ConfidencePenalty, {"weight": -0.1}, "objective.weight: -0.1 is not a number >= 0"),
        (ConfidencePenalty, {"prompt_weight": -1}, "objective.prompt_weight: -1 is not a number >= 0"),
    ],
)
def test_bad_settings_are_refused_in_one_line(kind: type, options: dict, line: str) -> None:
    with pytest.raises(ValueError, match="objective") as refused:
        kind(**options)
    assert str(refused.value) == line


def test_scores_without_distributions_are_refused() -> None:
    for objective in (LabelSmoothing(), ConfidencePenalty()):
        with pytest.raises(ValueError, match="scores: without distributions"):
            objective(scores(LOGITS)._replace(distributions=None))
