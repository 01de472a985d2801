"""Tables of a comparison: groups of runs, best first, and the choices of the selection rules in each."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from covlab.launch.differences import setting_order, short_names
from covlab.launch.found_runs import Problem
from covlab.report.labels import shortened
from covlab.report.plotting import Band
from covlab.report.tables import cell
from experiments.compare.figures import MOST_LINES
from experiments.compare.groups import Group, Summary, best, direction, final, label, summary
from experiments.compare.rules import RuleRow
from experiments.compare.sections import Section
from metrics import Interval

LONGEST_LABEL = 60
"""Characters of a label in a legend, if no fewer tell the groups apart."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Groups in the order of the table, with display settings.

    Attributes:
        groups: the groups; best first, once `sorted`.
        keys: distinguishing setting -> settings that always change with it.
        metrics: the compared metrics; the first sorts the groups.
        x: the horizontal axis of the curves.
        phases: the compared phases; more than one if the runs' last phases differ.
        band: kind of band over the seeds.
        sort: see conf/compare.yaml.
        higher: patterns of metrics whose highest value is best.
        lines: number of groups with a line.
        top: number of printed rows.
        problems: omitted runs.
        oracles: the `eval/pass/<N>` of the oracles.
        rules: rank (from 1) -> the rules' choices.
        notes: further sentences for the reader.
        sections: the sections of metrics, for the groups with a line.
    """

    groups: tuple[Group, ...]
    keys: dict[str, list[str]]
    metrics: tuple[str, ...]
    x: str
    phases: tuple[str, ...]
    band: Band
    sort: str
    higher: tuple[str, ...]
    lines: int
    top: int
    problems: tuple[Problem, ...]
    oracles: tuple[str, ...] = ()
    rules: Mapping[int, Sequence[RuleRow]] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    sections: tuple[Section, ...] = ()

    def sorted(self) -> Comparison:
        """The comparison with groups in the order of `sort`; groups without a number come last.

        Raises:
            ValueError: an unknown order.
        """
        kind, _, metric = self.sort.partition(":")
        if self.sort in self.keys:
            order = [setting_order(group.settings[self.sort]) for group in self.groups]
            ranks = sorted(range(len(order)), key=lambda i: order[i])
        elif kind in ("best", "final") and (metric or self.metrics[0]) in self.metrics:
            metric = metric or self.metrics[0]
            sign = -1 if direction(metric, self.higher) == "highest" else 1
            value = [sign * self.number(group, metric, kind)[0] for group in self.groups]
            ranks = sorted(range(len(value)), key=lambda i: (math.isnan(value[i]), value[i]))
        else:
            valid = [
                "best",
                "final",
                *(f"{kind}:{self.metrics[-1]}" for kind in ("best", "final")),
                *self.keys,
            ]
            raise ValueError(f"sort: {self.sort!r}; valid: {', '.join(valid)}")
        return dataclasses.replace(self, groups=tuple(self.groups[i] for i in ranks))

    @property
    def shown(self) -> tuple[Group, ...]:
        """The groups with a line."""
        return self.groups[: min(self.lines, MOST_LINES)]

    @functools.cached_property
    def names(self) -> dict[str, str]:
        """key -> short name."""
        return short_names(list(self.keys))

    @functools.cached_property
    def labels(self) -> list[str]:
        """Rank in the table and settings of every group with a line."""
        if len(self.groups) == 1:
            return shortened([label(self.groups[0], self.names)], LONGEST_LABEL)
        # Common settings are in the table, and would push differing settings out of a label.
        differ = [key for key in self.keys if len({group.settings[key] for group in self.shown}) > 1]
        names = {key: self.names[key] for key in differ}
        texts = shortened([label(group, names) for group in self.shown], LONGEST_LABEL)
        return [f"{rank}: {text}" if text else str(rank) for rank, text in enumerate(texts, start=1)]

    def number(self, group: Group, metric: str, kind: str) -> Summary:
        """A metric's best or final value over the group's seeds."""
        if kind == "final":
            return summary([final(member, metric) for member in group.members])
        which = direction(metric, self.higher)
        return summary([best(member, metric, which) for member in group.members])

    @functools.cached_property
    def all_numbers(self) -> list[dict[tuple[str, str], Summary]]:
        """(metric, best or final) -> `number`, for every group."""
        cells = [(metric, kind) for metric in self.metrics for kind in ("best", "final")]
        return [{cell: self.number(group, *cell) for cell in cells} for group in self.groups]

    @property
    def repeated(self) -> bool:
        """True if any group has several seeds and so a range."""
        return any(len(group.members) > 1 for group in self.groups)


def table(
    comparison: Comparison, limit: int | None = None, ranges: bool = True
) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the groups' table: medians over the seeds, with ranges if `ranges`."""
    lacking = any(group.diverged for group in comparison.groups)
    several = len({group.states for group in comparison.groups}) > 1
    columns = ["#", *comparison.names.values(), "runs", "seeds", *(["diverged"] if lacking else [])]
    columns += [*(["state"] if several else []), "last step"]
    columns += [f"{kind} {metric}" for metric in comparison.metrics for kind in ("best", "final")]
    rows = []
    for rank, group in enumerate(comparison.groups[:limit], start=1):
        head: list[Any] = [rank, *(_value(group.settings[key]) for key in comparison.keys)]
        head += [len(group.runs), len(group.members), *([group.diverged] if lacking else [])]
        head += [*([group.states] if several else []), max(int(run.step[-1]) for run in group.runs)]
        values = comparison.all_numbers[rank - 1].values()
        rows.append(head + [_with_range(value) if ranges else value[0] for value in values])
    return columns, rows


