"""Exact Pass@1, Pass@k, KL and coverage ratio of every arm in both set-ups, by seed, and of reinforcement
learning from the arms' ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from covlab.claims.arms import check_rl_settings
from covlab.claims.claim import Study, require_seeds
from covlab.claims.matrices import RunMatrices, common_seeds, run_matrices
from covlab.claims.settings import Overrides, Section, Whole, check_mapping, check_names
from covlab.claims.shortcut import Tournament
from covlab.claims.trained import bound_excess, mean_over_steps
from metrics import pass_at_n, simple_tournament
from metrics.coverage_ratio import coverage_ratio
from training import CrossEntropy, Objective, TailSFT

BASE = "base"
"""The run that all arms start from."""
DESTROYED, KEPT = "destroyed", "kept"
"""The set-ups: plain fine-tuning destroys more coverage than it makes, or not."""
STOPPED = "stopped_"
"""Followed by an arm's name: the start of reinforcement learning at the plain checkpoint of nearest KL."""
When = Literal["before", "short", "batches", "end"]
"""Places at which a run of reinforcement learning is read, see `Measurements.read`."""
ARM_KEYS = ("objective", "optimizer", "averaging", "evaluation", "checkpoint")
"""Fields of fine-tuning that an arm may have of its own."""
check_set_up = Overrides(("dataset_size", "steps", "batch_size", "optimizer", "task_overrides"))


def overrides(field: str, value: Any) -> dict[str, dict[str, Any]]:
    """Overrides by the name of an arm.

    Raises:
        ValueError: not a mapping of mappings, a bad name, or a field that an arm does not have.
    """
    names = check_mapping(field, value, at_least=2)
    check_names(field, names, taken=BASE)
    for name in names:
        if name.startswith(STOPPED):
            raise ValueError(f"{field}: {name!r}; valid: a name that does not begin with {STOPPED}")
    return {name: Overrides(ARM_KEYS)(f"{field}.{name}", value[name]) for name in names}


