"""Coverage and Pass@N of update rules at equal cross-entropy and at equal steps, paired by seed.

All runs of a task and length measure on one held-out set, and seed s starts from the same parameters and sees
the same training examples under every rule; so what differs between rules is compared within each seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from covlab.claims.claim import Study
from covlab.claims.settings import Flag, Given, Overrides, Real, Whole
from covlab.claims.trained import evaluations, finished_seeds
from covlab.launch.build import PHASE_KEYS, Setup
from experiments.optimizers_graph.rules import (
    BASELINE,
    NORMALISED,
    RULES,
    RuleSettings,
    learning_rates,
    rule_settings,
    some_rules,
)
from metrics import Interval, line_fit, mean_interval, pass_at_n_unbiased
from metrics.coverage import name_of_n
from tasks import check_seeds
from tasks.checks import wholes
from tracking import load_run

LENGTH_FIELDS = {"graph": "depth", "dyck": "length"}
"""By the task's name: the field that makes its responses longer."""
_RUN_KEYS = ("model", *(key for key in PHASE_KEYS if key not in ("task", "optimizer")))
DEEPEST = 4.0
"""The highest level of KL at which rules are compared over the lowest: what comes before is common to all
rules, as they begin at the same parameters."""


class Cell(NamedTuple):
    """A task at one length: `field` of the task is `length`."""

    task: str
    length: int
    field: str

    @property
    def name(self) -> str:
        """Also of the directory."""
        return f"{self.task}-{self.length}"


class TaskSettings(NamedTuple):
    """A task, its lengths, and overrides of its runs but for task and optimizer."""

    task: Mapping[str, Any]
    lengths: tuple[int, ...]
    changes: Mapping[str, Any]


