"""Links that the optimizers are chained from: masks, schedules, normalisation, projection, and the checks of
settings."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
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


def normalize_by_global_norm(damping: float) -> optax.GradientTransformation:
    """g -> g / (lambda + |g|), |g| the Euclidean norm of all leaves together; 0 where g = 0.

    The normalisation of arXiv 2510.15020, section 5.2: of gradients much smaller than lambda it makes
    g / lambda, of larger ones a direction of length at most 1.

    Args:
        damping: lambda >= 0.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        total = damping + optax.tree.norm(updates)
        inverse = jnp.where(total > 0, 1 / total, 0.0)
        return jax.tree.map(lambda leaf: leaf * inverse.astype(leaf.dtype), updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def project_onto_ball(radius: float | None) -> optax.GradientTransformation:
    """Last link of a chain: theta + update becomes Proj(theta + update), onto the ball |theta| <= radius.

    Proj(v) = v min{1, radius / |v|}, |v| the Euclidean norm of all leaves together; None projects nothing.
    The link returns Proj(theta + update) - theta, so that adding it lands on the ball up to rounding.

    Raises:
        ValueError: a radius that is not positive; at an update, parameters that were not passed.
    """
    if radius is None:
        return optax.identity()
    if not radius > 0:
        raise ValueError(f"optimizer.radius: {radius!r} is not a positive number or null")

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("project_onto_ball: update(updates, state, params) needs the parameters")
        moved = optax.apply_updates(params, updates)
        norm = optax.tree.norm(moved)
        scale = radius / jnp.maximum(norm, radius)
        return jax.tree.map(lambda new, old: new * scale.astype(new.dtype) - old, moved, params), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def chain(*links: optax.GradientTransformation | None) -> optax.GradientTransformation:
    """The links that are there, in order; a single one is not wrapped, which keeps its state's shape."""
    present = [link for link in links if link is not None]
    return present[0] if len(present) == 1 else optax.chain(*present)


class NormalizedSGDSettings(NamedTuple):
    """What `normalized_sgd` needs to know: eta and lambda."""

    learning_rate: float
    damping: float


def normalized_sgd_settings(
    n: float, feature_bound: float, variance: float, steps: int
) -> NormalizedSGDSettings:
    """Settings of normalised SGD for autoregressive linear models, from the proof of its guarantee.

    eta = min{1/(128 B), (ln N/(sigma*^2 T))^(1/4)} and lambda = ln N/(16 eta); with them the mean over the
    iterates t = 1..T of Cov_N is of order sqrt(sigma*^2/(T ln N)) + B^2/T + B/(K ln N), for batches of K
    sequences and parameters in the unit ball, whatever the length H (arXiv 2510.15020, section 5.2).

    Args:
        n: N of Cov_N, > 1.
        feature_bound: B, the largest norm of a feature vector.
        variance: sigma*^2 = E sum_h |phi_h - E phi_h|^2 under the data distribution; 0 leaves the first term.
        steps: T.

    Raises:
        ValueError: for an argument out of range.
    """
    if not n > 1:
        raise ValueError(f"n: {n!r} is not a number > 1")
    if not feature_bound > 0:
        raise ValueError(f"feature_bound: {feature_bound!r} is not a positive number")
    if not variance >= 0:
        raise ValueError(f"variance: {variance!r} is not a number >= 0")
    if steps < 1:
        raise ValueError(f"steps: {steps!r} is not an integer >= 1")
    largest = (math.log(n) / (variance * steps)) ** 0.25 if variance else math.inf
    rate = min(1 / (128 * feature_bound), largest)
    return NormalizedSGDSettings(rate, math.log(n) / (16 * rate))


Schedule = Literal["constant", "cosine"]


def checked_schedule(
    learning_rate: float, steps: int, schedule: Schedule, warmup: int, final_fraction: float
) -> optax.Schedule:
    """`learning_rate_schedule` of settings that are in range.

    Raises:
        ValueError: naming the setting that is not.
    """
    check_positive("learning_rate", learning_rate)
    if schedule not in ("constant", "cosine"):
        raise ValueError(f"optimizer.schedule: {schedule!r} is not one of constant, cosine")
    if not isinstance(warmup, int) or warmup < 0:
        raise ValueError(f"optimizer.warmup: {warmup!r} is not an integer >= 0")
    return learning_rate_schedule(learning_rate, steps, schedule, warmup, final_fraction)


def clipping(clip_norm: float | None) -> optax.GradientTransformation | None:
    """Clipping of the global norm, None for none.

    Raises:
        ValueError: a norm that is not positive.
    """
    if clip_norm is None:
        return None
    if not clip_norm > 0:
        raise ValueError(f"optimizer.clip_norm: {clip_norm!r} is not a positive number or null")
    return optax.clip_by_global_norm(clip_norm)


def projection(radius: float | None) -> optax.GradientTransformation | None:
    """`project_onto_ball`, None for none."""
    return None if radius is None else project_onto_ball(radius)


def check_positive(name: str, value: float) -> None:
    """Refuse, by a ValueError, a setting that is not a positive number."""
    if not value > 0:
        raise ValueError(f"optimizer.{name}: {value!r} is not a positive number")


def check_not_negative(name: str, value: float) -> None:
    """Refuse, by a ValueError, a setting that is not a number >= 0."""
    if not value >= 0:
        raise ValueError(f"optimizer.{name}: {value!r} is not a number >= 0")


def check_fraction(name: str, value: float) -> None:
    """Refuse, by a ValueError, a setting that is not in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"optimizer.{name}: {value!r} is not in [0, 1)")
