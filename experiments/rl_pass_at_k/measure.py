"""Exact Pass@k and coverage profile of a base model and along reinforcement learning from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Int

from covlab.claims.arms import check_rl_settings
from covlab.claims.claim import Study, require_seeds
from covlab.claims.matrices import common_seeds, run_matrices
from covlab.claims.settings import check_mapping, check_names
from tasks.checks import whole
from tracking import load_run

BASE = "base"
"""The run that reinforcement learning starts from."""

NS = (*range(1, 65), 96, 128, 192, 256, 512, 1024, 2048, 4096)
"""The k of Pass@k, at every checkpoint: whole numbers up to 64, then coarser."""
COVERAGE_NS = tuple(float(n) for n in 2.0 ** np.arange(0.5, 10.25, 0.25))
"""The N of the coverage profile in the figure."""


def arms(field: str, value: Any) -> dict[str, dict[str, Any]]:
    """Runs of reinforcement learning by name, at least one.

    Raises:
        ValueError: a name or a setting that no run can have.
    """
    made = {}
    for name in check_mapping(field, value):
        made[name] = check_rl_settings(f"{field}.{name}", value[name])
        check_names(field, (name,), taken=BASE)
    return made


def draws(field: str, value: Any) -> int:
    """A k at which Pass@k is measured.

    Raises:
        ValueError: any other value.
    """
    k = whole(field, value, 1)
    if k not in NS:
        raise ValueError(f"{field}: {k}; valid: {NS[0]} to 64, or one of {', '.join(map(str, NS[64:]))}")
    return k


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of its base run are of experiments.train.

    Attributes:
        arms: runs of reinforcement learning from the base model; the first is judged, the others are
            reported.
        rl: settings of experiments.train_rl, of all arms.
        small_k: the k at which Pass@k shall rise.
        large_k: the k at which Pass@k shall fall; coverage is measured at N = large_k too.
    """

    arms: Annotated[Mapping[str, Mapping[str, Any]], arms]
    rl: Annotated[Mapping[str, Any], check_rl_settings]
    small_k: Annotated[int, draws]
    large_k: Annotated[int, draws]

    def __post_init__(self) -> None:
        """Refuse a large k that is not above the small one."""
        if not self.small_k < self.large_k:
            raise ValueError(f"large_k: {self.large_k} is not above small_k = {self.small_k}")


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


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the runs of reinforcement learning, for the seeds that diverged in none.

    Raises:
        ValueError: fewer than two seeds.
    """
    task: Any = study.runs[BASE].setup.phases[-1].task
    runs = {name: run for name, run in study.runs.items() if name != BASE}
    seeds = common_seeds(run.path for run in runs.values())
    require_seeds("rl_pass_at_k", seeds)
    weights = {}
    for name, run in runs.items():
        objective: Any = run.setup.phases[-1].objective
        in_reward = getattr(objective, "kl", None) == "reward" and objective.normalise == "none"
        weights[name] = float(objective.kl_weight) if in_reward else None
    return Measurements(
        {name: measure_arm(run.path, seeds, settings.large_k) for name, run in runs.items()},
        task.group_probs,
        settings.small_k,
        settings.large_k,
        weights,
    )


def measure_arm(path: Path, seeds: Sequence[int] | None, large_k: int) -> Arm:
    """Read a run of experiments.train_rl whose task enumerates its valid responses.

    Args:
        path: the run's directory.
        seeds: those to keep, None for all that did not diverge.
        large_k: the N at which coverage is judged.
    """
    matrices = run_matrices(path)
    kept = [i for i, seed in enumerate(matrices.seeds) if seeds is None or seed in seeds]
    passes = matrices.pass_at_n(NS)
    if passes is None or matrices.log_prob_correct is None:
        raise ValueError("task: rl_pass_at_k needs a task that enumerates its valid responses")
    coverage_ns = (*COVERAGE_NS, float(large_k))
    covered = matrices.coverage(coverage_ns)
    return Arm(
        tuple(matrices.seeds[i] for i in kept),
        np.asarray(matrices.steps),
        np.stack([passes[n][kept] for n in NS]),
        np.stack([covered[n][kept] for n in coverage_ns]),
        matrices.kl()[kept],
        # One pair a prompt, because each class of this task has one path.
        np.exp(matrices.log_prob_correct[..., matrices.groups == 0]).mean(axis=-1)[kept],
        float(load_run(path)["eval/bound_excess"].max()),
    )
