"""Coverage and Pass@N of update rules at equal cross-entropy and after equal steps, paired by seed.

All runs of a task and length measure on one held-out set, and seed s starts from the same parameters and sees
the same training examples under every rule; so what differs between rules is compared within each seed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Int

from covlab.claims.claim import Study
from covlab.claims.settings import Flag, Given, Whole
from covlab.claims.trained import evaluations, finished_seeds, mean_over_steps
from covlab.launch.build import Setup
from experiments.optimizers_graph.rules import (
    BASELINE,
    LENGTH_FIELDS,
    NORMALISED,
    RULES,
    Cell,
    Place,
    RuleSettings,
    TaskSettings,
    compared_places,
    learning_rates,
    ns_by_task,
    rule_settings,
    some_rules,
    task_settings,
)
from metrics import Interval, line_fit, mean_interval, pass_at_n_unbiased
from metrics.coverage import name_of_n
from tasks import check_seeds
from tracking import load_run

SPAN = 1.1
"""The highest level of KL at which rules are compared over the lowest, where there are several: Cov_N falls
from 1 to nearly 0 within a factor of 2 to 4 of the KL, and all levels must lie where it is neither."""
REACHED = 0.75
"""Share of the seeds that must reach the levels under every rule."""
ROOM = (0.2, 0.8)
"""Least and largest Cov_N at which a comparison can show a difference in either direction."""


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
        place: true: choose `compared` and `n` by `choose_place` and `choose_n` on the placing seeds, and
            judge nothing.
        place_seed: first seed of the runs that places are chosen on.
        place_seeds: number of these seeds.
        levels: levels of cross-entropy at which rules are compared.
        compared: <task>-<length> -> N and lowest KL of the comparison at equal cross-entropy.
        n: task -> N of the Cov_N that is judged after equal steps; a number is the N of every comparison.
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
    place: Annotated[bool, Flag()]
    place_seed: Annotated[int, Given()]
    place_seeds: Annotated[int, Given()]
    levels: Annotated[int, Whole(1)]
    compared: Annotated[Mapping[str, Place], compared_places]
    n: Annotated[float | Mapping[str, float], ns_by_task]
    pass_n: Annotated[int, Whole(1)]
    learning_rates: Annotated[Mapping[str, Mapping[str, Any]], learning_rates]

    def __post_init__(self) -> None:
        """Refuse bad seeds of tuning and placing."""
        check_seeds(self.tuning_seed, self.tuning_seeds, fields=("tuning_seed", "tuning_seeds"))
        check_seeds(self.place_seed, self.place_seeds, fields=("place_seed", "place_seeds"))

    def n_after_steps(self, task: str) -> float | None:
        """N of the comparison after equal steps; None where it is not chosen."""
        return self.n.get(task) if isinstance(self.n, Mapping) else self.n

    def place_of(self, cell: Cell) -> Place | None:
        """N and lowest KL of the comparison at equal cross-entropy; None where they are not chosen."""
        place = self.compared.get(cell.name)
        return place if place is None or isinstance(self.n, Mapping) else place._replace(n=self.n)

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
        n: N of the Cov_N that is compared at equal cross-entropy.
        levels: KL (nats) at which rules are compared, the lowest first.
    """

    response: int
    entropy: float
    curves: dict[str, Curves]
    n: float
    levels: Float[np.ndarray, " levels"]

    def cov(self, curves: Curves) -> Float[np.ndarray, "seeds evaluations"]:
        """Cov_n."""
        return curves.cov[self.n]

    def at_levels(self, rule: str, of: Callable[[Curves], np.ndarray]) -> Float[np.ndarray, "seeds levels"]:
        """A quantity where the rule's KL first falls to each level; NaN where it never does."""
        curves = self.curves[rule]
        return np.array(
            [
                at_first_reach(kl, values, self.levels)
                for kl, values in zip(curves.kl, of(curves), strict=True)
            ]
        )

    @property
    def reached(self) -> float:
        """Share of the seeds on which SGD and every rule that is judged fall to all levels."""
        runs = [self.at_levels(rule, self.cov) for rule in (BASELINE, *NORMALISED)]
        return float(np.mean(np.isfinite(runs).all(axis=(0, 2))))

    @property
    def coarseness(self) -> float:
        """`coarseness` of all rules at the levels."""
        return coarseness(self.curves, self.levels)

    def gap(self, rule: str, of: Callable[[Curves], np.ndarray]) -> Float[np.ndarray, " seeds"]:
        """SGD's minus the rule's at equal cross-entropy, mean over the levels; NaN where one of the two does
        not fall to all levels."""
        return (self.at_levels(BASELINE, of) - self.at_levels(rule, of)).mean(axis=1)

    def gap_over_steps(self, rule: str, of: Callable[[Curves], np.ndarray]) -> Float[np.ndarray, " seeds"]:
        """SGD's minus the rule's after equal steps, mean over the iterates."""
        return self.over_steps(BASELINE, of) - self.over_steps(rule, of)

    def over_steps(self, rule: str, of: Callable[[Curves], np.ndarray]) -> Float[np.ndarray, " seeds"]:
        """A quantity's mean over the iterates, which the bounds for linear models are on: the area below its
        curve (trapezoids between evaluations) over the number of steps."""
        curves = self.curves[rule]
        return mean_over_steps(curves.steps, of(curves))


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        n: task -> N of the Cov_N that is compared after equal steps.
        pass_n: of the Pass@N that is reported.
        seeds: those that finished every run.
        left_out: one text for each seed that did not, in which run.
        tasks: task -> its lengths, shortest first.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation.
        rates: learning rates by task and length, then by rule.
    """

    n: Mapping[str, float]
    pass_n: int
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    tasks: dict[str, tuple[Compared, ...]]
    bound_excess: float
    rates: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    def cov(self, task: str) -> Callable[[Curves], Float[np.ndarray, "seeds evaluations"]]:
        """Cov_n of a task, the n of the comparison after equal steps."""
        return lambda curves: curves.cov[self.n[task]]

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


def levels_from(kl: float, count: int) -> Float[np.ndarray, " levels"]:
    """`count` levels of KL, geometrically spaced from `kl` to `SPAN` times that."""
    return np.geomspace(kl, SPAN * kl, count)


def coarseness(curves: Mapping[str, Curves], levels: Float[np.ndarray, " levels"]) -> float:
    """KL before over KL after, of the two evaluations that a level lies between: mean over levels, seeds and
    rules that fall to it; NaN where none does. Near 1, interpolation decides little."""
    ratios = [
        kl[after - 1] / kl[after]
        for of_rule in curves.values()
        for kl in of_rule.kl
        for after in (np.argmax(kl <= level) for level in levels)
        if after > 0
    ]
    return float(np.mean(ratios)) if ratios else math.nan


def choose_place(curves: Mapping[str, Curves], count: int) -> Place:
    """The lowest place at which every rule's Cov_N has room, from runs that serve nothing else.

    Candidates are the KL that a share `REACHED` of the seeds reaches under every rule, with a tenth to spare,
    and 2^(1/4), 2^(1/2), ... times that, as long as every run begins above. The lowest is taken at which for
    some N the mean over seeds lies within .35 and .65 under every rule and at every level, and `coarseness`
    is at most 1.4; if there is none, the candidate where it strays least from 1/2. The N is the one with
    which it strays least.

    Raises:
        ValueError: no candidate below where the first run begins.
    """
    least = np.sort(np.max([np.nan_to_num(c.kl, nan=np.inf).min(axis=1) for c in curves.values()], axis=0))
    kl = 1.1 * float(least[math.ceil(REACHED * len(least)) - 1])
    start = min(float(c.kl[:, 0].min()) for c in curves.values())
    tried: list[tuple[float, float, Place]] = []
    while SPAN * kl < start:
        levels, found = levels_from(kl, count), []
        for n in next(iter(curves.values())).cov:
            stray = max(_stray(c, n, levels) for c in curves.values())
            found.append((stray, n, Place(float(n), float(f"{kl:.3g}"))))
        if min(found)[0] <= 0.15 and coarseness(curves, levels) <= 1.4:
            return min(found)[2]
        tried += found
        kl *= 2**0.25
    if not tried:
        raise ValueError(f"kl: {kl:.4g} nats at best, where a run begins at {start:.4g}; valid: lower")
    return min(tried)[2]


def _stray(curves: Curves, n: float, levels: Float[np.ndarray, " levels"]) -> float:
    """Largest distance from 1/2 at any level of Cov_n's mean over the seeds that reach it."""
    values = np.array([at_first_reach(*pair, levels) for pair in zip(curves.kl, curves.cov[n], strict=True)])
    reached = np.isfinite(values)
    if not reached.any(axis=0).all():
        return math.inf
    return float(np.max(np.abs(np.mean(values, axis=0, where=reached) - 0.5)))


