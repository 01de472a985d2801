"""What reinforcement learning does to Pass@k and to the coverage profile: measured exactly, and judged."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from covlab.claims.matrices import RunMatrices, run_matrices
from covlab.report.verdict import Check, check_interval, check_value
from metrics import Interval, mean_interval, name_of_n, paired_difference_interval
from tracking import load_run

NS = (*range(1, 65), 96, 128, 192, 256, 512, 1024, 2048, 4096)
"""The k of Pass@k, at every checkpoint: whole numbers up to 64, then coarser."""
COVERAGE_NS = tuple(float(n) for n in 2.0 ** np.arange(0.5, 10.25, 0.25))
"""The N of the coverage profile in the figure."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One run of reinforcement learning; its first checkpoint is the base model.

    Attributes:
        seeds, steps: of the checkpoints.
        passes: exact Pass@k for the k of `NS`.
        coverage: Cov_N for the N of `COVERAGE_NS`, then at `large_k`.
        kl: KL(pi_D || pi_hat) in nats.
        majority: mean probability of the path that the likeliest class takes, on its own prompts.
        bound_excess: the largest excess of Cov_N over its bound by the KL at any evaluation.
    """

    seeds: tuple[int, ...]
    steps: Int[np.ndarray, " checkpoints"]
    passes: Float[np.ndarray, "ns seeds checkpoints"]
    coverage: Float[np.ndarray, "coverage_ns seeds checkpoints"]
    kl: Float[np.ndarray, "seeds checkpoints"]
    majority: Float[np.ndarray, "seeds checkpoints"]
    bound_excess: float

    def at(self, k: int) -> Float[np.ndarray, "seeds checkpoints"]:
        """Pass@k."""
        return self.passes[NS.index(k)]

    @property
    def crossing(self) -> Int[np.ndarray, " seeds"]:
        """The least k of `NS` at which the last checkpoint's Pass@k is below the base model's; 0 where none
        is."""
        below = self.passes[:, :, -1] < self.passes[:, :, 0]
        return np.where(below.any(axis=0), np.asarray(NS)[below.argmax(axis=0)], 0)


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        arms: by name; the first is judged.
        probs: the classes' probabilities p_c.
        small_k, large_k: where Pass@k shall rise and fall.
        kl_weights: by arm, that of its objective where the divergence is in the reward, else None.
    """

    arms: Mapping[str, Arm]
    probs: tuple[float, ...]
    small_k: int
    large_k: int
    kl_weights: Mapping[str, float | None]

    @property
    def judged(self) -> Arm:
        """The first arm."""
        return next(iter(self.arms.values()))


def blind_pass_at_k(probs: Sequence[float], mass: Sequence[float], k: int) -> float:
    """Pass@k = sum_c p_c (1 - (1 - q_c)^k) of a model that cannot tell the classes apart and gives the path
    of class c the probability q_c, whatever the prompt."""
    return math.fsum(p * (1 - (1 - q) ** k) for p, q in zip(probs, mass, strict=True))


def kept_near(p: float, kl_weight: float) -> float:
    """The mass that maximises E[r] - kl_weight KL(q || p) for a blind model with two paths, the first right
    with probability p and the reference's mass p on it too: logit q = logit p + (2 p - 1)/kl_weight."""
    return 1 / (1 + math.exp(-math.log(p / (1 - p)) - (2 * p - 1) / kl_weight))


def measure_arm(path: Path, seeds: Sequence[int] | None, large_k: int) -> Arm:
    """Read a run of experiments.train_rl whose task enumerates its valid responses.

    Args:
        path: the run's directory.
        seeds: those to keep, None for all that did not diverge.
        large_k: the N at which coverage is judged.
    """
    matrices = run_matrices(path)
    kept = [i for i, seed in enumerate(matrices.seeds) if seeds is None or seed in seeds]
    found = matrices.pass_at_n(NS)
    if found is None or matrices.log_prob_correct is None:
        raise ValueError("task: rl_pass_at_k needs a task that enumerates its valid responses")
    covered = matrices.coverage((*COVERAGE_NS, float(large_k)))
    return Arm(
        tuple(matrices.seeds[i] for i in kept),
        np.asarray(matrices.steps),
        np.stack([found[n][kept] for n in NS]),
        np.stack([covered[n][kept] for n in (*COVERAGE_NS, float(large_k))]),
        matrices.kl()[kept],
        _majority(matrices)[kept],
        float(load_run(path)["eval/bound_excess"].max()),
    )


