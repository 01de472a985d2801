"""Reinforcement learning that finds an answer with its first reward: measurements of `rl_from_checkpoint`."""

from __future__ import annotations

import math

import numpy as np

from experiments.rl_from_checkpoint.measure import Measurements

MASSES = np.array([0.5 * 3.0**-i for i in range(12)])
"""Of starts a factor 3 apart, from .5 to 2.8e-6."""


def by_law(
    seeds: int, rng: np.random.Generator, shift: float = 0.0, rollouts: tuple[int, int] = (400, 3200)
) -> Measurements:
    """Runs that find the answer if the first right one is among the rollouts, which all starts share.

    With common random numbers the largest mass that is stuck after the first R rollouts is an exponential
    variable over R, for each R of the same stream. `shift` multiplies the mass that is needed by e^shift.
    """
    draws = rng.exponential(size=(seeds, len(rollouts)))
    gaps = np.diff((0, *rollouts))
    stuck = np.minimum.accumulate(draws / gaps, axis=1) * math.exp(shift)
    log_ratios = np.tile(-np.log(MASSES)[:, None], (seeds, 1, 4)) + np.array([-0.3, -0.1, 0.1, 0.3])
    found = MASSES[None, :, None] > np.minimum(stuck, 0.49)[:, None, :]
    start = np.exp(-log_ratios).mean(axis=-1)
    curves = np.concatenate([start[..., None], np.where(found, 0.95, start[..., None])], axis=-1)
    weights = np.full(4, 0.25)
    return Measurements(
        seeds=tuple(range(seeds)),
        starts=tuple(range(len(MASSES))),
        rollouts=rollouts,
        per_visit=8,
        cross_entropy=np.tile(-np.log1p(-MASSES), (seeds, 1)),
        log_ratios=log_ratios,
        weights=weights,
        log_right=-log_ratios,
        prompt_weights=weights,
        curves=curves,
        steps=np.array([0, 1, 2]),
        budgets=(1, 2),
        bound_excess=-1.0,
    )