def task_settings(field: str, value: Any) -> TaskSettings:
    """A task's settings.

    Raises:
        ValueError: a key that is not there, or fewer than three lengths.
    """
    keys = TaskSettings._fields
    if not isinstance(value, dict):
        raise ValueError(f"{field}: {value!r} is not a mapping; valid keys are {', '.join(keys)}")
    overrides = Overrides(keys)(field, value)
    changes = Overrides(_RUN_KEYS)(f"{field}.changes", overrides.get("changes") or None)
    return TaskSettings(
        overrides.get("task") or {}, wholes(f"{field}.lengths", overrides.get("lengths"), 1, 3), changes
    )


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of its runs are of experiments.train.

    Attributes:
        graph: the graph task, its lengths, and overrides of its runs.
        dyck: the Dyck task, its lengths, and overrides of its runs.
        rules: rule -> grid of learning rates and options.
        shared: arguments of all rules.
        tune: true: choose the learning rates by validation loss on the tuning seeds, and judge nothing.
        tuned_rules: the rules whose learning rates are chosen; null: all.
        tuning_seed: first seed of the runs that learning rates are chosen on.
        tuning_seeds: number of these seeds.
        levels: levels of cross-entropy at which rules are compared.
        n: N of the Cov_N that is judged.
        pass_n: N of the Pass@N that is reported.
        learning_rates: <task>-<length> -> rule -> learning rate.
    """

    graph: Annotated[TaskSettings, task_settings]
    dyck: Annotated[TaskSettings, task_settings]
    rules: Annotated[Mapping[str, RuleSettings], rule_settings]
    shared: Annotated[Mapping[str, Any], Given()]
    tune: Annotated[bool, Flag()]
    tuned_rules: Annotated[tuple[str, ...], some_rules]
    tuning_seed: Annotated[int, Given()]
    tuning_seeds: Annotated[int, Given()]
    levels: Annotated[int, Whole(1)]
    n: Annotated[float, Real(least=1)]
    pass_n: Annotated[int, Whole(1)]
    learning_rates: Annotated[Mapping[str, Mapping[str, Any]], learning_rates]

    def __post_init__(self) -> None:
        """Refuse bad tuning seeds."""
        check_seeds(self.tuning_seed, self.tuning_seeds, fields=("tuning_seed", "tuning_seeds"))

    def of(self, cell: Cell) -> TaskSettings:
        """The settings of a cell's task."""
        of_task: TaskSettings = getattr(self, cell.task)
        return of_task

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The tasks at all their lengths."""
        both = {"graph": self.graph, "dyck": self.dyck}
        return tuple(
            Cell(name, length, LENGTH_FIELDS[name])
            for name, of_task in both.items()
            for length in of_task.lengths
        )


@dataclasses.dataclass(frozen=True)
class Curves:
    """One run's evaluations; arrays are (seeds, evaluations).

    Attributes:
        steps: of the evaluations.
        kl: nats; the cross-entropy minus a constant of the held-out set.
        cov: N -> Cov_N.
        passes: N -> Pass@N.
    """

    steps: Int[np.ndarray, " evaluations"]
    kl: Float[np.ndarray, "seeds evaluations"]
    cov: dict[float, Float[np.ndarray, "seeds evaluations"]]
    passes: dict[int, Float[np.ndarray, "seeds evaluations"]]


@dataclasses.dataclass(frozen=True)
class Compared:
    """A task at one length.

    Attributes:
        response: H, tokens of a response.
        entropy: of pi_D on the held-out set, nats: cross-entropy is KL plus this.
        curves: rule -> its run.
        levels: KL (nats) at which rules are compared, the lowest first: every seed of every rule reaches it.
    """

    response: int
    entropy: float
    curves: dict[str, Curves]
    levels: Float[np.ndarray, " levels"]

    def at_levels(self, rule: str, of: Callable[[Curves], np.ndarray]) -> Float[np.ndarray, "seeds levels"]:
        """A quantity where the rule's KL first falls to each level."""
        curves = self.curves[rule]
        return np.array(
            [
                at_first_reach(kl, values, self.levels)
                for kl, values in zip(curves.kl, of(curves), strict=True)
            ]
        )

    @property
    def coarseness(self) -> float:
        """KL before over KL after, of the two evaluations that a level lies between: mean over levels, seeds
        and rules. Near 1, interpolation decides little."""
        ratios = [
            kl[after - 1] / kl[after]
            for curves in self.curves.values()
            for kl in curves.kl
            for after in (np.argmax(kl <= level) for level in self.levels)
        ]
        return float(np.mean(ratios))

    def gap(self, rule: str, of: Callable[[Curves], np.ndarray]) -> Float[np.ndarray, " seeds"]:
        """SGD's minus the rule's at equal cross-entropy, mean over the levels."""
        return (self.at_levels(BASELINE, of) - self.at_levels(rule, of)).mean(axis=1)

    def final_gap(self, rule: str, of: Callable[[Curves], np.ndarray]) -> Float[np.ndarray, " seeds"]:
        """SGD's minus the rule's after the last step."""
        return of(self.curves[BASELINE])[:, -1] - of(self.curves[rule])[:, -1]


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        n, pass_n: of the Cov_N and the Pass@N that are looked at first.
        seeds: those that finished every run.
        left_out: one text for each seed that did not, in which run.
        tasks: task -> its lengths, shortest first.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation.
        rates: learning rates by task and length, then by rule.
    """

    n: float
    pass_n: int
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    tasks: dict[str, tuple[Compared, ...]]
    bound_excess: float
    rates: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    def cov(self, curves: Curves) -> Float[np.ndarray, "seeds evaluations"]:
        """Cov_n."""
        return curves.cov[self.n]

    def passes(self, curves: Curves) -> Float[np.ndarray, "seeds evaluations"]:
        """Pass@pass_n."""
        return curves.passes[self.pass_n]


def at_first_reach(
    kl: Float[np.ndarray, " evaluations"],
    values: Float[np.ndarray, " evaluations"],
    levels: Float[np.ndarray, " levels"],
) -> Float[np.ndarray, " levels"]:
    """`values` where `kl` first falls to each level, linear in KL between the evaluations before and after;
    NaN where it begins below the level or never falls to it."""
    at = np.full(len(levels), np.nan)
    for index, level in enumerate(levels):
        below = np.flatnonzero(kl <= level)
        if not len(below) or below[0] == 0:
            continue
        after = below[0]
        share = (kl[after - 1] - level) / (kl[after - 1] - kl[after])
        at[index] = values[after - 1] + share * (values[after] - values[after - 1])
    return at


def common_levels(
    kls: Sequence[Float[np.ndarray, "seeds evaluations"]], count: int
) -> Float[np.ndarray, " levels"]:
    """KL levels that every seed of every rule falls to: geometrically spaced from the lowest such level to
    `DEEPEST` times that, or to where the first begins.

    Raises:
        ValueError: some run never falls below where another begins.
    """
    lowest = max(float(kl.min(axis=1).max()) for kl in kls)
    highest = min(float(kl[:, 0].min()) for kl in kls)
    if not lowest < highest:
        raise ValueError(
            f"kl: a rule reaches {lowest:.4g} nats at best, where another begins at {highest:.4g}; valid: "
            f"learning rates at which every rule learns"
        )
    # Strictly below the start, where there is an evaluation before.
    top = min(DEEPEST * lowest, lowest + 0.99 * (highest - lowest))
    return np.geomspace(lowest, top, count) if count > 1 else np.array([lowest])


def trend(lengths: Sequence[int], gaps: Float[np.ndarray, "seeds lengths"]) -> Interval:
    """By how much a gap grows for each doubling of the length: each seed's least-squares slope in log2 H,
    mean over the seeds with a 95 % interval (Student)."""
    slopes = line_fit(tuple(np.log2(np.asarray(lengths, float))), np.asarray(gaps, np.float64))[0]
    return mean_interval(np.atleast_1d(slopes))


def normalised_gap(
    cells: Sequence[Compared], gap: Callable[[Compared, str], np.ndarray], rules: Sequence[str] = NORMALISED
) -> Float[np.ndarray, "seeds lengths"]:
    """The mean over rules of a gap to SGD, by seed and length."""
    return np.array([np.mean([gap(cell, rule) for rule in rules], axis=0) for cell in cells]).T


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the runs. Seeds that diverged in one run are left out of all.

    Raises:
        ValueError: fewer than two seeds finished every run, or rules without a common cross-entropy.
    """
    runs = {cell: {rule: study.runs[f"{cell.name}/{rule}"] for rule in RULES} for cell in settings.cells}
    frames = {
        (cell, rule): load_run(run.path) for cell, by_rule in runs.items() for rule, run in by_rule.items()
    }
    named = {f"{cell.name}, {RULES[rule].title}": frame for (cell, rule), frame in frames.items()}
    seeds, left_out = finished_seeds(named, next(iter(study.runs.values())).setup.seeds)
    tasks: dict[str, list[Compared]] = {}
    for cell, by_rule in runs.items():
        curves = {rule: curves_of(frames[cell, rule], run.setup, seeds) for rule, run in by_rule.items()}
        frame, task = frames[cell, BASELINE], by_rule[BASELINE].setup.phases[-1].task
        evaluated = frame[frame["eval/kl"].notna()].iloc[0]
        try:
            common = common_levels([curve.kl for curve in curves.values()], settings.levels)
        except ValueError as error:
            raise ValueError(f"{cell.name}: {error}") from None
        entropy = float(evaluated["eval/ce"] - evaluated["eval/kl"])
        compared = Compared(response=task.response_length, entropy=entropy, curves=curves, levels=common)
        tasks.setdefault(cell.task, []).append(compared)
    return Measurements(
        n=settings.n,
        pass_n=settings.pass_n,
        seeds=seeds,
        left_out=left_out,
        tasks={task: tuple(sorted(cells, key=lambda each: each.response)) for task, cells in tasks.items()},
        bound_excess=max(float(frame["eval/bound_excess"].max()) for frame in frames.values()),
        rates=settings.learning_rates,
    )


