"""Links of the optimizer chains: masks, schedules, normalisation, projection, and checks of settings."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tasks.checks import choice, real, whole


def decay_mask(params: Any) -> Any:
    """True on leaves with weight decay: all but biases and gains of norms, as in GPT.

    Leaves named `bias` or `scale` (last key of the path) have no decay.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", None) not in ("bias", "scale"), params
    )


def learning_rate_schedule(
    learning_rate: float, steps: int, schedule: str, warmup: int, final_fraction: float
) -> optax.Schedule:
    """Learning rate per update, counted from 0: linear warm-up, then constant or cosine decay.

    With the peak eta, w = `warmup`, T = `steps` and f = `final_fraction`, update t has the rate

        t < w:               eta (t + 1)/w, that is eta/w at the first update and eta at update w - 1
        t >= w, constant:    eta
        t >= w, cosine:      eta (f + (1 - f) (1 + cos(pi (t - w)/(T - w)))/2), and eta f from T on
    """
    if schedule == "cosine":
        after = optax.schedules.cosine_decay_schedule(learning_rate, max(steps - warmup, 1), final_fraction)
    else:
        after = optax.schedules.constant_schedule(learning_rate)
    if not warmup:
        return after
    rise = optax.schedules.linear_schedule(learning_rate / warmup, learning_rate, warmup - 1 or 1)
    return optax.schedules.join_schedules([rise, after], [warmup])


def normalize_by_global_norm(damping: float) -> optax.GradientTransformation:
    """g -> g / (lambda + |g|), |g| the Euclidean norm of all leaves together; 0 where g = 0.

    The normalisation of arXiv 2510.15020, section 5.2, is about g / lambda for gradients much smaller than
    lambda, and has length at most 1 for larger ones.

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
    """Last link of a chain: projects theta + update onto the ball |theta| <= radius.

    Proj(v) = v min{1, radius / |v|}, |v| the Euclidean norm of all leaves together; None for no projection.
    The link returns Proj(theta + update) - theta, so that the sum is in the ball up to rounding.

    Raises:
        ValueError: a radius that is not positive; at an update, missing parameters.
    """
    if radius is None:
        return optax.identity()
    real("optimizer.radius", radius, above=0, other="null")

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("project_onto_ball: update(updates, state, params) needs the parameters")
        moved = optax.apply_updates(params, updates)
        norm = optax.tree.norm(moved)
        scale = radius / jnp.maximum(norm, radius)
        return jax.tree.map(lambda new, old: new * scale.astype(new.dtype) - old, moved, params), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def chain(*links: optax.GradientTransformation | None) -> optax.GradientTransformation:
    """Chain of the links that are not None; a single link is not wrapped, so its state keeps the shape."""
    present = [link for link in links if link is not None]
    return present[0] if len(present) == 1 else optax.chain(*present)


class NormalizedSGDSettings(NamedTuple):
    """Settings eta and lambda of `normalized_sgd`."""

    learning_rate: float
    damping: float


def normalized_sgd_settings(
    n: float, feature_bound: float, variance: float, steps: int
) -> NormalizedSGDSettings:
    """Settings of normalised SGD for autoregressive linear models, from the proof of its guarantee.

    eta = min{1/(128 B), (ln N/(sigma*^2 T))^(1/4)} and lambda = ln N/(16 eta). The mean of Cov_N over the
    iterates t = 1..T is then of order sqrt(sigma*^2/(T ln N)) + B^2/T + B/(K ln N), for batches of K
    sequences, parameters in the unit ball and any length H (arXiv 2510.15020, section 5.2).

    Args:
        n: N of Cov_N, > 1.
        feature_bound: B, the largest norm of a feature vector.
        variance: sigma*^2 = E sum_h |phi_h - E phi_h|^2 under the data distribution; 0 for the first term.
        steps: T.

    Raises:
        ValueError: for an argument out of range.
    """
    real("n", n, above=1)
    real("feature_bound", feature_bound, above=0)
    real("variance", variance, least=0)
    whole("steps", steps, 1)
    largest = (math.log(n) / (variance * steps)) ** 0.25 if variance else math.inf
    rate = min(1 / (128 * feature_bound), largest)
    return NormalizedSGDSettings(rate, math.log(n) / (16 * rate))


Schedule = Literal["constant", "cosine"]


def checked_schedule(
    learning_rate: float, steps: int, schedule: Schedule, warmup: int, final_fraction: float
) -> optax.Schedule:
    """`learning_rate_schedule` with checked settings.

    Raises:
        ValueError: naming a setting that is out of range.
    """
    real("optimizer.learning_rate", learning_rate, above=0)
    whole("optimizer.steps", steps)
    choice("optimizer.schedule", schedule, ("constant", "cosine"))
    whole("optimizer.warmup", warmup)
    real("optimizer.final_fraction", final_fraction, least=0, most=1)
    return learning_rate_schedule(learning_rate, steps, schedule, warmup, final_fraction)


def clipping(clip_norm: float | None) -> optax.GradientTransformation | None:
    """Clipping by global norm; None for none.

    Raises:
        ValueError: a norm that is not positive.
    """
    if clip_norm is None:
        return None
    return optax.clip_by_global_norm(real("optimizer.clip_norm", clip_norm, above=0, other="null"))


def projection(radius: float | None) -> optax.GradientTransformation | None:
    """`project_onto_ball`; None for none."""
    return None if radius is None else project_onto_ball(radius)
