"""Differences between runs, the resulting groups, and each group's numbers over seeds."""

from __future__ import annotations

import collections
import dataclasses
import difflib
import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Num

from covlab.launch.differences import texts
from covlab.launch.found_runs import Problem
from experiments.compare.runs import Run
from tracking.metric_names import better

MOST_POINTS = 400
"""Largest number of points of a curve whose members were measured at different steps."""

Direction = Literal["lowest", "highest"]
Summary = tuple[float, float, float]
"""Median, lowest and highest over the seeds."""


@dataclasses.dataclass(frozen=True)
class Member:
    """One seed of one run."""

    run: Run
    seed: int

    def column(self, key: str) -> Float[np.ndarray, " checkpoints"]:
        """A metric, `step` or `global_step` at every checkpoint."""
        if key in ("step", "global_step"):
            return np.asarray(getattr(self.run, key), np.float64)
        return self.run.values[key][self.run.seeds.index(self.seed)]


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that agree in every compared setting.

    Attributes:
        settings: key -> value as text, of the keys that differ between groups.
        runs: the runs.
        members: the healthy seeds of the runs.
        diverged: number of diverged seeds.
    """

    settings: dict[str, str]
    runs: tuple[Run, ...]
    members: tuple[Member, ...]
    diverged: int

    @property
    def states(self) -> str:
        """`complete`, or for example `2 complete, 1 running`."""
        counts = collections.Counter(run.head.state for run in self.runs)
        return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} {s}" for s, n in counts.items())


def choose_keys(wanted: Sequence[str], differing: Sequence[str], known: Iterable[str]) -> list[str]:
    """The keys that `wanted` names or matches, in the order given.

    Raises:
        ValueError: one of them matches no key of any configuration.
    """
    known = ["run", *known]
    keys: dict[str, None] = {}
    for name in wanted:
        # A pattern stands for the matching keys that differ.
        matches = [name] if name in known else fnmatch.filter(differing, name)
        if not matches and not fnmatch.filter(known, name):
            near = difflib.get_close_matches(name, known, n=3) or list(differing[:3]) or known[:3]
            raise ValueError(f"group_by: {name!r} is in no configuration; for example {', '.join(near)} is")
        keys |= dict.fromkeys(matches)
    return list(keys)


def make_groups(
    runs: Sequence[Run], keys: Sequence[str], identity: Sequence[str]
) -> tuple[list[Group], list[Problem]]:
    """Groups of runs that agree in all `keys`, in order of first appearance.

    Equal seeds of runs that agree in all of `identity` are one experiment: the run with more checkpoints
    counts, the other is named.
    """
    taken: dict[tuple[Any, ...], Run] = {}
    problems = []
    for run in sorted(runs, key=lambda run: -len(run.step)):
        for seed in run.seeds:
            place = (*(repr(run.head.config.get(key)) for key in identity), run.phase, seed)
            first = taken.setdefault(place, run)
            if first is not run:
                problems.append(
                    Problem(run.head.name, f"seed {seed}: counted once, as that of {first.head.name}")
                )
    owners: dict[str, set[int]] = collections.defaultdict(set)
    for (*_, seed), run in taken.items():
        owners[run.head.name].add(seed)
    by_values: dict[tuple[str, ...], list[Run]] = {}
    columns = [texts([run.head for run in runs], key) for key in keys]
    for index, run in enumerate(runs):
        if owners[run.head.name]:
            by_values.setdefault(tuple(column[index] for column in columns), []).append(run)
    groups = []
    for values, group_runs in by_values.items():
        counted = [(run, seed) for run in group_runs for seed in run.seeds if seed in owners[run.head.name]]
        members = tuple(Member(run, seed) for run, seed in counted if seed not in run.diverged)
        settings = dict(zip(keys, values, strict=True))
        groups.append(Group(settings, tuple(group_runs), members, len(counted) - len(members)))
    return groups, problems


def direction(metric: str, higher: Sequence[str] = ()) -> Direction:
    """Direction of a metric's best value; `higher` are patterns of metrics of which more is better."""
    return (
        "highest"
        if better(metric) == "higher" or any(fnmatch.fnmatch(metric, name) for name in higher)
        else "lowest"
    )


def final(member: Member, metric: str) -> float:
    """The last value of a seed; NaN if it has none."""
    column = member.column(metric)
    there = np.flatnonzero(~np.isnan(column))
    return float(column[there[-1]]) if there.size else math.nan


def best(member: Member, metric: str, which: Direction) -> float:
    """The best value of a seed over its checkpoints; NaN if it has none."""
    column = member.column(metric)
    column = column[~np.isnan(column)]
    if not column.size:
        return math.nan
    return float(column.max() if which == "highest" else column.min())


def summary(values: Sequence[float]) -> Summary:
    """Median, lowest and highest of the values; infinite values count, NaN does not."""
    # Plain Python: most groups have a handful of seeds, and there may be thousands of groups.
    kept = sorted(value for value in values if not math.isnan(value))
    if not kept:
        return (math.nan, math.nan, math.nan)
    lower, upper = kept[(len(kept) - 1) // 2], kept[len(kept) // 2]
    return (lower if lower == upper else (lower + upper) / 2, kept[0], kept[-1])


def curve(
    members: Sequence[Member], x: str, metric: str
) -> tuple[Num[np.ndarray, " points"], Float[np.ndarray, "seeds points"]]:
    """A metric of every seed against `step` or `global_step`, on the points where any seed was measured.

    A seed is interpolated linearly between its points and absent before the first and after the last.
    Infinite values are absent. More than 400 points are thinned out.
    """
    series = []
    for member in members:
        position, column = member.column(x), member.column(metric)
        kept = np.isfinite(column)
        if kept.any():
            series.append((position[kept], column[kept]))
    if not series:
        return np.zeros(0), np.zeros((0, 0))
    first = series[0][0]
    if all(np.array_equal(position, first) for position, _ in series):
        return first, np.stack([column for _, column in series])
    grid = np.unique(np.concatenate([position for position, _ in series]))
    if grid.size > MOST_POINTS:
        grid = grid[np.unique(np.linspace(0, grid.size - 1, MOST_POINTS).round().astype(int))]
    rows = [np.interp(grid, position, column, np.nan, np.nan) for position, column in series]
    table = np.stack(rows)
    return grid[~np.isnan(table).all(axis=0)], table[:, ~np.isnan(table).all(axis=0)]


def label(group: Group, names: Mapping[str, str]) -> str:
    """`width=64, learning_rate=0.001`, or the run's name if no setting differs."""
    text = ", ".join(f"{name}={group.settings[key]}" for key, name in names.items())
    if not group.settings:
        text = group.runs[0].head.name if len(group.runs) == 1 else f"all {len(group.runs)} runs"
    return text
