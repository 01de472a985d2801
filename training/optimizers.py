"""Optimizers: plain `optax.GradientTransformation`s with checked settings."""

from __future__ import annotations

from typing import Any, Literal

import jax
import optax


def decay_mask(params: Any) -> Any:
    """True on the leaves that weight decay applies to: all but biases and norms' gains, as in GPT.

    A leaf is known by its name (the last key of its path): `bias` and `scale` are spared.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", None) not in ("bias", "scale"), params
    )


def learning_rate_schedule(
    learning_rate: float, steps: int, schedule: str, warmup: int, final_fraction: float
) -> optax.Schedule:
    """Linear warm-up over `warmup` steps, then constant, or cosine decay to `final_fraction` of the peak at
    `steps`."""
    if schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0 if warmup else learning_rate,
            learning_rate,
            warmup,
            max(steps, warmup + 1),
            learning_rate * final_fraction,
        )
    if warmup:
        return optax.schedules.linear_schedule(learning_rate / warmup, learning_rate, warmup - 1 or 1)
    return optax.schedules.constant_schedule(learning_rate)


def adamw(
    *,
    steps: int,
    learning_rate: float = 1e-4,
    weight_decay: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    schedule: Literal["constant", "cosine"] = "constant",
    warmup: int = 0,
    final_fraction: float = 0.1,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019) with the decay mask of `decay_mask`.

    The paper says "Adam with a fixed learning rate" and weight decay 0.01; whether decoupled or not is
    unstated, and `optimizer=adam` takes the other reading.

    Args:
        steps: length of the phase, for the schedule.
        learning_rate: peak learning rate.
        weight_decay: decoupled weight decay, multiplied by the learning rate.
        beta1, beta2, epsilon: Adam's constants.
        schedule: "constant", or "cosine" decay to `final_fraction` of the peak.
        warmup: steps of linear warm-up.
        final_fraction: last learning rate over the peak, for the cosine.
        clip_norm: global-norm clipping before Adam; None for none.

    Raises:
        ValueError: for a setting out of range.
    """
    _check(learning_rate, weight_decay, beta1, beta2, epsilon, schedule, warmup, clip_norm)
    rate = learning_rate_schedule(learning_rate, steps, schedule, warmup, final_fraction)
    rule = optax.adamw(rate, beta1, beta2, epsilon, weight_decay=weight_decay, mask=decay_mask)
    return rule if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), rule)


def adam(
    *,
    steps: int,
    learning_rate: float = 1e-4,
    weight_decay: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    schedule: Literal["constant", "cosine"] = "constant",
    warmup: int = 0,
    final_fraction: float = 0.1,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015) with L2 regularisation added to the gradient; arguments as in `adamw`."""
    _check(learning_rate, weight_decay, beta1, beta2, epsilon, schedule, warmup, clip_norm)
    rate = learning_rate_schedule(learning_rate, steps, schedule, warmup, final_fraction)
    parts = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    parts += [optax.add_decayed_weights(weight_decay, decay_mask), optax.adam(rate, beta1, beta2, epsilon)]
    return optax.chain(*parts)


def sgd(
    *,
    steps: int,
    learning_rate: float = 0.1,
    momentum: float = 0.0,
    schedule: Literal["constant", "cosine"] = "constant",
    warmup: int = 0,
    final_fraction: float = 0.1,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """Stochastic gradient descent, optionally with momentum; schedule and clipping as in `adamw`."""
    _check(learning_rate, 0.0, momentum, 0.0, 1.0, schedule, warmup, clip_norm)
    rate = learning_rate_schedule(learning_rate, steps, schedule, warmup, final_fraction)
    rule = optax.sgd(rate, momentum or None)
    return rule if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), rule)


def _check(
    learning_rate: float,
    weight_decay: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    schedule: str,
    warmup: int,
    clip_norm: float | None,
) -> None:
    if not learning_rate > 0:
        raise ValueError(f"optimizer.learning_rate: {learning_rate!r} is not a positive number")
    if not weight_decay >= 0:
        raise ValueError(f"optimizer.weight_decay: {weight_decay!r} is not a number >= 0")
    for name, beta in (("beta1 (or momentum)", beta1), ("beta2", beta2)):
        if not 0 <= beta < 1:
            raise ValueError(f"optimizer.{name}: {beta!r} is not in [0, 1)")
    if not epsilon > 0:
        raise ValueError(f"optimizer.epsilon: {epsilon!r} is not a positive number")
    if schedule not in ("constant", "cosine"):
        raise ValueError(f"optimizer.schedule: {schedule!r} is not one of constant, cosine")
    if not isinstance(warmup, int) or warmup < 0:
        raise ValueError(f"optimizer.warmup: {warmup!r} is not an integer >= 0")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"optimizer.clip_norm: {clip_norm!r} is not a positive number or null")
