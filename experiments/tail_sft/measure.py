"""Exact Pass@1, Pass@k, KL and coverage ratio of every arm in both set-ups, by seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Int

from covlab.claims.arms import check_rl_settings
from covlab.claims.claim import Study, require_seeds
from covlab.claims.matrices import RunMatrices, common_seeds, run_matrices
from covlab.claims.settings import Overrides, Section, Whole, check_mapping, check_names
from covlab.claims.shortcut import Tournament
from covlab.claims.trained import bound_excess
from metrics import pass_at_n, simple_tournament
from metrics.coverage_ratio import coverage_ratio
from training import CrossEntropy, Objective, TailSFT

BASE = "base"
"""The run that all arms start from."""
DESTROYED, KEPT = "destroyed", "kept"
"""The set-ups: plain fine-tuning destroys more coverage than it makes, or not."""
ARM_KEYS = ("objective", "optimizer", "averaging", "evaluation")
"""Fields of fine-tuning that an arm may have of its own."""
check_set_up = Overrides(("dataset_size", "steps", "batch_size", "optimizer", "task_overrides"))


def overrides(field: str, value: Any) -> dict[str, dict[str, Any]]:
    """Overrides by the name of an arm.

    Raises:
        ValueError: not a mapping of mappings, a bad name, or a field that an arm does not have.
    """
    names = check_mapping(field, value, at_least=2)
    check_names(field, names, taken=BASE)
    return {name: Overrides(ARM_KEYS)(f"{field}.{name}", value[name]) for name in names}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of the base run are of experiments.train.

    Attributes:
        k: k of Pass@k and of the coverage ratio.
        arms: overrides of objective, optimizer and averaging in fine-tuning, by name; the first arm is plain.
        destroyed, kept: overrides of fine-tuning in the two set-ups.
        tune: settings of fine-tuning, of experiments.train_rl.
        tournament: the tournament that chooses a checkpoint of plain fine-tuning.
    """

    k: Annotated[int, Whole(2)]
    arms: Annotated[Mapping[str, Mapping[str, Any]], overrides]
    destroyed: Annotated[Mapping[str, Any], check_set_up]
    kept: Annotated[Mapping[str, Any], check_set_up]
    tune: Annotated[Mapping[str, Any], check_rl_settings]
    tournament: Annotated[Tournament, Section(Tournament)]

    def set_up(self, name: str) -> Mapping[str, Any]:
        """`destroyed` or `kept`."""
        return self.destroyed if name == DESTROYED else self.kept


def run_name(set_up: str, arm: str) -> str:
    """Name of the run of an arm."""
    return f"{set_up}_{arm}"


@dataclasses.dataclass(frozen=True)
class Arm:
    """One run, over its evaluations; the first is before fine-tuning.

    Attributes:
        steps: steps of the evaluations.
        pass_1, pass_k: exact Pass@1 and Pass@k.
        kl: KL(pi_D || pi_hat) in nats.
        lost, gained: the sums of the coverage ratio from the first evaluation to the last, over the number of
            all held-out prompts.
        undecided: share of the prompts that these sums are over.
    """

    steps: Int[np.ndarray, " checkpoints"]
    pass_1: Float[np.ndarray, "seeds checkpoints"]
    pass_k: Float[np.ndarray, "seeds checkpoints"]
    kl: Float[np.ndarray, "seeds checkpoints"]
    lost: Float[np.ndarray, " seeds"]
    gained: Float[np.ndarray, " seeds"]
    undecided: Float[np.ndarray, " seeds"]

    @property
    def ratio(self) -> float:
        """rho_k of all seeds together: infinite without gain, NaN where nothing was lost or gained."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.divide(self.lost.sum(), self.gained.sum()))


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        k: k of Pass@k and of the coverage ratio.
        seeds: seeds that diverged in no run.
        arms: set-up -> name -> arm; the first arm of each is plain fine-tuning.
        tails: names of the arms of TailSFT with a positive fraction.
        tournament: set-up -> index of the plain checkpoint that the tournament chooses, by seed.
        epochs: set-up -> number of times that each training prompt is seen; None for fresh prompts.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation.
    """

    k: int
    seeds: tuple[int, ...]
    arms: Mapping[str, Mapping[str, Arm]]
    tails: tuple[str, ...]
    tournament: Mapping[str, Int[np.ndarray, " seeds"]]
    epochs: Mapping[str, float | None]
    bound_excess: float

    @property
    def plain(self) -> str:
        """Name of the first arm."""
        return next(iter(self.arms[DESTROYED]))

    def last(self, set_up: str, name: str) -> Float[np.ndarray, " seeds"]:
        """Pass@k after the last step."""
        return self.arms[set_up][name].pass_k[:, -1]

    def stopped(self, set_up: str, name: str, quantity: str) -> Float[np.ndarray, " seeds"]:
        """Pass@k of the plain checkpoint that an arm's end is compared with, see `same_kl`, `same_pass_1`."""
        plain, arm = self.arms[set_up][self.plain], self.arms[set_up][name]
        if quantity == "KL":
            index = same_kl(plain.kl, arm.kl[:, -1])
        else:
            index = same_pass_1(plain.pass_1, arm.pass_1[:, -1])
        return plain.pass_k[np.arange(len(index)), index]