def starts_of(field: str, value: Any) -> dict[str, tuple[str, ...]]:
    """Names of starts by set-up.

    Raises:
        ValueError: not one list for each set-up, or a name that is there twice.
    """
    if not isinstance(value, Mapping) or set(value) != {DESTROYED, KEPT}:
        raise ValueError(f"{field}: {value!r}; valid: a mapping with {DESTROYED}, {KEPT}")
    for set_up, names in value.items():
        if not isinstance(names, list | tuple) or len(set(names)) < max(len(names), 1):
            raise ValueError(f"{field}.{set_up}: {names!r}; valid: a list of different names")
    return {set_up: tuple(str(name) for name in names) for set_up, names in value.items()}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of the base run are of experiments.train.

    Attributes:
        k: k of Pass@k and of the coverage ratio.
        arms: overrides of objective, optimizer and averaging in fine-tuning, by name; the first arm is plain.
        destroyed, kept: overrides of fine-tuning in the two set-ups.
        tune: settings of fine-tuning, of experiments.train_rl.
        tournament: the tournament that chooses a checkpoint of plain fine-tuning.
        starts: set-up -> starts of reinforcement learning: arms, whose last checkpoint it starts from,
            `base`, the parameters before fine-tuning, and `stopped_<arm>`, for each seed the plain checkpoint
            whose KL is nearest to that of the arm's end.
        rl: settings of reinforcement learning, of experiments.train_rl.
    """

    k: Annotated[int, Whole(2)]
    arms: Annotated[Mapping[str, Mapping[str, Any]], overrides]
    destroyed: Annotated[Mapping[str, Any], check_set_up]
    kept: Annotated[Mapping[str, Any], check_set_up]
    tune: Annotated[Mapping[str, Any], check_rl_settings]
    tournament: Annotated[Tournament, Section(Tournament)]
    starts: Annotated[Mapping[str, tuple[str, ...]], starts_of]
    rl: Annotated[Mapping[str, Any], check_rl_settings]

    def __post_init__(self) -> None:
        """Refuse a start of reinforcement learning that is not there."""
        valid = (*self.arms, BASE, *(f"{STOPPED}{name}" for name in self.arms))
        for set_up, names in self.starts.items():
            for name in names:
                if name not in valid:
                    raise ValueError(f"starts.{set_up}: {name!r}; valid are {', '.join(valid)}")
            if (plain := next(iter(self.arms))) not in names:
                raise ValueError(f"starts.{set_up}: {', '.join(names)}; {plain} is missing, to compare with")

    def set_up(self, name: str) -> Mapping[str, Any]:
        """`destroyed` or `kept`."""
        return self.destroyed if name == DESTROYED else self.kept


def run_name(set_up: str, arm: str) -> str:
    """Name of the run of an arm."""
    return f"{set_up}_{arm}"


def rl_name(set_up: str, start: str) -> str:
    """Name of the run of reinforcement learning from a start."""
    return f"rl_{set_up}_{start}"


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
        after: set-up -> start -> reinforcement learning from it; the first evaluation is the start.
        best: set-up -> largest probability of a class, which Pass@1 of a model that cannot tell the classes
            apart does not exceed.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation.
    """

    k: int
    seeds: tuple[int, ...]
    arms: Mapping[str, Mapping[str, Arm]]
    tails: tuple[str, ...]
    tournament: Mapping[str, Int[np.ndarray, " seeds"]]
    epochs: Mapping[str, float | None]
    after: Mapping[str, Mapping[str, Arm]]
    best: Mapping[str, float]
    bound_excess: float

    @property
    def plain(self) -> str:
        """Name of the first arm."""
        return next(iter(self.arms[DESTROYED]))

    def last(self, set_up: str, name: str) -> Float[np.ndarray, " seeds"]:
        """Pass@k after the last step."""
        return self.arms[set_up][name].pass_k[:, -1]

    def stopped(self, set_up: str, name: str, quantity: str) -> Float[np.ndarray, " seeds"]:
        """Pass@k of plain fine-tuning where an arm's end is compared with it, see `at_equal_kl` and
        `nearest`."""
        plain, arm = self.arms[set_up][self.plain], self.arms[set_up][name]
        if quantity == "KL":
            return at_equal_kl(plain.kl, plain.pass_k, arm.kl[:, -1])
        index = nearest(plain.pass_1, arm.pass_1[:, -1])
        return plain.pass_k[np.arange(len(index)), index]

    def compared(self, set_up: str) -> tuple[str, ...]:
        """The arms of TailSFT from whose ends reinforcement learning starts."""
        return tuple(name for name in self.tails if name in self.after[set_up])

    def gain_after(
        self, set_up: str, name: str, other: str, k: int = 1, when: When = "end"
    ) -> Float[np.ndarray, " seeds"]:
        """`read` of reinforcement learning from one start, minus that from another."""
        return self.read(set_up, name, k, when) - self.read(set_up, other, k, when)

    def gain_at_equal_kl(self, name: str, k: int = 1, when: When = "end") -> Float[np.ndarray, " seeds"]:
        """`read` of reinforcement learning from an arm where coverage is destroyed, minus that from plain
        fine-tuning of the arm's KL: `at_equal_kl` of the starts of plain fine-tuning in the order of their KL
        before reinforcement learning."""
        starts = self.after[DESTROYED]
        along = [start for start in starts if start == self.plain or start.startswith(STOPPED)]
        kl = np.stack([starts[start].kl[:, 0] for start in along], axis=1)
        values = np.stack([self.read(DESTROYED, start, k, when) for start in along], axis=1)
        order = np.argsort(kl, axis=1, kind="stable")
        by_kl, ends = (np.take_along_axis(each, order, axis=1) for each in (kl, values))
        return self.read(DESTROYED, name, k, when) - at_equal_kl(by_kl, ends, starts[name].kl[:, 0])

    def mean_gain(
        self, set_up: str, other: str | None, k: int = 1, when: When = "end"
    ) -> Float[np.ndarray, " seeds"]:
        """Mean over the arms in `compared` of `gain_after`, of `gain_at_equal_kl` where `other` is None."""
        gains = [
            self.gain_at_equal_kl(name, k, when)
            if other is None
            else self.gain_after(set_up, name, other, k, when)
            for name in self.compared(set_up)
        ]
        return np.asarray(np.mean(gains, axis=0))

    def read(self, set_up: str, start: str, k: int, when: When) -> Float[np.ndarray, " seeds"]:
        """Pass@1 or Pass@k of reinforcement learning from a start: at it (`before`), at the first evaluation
        after it (`short`), after the last batch (`end`), or the mean over the batches by trapezoids
        (`batches`)."""
        arm = self.after[set_up][start]
        values = arm.pass_1 if k == 1 else arm.pass_k
        if when == "batches":
            return mean_over_steps(arm.steps, values)
        return values[:, {"before": 0, "short": 1, "end": -1}[when]]


def at_equal_kl(
    plain: Float[np.ndarray, "seeds checkpoints"],
    passes: Float[np.ndarray, "seeds checkpoints"],
    end: Float[np.ndarray, " seeds"],
) -> Float[np.ndarray, " seeds"]:
    """Plain fine-tuning's Pass@k at an arm's KL: on the line from its last checkpoint whose KL is at most
    `end` to the next one. At the last checkpoint where its KL is at most `end`, at that of least KL where all
    are above.

    The checkpoint itself, without the line, has a smaller KL than the arm, by half of an interval between
    evaluations on average, and where Pass@k falls as KL rises this is an advantage over the arm.
    """
    found = []
    for kl, values, target in zip(plain, passes, end, strict=True):
        below = np.flatnonzero(kl <= target)
        place = int(below[-1]) if below.size else int(np.argmin(kl))
        share = 0.0
        if below.size and place + 1 < kl.size:
            share = float((target - kl[place]) / (kl[place + 1] - kl[place]))
        following = values[min(place + 1, kl.size - 1)]
        found.append((1 - share) * values[place] + share * following)
    return np.array(found)


def nearest(
    plain: Float[np.ndarray, "seeds checkpoints"], end: Float[np.ndarray, " seeds"]
) -> Int[np.ndarray, " seeds"]:
    """Index of the plain checkpoint whose KL or Pass@1 is nearest to `end`, of equally near ones the last."""
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
    after: dict[str, dict[str, Arm]] = {}
    best: dict[str, float] = {}
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
        after[set_up] = {
            start: arm_of(run_matrices(tuned[rl_name(set_up, start)].path).of_seeds(seeds), settings.k)
            for start in settings.starts[set_up]
        }
        phase = tuned[run_name(set_up, plain)].setup.phases[-1]
        best[set_up] = max(phase.task.group_probs)
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
        after,
        best,
        max(map(bound_excess, tuned.values())),
    )
