"""Exact Pass@k and coverage profile of a base model and along reinforcement learning from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from covlab.claims.arms import check_rl_settings
from covlab.claims.claim import Study, require_seeds
from covlab.claims.matrices import common_seeds, run_matrices
from covlab.claims.settings import Overrides, Reals, Section, check_mapping, check_names
from covlab.launch.build import PHASE_KEYS
from tasks.checks import whole
from tracking import load_run

BASE = "base"
"""The run that reinforcement learning of the blind arms starts from."""
OPEN_BASE, OPEN = "open_base", "open"
"""The base run on prompts of which every valid path is right, and reinforcement learning from it."""

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
        for taken in (BASE, OPEN_BASE, OPEN):
            check_names(field, (name,), taken=taken)
    return made


@dataclasses.dataclass(frozen=True)
class Open:
    """The open arm, in which every valid path is right.

    Attributes:
        window: least and largest Pass@large_k of the base model's checkpoint that reinforcement learning
            starts from.
        base: settings of the base run that differ from the blind arms' base.
        rl: settings of reinforcement learning that differ from the first blind arm's.
    """

    window: Annotated[tuple[float, ...], Reals(0, 1, at_least=2)]
    base: Annotated[Mapping[str, Any], Overrides(PHASE_KEYS)]
    rl: Annotated[Mapping[str, Any], check_rl_settings]

    def __post_init__(self) -> None:
        """Refuse a window of more than two numbers."""
        if len(self.window) != 2:
            raise ValueError(f"open.window: {[*self.window]}; valid: a lower and an upper end")


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
        arms: the blind arms, runs of reinforcement learning from the base model; the first is judged, the
            others are reported.
        open: the open arm; its base models are stopped by measurement, see `Open` and `first_inside`.
        rl: settings of experiments.train_rl, of all arms.
        small_k: the k at which Pass@k shall rise.
        large_k: the k at which the blind arms' Pass@k shall fall; coverage is measured at N = large_k too.
    """

    arms: Annotated[Mapping[str, Mapping[str, Any]], arms]
    open: Annotated[Open, Section(Open)]
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
        majority: mean probability of the path that the likeliest class takes, on its own prompts; None where
            every valid path is right.
        bound_excess: the largest excess of Cov_N over its bound by the KL at any evaluation.
    """

    seeds: tuple[int, ...]
    steps: Int[np.ndarray, " checkpoints"]
    passes: Float[np.ndarray, "ns seeds checkpoints"]
    coverage: Float[np.ndarray, "coverage_ns seeds checkpoints"]
    kl: Float[np.ndarray, "seeds checkpoints"]
    majority: Float[np.ndarray, "seeds checkpoints"] | None
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
        arms: the blind arms by name; the first is judged.
        open: the arm in which every valid path is right, over the seeds whose base model was in `window`.
        window: see `Open`.
        outside: seeds whose base model had no checkpoint in the window.
        probs: the classes' probabilities p_c.
        small_k, large_k: where Pass@k shall rise and fall.
        kl_weights: by arm, that of its objective where the divergence is in the reward, else None.
    """

    arms: Mapping[str, Arm]
    open: Arm
    window: tuple[float, ...]
    outside: tuple[int, ...]
    probs: tuple[float, ...]
    small_k: int
    large_k: int
    kl_weights: Mapping[str, float | None]

    @property
    def judged(self) -> Arm:
        """The first of the blind arms."""
        return next(iter(self.arms.values()))

    @property
    def every_arm(self) -> dict[str, Arm]:
        """The blind arms and the open one, by name."""
        return {**self.arms, OPEN: self.open}


def blind_pass_at_k(probs: Sequence[float], mass: Sequence[float], k: int) -> float:
    """Pass@k = sum_c p_c (1 - (1 - q_c)^k) of a model that cannot tell the classes apart and gives the path
    of class c the probability q_c, whatever the prompt."""
    return math.fsum(p * (1 - (1 - q) ** k) for p, q in zip(probs, mass, strict=True))


