"""Predictors of what reinforcement learning from a checkpoint reaches, and the rewards reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, cast

import numpy as np
from jaxtyping import Float, Int

from covlab.claims.arms import check_rl_settings
from covlab.claims.claim import Study, require_seeds
from covlab.claims.matrices import run_matrices
from covlab.claims.settings import OneOf, Real, Section, Wholes, check_mapping, check_names
from metrics import TIE_BREAKS, Interval, TieBreak, name_of_n, simple_tournament
from metrics.rank_correlation import rank_correlation_intervals
from tasks import numpy_stream

BASE, PHASE = "base", "finetune"
"""The run that reinforcement learning starts from, and the phase whose checkpoints are the starts."""
CROSS_ENTROPY, COVERAGE, TOURNAMENT = "cross-entropy", "coverage", "tournament"
PASS_NS = (1, 8)


def prompts(field: str, value: Any) -> dict[str, dict[str, Any] | None]:
    """Kinds of prompts by name, at least one: fields of the task that differ from the base run's, or null.

    Raises:
        ValueError: a name that no run can have, or a value that is not a mapping.
    """
    for kind in check_mapping(field, value):
        check_names(field, (kind,), taken=BASE)
        if not isinstance(value[kind], dict | None):
            raise ValueError(f"{field}.{kind}: {value[kind]!r} is neither null nor fields of the task")
    return dict(value)


def run(field: str, value: Any) -> str | None:
    """A run's directory, or null."""
    return None if value is None else str(value)


@dataclasses.dataclass(frozen=True)
class Tournament:
    """The simple tournament among the starts."""

    n: Annotated[float, Real(above=1, below=1e6)]
    tie_break: Annotated[str, OneOf(TIE_BREAKS)]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of its base run are of experiments.train.

    Attributes:
        starts: steps of the base run's phase `finetune` that reinforcement learning starts from.
        prompts: kinds of prompts that are answered.
        rl: settings of experiments.train_rl.
        coverage_n: N of the start's Cov_N, the predictor that competes with the cross-entropy.
        tournament: the tournament that chooses a start by coverage.
        run: a run with the phases of Figure 1 and all its checkpoints; null trains one.
    """

    starts: Annotated[tuple[int, ...], Wholes(0, at_least=3)]
    prompts: Annotated[Mapping[str, Mapping[str, Any] | None], prompts]
    rl: Annotated[Mapping[str, Any], check_rl_settings]
    coverage_n: Annotated[float, Real(above=1, below=1e6)]
    tournament: Annotated[Tournament, Section(Tournament)]
    run: Annotated[str | None, run]


def run_name(kind: str, step: int) -> str:
    """The run from a start on a kind of prompts."""
    return f"{kind}_{step:05d}"


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
        per_statistic, (difference,) = rank_correlation_intervals(
            stacked, self.outcomes[prompts].reward, (pair,), rng
        )
        return dict(zip(names, per_statistic, strict=True)), difference


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the base run and the runs from its checkpoints, for the seeds that diverged in none.

    Raises:
        ValueError: a start that the base run has not evaluated, or fewer than two seeds.
    """
    starts, coverage_n, base = settings.starts, settings.coverage_n, study.runs[BASE].path
    matrices = run_matrices(base, PHASE)
    missing = [step for step in starts if step not in matrices.steps]
    if missing:
        raise ValueError(f"starts: {missing[0]} is no evaluated step of phase {PHASE} of {base}")
    reached = {
        kind: {step: run_matrices(study.runs[run_name(kind, step)].path) for step in starts}
        for kind in settings.prompts
    }
    everywhere = [
        matrices.seeds,
        *(item.seeds for by_start in reached.values() for item in by_start.values()),
    ]
    seeds = tuple(sorted(set.intersection(*(set(seeds_of_run) for seeds_of_run in everywhere))))
    require_seeds("rl_from_checkpoint", seeds)
    rows, columns = [matrices.seeds.index(seed) for seed in seeds], [matrices.steps.index(s) for s in starts]
    picked = np.ix_(rows, columns)
    log_probs = matrices.log_probs[picked]
    passes = matrices.exact_passes("rl_from_checkpoint", PASS_NS)
    tie_break = cast(TieBreak, settings.tournament.tie_break)
    selections = [
        simple_tournament(log_prob, settings.tournament.n, matrices.weights, tie_break=tie_break)
        for log_prob in log_probs
    ]
    cross_entropy = -np.average(log_probs, axis=-1, weights=matrices.weights)
    coverage = matrices.coverage((2.0, 3.0, 4.0, 5.7, coverage_n))
    outcomes = {}
    for kind, by_step in reached.items():
        ends = [by_step[step] for step in starts]
        rows_of = [[end.seeds.index(seed) for seed in seeds] for end in ends]
        tables = [cast(dict, end.pass_at_n(PASS_NS)) for end in ends]
        curves = {
            n: np.stack([table[n][r] for table, r in zip(tables, rows_of, strict=True)], axis=1)
            for n in PASS_NS
        }
        outcomes[kind] = Outcome(curves, np.asarray(ends[0].steps))
    competing = coverage[coverage_n][picked]
    return Measurements(
        seeds,
        starts,
        {
            CROSS_ENTROPY: cross_entropy,
            COVERAGE: competing,
            TOURNAMENT: np.stack([selection.scores for selection in selections]),
            **{f"Cov_{name_of_n(n)}": coverage[n][picked] for n in (2.0, 3.0, 4.0, 5.7) if n != coverage_n},
            **{f"1 - Pass@{n} (oracle)": 1 - passes[n][picked] for n in PASS_NS},
        },
        {
            TOURNAMENT: np.array([selection.index for selection in selections]),
            CROSS_ENTROPY: cross_entropy.argmin(axis=1),
            COVERAGE: competing.argmin(axis=1),
        },
        outcomes,
        coverage_n,
    )
