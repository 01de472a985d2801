"""Values at padded positions change no loss and no gradient, and make none infinite."""

from __future__ import annotations

import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.toy import TabularModel

import training
from training import (
    DCO,
    ConfidencePenalty,
    CountBonus,
    CrossEntropy,
    DynamicFineTuning,
    LabelSmoothing,
    LossChange,
    MultiToken,
    Objective,
    OnPolicyDistillation,
    Paced,
    Policy,
    PolicyGradient,
    RepresentationBonus,
    Reweighted,
    Scores,
    StepwiseDCO,
    TailSFT,
    TokenLevel,
    TruncatedDistillation,
    ValueRegression,
)
from training.batch_loss import batch_loss
from training.old_scores import OldScores
from training.sources import TrainingBatch

pytestmark = pytest.mark.long

ABSURD = (0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 200.0, -200.0)
OBJECTIVES: dict[str, Objective] = {
    "cross-entropy": CrossEntropy(prompt_weight=0.5),
    "cross-entropy by token": CrossEntropy(prompt_weight=0.5, normalisation="token"),
    "values, squared": ValueRegression(),
    "values, log": ValueRegression("log"),
    "label smoothing": LabelSmoothing(smoothing=0.2, normalisation="token"),
    "confidence penalty": ConfidencePenalty(weight=0.3),
    "multi-token": MultiToken(k=3, normalisation="token"),
    "dco": DCO(16),
    "stepwise dco": StepwiseDCO(4),
    "token level": TokenLevel(),
    "hard": Reweighted(favour="hard"),
    "easy": Reweighted(favour="easy", gamma=0.5),
    "distillation": TruncatedDistillation(2.0),
    "on-policy distillation": OnPolicyDistillation(0.1),
    "cross-entropy over a batch": CrossEntropy(prompt_weight=0.5, normalisation="batch"),
    "tail": TailSFT(prompt_weight=0.5),
    "loss change": LossChange(),
    "paced": Paced(),
    "dft": DynamicFineTuning(),
    "grpo": PolicyGradient(),
    "grpo, k3": PolicyGradient(kl_weight=0.3, normalise="sample_std"),
    "grpo, exact": PolicyGradient(kl_weight=0.3, kl="exact"),
    "rloo, in the reward": PolicyGradient(
        "leave_one_out", "none", "sequence", "sum", clip=None, kl_weight=0.3, kl="reward"
    ),
}
MASK = np.array(
    [[[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]], [[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]]], bool
)
PROMPT_MASK = np.array([[[False, True, True]], [[False, False, True]]])


def kinds(parent: type) -> set[type]:
    return {each for child in parent.__subclasses__() for each in {child, *kinds(child)}}


def test_every_objective_is_tried() -> None:
    own = {kind for kind in kinds(Objective) if kind.__module__.startswith(training.__name__)}
    assert {type(objective) for objective in OBJECTIVES.values()} == own


def scores(absurd: Any, given: dict[str, Any]) -> Scores:
    """The scores with `absurd` at every padded position of every array."""

    def padded(values: Any) -> Any:
        mask = MASK if values.shape[1] == 3 else PROMPT_MASK
        return jnp.where(mask.reshape(mask.shape + (1,) * (values.ndim - 3)), values, absurd)

    arrays = {name: padded(values) for name, values in given.items() if name != "ahead"}
    # Head d predicts no token before y_d.
    predicted = np.stack([MASK & (np.arange(4) >= d) for d in (1, 2)], axis=2)
    arrays["ahead"] = jnp.where(predicted, given["ahead"], absurd)
    rewards = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    arrays["kept"] = rewards == 0
    return Scores(mask=jnp.asarray(MASK), prompt_mask=jnp.asarray(PROMPT_MASK), rewards=rewards, **arrays)


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def laws() -> Any:
        return jax.nn.log_softmax(jnp.asarray(rng.normal(size=(*MASK.shape, 5)), jnp.float32))

    def numbers(*shape: int) -> Any:
        return jnp.asarray(-rng.random(shape), jnp.float32)

    return {
        **{name: numbers(*MASK.shape) for name in ("tokens", "logits", "behaviour", "reference")},
        "divergence": -numbers(*MASK.shape),
        "prompt_tokens": numbers(*PROMPT_MASK.shape),
        "distributions": laws(),
        "teacher": laws(),
        "ahead": numbers(*MASK.shape[:2], 2, MASK.shape[2]),
    }


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_stands_at_padding_counts_for_nothing(name: str) -> None:
    objective, given = OBJECTIVES[name], arrays()

    @jax.jit
    @jax.vmap
    def found(absurd: Any) -> Any:
        def loss(own: dict[str, Any]) -> Any:
            losses = objective(scores(absurd, own))
            return jnp.sum(losses), losses

        return jax.grad(loss, has_aux=True)(given)

    slopes, losses = jax.tree.map(np.asarray, found(jnp.asarray(ABSURD)))
    assert np.isfinite(losses).all()
    assert np.abs(losses).max() > 0
    np.testing.assert_array_equal(losses[1:], np.broadcast_to(losses[0], losses[1:].shape))
    for key, slope in slopes.items():
        assert np.isfinite(slope).all(), key
        np.testing.assert_array_equal(slope[1:], np.broadcast_to(slope[0], slope[1:].shape), err_msg=key)
    assert any(slope.any() for slope in slopes.values())


