"""Losses of every objective against scalar loops, on one sequence, on a batch and on groups of a prompt."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from training import (
    DCO,
    ConfidencePenalty,
    CrossEntropy,
    DynamicFineTuning,
    LabelSmoothing,
    Objective,
    OnPolicyDistillation,
    Paced,
    PolicyGradient,
    Reweighted,
    Scores,
    StepwiseDCO,
    TokenLevel,
    TruncatedDistillation,
    ValueRegression,
)
from training.coverage_objectives import dco_factor, log_miss, log_pass

GROUPS, SAMPLES, HORIZON, VOCAB = 3, 4, 5, 3


def random_scores() -> Scores:
    """Every field; masked positions are NaN. One response has no token, one prompt no scored token."""
    rng = np.random.default_rng(1)
    shape = (GROUPS, SAMPLES, HORIZON)
    mask = np.arange(HORIZON) < rng.integers(1, HORIZON + 1, (GROUPS, SAMPLES, 1))
    mask[0, 0] = False
    prompt_mask = np.arange(3) < np.array([3, 0, 2])[:, None, None]

    def hidden(values: np.ndarray, where: np.ndarray) -> np.ndarray:
        return np.where(where, values, np.nan).astype(np.float32)

    own, other = (np.log(rng.dirichlet(np.ones(VOCAB), shape)) for _ in range(2))
    return Scores(
        tokens=hidden(own[..., 0], mask),
        mask=mask,
        prompt_tokens=hidden(-rng.random((GROUPS, 1, 3)), prompt_mask),
        prompt_mask=prompt_mask,
        logits=hidden(rng.normal(size=shape), mask),
        rewards=rng.random((GROUPS, SAMPLES)).astype(np.float32),
        behaviour=hidden(own[..., 0] + rng.normal(0, 0.3, shape), mask),
        reference=hidden(own[..., 0] + rng.normal(0, 0.5, shape), mask),
        divergence=hidden(rng.random(shape), mask),
        distributions=hidden(own, mask[..., None]),
        teacher=hidden(other, mask[..., None]),
    )


SCORES = random_scores()


def at(row: int, column: int) -> Scores:
    """The scores of one response."""

    def one(name: str, value: Any) -> Any:
        if value is None:
            return None
        return value[row, 0] if name.startswith("prompt") else value[row, column]

    return Scores(**{name: one(name, value) for name, value in SCORES._asdict().items()})


def cross_entropy(s: Scores, weight: float = 0.0, by_token: bool = False, tokens: Any = None) -> float:
    every = s.tokens if tokens is None else tokens
    loss, count = -sum(every[s.mask]), float(sum(s.mask))
    if weight:
        assert s.prompt_tokens is not None
        assert s.prompt_mask is not None
        loss -= weight * sum(s.prompt_tokens[s.prompt_mask])
        count += weight * sum(s.prompt_mask)
    return float(loss / count if by_token and count else loss)


def smoothed(s: Scores) -> float:
    assert s.distributions is not None
    return cross_entropy(s, tokens=0.8 * s.tokens + 0.2 * s.distributions.sum(axis=1) / VOCAB)


def penalised(s: Scores) -> float:
    assert s.distributions is not None
    heat = -np.sum(np.exp(s.distributions) * s.distributions, axis=1)
    return cross_entropy(s, tokens=s.tokens + 0.3 * heat)


def regression(s: Scores, loss: str) -> float:
    assert s.logits is not None
    values = 1 / (1 + np.exp(-s.logits[s.mask].astype(float)))
    if loss == "squared":
        errors = (values - float(s.rewards)) ** 2
    else:
        errors = -float(s.rewards) * np.log(values) - (1 - float(s.rewards)) * np.log(1 - values)
    return float(sum(errors) / max(len(errors), 1))


def truncated(s: Scores) -> float:
    assert s.distributions is not None
    assert s.teacher is not None
    loss, spent, budget = 0.0, 0.0, math.log(2.0)
    for t in range(int(sum(s.mask))):
        eps = float(np.exp(s.teacher[t]) @ (s.teacher[t] - s.distributions[t]))
        weight = min(max((budget - spent) / eps, 0.0), 1.0)
        loss, spent = loss - weight * float(s.tokens[t]), spent + eps
    return loss


def reverse_kl(s: Scores) -> float:
    assert s.distributions is not None
    assert s.teacher is not None
    loss = 0.0
    for t in range(int(sum(s.mask))):
        own = np.exp(s.distributions[t])
        loss += float(own @ (s.distributions[t] - np.log(0.9 * np.exp(s.teacher[t]) + 0.1 / len(own))))
    return loss


def hit(log_p: float, n: float) -> float:
    return math.log(1 - (1 - math.exp(log_p)) ** n) if log_p < 0 else 0.0


PLAIN: dict[str, tuple[Objective, Any]] = {
    "cross-entropy": (CrossEntropy(), cross_entropy),
    "per token": (CrossEntropy(normalisation="token"), lambda s: cross_entropy(s, 0.0, True)),
    "prompt": (CrossEntropy(prompt_weight=0.7), lambda s: cross_entropy(s, 0.7)),
    "prompt per token": (
        CrossEntropy(prompt_weight=0.7, normalisation="token"),
        lambda s: cross_entropy(s, 0.7, True),
    ),
    "squared": (ValueRegression(), lambda s: regression(s, "squared")),
    "log": (ValueRegression("log"), lambda s: regression(s, "log")),
    "DCO": (DCO(3), lambda s: -hit(-cross_entropy(s), 3)),
    "stepwise": (StepwiseDCO(3), lambda s: -sum(hit(float(t), 3) for t in s.tokens[s.mask])),
    "hard": (
        Reweighted(gamma=1.5),
        lambda s: (1 - math.exp(-cross_entropy(s))) ** 1.5 * cross_entropy(s),
    ),
    "easy": (
        Reweighted(favour="easy", gamma=1.5),
        lambda s: math.exp(-1.5 * cross_entropy(s)) * cross_entropy(s),
    ),
    "smoothing": (LabelSmoothing(smoothing=0.2), smoothed),
    "penalty": (ConfidencePenalty(weight=0.3), penalised),
    "truncated": (TruncatedDistillation(2.0), truncated),
    "reverse KL": (OnPolicyDistillation(0.1), reverse_kl),
    "dft": (DynamicFineTuning(), lambda s: cross_entropy(s, tokens=np.exp(s.tokens) * s.tokens)),
    # Called alone, an objective does not divide by the sum of its weights.
    "over a batch": (CrossEntropy(prompt_weight=0.7, normalisation="batch"), lambda s: cross_entropy(s, 0.7)),
}


def given(objective: Objective, scores: Scores) -> Scores:
    """Prompts are scored for an objective that needs them."""
    return scores if objective.needs_prompt else scores._replace(prompt_tokens=None, prompt_mask=None)


@pytest.mark.long
@pytest.mark.parametrize("name", PLAIN)
def test_losses_are_those_of_a_plain_loop(name: str) -> None:
    objective, plain = PLAIN[name]
    rows = [[plain(at(row, column)) for column in range(SAMPLES)] for row in range(GROUPS)]
    found = objective(given(objective, SCORES))
    np.testing.assert_allclose(found, rows, rtol=2e-5, atol=1e-6)
    alone = objective(given(objective, at(1, 2)))
    assert alone.shape == ()
    np.testing.assert_allclose(alone, rows[1][2], rtol=2e-5)


def plain_policy_gradient(objective: PolicyGradient, fresh: bool) -> np.ndarray:
    assert SCORES.rewards is not None
    losses = np.zeros((GROUPS, SAMPLES))
    for row in range(GROUPS):
        each = [at(row, column) for column in range(SAMPLES)]
        rewards = [float(s.rewards) for s in each]
        old = [s.tokens if fresh else s.behaviour for s in each]
        weight = objective.kl_weight
        if objective.kl == "reward":
            for i, s in enumerate(each):
                rewards[i] -= weight * float(sum((old[i] - s.reference)[s.mask]))
        centre = sum(rewards) / SAMPLES
        spread = sum((r - centre) ** 2 for r in rewards)
        for i, s in enumerate(each):
            advantage = rewards[i] - centre
            if objective.baseline == "leave_one_out":
                advantage = rewards[i] - (sum(rewards) - rewards[i]) / (SAMPLES - 1)
            if objective.normalise != "none":
                size = SAMPLES if objective.normalise == "std" else SAMPLES - 1
                advantage /= math.sqrt(spread / size) + 1e-6

            def surrogate(change: float, advantage: float = advantage) -> float:
                ratio = math.exp(change)
                if objective.clip is None:
                    return -ratio * advantage
                kept = min(max(ratio, 1 - objective.clip), 1 + objective.clip)
                return -min(ratio * advantage, kept * advantage)

            count = int(sum(s.mask))
            length = max(count, 1) if objective.length == "mean" else 1
            changes = [float(s.tokens[t] - old[i][t]) for t in range(count)]
            if objective.ratio == "sequence":
                losses[row, i] = surrogate(sum(changes))
            else:
                losses[row, i] = sum(surrogate(change) for change in changes) / length
            if objective.kl == "k3":
                gaps = [float(s.reference[t] - s.tokens[t]) for t in range(count)]
                losses[row, i] += weight * sum(math.exp(g) - g - 1 for g in gaps) / length
            elif objective.kl == "exact":
                losses[row, i] += weight * sum(float(s.divergence[t]) for t in range(count)) / length
    return losses


@pytest.mark.parametrize(
    "objective",
    [
        PolicyGradient(baseline, normalise, ratio, length, clip, 0.4, kl)  # type: ignore[arg-type]
        for (baseline, ratio, kl), (normalise, length, clip) in zip(
            itertools.product(("mean", "leave_one_out"), ("token", "sequence"), ("k3", "exact", "reward")),
            [("std", "mean", 0.2), ("sample_std", "sum", None), ("none", "mean", 0.1), ("std", "sum", 0.3)]
            * 3,
            strict=True,
        )
    ],
    ids=lambda objective: f"{objective.ratio}, {objective.kl}, {objective.baseline}, {objective.normalise}",
)
def test_policy_gradients_are_those_of_a_plain_loop(objective: PolicyGradient) -> None:
    found = objective(SCORES)
    np.testing.assert_allclose(found, plain_policy_gradient(objective, False), rtol=1e-4, atol=1e-5)
    fresh = objective(SCORES._replace(behaviour=None))
    np.testing.assert_allclose(fresh, plain_policy_gradient(objective, True), rtol=1e-4, atol=1e-5)


def test_masked_scores_are_zero() -> None:
    found = SCORES.masked()
    for name, mask in (
        *((name, SCORES.mask) for name in ("tokens", "logits", "behaviour", "reference", "divergence")),
        *((name, SCORES.mask[..., None]) for name in ("distributions", "teacher")),
        ("prompt_tokens", SCORES.prompt_mask),
    ):
        np.testing.assert_array_equal(getattr(found, name), np.nan_to_num(getattr(SCORES, name)))
        assert not np.all(mask), name
    assert Scores(np.zeros(2), np.ones(2, bool)).masked().teacher is None


class Zero(Objective):
    """An objective that defines nothing further."""

    def losses(self, scores: Scores) -> Any:
        return scores.log_probs


def test_what_objectives_need() -> None:
    names = (
        "needs_prompt",
        "needs_rewards",
        "needs_policy",
        "needs_teacher",
        "selects",
        "weighs",
        "by_token",
    )
    needs: dict[Objective, set[str]] = {
        Zero(): set(),
        CrossEntropy(prompt_weight=0.1): {"needs_prompt"},
        ValueRegression(): {"needs_rewards"},
        PolicyGradient(): {"needs_rewards", "needs_policy"},
        TruncatedDistillation(): {"needs_teacher"},
        OnPolicyDistillation(): {"needs_policy", "needs_teacher"},
        TokenLevel(): {"by_token"},
        Reweighted(favour="easy"): {"weighs"},
        CrossEntropy(normalisation="batch"): {"weighs"},
        Paced(): {"weighs"},
        Reweighted(): set(),
        DCO(): set(),
    }
    for objective, wanted in needs.items():
        assert {name for name in names if getattr(objective, name)} == wanted
        assert objective.reference == "none"
    for kl in ("k3", "reward"):
        assert PolicyGradient(kl_weight=0.1, kl=kl).reference == "tokens"  # type: ignore[arg-type]
    assert PolicyGradient(kl_weight=0.1, kl="exact").reference == "distributions"
    # Without weights of its own, an objective weights all sequences equally.
    assert Zero().log_weights(SCORES).tolist() == [[0.0] * SAMPLES] * GROUPS


def test_gradients_of_a_miss_are_finite_on_both_branches() -> None:
    p = np.array([1e-4, 0.25, 0.49, 0.51, 0.75, 0.999])
    found = jax.vmap(jax.grad(log_miss))(jnp.log(p.astype(np.float32)))
    np.testing.assert_allclose(found, -p / (1 - p), rtol=2e-4)


@pytest.mark.parametrize("exponent", [0.1, 0.69, 0.71, 0.99, 1.02, 1.4, 3.0])
def test_log_pass_on_both_sides_of_its_switches(exponent: float) -> None:
    """(1 - p)^n = e^-exponent."""
    for n in (2.0, 16.0):
        log_p = math.log(-math.expm1(-exponent / n))
        found = float(log_pass(jnp.float32(log_p), n))
        assert found == pytest.approx(math.log(-math.expm1(-exponent)), rel=1e-5)
        p = math.exp(log_p)
        factor = n * p * (1 - p) ** (n - 1) / (1 - (1 - p) ** n)
        assert float(dco_factor(jnp.float32(log_p), n)) == pytest.approx(factor, rel=1e-5)
