"""Comparing runs: python -m experiments.compare runs/train/* metric=eval/kl.

An argument without `key=` is a run directory, a folder of them (searched to any depth) or a pattern. Options
are `key=value` in any order (`conf/compare.yaml` lists them). A directory called `seed=1` is taken for a run,
since `seed` has no effect here; `./x=1` is always a run.

Runs are grouped by `config.yaml`. Runs that differ only in seeds, or in settings that change no number
(names, tracking, checkpoints, devices), form a group, repetitions of one experiment. Every number of a group
is the median over seeds. The printed page is also written to `report.html`, with ranges and figures; all rows
are in `table.csv` and `rules.csv`. Runs in progress take part with their records so far. Runs that failed,
are empty or cannot be read are named and left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf

from covlab.launch.differences import REPLICATES, causes, differing_keys, texts, together
from covlab.launch.found_runs import Head, Problem, find_runs, read_heads
from covlab.launch.run_arguments import (
    asked_runs,
    choose_metrics,
    command_on_runs,
    many,
    nearest,
    unknown,
    usual_metrics,
)
from covlab.launch.run_names import VOLATILE
from experiments.compare.groups import choose_keys, make_groups
from experiments.compare.page import AXES, print_page, write_page
from experiments.compare.rules import CE, KL, rule_rows, tournaments
from experiments.compare.runs import Run, read_runs
from experiments.compare.sections import read_sections
from experiments.compare.tables import Comparison
from metrics import TIE_BREAKS, TieBreak
from tasks.checks import flag, real, whole
from tracking.metric_names import natural
from tracking.run_directory import STATES

_OPTIONS = (
    "band", "group_by", "higher", "hydra", "lines", "metric", "out", "phase", "progress", "runs", "sections",
    "sort", "states", "top", "tournament", "where", "x",
)  # fmt: skip


def compare(config: DictConfig, runs: Sequence[str] = (), arguments: Sequence[str] = ()) -> int:
    """Read, group, print and write; `arguments` is the command line shown on the page."""
    asked = asked_runs(config, runs, "experiments.compare")
    _check(config)
    comparison = collect(config, asked)
    print_page(comparison)
    print(f"\n{write_page(comparison, str(config.out), OmegaConf.to_yaml(config), arguments)}")
    return 0


def collect(config: DictConfig, paths: Sequence[str]) -> Comparison:
    """All contents of the page.

    Raises:
        ValueError: no run is left, or an option names something that no run has.
    """
    folders, problems = find_runs(paths)
    heads, more = read_heads(folders, config.progress)
    problems += more
    heads = _where(heads, config.where)
    heads, more = _in_state(heads, config.states)
    problems += more
    _need(heads, problems, paths)
    names = sorted(set().union(*(head.metrics for head in heads)), key=natural)
    metrics = compared_metrics(many(config.metric), names, config.x)
    oracles = [metric for metric in metrics if metric.startswith("eval/pass/")]
    oracles = oracles or nearest(names, "eval/pass/", 8)
    columns = dict.fromkeys([*metrics, *(() if config.x in AXES else (config.x,)), CE, KL, *oracles])
    read, more = read_runs(heads, list(columns), config.phase, config.progress)
    problems += more
    _need(read, problems, paths)
    read, more = _with_metrics(read, [*metrics, *(() if config.x in AXES else (config.x,))], names)
    problems += more

    heads = [run.head for run in read]
    identity = causes(heads)
    known = dict.fromkeys(key for head in heads for key in head.config)
    differing = differing_keys(heads, (*VOLATILE, *REPLICATES))
    wanted = identity if config.group_by is None else choose_keys(many(config.group_by), differing, known)
    keys = together(heads, wanted)
    groups, more = make_groups(read, list(keys), list(dict.fromkeys([*identity, *wanted])))
    problems += more
    comparison = Comparison(
        groups=tuple(groups),
        keys=keys,
        metrics=tuple(metrics),
        x=config.x,
        phases=tuple(dict.fromkeys(run.phase for run in read)),
        band=config.band if isinstance(config.band, str) else (config.band[0], config.band[1]),
        sort=str(config.sort),
        higher=tuple(map(str, many(config.higher))),
        lines=config.lines,
        top=config.top,
        problems=tuple(problems),
        oracles=tuple(oracles),
    ).sorted()
    if measured := [key for key in differing if key not in (*identity, *wanted)]:
        comparison.notes.append(
            "The runs also differ in what they measure, which explains no difference in results: "
            f"{', '.join(measured)}."
        )
    shown = dict(zip(comparison.labels, comparison.shown, strict=True))
    of_sections = None if config.sections is None else choose_metrics(many(config.sections), names)
    return dataclasses.replace(
        comparison,
        rules=_rules(comparison, config, oracles),
        sections=read_sections(shown, of_sections),
    )


def compared_metrics(wanted: Sequence[str], names: Sequence[str], x: str = "step") -> list[str]:
    """The metrics that `wanted` names or matches; by default the KL, the Cov_N with N nearest to 4 and the
    Pass@N with N nearest to 8, or any three metrics.

    Raises:
        ValueError: a pattern or name that no run has, with the nearest names.
    """
    if wanted:
        return choose_metrics(wanted, names)
    return [name for name in usual_metrics(names) if name != x] or list(names[:1])


def _rules(comparison: Comparison, config: DictConfig, oracles: Sequence[str]) -> dict[int, Any]:
    """Rank -> rows of the group's rules; the tournament only for groups with a line."""
    settings = config.tournament
    shown = [run for group in comparison.shown for run in group.runs]
    steps: dict[tuple[str, int], int] = {}
    name = f"simple_tournament, N = {settings.n:g}"
    if 0 < len(shown) <= settings.max_runs:
        have = [run for run in shown if (run.head.path / "log_probs").is_dir()]
        steps, problems = tournaments(have, settings.n, settings.tie_break)
        comparison.notes.extend(f"{problem.what}: {problem.why}" for problem in problems)
    elif settings.max_runs:
        comparison.notes.append(
            f"No tournament: the {len(comparison.shown)} groups with a line are {len(shown)} runs, "
            f"more than tournament.max_runs={settings.max_runs}."
        )
    return {
        rank: rule_rows(group, comparison.metrics, oracles, steps, name)
        for rank, group in enumerate(comparison.groups, start=1)
    }