def _majority(matrices: RunMatrices) -> Float[np.ndarray, "seeds checkpoints"]:
    assert matrices.log_prob_correct is not None
    # One pair a prompt, because each class of this task has one path.
    own = matrices.groups == 0
    return np.exp(matrices.log_prob_correct[..., own]).mean(axis=-1)


def living(paths: Mapping[str, Path]) -> tuple[int, ...]:
    """Seeds that diverged in none of the runs."""
    found = [set(run_matrices(path).seeds) for path in paths.values()]
    return tuple(sorted(set.intersection(*found)))


def checks(found: Measurements) -> tuple[Check, ...]:
    """The claim's checks on the first arm, with 95 % Student intervals over the seeds.

    The reasons for the targets. A base model that is calibrated and cannot tell the classes apart gives each
    class's path its probability: Pass@1 = sum p_c^2. The best that such a model can earn is max p_c, by
    always taking the likeliest class's path; then Pass@k = max p_c for every k, and Cov_N = 1 - max p_c for
    every N.

    - Pass@small_k rises by at least half of what there is to win, with the whole interval.
    - It ends at most .03 above max p_c: more would mean that the model has learned to tell the classes.
    - Pass@large_k falls by at least half of what the closed form loses, with the whole interval.
    - So the curves cross: in every seed, at k <= 8 (the closed form at k = 2).
    - Cov at N = large_k rises by at least half of 1 - max p_c, with the whole interval: the profile no longer
      falls with N.

    Raises:
        ValueError: with fewer than two seeds.
    """
    arm, probs = found.judged, found.probs
    best = max(probs)
    start_small, start_large = (blind_pass_at_k(probs, probs, k) for k in (found.small_k, found.large_k))
    small, large = arm.at(found.small_k), arm.at(found.large_k)
    missing = np.where(arm.crossing == 0, NS[-1] + 1, arm.crossing)
    return (
        check_interval(
            f"Pass@{found.small_k}: rise by reinforcement learning",
            paired_difference_interval(small[:, -1], small[:, 0]),
            ">=",
            round((best - start_small) / 2, 4),
            "low",
        ),
        check_interval(
            f"Pass@{found.small_k} at the end minus the best without telling classes apart",
            _shifted(mean_interval(small[:, -1]), -best),
            "<=",
            0.03,
            "high",
        ),
        check_interval(
            f"Pass@{found.large_k}: fall below the base model's",
            paired_difference_interval(large[:, 0], large[:, -1]),
            ">=",
            round((start_large - best) / 2, 4),
            "low",
        ),
        check_value("least k at which Pass@k is below the base model's, worst seed", missing.max(), "<=", 8),
        check_interval(
            f"Cov_{name_of_n(found.large_k)}: rise by reinforcement learning",
            paired_difference_interval(arm.coverage[-1, :, -1], arm.coverage[-1, :, 0]),
            ">=",
            round((1 - best) / 2, 4),
            "low",
        ),
    )


def _shifted(interval: Interval, by: float) -> Interval:
    return Interval(interval.estimate + by, interval.low + by, interval.high + by)


def notes(found: Measurements, worked: float) -> tuple[str, ...]:
    """What the numbers mean, one sentence or two each."""
    best, written = max(found.probs), []
    for name, arm in found.arms.items():
        crossing = ", ".join(str(k) if k else "none" for k in arm.crossing.tolist())
        text = (
            f"{name}: Pass@{found.small_k} {_change(arm.at(found.small_k))}, Pass@{found.large_k} "
            f"{_change(arm.at(found.large_k))}, KL {_change(arm.kl)} nats; least k below the base model, by "
            f"seed: {crossing}; mass on the likeliest class's path {_change(arm.majority)}"
        )
        weight = found.kl_weights[name]
        if weight and len(found.probs) == 2:
            mass = kept_near(best, weight)
            closed = blind_pass_at_k(found.probs, (mass, 1 - mass), found.large_k)
            text += (
                f", where the closed form with weight {weight:g} has {mass:.3f} and Pass@{found.large_k} "
                f"{closed:.3f}"
            )
        written.append(f"{text}.")
    calibrated = blind_pass_at_k(found.probs, found.probs, found.large_k)
    written.append(
        f"Closed form: Pass@{found.large_k} {calibrated:.3f} for the calibrated base model, {best:g} for the "
        f"best class-blind rule."
    )
    written.append(f"Training and evaluation took {worked:.0f} s for all runs and seeds together.")
    return tuple(written)


def _change(values: Float[np.ndarray, "seeds checkpoints"]) -> str:
    return f"{values[:, 0].mean():.3f} -> {values[:, -1].mean():.3f}"
