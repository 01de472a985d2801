"""Fine-tuning on the rules of a majority and of a minority: KL, coverage and Pass@N along the run, the
checkpoints that rules select, the turning point of a curve, the test whether a model tells the classes apart.

Claims on the shortcut of the Coverage Principle (arXiv 2510.15020, Figure 1) share this. KL and log-odds are
in nats.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax
import numpy as np
from jaxtyping import Float, Int

from covlab.claims.matrices import RunMatrices, run_matrices
from covlab.claims.selection import Row, run_tables
from covlab.claims.settings import OneOf
from covlab.claims.trained import bound_excess, require_parameters
from covlab.launch.base_model import of_seed
from covlab.launch.build import Setup
from covlab.launch.trained import TrainedRun
from metrics import (
    TIE_BREAKS,
    Interval,
    TieBreak,
    auc_interval,
    coverage_profile,
    interval_over_shared_prompts,
    isotonic_r2,
    log_density_ratio,
    name_of_n,
    paired_difference_interval,
)
from metrics.evaluators import DistributionEvaluator
from metrics.rank_correlation import spearman

PHASES = ("pretrain", "finetune")
CLASSES = ("G1", "G2")
"""The majority's and the minority's class of the fine-tuning task."""
COVERAGE_NS = (2.0, 3.0, 4.0, 4.6, 5.7)
PASS_NS = (4, 8, 12)
FALL_NS = (3.0, 4.0, 4.6)
RISE_NS = (4.0, 4.6, 5.7)
"""The N whose coverage is tested for falling from the start to its turning point, and for rising from there.

A class-blind model on its way to the shortcut raises Cov_N, N > 2, from 0 to .1, but the start leaves Cov_3
above .1, and next to nothing of Cov_5.7 to fall.
"""
TURN_NS = tuple(sorted({*FALL_NS, *RISE_NS}))
PAIRS = {4: 2.0, 8: 4.0, 12: 5.7}
"""Pass@N and the Cov_M that it is held against, as the paper draws them."""
CLASS_BLIND_MIN_KL = round(float(-0.9 * np.log(0.9) - 0.1 * np.log(0.1)), 4)
"""KL of the best class-blind model, 0.325 nats."""


def tournament_n(field: str, value: Any) -> float:
    """An N that coverage is measured at.

    Raises:
        ValueError: another one.
    """
    if value not in COVERAGE_NS:
        raise ValueError(f"{field}: {value!r} is not one of {', '.join(map(name_of_n, COVERAGE_NS))}")
    return float(value)


@dataclasses.dataclass(frozen=True)
class Tournament:
    """The simple tournament that the verdict judges, fixed before the verdict's seeds are drawn."""

    n: Annotated[float, tournament_n]
    tie_break: Annotated[TieBreak, OneOf(TIE_BREAKS)]


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """Measurements of a fine-tuning run; arrays are (seeds, checkpoints).

    Attributes:
        tournament: the tournament that `chosen` is the choice of.
        matrices: the log-probabilities of fine-tuning.
        kl: in nats.
        cov: N -> Cov_N.
        halves: N -> Cov_N on either half of the held-out prompts, (2, seeds, checkpoints), for `TURN_NS`.
        passes: N -> exact Pass@N.
        tables: seed -> every selection rule at every N and tie-break.
        chosen, lowest: by seed, indices of the checkpoints that the tournament and the least KL select.
        blindness: seed -> AUC of the log-odds between the two rules' paths.
        log_odds: class -> the first seed's log-odds at the end, nats.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation.
    """

    tournament: Tournament
    matrices: RunMatrices
    kl: np.ndarray
    cov: dict[float, np.ndarray]
    halves: dict[float, np.ndarray]
    passes: dict[int, np.ndarray]
    tables: dict[int, list[Row]]
    chosen: np.ndarray
    lowest: np.ndarray
    blindness: dict[int, Interval]
    log_odds: dict[str, np.ndarray]
    bound_excess: float

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that did not diverge."""
        return self.matrices.seeds

    @property
    def lowest_passes(self) -> Float[np.ndarray, " seeds"]:
        """Pass@8 of the checkpoints of least KL."""
        return self._at(8, self.lowest)

    @property
    def largest_rise(self) -> float:
        """The largest rise of the KL above its running minimum, over the seeds, nats."""
        return float(np.max(self.kl - np.minimum.accumulate(self.kl, axis=1)))

    @property
    def auc(self) -> Interval:
        """The AUC of `blindness` over the seeds, which share the prompts."""
        return interval_over_shared_prompts(list(self.blindness.values()))

    def gain(self, n: int) -> Interval:
        """Pass@n of the tournament's choice minus that of the least KL, over the seeds."""
        return paired_difference_interval(self._at(n, self.chosen), self._at(n, self.lowest))

    def _at(self, n: int, places: Int[np.ndarray, " seeds"]) -> Float[np.ndarray, " seeds"]:
        return self.passes[n][np.arange(len(places)), places]