def curves_of(frame: Any, setup: Setup, seeds: Sequence[int]) -> Curves:
    """A run's evaluations from its records; Pass@N is exact where the valid responses are enumerated, else
    estimated from the samples of all prompts together, which are then one and the same."""
    settings = setup.evaluation[-1]

    def column(name: str) -> np.ndarray:
        return np.asarray(evaluations(frame, seeds, name).to_numpy(float))

    if settings.num_samples and "eval/sampled_pass/1" in frame:
        count = settings.num_examples * settings.num_samples
        correct = np.rint(column("sampled_pass/1") * count).astype(int)
        many = pass_at_n_unbiased(count, correct.reshape(-1), settings.pass_ns)
        passes = np.moveaxis(np.asarray(many).reshape(*correct.shape, -1), -1, 0)
    else:
        passes = np.array([column(f"pass/{name_of_n(n)}") for n in settings.pass_ns])
    return Curves(
        steps=evaluations(frame, seeds, "kl").columns.to_numpy(),
        kl=column("kl"),
        cov={
            float(coverage_n): column(f"cov/{name_of_n(coverage_n)}") for coverage_n in settings.coverage_ns
        },
        passes={int(pass_n): passed for pass_n, passed in zip(settings.pass_ns, passes, strict=True)},
    )
