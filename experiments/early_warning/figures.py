"""Plots and tables of the claim on early warnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from covlab.report.tables import interval_text
from experiments.early_warning.judging import RunOutcome, interval, outcomes, with_limits
from experiments.early_warning.measure import Measurements
from metrics import name_of_n
from metrics.alarms import area_under_curve, rates
from metrics.early_warning import BASELINE

_MOST_PANELS = 12


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    rule = results.statistics[results.judged]
    return [
        Drawing(
            "statistics",
            "Area under the curve of every statistic (left) and, with thresholds from quiet runs, its "
            "sensitivity and false-alarm rate (right); 95 % intervals over tasks and runs. Filled: judged.",
            statistics(results),
        ),
        Drawing(
            "runs",
            f"First seed of each run: KL and Cov_N on the half that defines the truth, {rule} (dotted) and "
            "its threshold on the other half. Red ground: the event; triangles: alarms.",
            runs(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def statistics(results: Measurements) -> Figure:
    """Area under the curve, sensitivity and false-alarm rate of every statistic, best first."""
    order = sorted(range(len(results.statistics)), key=lambda i: -_nan_low(results.judgements[i].area[0]))
    fig, axes = draw.new_figure(1, 2, (11.5, 0.32 * len(order) + 1.6), sharey=True)
    left, right = axes[0]
    rows = np.arange(len(order))
    alarms = (
        ("sensitivity", draw.GREEN, lambda j: j.rates.sensitivity),
        ("false-alarm rate", draw.RED, lambda j: j.rates.false_alarm_rate),
    )
    for axis, series in ((left, (("area under the curve", draw.BLUE, lambda j: j.area),)), (right, alarms)):
        for offset, (label, colour, values) in enumerate(series):
            for row, index in zip(rows, order, strict=True):
                whole = interval(values(results.judgements[index]))
                y = row + 0.2 * (offset - (len(series) - 1) / 2)
                axis.plot([whole.low, whole.high], [y, y], color=colour, linewidth=1.4)
                face = colour if index == results.judged else "white"
                axis.plot(
                    whole.estimate, y, "o", color=colour, markerfacecolor=face, markersize=6,
                    label=label if row == 0 else None,
                )  # fmt: skip
        axis.set(xlim=(-0.02, 1.02))
    left.axvline(0.5, color=draw.INK, linestyle=draw.DASHED, linewidth=1.1)
    left.set(
        title="area under the curve", yticks=rows, yticklabels=[str(results.statistics[i]) for i in order]
    )
    left.invert_yaxis()
    right.set(title="sensitivity and false alarms")
    draw.legend_below(fig, [right])
    return fig


@mpl.rc_context(draw.STYLE)
def runs(results: Measurements) -> Figure:
    """KL, coverage, statistic, alarms and events of the first seed of each run."""
    judged = outcomes(results.pool, results.rule.alarms)
    firsts = list({outcome.watched.run: i for i, outcome in reversed(list(enumerate(judged)))}.values())[::-1]
    firsts = sorted(firsts)[:_MOST_PANELS]
    columns = min(4, len(firsts))
    lines = -(-len(firsts) // columns)
    fig, axes = draw.new_figure(2 * lines, columns, (4.0 * columns, 4.4 * lines))
    for place in range(lines * columns):
        row, column = divmod(place, columns)
        pair = axes[2 * row : 2 * row + 2, column]
        if place < len(firsts):
            _panel(results, firsts[place], *pair)
            continue
        for axis in pair:
            axis.set_visible(False)
    draw.legend_below(fig, [axes[0, 0], axes[1, 0]])
    return fig


def _panel(results: Measurements, index: int, top: Any, bottom: Any) -> None:
    watched = results.pool.watched[index]
    steps = np.array(watched.steps)
    alarmed = np.zeros(steps.size, bool)
    alarmed[1:] = results.rule.alarms[results.pool.run == index]
    scale = max(float(watched.kl[1:].max()), 1e-9)
    top.plot(steps[1:], watched.kl[1:] / scale, color=draw.INK, label="KL (of its largest)")
    colours = draw.ordered_colours(len(results.truth.ns))
    for n, values, colour in zip(results.truth.ns, watched.coverage, colours, strict=True):
        top.plot(steps[1:], values[1:], color=colour, label=f"Cov$_{{{name_of_n(n)}}}$")
    scores = np.where(np.isfinite(watched.scores[results.judged]), watched.scores[results.judged], 0.0)
    bottom.plot(steps[1:], scores[1:], color=draw.PURPLE, linestyle=":", label="statistic")
    limit = results.rule.thresholds[watched.task]
    bottom.axhline(limit, color=draw.INK, linestyle=draw.DASHED, linewidth=1.0, label="threshold")
    bottom.plot(steps[alarmed], scores[alarmed], "^", color=draw.RED, markersize=6, label="alarm")
    half = np.diff(steps).min() / 2
    for axis in (top, bottom):
        for step in steps[watched.event]:
            axis.axvspan(step - half, step + half, color=draw.RED, alpha=0.12, linewidth=0)
    top.set(title=watched.run, ylim=(-0.03, 1.05))
    bottom.set(xlabel="training step")


def tables(results: Measurements) -> list[Table]:
    """Every statistic; the judged one by task, by N and by run; recorded runs; runs left out."""
    made = [_statistics(results), _tasks(results), _by_n(results), _runs(results)]
    if results.recorded is not None:
        made += [_recorded(results), _recorded_runs(results)]
    if results.left_out:
        rows = [[name, why] for name, why in results.left_out.items()]
        made.append(("Recorded runs left out", ["run", "why"], rows))
    return made


def _statistics(results: Measurements) -> Table:
    rows = []
    for index, (statistic, judgement) in enumerate(zip(results.statistics, results.judgements, strict=True)):
        shown = (
            judgement.area,
            judgement.rates.sensitivity,
            judgement.rates.false_alarm_rate,
            judgement.rates.precision,
        )
        name = f"{statistic}{' (judged)' if index == results.judged else ''}"
        limits = ", ".join(f"{value:.3g}" for value in judgement.thresholds.values())
        rows.append([name, *(interval_text(interval(values)) for values in shown), limits])
    base = interval(results.rule.rates.base_rate)
    return (
        f"Every statistic, thresholds from quiet runs of the task; base rate {interval_text(base)}",
        ["statistic", "area under the curve", "sensitivity", "false-alarm rate", "precision",
         f"thresholds ({', '.join(results.pool.tasks)})"],
        rows,
    )  # fmt: skip


def _tasks(results: Measurements) -> Table:
    pool, rows = results.pool, []
    judged = results.outcomes
    for i, name in enumerate(pool.tasks):
        kept = pool.task == i
        weights = kept[None].astype(np.float64)
        part = rates(results.rule.alarms[None], pool.event, weights)
        mine = [outcome for outcome in judged if outcome.watched.task == name]
        happened = [outcome for outcome in mine if outcome.event is not None]
        lead = [outcome.lead for outcome in mine if outcome.lead is not None]
        rows.append(
            [
                name, f"{results.rule.thresholds[name]:.4g}", int(kept.sum()), part.base_rate[0],
                part.precision[0], part.sensitivity[0], part.false_alarm_rate[0],
                f"{len(happened)} of {len(mine)}", sum(outcome.alarm is not None for outcome in happened),
                sum(outcome.alarm is not None for outcome in mine if outcome.event is None),
                float(np.median(lead)) if lead else None,
            ]
        )  # fmt: skip
    return (
        f"{results.statistics[results.judged]} by task, its threshold from the quiet runs of the task",
        ["task", "threshold", "evaluations", "base rate", "precision", "sensitivity", "false-alarm rate",
         "runs with an event", "of these with an alarm", "alarms in other runs",
         "evaluations before the event (median)"],
        rows,
    )  # fmt: skip


def _by_n(results: Measurements) -> Table:
    pool, rows = results.pool, []
    weights = np.ones((1, pool.event.size))
    for i, n in enumerate(results.truth.ns):
        event = np.concatenate([run.events[i, 1:] for run in pool.watched])
        part = rates(results.rule.alarms[None], event, weights)
        area = area_under_curve(pool.scores[results.judged], event, weights)
        rows.append(
            [name_of_n(n), part.base_rate[0], part.precision[0], part.sensitivity[0],
             part.false_alarm_rate[0], area[0]]
        )  # fmt: skip
    return (
        "The same alarms against the event at one N alone; all evaluations weigh the same",
        ["N", "base rate", "precision", "sensitivity", "false-alarm rate", "area under the curve"],
        rows,
    )


def _runs(results: Measurements) -> Table:
    return ("Runs, seed by seed", *_rows(results.outcomes))


def _rows(outcomes: Sequence[RunOutcome]) -> tuple[list[str], list[list[Any]]]:
    head = [
        "run",
        "task",
        "seed",
        "evaluations",
        "first event",
        "first alarm",
        "evaluations before the event",
    ]
    rows = []
    for outcome in outcomes:
        watched, steps = outcome.watched, outcome.watched.steps
        firsts = [None if at is None else steps[at] for at in (outcome.event, outcome.alarm)]
        rows.append([watched.run, watched.task, watched.seed, len(steps), *firsts, outcome.lead])
    return head, rows


def _recorded_alarms(results: Measurements, index: int) -> np.ndarray:
    assert results.recorded is not None
    limits = results.judgements[index].thresholds
    # A task that the zoo lacks is judged by the largest of its thresholds.
    return with_limits(results.recorded, results.recorded.scores[index], limits, max(limits.values()))


def _recorded(results: Measurements) -> Table:
    assert results.recorded is not None
    pool, rows = results.recorded, []
    baseline = [statistic.kind for statistic in results.statistics].index(BASELINE)
    for i, name in enumerate(pool.tasks):
        kept = (pool.task == i)[None].astype(np.float64)
        for index in (results.judged, baseline):
            part = rates(_recorded_alarms(results, index)[None], pool.event, kept)
            rows.append(
                [name, str(results.statistics[index]), int(kept.sum()), part.base_rate[0], part.precision[0],
                 part.sensitivity[0], part.false_alarm_rate[0]]
            )  # fmt: skip
    return (
        "Recorded runs, by the largest threshold of the zoo's tasks; all evaluations weigh the same",
        ["task", "statistic", "evaluations", "base rate", "precision", "sensitivity", "false-alarm rate"],
        rows,
    )


def _recorded_runs(results: Measurements) -> Table:
    assert results.recorded is not None
    judged = outcomes(results.recorded, _recorded_alarms(results, results.judged))
    return ("Recorded runs, seed by seed", *_rows(judged))


def _nan_low(value: float) -> float:
    return -1.0 if np.isnan(value) else float(value)