def _check(config: DictConfig) -> None:
    """Refuse invalid values before anything is read."""
    whole("lines", config.lines, 1)
    whole("top", config.top, 1)
    band = config.band
    if band != "range":
        ends = list(band) if OmegaConf.is_list(band) else []
        quantiles = [real("band", end, least=0, most=1) for end in ends]
        if len(quantiles) != 2 or not quantiles[0] < quantiles[1]:
            raise ValueError(f"band: {band}; valid: range, or two quantiles such as [0.1,0.9]")
    settings = config.tournament
    real("tournament.n", settings.n, least=1)
    if settings.tie_break not in get_args(TieBreak):
        raise ValueError(
            f"tournament.tie_break: {settings.tie_break!r}; valid: one of {', '.join(TIE_BREAKS)}"
        )
    whole("tournament.max_runs", settings.max_runs)
    flag("progress", config.progress)
    if not isinstance(config.x, str):
        raise ValueError(f"x: {config.x!r}; valid: step, global_step or a metric")
    states = [*STATES, "unknown", "all"]
    for state in many(config.states):
        if state not in states:
            raise ValueError(f"states: {state!r}; valid: some of {', '.join(states)}")


def _where(heads: Sequence[Head], where: Mapping[str, Any] | None) -> list[Head]:
    kept = list(heads)
    for key, value in (where or {}).items():
        key = str(key)
        known = sorted({name for head in heads for name in head.config})
        if heads and key not in known:
            raise ValueError(unknown("where", key, known))
        wanted = f"{value:g}" if isinstance(value, float) else str(value)
        values = texts(kept, key)
        there = sorted(set(values), key=natural)
        kept = [head for head, text in zip(kept, values, strict=True) if text == wanted]
        if there and not kept:
            raise ValueError(f"where: no run has {key}={wanted}; valid: {', '.join(there[:12])}")
    return kept


def _in_state(heads: Sequence[Head], states: Any) -> tuple[list[Head], list[Problem]]:
    wanted = many(states)
    kept = [head for head in heads if "all" in wanted or head.state in wanted]
    left = [head for head in heads if not ("all" in wanted or head.state in wanted)]
    return kept, [Problem(head.name, ": ".join(filter(None, (head.state, head.reason)))) for head in left]


def _with_metrics(
    runs: Sequence[Run], metrics: Sequence[str], names: Sequence[str]
) -> tuple[list[Run], list[Problem]]:
    """The runs that have any of the metrics; runs that lack some metrics are named."""
    has = {
        metric: [bool((run.values[metric] == run.values[metric]).any()) for run in runs] for metric in metrics
    }
    problems = []
    for metric, there in has.items():
        if not any(there):
            raise ValueError(unknown("metric", metric, [name for name in names if name != metric]))
        lacking = [run.head.name for run, present in zip(runs, there, strict=True) if not present]
        problems += [Problem(name, f"has no {metric}") for name in lacking]
    return [run for i, run in enumerate(runs) if any(there[i] for there in has.values())], problems


def _need(left: Sequence[Head] | Sequence[Run], problems: Sequence[Problem], paths: Sequence[str]) -> None:
    if not left:
        why = "; ".join(f"{problem.what}: {problem.why}" for problem in problems[:3])
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"runs: nothing to compare in {', '.join(paths[:3])}: {why}{more}")


main = command_on_runs("compare", _OPTIONS, compare)