def require_shortcut(claim: str, setup: Setup) -> None:
    """Refuse, by a ValueError, a run without the phases `PHASES`, one whose last task has other classes than
    `CLASSES`, and one that keeps no parameters."""
    phases, groups = tuple(phase.name for phase in setup.phases), setup.phases[-1].task.groups
    if phases != PHASES:
        raise ValueError(f"phases: {[*phases]}; {claim} needs {', '.join(PHASES)}")
    if groups != CLASSES:
        raise ValueError(f"phases.finetune.task.mixture: {groups}; {claim} needs {' and '.join(CLASSES)}")
    require_parameters(claim, setup)


def measure_run(claim: str, run: TrainedRun, tournament: Tournament, blindness_examples: int) -> FineTuning:
    """Read the fine-tuning of a run, and test whether its last model tells the classes apart.

    Args:
        claim: the name in a refusal.
        run: a run whose last phase is `finetune`, on two classes.
        tournament: chooses a checkpoint by coverage.
        blindness_examples: held-out examples of each class for the test.

    Raises:
        ValueError: a task that does not enumerate its valid responses, or a run that cannot be read.
    """
    matrices = run_matrices(run.path, PHASES[-1])
    tables = run_tables(matrices, COVERAGE_NS, TIE_BREAKS, PASS_NS)
    passes = matrices.exact_passes(claim, PASS_NS)
    blindness, log_odds = class_blindness(run, matrices, blindness_examples)
    return FineTuning(
        tournament=tournament,
        matrices=matrices,
        kl=matrices.kl(),
        cov=matrices.coverage(COVERAGE_NS),
        halves={n: coverage_of_halves(matrices, n) for n in TURN_NS},
        passes=passes,
        tables=tables,
        chosen=picks(tables, "simple_tournament", tournament.n, tournament.tie_break),
        lowest=picks(tables, "min_kl"),
        blindness=blindness,
        log_odds=log_odds,
        bound_excess=bound_excess(run),
    )


def coverage_of_halves(matrices: RunMatrices, n: float) -> Float[np.ndarray, "2 seeds checkpoints"]:
    """Cov_n of every checkpoint on either half of the held-out prompts, which alternate within each class."""
    log_ratio = log_density_ratio(matrices.log_pi, matrices.log_probs)
    half = np.zeros(matrices.groups.size, int)
    for group in np.unique(matrices.groups):
        members = np.flatnonzero(matrices.groups == group)
        half[members] = np.arange(members.size) % 2
    return np.stack(
        [
            coverage_profile(log_ratio[..., half == index], [n], matrices.weights[half == index])[..., 0]
            for index in (0, 1)
        ]
    )


@dataclasses.dataclass(frozen=True)
class Turn:
    """Fall of a curve from its start to its turning point, rise from there to its end, by seed, and the
    indices (2, seeds) of the checkpoints taken for the turning point."""

    fall: Float[np.ndarray, " seeds"]
    rise: Float[np.ndarray, " seeds"]
    place: Int[np.ndarray, "2 seeds"]


