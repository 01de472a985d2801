"""Optimizers: plain `optax.GradientTransformation`s with checked settings.

Optimizers take the mean gradient of a batch, averaged over devices by the program, so that every norm is that
of the gradient of the whole batch.
"""

from __future__ import annotations

from typing import Any

import jax
import optax
import optax.contrib

from tasks.checks import flag, real
from training.optimizer_links import (
    NormalizedSGDSettings,
    Schedule,
    chain,
    checked_schedule,
    clipping,
    decay_mask,
    learning_rate_schedule,
    normalize_by_global_norm,
    normalized_sgd_settings,
    project_onto_ball,
    projection,
)

__all__ = [
    "NormalizedSGDSettings",
    "adam",
    "adamw",
    "decay_mask",
    "learning_rate_schedule",
    "muon",
    "normalize_by_global_norm",
    "normalized_sgd",
    "normalized_sgd_settings",
    "project_onto_ball",
    "sgd",
    "sign_sgd",
]


def adamw(
    *,
    steps: int,
    learning_rate: float = 1e-4,
    weight_decay: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    schedule: Schedule = "constant",
    warmup: int = 0,
    final_fraction: float = 0.1,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019) with the decay mask of `decay_mask`.

    The paper uses "Adam with a fixed learning rate" and weight decay 0.01, without stating whether the decay
    is decoupled; `optimizer=adam` is the other reading.

    Args:
        steps: length of the phase, for the schedule.
        learning_rate: peak learning rate.
        weight_decay: decoupled weight decay, multiplied by the learning rate.
        beta1: decay rate of Adam's average of the gradient.
        beta2: decay rate of Adam's average of the squared gradient.
        epsilon: constant in the denominator of Adam's update.
        schedule: "constant", or "cosine" decay to `final_fraction` of the peak.
        warmup: updates of linear warm-up, from `learning_rate` / `warmup` to the peak.
        final_fraction: final rate of the cosine over the peak, in [0, 1].
        clip_norm: global-norm clipping before Adam; None for none.

    Raises:
        ValueError: for a setting out of range.
    """
    rate = checked_schedule(learning_rate, steps, schedule, warmup, final_fraction)
    _check_adam(weight_decay, beta1, beta2, epsilon)
    rule = optax.adamw(rate, beta1, beta2, epsilon, weight_decay=weight_decay, mask=decay_mask)
    return chain(clipping(clip_norm), rule)


def adam(
    *,
    steps: int,
    learning_rate: float = 1e-4,
    weight_decay: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    schedule: Schedule = "constant",
    warmup: int = 0,
    final_fraction: float = 0.1,
    clip_norm: float | None = None,
    radius: float | None = None,
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015) with L2 regularisation added to the gradient.

    Args:
        radius: as in `sgd`; other arguments as in `adamw`.

    Raises:
        ValueError: for a setting out of range.
    """
    rate = checked_schedule(learning_rate, steps, schedule, warmup, final_fraction)
    _check_adam(weight_decay, beta1, beta2, epsilon)
    return chain(
        clipping(clip_norm),
        optax.add_decayed_weights(weight_decay, decay_mask),
        optax.adam(rate, beta1, beta2, epsilon),
        projection(radius),
    )


def sgd(
    *,
    steps: int,
    learning_rate: float = 0.1,
    momentum: float = 0.0,
    schedule: Schedule = "constant",
    warmup: int = 0,
    final_fraction: float = 0.1,
    clip_norm: float | None = None,
    radius: float | None = None,
) -> optax.GradientTransformation:
    """Stochastic gradient descent, theta <- Proj(theta - eta g), optionally with momentum.

    Without momentum and with a batch of one sequence this is the sequence-level SGD of arXiv 2510.15020,
    section 5.1, with parameters in a ball.

    Args:
        momentum: factor on the sum of earlier gradients; 0 for none.
        radius: radius of the ball around 0 for the projection of all parameters; None for no projection.
        clip_norm: global-norm clipping of the gradient; None for none. Other arguments as in `adamw`.

    Raises:
        ValueError: for a setting out of range.
    """
    rate = checked_schedule(learning_rate, steps, schedule, warmup, final_fraction)
    real("optimizer.momentum", momentum, least=0, below=1)
    return chain(clipping(clip_norm), optax.sgd(rate, momentum or None), projection(radius))