def same_kl(
    plain: Float[np.ndarray, "seeds checkpoints"], end: Float[np.ndarray, " seeds"]
) -> Int[np.ndarray, " seeds"]:
    """Index of the last plain checkpoint whose KL is at most `end`; of the least KL where all are above."""
    below = plain <= end[:, None]
    last = plain.shape[1] - 1 - np.argmax(below[:, ::-1], axis=1)
    return np.where(below.any(axis=1), last, np.argmin(plain, axis=1))


def same_pass_1(
    plain: Float[np.ndarray, "seeds checkpoints"], end: Float[np.ndarray, " seeds"]
) -> Int[np.ndarray, " seeds"]:
    """Index of the plain checkpoint whose Pass@1 is nearest to `end`, of equally near ones the last."""
    return plain.shape[1] - 1 - np.argmin(np.abs(plain - end[:, None])[:, ::-1], axis=1)


def arm_of(matrices: RunMatrices, k: int) -> Arm:
    """Measurements of one run.

    Raises:
        ValueError: a task that does not enumerate its valid responses.
    """
    if matrices.log_prob_correct is None:
        raise ValueError("task: tail_sft needs a task that enumerates its valid responses")
    by_prompt = np.clip(pass_at_n(matrices.log_prob_correct, (1, k)), 0, 1)
    passes = np.average(by_prompt, axis=2, weights=matrices.prompt_weights)
    ratios = [coverage_ratio(own[0, :, 1], own[-1, :, 1]) for own in by_prompt]
    prompts = by_prompt.shape[2]
    return Arm(
        np.asarray(matrices.steps),
        passes[..., 0],
        passes[..., 1],
        matrices.kl(),
        np.array([ratio.lost for ratio in ratios]) / prompts,
        np.array([ratio.gained for ratio in ratios]) / prompts,
        np.array([ratio.prompts for ratio in ratios]) / prompts,
    )


def tails_of(objectives: Mapping[str, Objective]) -> tuple[str, ...]:
    """Names of the arms of TailSFT with a positive fraction.

    Raises:
        ValueError: the first arm is not cross-entropy, or there is no arm of TailSFT.
    """
    first, objective = next(iter(objectives.items()))
    if type(objective) is not CrossEntropy:
        raise ValueError(
            f"arms.{first}.objective: {type(objective).__name__}; the first arm of tail_sft is CrossEntropy"
        )
    tails = tuple(name for name, own in objectives.items() if isinstance(own, TailSFT) and own.selects)
    if not tails:
        raise ValueError(f"arms: {', '.join(objectives)}; tail_sft needs an arm of TailSFT")
    return tails


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the runs of all arms, for the seeds that diverged in none.

    Raises:
        ValueError: as `arm_of` and `tails_of`, or fewer than two such seeds.
    """
    tuned = {name: run for name, run in study.runs.items() if name != BASE}
    seeds = common_seeds(run.path for run in tuned.values())
    require_seeds("tail_sft", seeds)
    arms: dict[str, dict[str, Arm]] = {}
    chosen: dict[str, np.ndarray] = {}
    epochs: dict[str, float | None] = {}
    plain = next(iter(settings.arms))
    for set_up in (DESTROYED, KEPT):
        own = {
            name: run_matrices(tuned[run_name(set_up, name)].path).of_seeds(seeds) for name in settings.arms
        }
        arms[set_up] = {name: arm_of(matrices, settings.k) for name, matrices in own.items()}
        rule = settings.tournament
        chosen[set_up] = np.array(
            [
                simple_tournament(scores, rule.n, own[plain].weights, tie_break=rule.tie_break).index
                for scores in own[plain].log_probs
            ]
        )
        phase = tuned[run_name(set_up, plain)].setup.phases[-1]
        size = phase.dataset_size
        epochs[set_up] = None if size is None else phase.steps * phase.batch_size / size
    objectives = {name: tuned[run_name(KEPT, name)].setup.phases[-1].objective for name in settings.arms}
    return Measurements(
        settings.k,
        seeds,
        arms,
        tails_of(objectives),
        chosen,
        epochs,
        max(map(bound_excess, tuned.values())),
    )