def turn(halves: Float[np.ndarray, "2 seeds checkpoints"]) -> Turn:
    """Fall and rise of each seed's curve, c_s(0) - c_s(m) and c_s(end) - c_s(m), without selection bias.

    The lowest of several noisy numbers lies below their mean, so a curve without any turn would seem to fall
    and to rise if m were its own minimum. Here m, for seed s on one half of the prompts, is the first minimum
    of the mean curve of all other seeds on the other half. Neither the noise of the prompts that c_s is
    measured on nor that of the training of seed s has a part in the choice: for curves that only fluctuate
    around a level, the mean of fall and rise is 0. A seed's numbers are the means over both halves.
    """
    if halves.shape[1] < 2:
        raise ValueError(f"halves: {halves.shape[1]} seed; valid: at least 2, of which the others choose")
    others = halves.sum(axis=1, keepdims=True) - halves
    place = np.argmin(others[::-1], axis=-1)
    lowest = np.take_along_axis(halves, place[..., None], axis=-1)[..., 0]
    fall, rise = halves[..., 0] - lowest, halves[..., -1] - lowest
    return Turn(fall.mean(axis=0), rise.mean(axis=0), place)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """How well KL and coverage order and explain Pass@N over the checkpoints of each seed.

    Attributes:
        rank_kl, rank_cov: Spearman's rank correlation of -KL, and of -Cov_M, with Pass@N.
        r2_kl, r2_cov: `metrics.isotonic_r2` of Pass@N as a decreasing function of KL, and of Cov_M.
    """

    rank_kl: Float[np.ndarray, " seeds"]
    rank_cov: Float[np.ndarray, " seeds"]
    r2_kl: Float[np.ndarray, " seeds"]
    r2_cov: Float[np.ndarray, " seeds"]


def prediction(results: FineTuning, n: int) -> Prediction:
    """`Prediction` of Pass@n, by the Cov_M of `PAIRS`."""
    passes, cov = results.passes[n], results.cov[PAIRS[n]]

    def r2(predictor: np.ndarray) -> np.ndarray:
        return np.array([isotonic_r2(x, y, increasing=False) for x, y in zip(predictor, passes, strict=True)])

    return Prediction(spearman(-results.kl, passes), spearman(-cov, passes), r2(results.kl), r2(cov))


def class_blindness(
    run: TrainedRun, matrices: RunMatrices, per_group: int
) -> tuple[dict[int, Interval], dict[str, np.ndarray]]:
    """The test whether the last fine-tuned model tells the two classes apart.

    The log-odds ln pi_hat(majority rule's path|x) - ln pi_hat(minority rule's path|x) of fresh held-out
    prompts of G1 and G2 are compared by the area under the ROC curve, P[G1's is larger]: 0.5 if they carry no
    information on the class.

    Returns:
        Seed -> AUC with its 95 % interval, and the first seed's log-odds (nats) by class.
    """
    setup, phase = run.setup, run.setup.phases[-1]
    evaluation = dataclasses.replace(setup.evaluation[-1], num_examples=per_group)
    held_out = evaluation.held_out(phase.task, "blindness")
    evaluator = DistributionEvaluator()
    params = run.parameters(phase.name, phase.steps)

    @jax.jit
    def score(own: Any) -> Any:
        return jax.lax.map(
            lambda batch: evaluator.score(setup.model.tested, phase.task, own, batch)["log_prob"],
            held_out.batches,
        )

    blindness: dict[int, Interval] = {}
    shown: dict[str, np.ndarray] = {}
    for seed in matrices.seeds:
        own = of_seed(params, setup.seeds.index(seed))
        flat = np.asarray(score(own), np.float64).reshape(-1, phase.task.num_enumerated)
        log_prob = flat[: held_out.num_examples]
        log_odds = log_prob[:, 0] - log_prob[:, -1]
        by_class = {name: log_odds[held_out.groups == group] for group, name in enumerate(phase.task.groups)}
        first, second = by_class.values()
        blindness[seed] = auc_interval(first, second)
        shown = shown or by_class
    return blindness, shown


def picks(
    tables: dict[int, list[Row]], rule: str, n: float | None = None, tie_break: str | None = None
) -> Int[np.ndarray, " seeds"]:
    """Index of the checkpoint that a rule chooses, for every seed."""
    wanted = (rule, n, tie_break)
    return np.array(
        [
            next(row["index"] for row in table if (row["rule"], row["n"], row["tie_break"]) == wanted)
            for table in tables.values()
        ]
    )