def choose_n(longest: Curves) -> float:
    """The N at which SGD's Cov_N at the longest responses, mean over iterates and seeds, is nearest 1/2."""
    steps = longest.steps
    means = {n: float(mean_over_steps(steps, cov).mean()) for n, cov in longest.cov.items()}
    return float(min(means, key=lambda n: (abs(means[n] - 0.5), n)))


def over_seeds(values: Float[np.ndarray, " seeds"]) -> Interval:
    """`mean_interval` over the seeds with a value; NaN with fewer than two."""
    kept = np.asarray(values, np.float64)
    kept = kept[np.isfinite(kept)]
    return mean_interval(kept) if len(kept) > 1 else Interval(np.nan, np.nan, np.nan)


def trend(lengths: Sequence[int], gaps: Float[np.ndarray, "seeds lengths"]) -> Interval:
    """By how much a gap grows for each doubling of the length: each seed's least-squares slope in log2 H,
    mean over the seeds with a gap at every length, with a 95 % interval (Student)."""
    kept = np.asarray(gaps, np.float64)
    kept = kept[np.isfinite(kept).all(axis=1)]
    if len(kept) < 2:
        return Interval(np.nan, np.nan, np.nan)
    return mean_interval(line_fit(tuple(np.log2(np.asarray(lengths, float))), kept)[0])


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the runs. Seeds that diverged in one run are left out of all.

    Raises:
        ValueError: fewer than two seeds finished every run.
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
        place = settings.place_of(cell)
        assert place is not None, "refused before training"
        compared = Compared(
            response=task.response_length,
            entropy=float(evaluated["eval/ce"] - evaluated["eval/kl"]),
            curves=curves,
            n=place.n,
            levels=levels_from(place.kl, settings.levels),
        )
        tasks.setdefault(cell.task, []).append(compared)
    return Measurements(
        n={task: n for task in tasks if (n := settings.n_after_steps(task)) is not None},
        pass_n=settings.pass_n,
        seeds=seeds,
        left_out=left_out,
        tasks={task: tuple(sorted(cells, key=lambda each: each.response)) for task, cells in tasks.items()},
        bound_excess=max(float(frame["eval/bound_excess"].max()) for frame in frames.values()),
        rates=settings.learning_rates,
    )


