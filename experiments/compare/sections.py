"""Sections of the page: a quantity each, median with band over the seeds, the N as lines of one panel."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from covlab.report.plotting import Band
from experiments.compare import figures
from experiments.compare.groups import Group, Member
from experiments.compare.runs import Run, read_runs
from tracking.metric_names import Family, families, headlines, section_title


@dataclasses.dataclass(frozen=True)
class Section:
    """A quantity of the groups with a line.

    Attributes:
        kind: the quantity, `cov`.
        families: its metrics of the mixture; of one group, then those of every class.
        groups: label -> group, with the families' columns.
    """

    kind: str
    families: tuple[Family, ...]
    groups: Mapping[str, Group]

    @property
    def title(self) -> str:
        """The quantity and which direction is better."""
        return section_title(self.families[0])


def read_sections(groups: Mapping[str, Group], wanted: Sequence[str] | None = None) -> tuple[Section, ...]:
    """The sections of the groups with a line, whose metrics' columns are read here.

    Args:
        groups: label -> group.
        wanted: names of metrics; None for the headline metrics of the runs.
    """
    runs = [run for group in groups.values() for run in group.runs]
    there = set[str]().union(*(run.head.metrics for run in runs))
    names = headlines(there, classes=len(groups) == 1) if wanted is None else list(wanted)
    by_kind: dict[str, list[Family]] = {}
    for family in families(names):
        by_kind.setdefault(family.kind, []).append(family)
    if not by_kind:
        return ()
    read = _columns(runs, names)
    with_columns = {label: _replaced(group, read) for label, group in groups.items()}
    return tuple(Section(kind, tuple(own), with_columns) for kind, own in by_kind.items())


def draw(section: Section, x: str, band: Band) -> Figure:
    """The section's figure: a panel a group or class with the N as lines; groups as lines without N."""
    groups = section.groups
    if all(len(family.lines) == 1 for family in section.families):
        metrics = [metric for family in section.families for metric in family.lines]
        return figures.curves(groups, (), metrics, x, band)
    panels = [
        (family.title if len(groups) == 1 else label, group.members, family.lines)
        for label, group in groups.items()
        for family in section.families
    ]
    return figures.families(panels, x, band)


def _columns(runs: Sequence[Run], names: Sequence[str]) -> dict[str, Run]:
    """Run's name -> the run with the columns `names` of the phase that is compared."""
    read: dict[str, Run] = {}
    for phase in dict.fromkeys(run.phase for run in runs):
        heads = [run.head for run in runs if run.phase == phase]
        read |= {run.head.name: run for run in read_runs(heads, names, phase, show=False)[0]}
    return read


def _replaced(group: Group, read: Mapping[str, Run]) -> Group:
    # A run may have gone, or grown by a seed, since it was first read.
    members = [(read.get(member.run.head.name), member.seed) for member in group.members]
    kept = tuple(Member(run, seed) for run, seed in members if run is not None and seed in run.seeds)
    return dataclasses.replace(group, members=kept)
