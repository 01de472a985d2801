"""Where to start reinforcement learning from: predictors of its outcome, and their competition."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Float, Int

from covlab.claims.matrices import run_matrices
from covlab.report.verdict import Check, check_interval
from metrics import (
    Interval,
    TieBreak,
    mean_interval,
    name_of_n,
    paired_difference_interval,
    simple_tournament,
)
from metrics.rank_correlation import rank_correlation_intervals
from tasks import numpy_stream

CROSS_ENTROPY, COVERAGE, TOURNAMENT = "cross-entropy", "coverage", "tournament"
PASS_NS = (1, 8)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Reinforcement learning from every start, on one kind of prompts.

    Attributes:
        curves: Pass@k along the run, the expected reward at k = 1, for the k of `PASS_NS`.
        steps: of the run's checkpoints.
    """

    curves: Mapping[int, Float[np.ndarray, "seeds starts checkpoints"]]
    steps: Int[np.ndarray, " checkpoints"]

    @property
    def reward(self) -> Float[np.ndarray, "seeds starts"]:
        """The expected reward at the end."""
        return self.curves[1][..., -1]


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        seeds: those that diverged in no run.
        starts: fine-tuning steps that reinforcement learning started from.
        predictors: by name, a number of every start; lower is meant to be better.
        chosen: index of the start that a rule picks, by rule and seed.
        outcomes: by kind of prompts.
        coverage_n: N of the coverage that competes.
    """

    seeds: tuple[int, ...]
    starts: tuple[int, ...]
    predictors: Mapping[str, Float[np.ndarray, "seeds starts"]]
    chosen: Mapping[str, Int[np.ndarray, " seeds"]]
    outcomes: Mapping[str, Outcome]
    coverage_n: float

    def regret(self, rule: str, prompts: str) -> Float[np.ndarray, " seeds"]:
        """Reward of the best start minus that of the start which the rule picks."""
        reward = self.outcomes[prompts].reward
        return reward.max(axis=1) - reward[np.arange(len(reward)), self.chosen[rule]]

    def correlations(self, prompts: str) -> tuple[dict[str, Interval], Interval]:
        """By predictor, the mean over seeds of Spearman's correlation of "lower is better" with the reward;
        and by how much coverage's exceeds that of the cross-entropy."""
        names = list(self.predictors)
        stacked = -np.stack([self.predictors[name] for name in names])
        pair = (names.index(COVERAGE), names.index(CROSS_ENTROPY))
        rng = numpy_stream(0, "rl_from_checkpoint", "bootstrap", prompts)
        each, (difference,) = rank_correlation_intervals(stacked, self.outcomes[prompts].reward, (pair,), rng)
        return dict(zip(names, each, strict=True)), difference


def measure(
    base: Path,
    runs: Mapping[str, Mapping[int, Path]],
    starts: Sequence[int],
    coverage_n: float,
    tournament_n: float,
    tie_break: str,
) -> Measurements:
    """Read the base run and the runs from its checkpoints.

    Args:
        base: directory of a run with the phase `finetune`, evaluated at `starts`.
        runs: by kind of prompts and start, the directory of the run from there.
        starts: fine-tuning steps, ascending.
        coverage_n: N of the coverage that competes with the cross-entropy.
        tournament_n, tie_break: of the simple tournament among the starts.

    Raises:
        ValueError: a start that the base run has not evaluated.
    """
    matrices = run_matrices(base, "finetune")
    missing = [step for step in starts if step not in matrices.steps]
    if missing:
        raise ValueError(f"starts: {missing[0]} is no evaluated step of phase finetune of {base}")
    found = {
        prompts: {step: run_matrices(path) for step, path in own.items()} for prompts, own in runs.items()
    }
    everywhere = [matrices.seeds, *(each.seeds for own in found.values() for each in own.values())]
    seeds = tuple(sorted(set.intersection(*(set(each) for each in everywhere))))
    rows, columns = [matrices.seeds.index(seed) for seed in seeds], [matrices.steps.index(s) for s in starts]
    picked = np.ix_(rows, columns)
    log_probs = matrices.log_probs[picked]
    passes = matrices.pass_at_n(PASS_NS)
    if passes is None:
        raise ValueError("task: rl_from_checkpoint needs a task that enumerates its valid responses")
    selections = [
        simple_tournament(own, tournament_n, matrices.weights, tie_break=cast(TieBreak, tie_break))
        for own in log_probs
    ]
    cross_entropy = -np.average(log_probs, axis=-1, weights=matrices.weights)
    coverage = matrices.coverage((2.0, 3.0, 4.0, 5.7, coverage_n))
    outcomes = {}
    for prompts, own in found.items():
        curves = {}
        for n in PASS_NS:
            each = [own[step].pass_at_n((n,)) for step in starts]
            rows_of = [[own[step].seeds.index(seed) for seed in seeds] for step in starts]
            curves[n] = np.stack(
                [cast(dict, table)[n][r] for table, r in zip(each, rows_of, strict=True)], axis=1
            )
        outcomes[prompts] = Outcome(curves, np.asarray(own[starts[0]].steps))
    return Measurements(
        seeds,
        tuple(starts),
        {
            CROSS_ENTROPY: cross_entropy,
            COVERAGE: coverage[coverage_n][picked],
            TOURNAMENT: np.stack([each.scores for each in selections]),
            **{f"Cov_{name_of_n(n)}": coverage[n][picked] for n in (2.0, 3.0, 4.0, 5.7) if n != coverage_n},
            **{f"1 - Pass@{n} (oracle)": 1 - passes[n][picked] for n in PASS_NS},
        },
        {
            TOURNAMENT: np.array([each.index for each in selections]),
            CROSS_ENTROPY: cross_entropy.argmin(axis=1),
            COVERAGE: coverage[coverage_n][picked].argmin(axis=1),
        },
        outcomes,
        coverage_n,
    )