def normalized_sgd(
    *,
    steps: int,
    learning_rate: float = 0.1,
    damping: float = 1.0,
    schedule: Schedule = "constant",
    warmup: int = 0,
    final_fraction: float = 0.1,
    radius: float | None = None,
) -> optax.GradientTransformation:
    """Normalised SGD, theta <- Proj(theta - eta g / (lambda + |g|)) (arXiv 2510.15020, section 5.2).

    |g| is the Euclidean norm of the gradient of all parameters together. The paper's mini-batch of K
    sequences is a batch of `batch_size` sequences of the phase; g is the mean over the batch, and the
    guarantee has a term B/(K ln N).

    Args:
        learning_rate: eta, the largest length of a step.
        damping: lambda >= 0; gradients shorter than lambda make proportionally shorter steps.
            `normalized_sgd_settings` and docs/normalised_sgd.md explain the choice of eta and lambda.
        radius: as in `sgd`; other arguments as in `adamw`.

    Raises:
        ValueError: for a setting out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> rule = normalized_sgd(steps=100, learning_rate=0.5, damping=1.0)
        >>> update, _ = rule.update({"w": jnp.array([3.0, 4.0])}, rule.init({"w": jnp.zeros(2)}))
        >>> update["w"]  # -0.5 * (3, 4) / (1 + 5)
        Array([-0.25      , -0.33333334], dtype=float32)
    """
    rate = checked_schedule(learning_rate, steps, schedule, warmup, final_fraction)
    real("optimizer.damping", damping, least=0)
    return chain(normalize_by_global_norm(damping), optax.scale_by_learning_rate(rate), projection(radius))


def sign_sgd(
    *,
    steps: int,
    learning_rate: float = 1e-4,
    schedule: Schedule = "constant",
    warmup: int = 0,
    final_fraction: float = 0.1,
    radius: float | None = None,
) -> optax.GradientTransformation:
    """Sign-SGD, theta <- Proj(theta - eta sign(g)) (Bernstein et al. 2018, arXiv 1802.04434).

    Every coordinate moves by eta, or by 0 where the gradient is exactly 0. Adam with beta1 = beta2 =
    epsilon = 0 is this rule.

    Args:
        radius: as in `sgd`; other arguments as in `adamw`.

    Raises:
        ValueError: for a setting out of range.
    """
    rate = checked_schedule(learning_rate, steps, schedule, warmup, final_fraction)
    return chain(optax.sign_sgd(rate), projection(radius))


def muon_matrix(params: Any) -> Any:
    """Labels: "muon" on matrices of hidden layers, "adam" on embeddings, output, biases and gains.

    A hidden matrix is a leaf with two axes named `kernel`.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            "muon" if getattr(path[-1], "key", None) == "kernel" and leaf.ndim == 2 else "adam"
        ),
        params,
    )


def muon(
    *,
    steps: int,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    momentum: float = 0.95,
    nesterov: bool = True,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    schedule: Schedule = "constant",
    warmup: int = 0,
    final_fraction: float = 0.1,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024), momentum orthogonalised by five Newton-Schulz steps, with AdamW elsewhere.

    Muon updates the matrices of hidden layers (`muon_matrix`); the fused query, key and value kernel is one
    matrix. AdamW updates embeddings, the output layer, biases and gains of norms with the same learning rate.
    By default, `optax.contrib.muon` would orthogonalise embeddings, as they have two axes. The orthogonal
    update of an m x n matrix is scaled by 0.2 sqrt(max(m, n)), which gives the root mean square of an Adam
    update, so that one learning rate is right for both (Liu et al. 2025, arXiv 2502.16982, section 2.2).

    Args:
        learning_rate: peak learning rate of both rules.
        weight_decay: decoupled decay for both rules, with the mask of `decay_mask`.
        momentum: decay rate of Muon's average of the gradient.
        nesterov: True for Nesterov's momentum in Muon.
        beta1: decay rate of AdamW's average of the gradient.
        beta2: decay rate of AdamW's average of the squared gradient.
        epsilon: constant in the denominator of AdamW's update.
        clip_norm: global-norm clipping of the gradient first; None for none. Other arguments as in `adamw`.

    Raises:
        ValueError: for a setting out of range.
    """
    rate = checked_schedule(learning_rate, steps, schedule, warmup, final_fraction)
    _check_adam(weight_decay, beta1, beta2, epsilon)
    real("optimizer.momentum", momentum, least=0, below=1)
    flag("optimizer.nesterov", nesterov)
    rules = {
        "muon": optax.contrib.muon(
            rate,
            beta=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            weight_decay_mask=decay_mask,
            consistent_rms=0.2,
        ),
        "adam": optax.adamw(rate, beta1, beta2, epsilon, weight_decay=weight_decay, mask=decay_mask),
    }
    return chain(clipping(clip_norm), optax.partition(rules, muon_matrix))


def _check_adam(weight_decay: float, beta1: float, beta2: float, epsilon: float) -> None:
    real("optimizer.weight_decay", weight_decay, least=0)
    real("optimizer.beta1", beta1, least=0, below=1)
    real("optimizer.beta2", beta2, least=0, below=1)
    real("optimizer.epsilon", epsilon, above=0)
