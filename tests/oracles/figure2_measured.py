"""Measurements of Figure 2 on models whose answer is known: guessing, reading the path, knowing the rule."""

import math

import numpy as np

from covlab.claims.matrices import RunMatrices
from experiments.figure2.branching import Branching
from experiments.figure2.checks import GUESSES, READS
from experiments.figure2.measure import Horizon, Measurements, horizon
from metrics import Interval
from tasks import LayeredGraph

PROBS = {"chain": 0.94, "xor": 0.05, "uniform": 0.01}
STEPS = np.arange(0, 17) * 100
SEEDS, PROMPTS = 4, 40
LN2 = math.log(2)


def xor_loss(model: str, layers: int) -> np.ndarray:
    """Nats that a model pays in each branching layer of class xor."""
    return {
        GUESSES: np.full(layers, LN2),
        READS: np.r_[LN2, np.zeros(layers - 1)],
        "knows": np.zeros(layers),
    }[model]


def measured_horizon(depth: int, model: str = GUESSES, n: float = 3.0, noise: float = 0.01) -> Horizon:
    """A run that begins as a uniform guess among 30 tokens and has converged from its second evaluation on.

    Every seed's losses in class xor are off by a factor of its own, 1 +- `noise`.
    """
    task = LayeredGraph(depth=depth, width=2, num_ids=2 + 2 * depth, mixture=PROBS, max_enumerated=0)
    groups = np.repeat(np.arange(3), PROMPTS)
    layers = depth // 2
    factor = 1 + noise * np.linspace(-1, 1, SEEDS)[:, None, None]
    ends = np.array([0.0, -xor_loss(model, layers).sum(), -4 * LN2])
    log_pi = np.array([0.0, 0.0, -4 * LN2])[groups]
    log_probs = np.broadcast_to(ends[groups], (SEEDS, len(STEPS), groups.size)).copy()
    # Worse than the closed form, never better, so that no ratio falls below its threshold by noise.
    log_probs[..., groups == 1] *= 1 + np.abs(factor - 1)
    log_probs[:, 0] = -(depth + 2) * math.log(30)
    matrices = RunMatrices(
        phase="train",
        steps=tuple(STEPS.tolist()),
        seeds=tuple(range(SEEDS)),
        diverged=(),
        log_probs=log_probs,
        log_pi=log_pi,
        weights=np.array([0.94, 0.05, 0.01])[groups] / PROMPTS,
        groups=groups,
        log_prob_correct=None,
        prompt_weights=np.array([0.94, 0.05, 0.01])[groups] / PROMPTS,
    )
    loss = np.broadcast_to(xor_loss(model, layers), (SEEDS, 2, layers)) * factor
    auc = 0.99 if model == "knows" else 0.5
    branching = Branching(
        steps=(0, int(STEPS[-1])),
        loss=loss + 0.01,
        choice_loss=loss,
        auc=(Interval(auc, auc - 0.01, min(auc + 0.01, 1.0)),) * SEEDS,
        log_odds={},
    )
    return horizon(depth, task, matrices, range(SEEDS), n, (2.0, 3.0, 16.0), branching, 0.0)


def measured(
    model: str = GUESSES, depths: tuple[int, ...] = (4, 6, 10), n: float = 3.0, noise: float = 0.01
) -> Measurements:
    horizons = tuple(measured_horizon(depth, model, n, noise) for depth in depths)
    return Measurements(n, tuple(range(SEEDS)), (), horizons)