def checks(found: Measurements) -> tuple[Check, ...]:
    """The claim's checks, the same for each kind of prompts.

    - The coverage of the start orders the rewards reached: a lower Cov_N (which is better) goes with a higher
      reward, so the mean rank correlation of the two, Cov_N's sign turned, is above 0.
    - It does so better than the cross-entropy: the difference of the two is above 0.
    - The tournament's start loses at most .02 of the best start's reward, and
    - no more than the start of least cross-entropy.

    The first two with the whole 95 % interval of a bootstrap over seeds and starts that is paired between
    predictors; the last two with Student's over the seeds, on the mean and on the whole interval.

    What to expect of a model that cannot see the class, with mass p on the majority's path (derived, before
    any run): policy gradients move p by an equation of one dimension, which keeps the order of the starts.
    On prompts as in training the reward is .9 p + .1 (1 - p): it is higher the larger p, and so is, up to
    p = .9, the start's likelihood. The cross-entropy then orders the starts without an error, and coverage at
    N = 4, which degrades once the minority's path has less than 1/4, orders them wrongly. On the minority's
    prompts the reward is 1 - p: everything is the other way round.

    Raises:
        ValueError: with fewer than two seeds.
    """
    made: list[Check] = []
    for prompts in found.outcomes:
        each, difference = found.correlations(prompts)
        name = f"Cov_{name_of_n(found.coverage_n)}"
        tournament, least = (found.regret(rule, prompts) for rule in (TOURNAMENT, CROSS_ENTROPY))
        made += [
            check_interval(
                f"{prompts}: rank correlation of a lower {name} at the start with a higher reward reached",
                each[COVERAGE],
                ">",
                0.0,
                "low",
            ),
            check_interval(
                f"{prompts}: the same minus that of the cross-entropy", difference, ">", 0.0, "low"
            ),
            check_interval(
                f"{prompts}: reward lost by the tournament's start against the best",
                mean_interval(tournament),
                "<=",
                0.02,
            ),
            check_interval(
                f"{prompts}: the same minus that of the least cross-entropy",
                paired_difference_interval(tournament, least),
                "<=",
                0.0,
                "high",
            ),
        ]
    return tuple(made)


def notes(found: Measurements, worked: float) -> tuple[str, ...]:
    """What the numbers mean, one sentence or two each."""
    written = []
    for prompts, outcome in found.outcomes.items():
        each, _ = found.correlations(prompts)
        shown = ", ".join(
            f"{name} {own.estimate:+.2f} [{own.low:+.2f}, {own.high:+.2f}]" for name, own in each.items()
        )
        means = outcome.reward.mean(axis=0)
        best = found.starts[int(means.argmax())]
        written.append(
            f"{prompts}: rank correlation of a lower predictor with a higher reward reached: {shown}."
        )
        written.append(
            f"{prompts}: reward {outcome.curves[1][:, :, 0].mean():.3f} at the start and {means.mean():.3f} "
            f"at the end on average over starts; best start: step {best} ({means.max():.3f}), worst: "
            f"{means.min():.3f}; Pass@8 at the end {outcome.curves[8][:, :, -1].mean():.3f}."
        )
    picks = "; ".join(
        f"{rule}: {', '.join(str(found.starts[i]) for i in index)}" for rule, index in found.chosen.items()
    )
    written.append(f"Starts picked, by seed: {picks}.")
    written.append(f"Training and evaluation took {worked:.0f} s for all runs and seeds together.")
    return tuple(written)
