"""KL and coverage of the training batches, from the scores that the loss is computed from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from metrics.coverage import RATIO_TOLERANCE, name_of_n
from metrics.evaluators import DistributionEvaluator, Evaluator
from training.sources import TrainingBatch


class Seen(NamedTuple):
    """KL and coverage profile of responses drawn from pi_D, before the update on them.

    With X = ln pi_D(y|x) - ln pi(y|x) in nats, the definitions are those of `metrics.kl` and
    `metrics.coverage_profile`: the means of X and of 1{X >= ln N - tolerance} over the batch. Each batch is a
    fresh sample of pi_D, so the means are unbiased for the parameters before the update; with a fixed data
    set (`dataset_size`) they are the training data's, and fall below the held-out values by overfitting. A
    `class_proposal` weighs each response by p(c)/q(c), as it does the loss.

    Attributes:
        kl: estimate of KL(pi_D || pi) in nats.
        coverage: estimates of Cov_N, in the order of the evaluator's N.
    """

    kl: Float[Array, ""]
    coverage: Float[Array, " ns"]


def coverage_ns(evaluators: Sequence[Evaluator]) -> tuple[float, ...]:
    """The N of the coverage profile that the run evaluates; none without a `DistributionEvaluator`."""
    return next(
        (
            tuple(evaluator.coverage_ns)
            for evaluator in evaluators
            if isinstance(evaluator, DistributionEvaluator)
        ),
        (),
    )


def seen_in(
    batch: TrainingBatch,
    log_probs: Float[Array, "batch samples"],
    ns: Sequence[float],
    class_weights: Sequence[float] | None,
) -> Seen:
    """`Seen` of one batch.

    Args:
        batch: a batch with `log_pi`.
        log_probs: ln pi(y|x) of its responses in nats.
        ns: the N of the coverage profile.
        class_weights: p(c)/q(c) of every class; None where all are 1.

    Raises:
        ValueError: the source claims to demonstrate, but the batch is without `log_pi`.
    """
    if batch.log_pi is None:
        raise ValueError("source: demonstrates, but its batches have no log_pi")
    log_ratio = batch.log_pi - log_probs
    thresholds = jnp.asarray([math.log(n) - RATIO_TOLERANCE for n in ns], log_ratio.dtype)
    uncovered = (log_ratio[..., None] >= thresholds).astype(log_ratio.dtype)
    if class_weights is not None:
        weights = jnp.asarray(class_weights)[batch.group][:, None]
        log_ratio, uncovered = weights * log_ratio, weights[..., None] * uncovered
    return Seen(jnp.mean(log_ratio), jnp.mean(uncovered, axis=(0, 1)))


def named(seen: Seen, seed: int, ns: Sequence[float]) -> Iterator[tuple[str, float]]:
    """(name, value) pairs for the record of one seed: `train/kl` and `train/cov/<N>`.

    Args:
        seen: values with a leading axis of seeds.
        seed: row of the seed.
        ns: the N of the coverage profile.
    """
    yield "train/kl", float(np.asarray(seen.kl)[seed])
    for n, value in zip(ns, np.asarray(seen.coverage)[seed], strict=True):
        yield f"train/cov/{name_of_n(n)}", float(value)