@pytest.mark.parametrize("name", ["grpo, k3", "grpo, exact", "rloo, in the reward"])
def test_what_a_reference_says_of_padding_reaches_no_parameter(name: str) -> None:
    """Gradients from the logits on, where padding in the exact divergence could give 0 times inf."""
    model, rng = TabularModel(response_length=4), np.random.default_rng(1)
    mask = jnp.asarray(MASK)
    params = {**model.init(jax.random.key(0)), "fuse": jnp.zeros(())}
    tokens = jnp.asarray(rng.integers(1, 6, MASK.shape))
    laws = jax.nn.log_softmax(jnp.asarray(rng.normal(size=(*MASK.shape, 6)), jnp.float32))

    @jax.jit
    @jax.vmap
    def found(absurd: Any) -> Any:
        theirs = jnp.where(mask[..., None], laws, absurd)
        old = OldScores(theirs[..., 0], theirs[..., 1], theirs)
        prompt = jnp.ones((2, 3), int)
        rewards = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
        batch = TrainingBatch(prompt, prompt > 0, tokens, mask, jnp.zeros(2, int), rewards, old=old)
        return jax.value_and_grad(lambda own: batch_loss(model, OBJECTIVES[name], own, batch))(params)

    values, slopes = jax.tree.map(np.asarray, found(jnp.asarray(ABSURD)))
    for leaf in (values, slopes["table"]):
        assert np.isfinite(leaf).all()
        np.testing.assert_array_equal(leaf[1:], np.broadcast_to(leaf[0], leaf[1:].shape))
    assert slopes["table"].any()


def test_bonuses_see_no_padding() -> None:
    rng = np.random.default_rng(2)
    responses = rng.integers(1, 6, MASK.shape)
    states = rng.normal(size=(*MASK.shape, 3)).astype("f")
    rewards = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    prompt = jnp.ones((2, 3), int)

    def bonus(rule: Any, absurd: float, token: int) -> Any:
        model = types.SimpleNamespace(features=lambda *_: jnp.where(MASK[..., None], states, absurd))
        shown = jnp.asarray(np.where(MASK, responses, token))
        batch = TrainingBatch(prompt, prompt > 0, shown, jnp.asarray(MASK), jnp.zeros(2, int), rewards)
        return rule(Policy(model, ()), batch)  # type: ignore[arg-type]

    for rule in (RepresentationBonus(), CountBonus()):
        clean = bonus(rule, 0.0, 0)
        assert np.isfinite(clean).all()
        for i, absurd in enumerate(ABSURD):
            np.testing.assert_array_equal(bonus(rule, absurd, i), clean)


def test_a_response_of_padding_alone_has_no_loss_by_token() -> None:
    nothing = Scores(jnp.full((1, 2), jnp.nan), jnp.zeros((1, 2), bool))
    np.testing.assert_array_equal(CrossEntropy(normalisation="token")(nothing), [0])