def first_inside(
    passes: Float[np.ndarray, "seeds checkpoints"], window: tuple[float, ...]
) -> tuple[Int[np.ndarray, " seeds"], Bool[np.ndarray, " seeds"]]:
    """Index of each seed's first checkpoint whose Pass@k lies in the window, and whether there is one; the
    last checkpoint where there is none.

    A number of steps that is one for all seeds stops some base models before they have learned anything. By
    this rule each seed starts from what it has learned, whatever reinforcement learning makes of it later.
    """
    inside = (passes >= window[0]) & (passes <= window[1])
    first = inside.argmax(axis=1)
    there = inside[np.arange(len(first)), first]
    return np.where(there, first, passes.shape[1] - 1), there


def open_starts(settings: Settings, path: Path) -> tuple[dict[int, str], tuple[int, ...]]:
    """Checkpoint of the open arm's base run at `path` that each seed starts from, and the seeds without a
    checkpoint in the window. Seeds that diverged in the base run start from its last checkpoint.

    Raises:
        ValueError: a task that does not enumerate its valid responses.
    """
    matrices = run_matrices(path)
    passes = matrices.exact_passes("rl_pass_at_k", (settings.large_k,))[settings.large_k]
    index, there = first_inside(passes, settings.open.window)
    starts = dict.fromkeys(matrices.diverged, f"{matrices.phase}:{matrices.steps[-1]}")
    for seed, place in zip(matrices.seeds, index, strict=True):
        starts[seed] = f"{matrices.phase}:{matrices.steps[place]}"
    outside = [seed for seed, own in zip(matrices.seeds, there, strict=True) if not own]
    return starts, tuple(outside)


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the runs of reinforcement learning, for the seeds that diverged in none.

    Raises:
        ValueError: fewer than two seeds, or fewer than two whose open arm has a base model in the window.
    """
    task: Any = study.runs[BASE].setup.phases[-1].task
    runs = {name: run for name, run in study.runs.items() if name not in (BASE, OPEN_BASE)}
    seeds = common_seeds(run.path for run in runs.values())
    require_seeds("rl_pass_at_k", seeds)
    weights = {}
    _, outside = open_starts(settings, study.runs[OPEN_BASE].path)
    started = tuple(seed for seed in seeds if seed not in outside)
    require_seeds("rl_pass_at_k, open arm", started)
    opened = measure_arm(runs.pop(OPEN).path, started, settings.large_k, blind=False)
    for name, run in runs.items():
        objective: Any = run.setup.phases[-1].objective
        in_reward = getattr(objective, "kl", None) == "reward" and objective.normalise == "none"
        weights[name] = float(objective.kl_weight) if in_reward else None
    return Measurements(
        {name: measure_arm(run.path, seeds, settings.large_k) for name, run in runs.items()},
        opened,
        settings.open.window,
        tuple(seed for seed in seeds if seed in outside),
        task.group_probs,
        settings.small_k,
        settings.large_k,
        weights,
    )


def measure_arm(path: Path, seeds: Sequence[int] | None, large_k: int, blind: bool = True) -> Arm:
    """Read a run of experiments.train_rl whose task enumerates its valid responses.

    Args:
        path: the run's directory.
        seeds: those to keep, None for all that did not diverge.
        large_k: the N at which coverage is judged.
        blind: True where each class of the task has one path, so that a prompt is one pair.
    """
    matrices = run_matrices(path)
    kept = [i for i, seed in enumerate(matrices.seeds) if seeds is None or seed in seeds]
    passes = matrices.pass_at_n(NS)
    if passes is None or matrices.log_prob_correct is None:
        raise ValueError("task: rl_pass_at_k needs a task that enumerates its valid responses")
    coverage_ns = (*COVERAGE_NS, float(large_k))
    covered = matrices.coverage(coverage_ns)
    majority = None
    if blind:
        majority = np.exp(matrices.log_prob_correct[..., matrices.groups == 0]).mean(axis=-1)[kept]
    return Arm(
        tuple(matrices.seeds[i] for i in kept),
        np.asarray(matrices.steps),
        np.stack([passes[n][kept] for n in NS]),
        np.stack([covered[n][kept] for n in coverage_ns]),
        matrices.kl()[kept],
        majority,
        float(load_run(path)["eval/bound_excess"].max()),
    )