def rules_table(comparison: Comparison, ranks: Sequence[int]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of every rule's choices in the groups of these ranks."""
    columns = ["#", "rule", "seeds", "chosen step", *comparison.metrics]
    columns += [f"behind the oracle, {comparison.oracles[0]}"] if comparison.oracles else []
    rows = []
    for rank in ranks:
        for row in comparison.rules.get(rank, ()):
            cells = [rank, row.rule, row.seeds, row.step[0], *(value[0] for value in row.values.values())]
            rows.append(cells + ([row.behind[0]] if comparison.oracles else []))
    return columns, rows


def remarks(comparison: Comparison) -> list[str]:
    """Sentences of remarks for the reader."""
    runs = sum(len(group.runs) for group in comparison.groups)
    seeds = sum(len(group.members) for group in comparison.groups)
    lines = [
        f"{runs} run{'s' * (runs != 1)}, {seeds} seed{'s' * (seeds != 1)}, {len(comparison.groups)} "
        f"group{'s' * (len(comparison.groups) != 1)}; phase {', '.join(comparison.phases)}."
    ]
    moves = {comparison.names[key]: short_names(also) for key, also in comparison.keys.items() if also}
    lines += [
        f"Together with {name} change {', '.join(list(also)[:8])}"
        f"{f' and {len(also) - 8} more' if len(also) > 8 else ''}."
        for name, also in moves.items()
    ]
    waiting = sum(run.head.state == "running" for group in comparison.groups for run in group.runs)
    if waiting:
        lines.append(
            f"{waiting} of the runs say that they are still running (a killed run does too): "
            "their last numbers are not final."
        )
    lost = sum(group.diverged for group in comparison.groups)
    if lost:
        lines.append(f"{lost} seed{'s' * (lost != 1)} stopped early (diverged) and count{'s' * (lost == 1)} "
                     "in no median.")  # fmt: skip
    return lines + comparison.notes


def title(comparison: Comparison) -> str:
    """Title of the groups' table."""
    kind, _, metric = comparison.sort.partition(":")
    metric = metric or comparison.metrics[0]
    order = comparison.sort if comparison.sort in comparison.keys else f"{kind} {metric}"
    return f"Groups of runs, sorted by {order}"


def directions(comparison: Comparison) -> str:
    """The better direction of every compared metric, in a sentence."""
    by_direction = {"lowest": "Lower", "highest": "Higher"}
    metrics = {way: [m for m in comparison.metrics if direction(m, comparison.higher) == way]
               for way in by_direction}  # fmt: skip
    texts = [f"{by_direction[way]} is better: {', '.join(names)}." for way, names in metrics.items() if names]
    return " ".join(texts)


def range_note(comparison: Comparison) -> str:
    """Explanation of the brackets in the groups' table, if it has any."""
    return " Median over the seeds [lowest, highest]." if comparison.repeated else ""


def _with_range(value: Summary) -> Any:
    middle, low, high = value
    if not math.isfinite(middle) or low == high:
        return middle
    return cell(Interval(middle, low, high))


def _value(text: str) -> Any:
    """The text as a number if it is one, so that the page aligns and sorts it as one."""
    try:
        return int(text)
    except ValueError:
        return text


def flat_table(comparison: Comparison) -> tuple[list[str], list[list[Any]]]:
    """`table.csv`: every group, with full keys and one number per cell."""
    parts = ("median", "low", "high")
    columns = ["rank", *comparison.keys, "runs", "seeds", "diverged", "state", "last_step"]
    kinds = ("best", "final")
    columns += [f"{kind} {m} {part}" for m in comparison.metrics for kind in kinds for part in parts]
    columns += ["run_names"]
    rows = []
    numbered = zip(comparison.groups, comparison.all_numbers, strict=True)
    for rank, (group, numbers) in enumerate(numbered, start=1):
        head = [rank, *group.settings.values(), len(group.runs), len(group.members), group.diverged]
        head += [group.states, max(int(run.step[-1]) for run in group.runs)]
        values = [number for value in numbers.values() for number in value]
        rows.append([*head, *values, " ".join(run.head.name for run in group.runs)])
    return columns, rows


def flat_rules(comparison: Comparison) -> tuple[list[str], list[list[Any]]]:
    """`rules.csv`: the rules' choices in every group, medians over the seeds."""
    columns = ["rank", *comparison.keys, "rule", "seeds", "chosen_step", *comparison.metrics, "behind_oracle"]
    rows = []
    for rank, group in enumerate(comparison.groups, start=1):
        for row in comparison.rules.get(rank, ()):
            values = [value[0] for value in row.values.values()]
            rows.append(
                [rank, *group.settings.values(), row.rule, row.seeds, row.step[0], *values, row.behind[0]]
            )
    return columns, rows
