"""Quality of a value function: error against rewards of rollouts, calibration, error against the exact V."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from decoding.responses import base_responses
from metrics.evaluators import Batch, Evaluator, HeldOut
from models import Model, Params, token_logits
from tasks import Task, stream

BINS = 10
"""Number of bins of equal width for the calibration error."""


def calibration_error(
    values: Float[np.ndarray, " n"], rewards: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]
) -> float:
    """Expected calibration error sum P(bin) |E[tau | bin] - E[V^ | bin]| over ten bins of V^ in [0, 1].

    Source: Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning,
    AAAI 2015.

    >>> calibration_error(np.array([0.25, 0.25]), np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    0.25
    """
    bins = np.minimum((values * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights * (rewards - values), BINS)
    return float(np.abs(gaps).sum() / weights.sum())


@dataclasses.dataclass(frozen=True)
class ValueEvaluator(Evaluator):
    """A value network V^ on rollouts of the base model from held-out prompts.

    Attributes:
        base: the base model; None for the task's exact base model, for which the exact V is known.
        samples: number of rollouts per held-out prompt.
        seed: seed of the rollouts, which are fixed over evaluations.
        params: parameters of `base`, set by `given` inside the compiled program.

    Means are over held-out prompts, rollouts and positions 1..|y|, with equal weights of the positions of a
    rollout. Names, for the mixture and, if there are several classes, below `<class>/`: `squared_error`
    E (V^ - tau)^2, `excess` (squared error minus that of the constant E tau; negative if V^ is informative),
    `calibration_error`, `bias` E[V^ - tau], `reward` E tau (accuracy of the base model) and, where V is
    known, `rmse`, the root of E (V^ - V)^2.
    """

    base: Model | None = None
    samples: int = 4
    seed: int = 0
    params: Params = ()
    name: str = dataclasses.field(default="value", init=False)

    def given(self, base: Params) -> ValueEvaluator:
        """This evaluator with the parameters of the base model."""
        return dataclasses.replace(self, params=base)

    def score(self, model: Model, task: Task, params: Params, batch: Batch) -> dict[str, Array]:
        """`value`, `reward`, `mask` and, if V is known, `exact`, all (examples, samples, response)."""
        example = batch.example
        keys = jax.vmap(lambda i: stream(self.seed, "evaluation", "rollouts", i))(batch.position)
        responses, mask = base_responses(task, example, keys, self.base, self.params, self.samples)
        logits = model.logits(params, example.prompt, example.prompt_mask, responses)
        rewards = jax.vmap(jax.vmap(task.reward, (None, 0)))(example.latent, responses)
        found = {
            "value": jax.nn.sigmoid(token_logits(logits, responses)),
            "reward": jnp.broadcast_to(rewards[..., None], mask.shape),
            "mask": mask,
        }
        if self.base is None:
            found["exact"] = prefix_values(task, example.latent, responses)
        return found

    def reduce(self, scores: dict[str, np.ndarray], held_out: HeldOut) -> Iterator[tuple[str, float]]:
        """All metrics for the mixture, then per class."""
        yield from _metrics(scores, held_out.weights)
        if len(held_out.task.groups) > 1:
            for group, name in enumerate(held_out.task.groups):
                weights = (held_out.groups == group).astype(np.float64)
                yield from ((f"{name}/{key}", value) for key, value in _metrics(scores, weights))


def prefix_values(task: Task, latent: Any, responses: Array) -> Float[Array, "batch samples response"]:
    """Exact V(x, y_1:h) at the positions h = 1..R of every response."""
    lengths = jnp.arange(1, task.response_length + 1)
    by_length = jax.vmap(task.value, (None, None, 0))
    by_sample = jax.vmap(by_length, (None, 0, None))
    return jax.vmap(by_sample, (0, 0, None))(latent, responses, lengths)


def _metrics(
    scores: dict[str, np.ndarray], weights: Float[np.ndarray, " examples"]
) -> Iterator[tuple[str, float]]:
    mask: Bool[np.ndarray, "examples samples response"] = np.asarray(scores["mask"], bool)
    count = np.maximum(mask.sum(axis=-1, keepdims=True), 1)
    each = np.broadcast_to(weights[:, None, None] / (count * mask.shape[1]), mask.shape)[mask]
    each = each / each.sum()
    value, reward = (np.asarray(scores[key], np.float64)[mask] for key in ("value", "reward"))
    mean = float(each @ reward)
    error = float(each @ np.square(value - reward))
    yield "squared_error", error
    if "exact" in scores:
        exact = np.asarray(scores["exact"], np.float64)[mask]
        yield "rmse", float(np.sqrt(each @ np.square(value - exact)))
    yield "excess", error - mean * (1 - mean)
    yield "calibration_error", calibration_error(value, reward, each)
    yield "bias", float(each @ (value - reward))
    yield "reward", mean