def curves_of(frame: Any, setup: Setup, seeds: Sequence[int]) -> Curves:
    """A run's evaluations from its records; Pass@N is exact where the valid responses are enumerated, else
    estimated from the samples of all prompts together, which are then one and the same; NaN without samples.
    """
    settings = setup.evaluation[-1]

    def column(name: str) -> np.ndarray:
        return np.asarray(evaluations(frame, seeds, name).to_numpy(float))

    if settings.num_samples and "eval/sampled_pass/1" in frame:
        count = settings.num_examples * settings.num_samples
        correct = np.rint(column("sampled_pass/1") * count).astype(int)
        many = pass_at_n_unbiased(count, correct.reshape(-1), settings.pass_ns)
        passes = np.moveaxis(np.asarray(many).reshape(*correct.shape, -1), -1, 0)
    elif f"eval/pass/{name_of_n(settings.pass_ns[0])}" in frame:
        passes = np.array([column(f"pass/{name_of_n(n)}") for n in settings.pass_ns])
    else:
        passes = np.full((len(settings.pass_ns), *column("kl").shape), np.nan)
    return Curves(
        steps=evaluations(frame, seeds, "kl").columns.to_numpy(),
        kl=column("kl"),
        cov={
            float(coverage_n): column(f"cov/{name_of_n(coverage_n)}") for coverage_n in settings.coverage_ns
        },
        passes={int(pass_n): passed for pass_n, passed in zip(settings.pass_ns, passes, strict=True)},
    )
