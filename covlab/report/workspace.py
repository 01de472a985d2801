"""A W&B workspace for runs that were mirrored to W&B: a section a quantity, and a table of a sweep.

Nothing here reaches a server; `wandb_workspaces`, of the extra `dashboard`, is imported when needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.colors import to_hex

from covlab.report.labels import shortened
from covlab.report.plotting import ordered_colours
from covlab.report.tables import markdown
from tracking.metric_names import Family, families, headlines, section_title
from tracking.wandb_names import BAND, MEDIAN, best_of, wandb_name

_MARKS = ("solid", "dashed", "dotdash", "dotdotdash")
_LONGEST = 60
_BAND_WIDTH = 0.5


@dataclasses.dataclass(frozen=True)
class MirroredRun:
    """A run and what W&B has of it.

    Attributes:
        name: the run's name.
        ids: ids of its W&B runs: one, or one per seed.
        seeds: number of seeds.
        metrics: names in `metrics.jsonl`.
        settings: key that differs between the runs -> value as text.
        numbers: column of the sweep's table -> number.
    """

    name: str
    ids: tuple[str, ...]
    seeds: int
    metrics: frozenset[str]
    settings: Mapping[str, str]
    numbers: Mapping[str, float]

    @property
    def merged(self) -> bool:
        """True if the W&B run has medians and quantiles over the seeds."""
        return self.seeds > 1 and len(self.ids) == 1


def require_workspaces(title: str) -> None:
    """Refuse to go on without the library, or with a title that it refuses.

    Raises:
        ValueError: in one line, with the command that installs it.
    """
    try:
        # First, because the library's own modules import each other in a circle.
        import wandb_workspaces.workspaces  # noqa: F401
        from wandb_workspaces.utils.validators import validate_no_emoji
    except ImportError:
        raise ValueError(
            "dashboard: wandb-workspaces is not installed: pip install 'covlab[dashboard]'"
        ) from None
    try:
        validate_no_emoji(title)
    except ValueError:
        raise ValueError(
            f"title: {title!r}; valid: a text without emoji and signs such as = + < > $"
        ) from None


def workspace(
    runs: Sequence[MirroredRun],
    names: Mapping[str, str],
    project: str,
    entity: str = "",
    title: str = "covlab",
    x: str = "global_step",
    metrics: Sequence[str] | None = None,
) -> Any:
    """The `wandb_workspaces.workspaces.Workspace` of the runs; its `save()` sends it.

    A section is a quantity, with the N as lines of one panel in increasing order. Of one run, further panels
    show the classes; of several, a panel for each N has the runs as lines. A W&B run of all seeds has the
    median as a line and the 10 % and 90 % quantiles as thin dotted ones. W&B runs of single seeds are
    grouped: median with a band from lowest to highest.

    Args:
        runs: the runs, at least one.
        names: key that differs between the runs -> short name.
        project: W&B project of the runs.
        entity: W&B entity; "" is replaced when the workspace is sent.
        title: name of the workspace.
        x: `global_step` or `step`.
        metrics: names of metrics; None for the headline metrics.
    """
    import wandb_workspaces.expr as expr
    import wandb_workspaces.workspaces as ws

    there = set[str]().union(*(run.metrics for run in runs))
    by_kind: dict[str, list[Family]] = {}
    for family in families(headlines(there, len(runs) == 1) if metrics is None else metrics):
        by_kind.setdefault(family.kind, []).append(family)
    sections = [_sweep(runs, names)] if names else []
    for index, own in enumerate(by_kind.values()):
        panels = [panel for family in own for panel in _panels(family, runs, names, x)]
        layout = ws.SectionLayoutSettings(columns=min(len(panels), 3), rows=-(-len(panels) // 3))
        sections.append(
            ws.Section(name=section_title(own[0]), panels=panels, is_open=index < 4, layout_settings=layout)
        )
    ids = [id for run in runs for id in run.ids]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=title,
        sections=sections,
        settings=ws.WorkspaceSettings(
            x_axis=x, max_runs=max(len(ids), 10), group_by_prefix="first", sort_panels_alphabetically=False
        ),
        runset_settings=ws.RunsetSettings(
            filters=f"Metric('ID') in {ids}",
            groupby=_grouping(runs, names, expr),
            pinned_columns=_columns(runs, names),
        ),
    )


def _panels(family: Family, runs: Sequence[MirroredRun], names: Mapping[str, str], x: str) -> list[Any]:
    """Panels of one family: of the W&B runs of all seeds, and of those of single seeds."""
    merged = [run for run in runs if run.merged and run.metrics & family.lines.keys()]
    single = [run for run in runs if not run.merged and run.metrics & family.lines.keys()]
    panels = []
    if len(merged) == 1 or (merged and len(family.lines) > 1):
        panels.append(_lines(family, merged, names, x))
    if len(merged) > 1:
        for name, line in family.lines.items():
            title = family.title if name == family.head else f"{line}, {family.title}"
            panels.append(_runs(title, name, merged, names, x))
    if single:
        panels.append(_grouped(family, single, names, x))
    return panels


def _lines(family: Family, runs: Sequence[MirroredRun], names: Mapping[str, str], x: str) -> Any:
    """The N as lines of one panel, a colour each; the quantiles too of one run, else a dash pattern a run."""
    one = len(runs) == 1
    series = {}
    for index, (run, label) in enumerate(zip(runs, _labels(runs, names), strict=True)):
        colours = ordered_colours(len(family.lines))
        for (name, line), colour in zip(family.lines.items(), colours, strict=True):
            for end in (MEDIAN, *(BAND if one else ())):
                text = line if one else f"{label}: {line}"
                series[_key(run, name, end)] = _Series(text, end, to_hex(colour), _MARKS[index % len(_MARKS)])
    ends = (MEDIAN, *BAND) if one else (MEDIAN,)
    return _plot(family.title, x, [f"{wandb_name(n)}{end}" for end in ends for n in family.lines], series)


def _runs(title: str, name: str, runs: Sequence[MirroredRun], names: Mapping[str, str], x: str) -> Any:
    """The runs as lines of one panel, a colour each, with their quantiles."""
    colours = ordered_colours(len(runs))
    series = {
        _key(run, name, end): _Series(label, end, to_hex(colour), _MARKS[0])
        for run, label, colour in zip(runs, _labels(runs, names), colours, strict=True)
        for end in (MEDIAN, *BAND)
    }
    return _plot(title, x, [f"{wandb_name(name)}{end}" for end in (MEDIAN, *BAND)], series)


@dataclasses.dataclass(frozen=True)
class _Series:
    """A line: the median, or one of the quantiles, which are thin and dotted."""

    label: str
    end: str
    colour: str
    mark: str

    @property
    def title(self) -> str:
        return self.label if self.end == MEDIAN else f"{self.label}, {self.end.removeprefix('/q')} % quantile"


def _key(run: MirroredRun, name: str, end: str) -> str:
    return f"{run.ids[0]}:{wandb_name(name)}{end}"


def _plot(title: str, x: str, y: Sequence[str], series: Mapping[str, _Series]) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(
        title=title,
        x=x,
        y=list(y),
        **_limits(len(series)),
        line_titles={key: line.title for key, line in series.items()},
        line_colors={key: line.colour for key, line in series.items()},
        line_marks={key: line.mark if line.end == MEDIAN else "dotted" for key, line in series.items()},
        line_widths={key: 2.0 if line.end == MEDIAN else _BAND_WIDTH for key, line in series.items()},
    )


def _grouped(family: Family, runs: Sequence[MirroredRun], names: Mapping[str, str], x: str) -> Any:
    """W&B runs of single seeds: median with a band over each group, the N as lines."""
    import wandb_workspaces.reports.v2 as wr

    # Several keys group the table of runs, and the panel follows it.
    keys = list(names)
    by = wr.Config(keys[0]) if len(keys) == 1 else None if keys else "Group"
    return wr.LinePlot(
        title=family.title,
        x=x,
        y=[wandb_name(name) for name in family.lines],
        **_limits(sum(len(run.ids) for run in runs)),
        groupby=by,
        groupby_aggfunc="median",
        groupby_rangefunc="minmax",
        aggregate=True,
    )


def _limits(runs: int) -> dict[str, Any]:
    return {"max_runs_to_show": max(runs, 10), "ignore_outliers": False, "smoothing_type": "none"}


def _grouping(runs: Sequence[MirroredRun], names: Mapping[str, str], expr: Any) -> list[Any]:
    if all(run.merged for run in runs) or sum(len(run.ids) for run in runs) == 1:
        return []
    return [expr.Config(key) for key in names] or [expr.Metric("Group")]


def _labels(runs: Sequence[MirroredRun], names: Mapping[str, str]) -> list[str]:
    """The differing settings of each run, or its name if they tell no runs apart."""
    texts = [", ".join(f"{names[key]}={text}" for key, text in run.settings.items()) for run in runs]
    return shortened(texts if len(set(texts)) == len(runs) else [run.name for run in runs], _LONGEST)


def _sweep(runs: Sequence[MirroredRun], names: Mapping[str, str]) -> Any:
    """The sweep's table with the swept keys, and the same as parallel coordinates."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    columns = list(dict.fromkeys(column for run in runs for column in run.numbers))
    rows = [
        [*(run.settings[key] for key in names), run.seeds, *(run.numbers.get(key) for key in columns)]
        for run in runs
    ]
    text = markdown([*names.values(), "seeds", *columns], rows)
    panels: list[Any] = [wr.MarkdownPanel(markdown=f"Medians over the seeds.\n\n{text}")]
    shown = [column for run in runs for column in _summaries([run], columns)]
    if shown:
        panels.append(
            wr.ParallelCoordinatesPlot(
                title="Settings and results",
                columns=[
                    *(
                        wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key), display_name=name)
                        for key, name in names.items()
                    ),
                    *(
                        wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(summary))
                        for summary in dict.fromkeys(shown)
                    ),
                ],
            )
        )
    layout = ws.SectionLayoutSettings(columns=len(panels), rows=1)
    return ws.Section(name="Sweep", panels=panels, is_open=True, pinned=True, layout_settings=layout)


def _summaries(runs: Sequence[MirroredRun], columns: Iterable[str]) -> list[str]:
    """Names in W&B's summary of the best values that the table has, `eval/kl/median.min`."""
    metrics = dict.fromkeys(
        metric for column in columns if (metric := column.partition(" ")[2].partition(",")[0])
    )
    return list(
        dict.fromkeys(
            f"{wandb_name(metric)}{MEDIAN if run.merged else ''}.{best_of(metric)}"
            for run in runs
            for metric in metrics
            if metric in run.metrics and best_of(metric) is not None
        )
    )


def _columns(runs: Sequence[MirroredRun], names: Mapping[str, str]) -> list[str]:
    """Columns of the table of runs: the swept keys, then the best values."""
    columns = ["run:displayName"]
    for key in names:
        first, *rest = key.split(".")
        columns.append(".".join([f"config:{first}", "value", *rest]))
    numbers = dict.fromkeys(column for run in runs for column in run.numbers)
    return columns + [f"summary:{name}" for name in _summaries(runs, numbers)]
