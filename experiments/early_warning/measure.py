"""Alarms of every statistic on the runs of a zoo, judged against the truth; and the zoo's training runs."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from omegaconf import DictConfig, OmegaConf

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, Study, require_seeds
from covlab.claims.settings import Real, Reals, Section, Whole
from covlab.launch.build import PHASE_KEYS, Setup
from experiments.early_warning.judging import Judgement, Pool, RunOutcome, judge, outcomes, pool_of, resampled
from experiments.early_warning.watching import LARGEST_N, Truth, Watched, recorded_runs, watch_run
from metrics.early_warning import BASELINE, Statistic, candidates

RUN_KEYS = ("model", "phases", *PHASE_KEYS)


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Parameters of the statistics that are tabulated, see `metrics.early_warning.candidates`."""

    ns: Annotated[tuple[float, ...], Reals(1, LARGEST_N)]
    levels: Annotated[tuple[float, ...], Reals(0, 1)]
    shares: Annotated[tuple[float, ...], Reals(0, 1)]


def judged(field: str, value: Any) -> Statistic:
    """A statistic other than the baseline.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, dict) or set(value) != {"kind", "parameter"}:
        raise ValueError(f"{field}: {value!r}; valid: a mapping with kind, parameter")
    try:
        statistic = Statistic(value["kind"], value["parameter"])
    except ValueError as error:
        raise ValueError(f"{field}.{error}") from None
    if statistic.kind == BASELINE:
        raise ValueError(f"{field}.kind: {BASELINE}; valid: any other, it is the baseline")
    return statistic


def runs(field: str, value: Any) -> tuple[str, ...]:
    """Run directories or patterns.

    Raises:
        ValueError: anything but a list of texts.
    """
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise ValueError(f"{field}: {value!r}; valid: a list of run directories or patterns")
    return tuple(value)


def zoo(field: str, value: Any) -> dict[str, dict[str, Any]]:
    """Overrides of experiments.train by the name of a run, null for no runs.

    Raises:
        ValueError: a name that no run can have, or a key that a run does not have.
    """
    if not isinstance(value, dict | None):
        raise ValueError(f"{field}: {value!r} is neither null nor a mapping from names to overrides")
    for name, changes in (value or {}).items():
        where = f"{field}.{name}"
        if not str(name).replace("_", "").isalnum():
            raise ValueError(f"{where}: its name is not one of letters, digits and _")
        if not isinstance(changes, dict):
            raise ValueError(f"{where}: {changes!r} is not a mapping; valid keys are {', '.join(RUN_KEYS)}")
        for key in changes:
            if key not in RUN_KEYS:
                raise ValueError(f"{where}: {key}: no such field; valid are {', '.join(RUN_KEYS)}")
    return {str(name): changes for name, changes in (value or {}).items()}


def endings(field: str, value: Any) -> tuple[str, ...]:
    """Endings of names.

    Raises:
        ValueError: anything but a list of texts of letters and digits.
    """
    if not isinstance(value, list) or not all(isinstance(text, str) and text.isalnum() for text in value):
        raise ValueError(f"{field}: {value!r}; valid: a list of endings, each of letters and digits")
    return tuple(value)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of its runs are of experiments.train.

    Attributes:
        truth: the event: an earlier evaluation has the higher cross-entropy and the lower Cov_N, by more than
            the margins.
        candidates: statistics that are tabulated.
        judged: the statistic that the checks are about.
        rate: alarms that the thresholds allow on the quiet runs that set them.
        resamples: resamples of the bootstrap.
        runs: recorded runs that are judged beside the zoo: directories, or patterns.
        zoo: runs that are trained and that the verdict rests on, by names <task>_<ending>.
        quiet: endings of the quiet runs, which set the thresholds of their task.
    """

    truth: Annotated[Truth, Section(Truth)]
    candidates: Annotated[Candidates, Section(Candidates)]
    judged: Annotated[Statistic, judged]
    rate: Annotated[float, Real(above=0, below=1)]
    resamples: Annotated[int, Whole(100)]
    runs: Annotated[tuple[str, ...], runs]
    zoo: Annotated[Mapping[str, Mapping[str, Any]], zoo]
    quiet: Annotated[tuple[str, ...], endings]

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """All statistics, the judged one among them."""
        values = self.candidates
        statistics = candidates(values.ns, values.levels, values.shares)
        return statistics if self.judged in statistics else (*statistics, self.judged)


def stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The zoo's runs. A recorded run that is not there is refused first."""
    recorded_runs(settings.runs, root_of(plan.path), plan.path)
    return {
        name: Arm(_run_config(plan, name, changes), where=f"zoo.{name}")
        for name, changes in settings.zoo.items()
    }


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run with a single seed."""
    require_seeds("early_warning", setup.seeds)


def root_of(path: Path) -> Path:
    """The directory of all groups of runs, given the claim's own."""
    return path.parents[1]


def _run_config(plan: Plan, name: str, changes: Mapping[str, Any]) -> DictConfig:
    config = plan.run_config(name)
    _clear(config, changes)
    for phase, change in (changes.get("phases") or {}).items():
        if phase in (config.phases or {}):
            _clear(config.phases[phase], change or {})
    merged = OmegaConf.merge(config, changes)
    assert isinstance(merged, DictConfig)
    if merged.phases is None:
        merged.phases = {}
    return merged


def _clear(config: DictConfig, changes: Mapping[str, Any]) -> None:
    """A class that is named in the changes takes no field over from the configuration."""
    for key, node in changes.items():
        if isinstance(node, Mapping) and "_target_" in node and key in config:
            config[key] = {}


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        pool: evaluations of the runs that were trained for this, or of the recorded ones where none were.
        recorded: of other runs, judged by thresholds of the pool; None without any.
        left_out: recorded runs that could not be judged, and why.
        statistics, judged: all, and the index of the one that the checks are about.
        judgements: of every statistic on the pool.
        truth, rate: as they were set.
    """

    pool: Pool
    recorded: Pool | None
    left_out: Mapping[str, str]
    statistics: tuple[Statistic, ...]
    judged: int
    judgements: tuple[Judgement, ...]
    truth: Truth
    rate: float

    @property
    def rule(self) -> Judgement:
        """Of the judged statistic."""
        return self.judgements[self.judged]

    @property
    def baseline(self) -> Judgement:
        """Of the watch over cross-entropy."""
        return self.judgements[[statistic.kind for statistic in self.statistics].index(BASELINE)]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the judged runs."""
        return tuple(sorted({run.seed for run in self.pool.watched}))

    @property
    def outcomes(self) -> list[RunOutcome]:
        """Of the judged statistic, a seed of a run each."""
        return outcomes(self.pool, self.rule.alarms)


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the zoo and the recorded runs, and judge every statistic.

    Raises:
        ValueError: a run of the zoo that cannot be judged, or fewer than two tasks.
    """
    statistics, truth = settings.statistics, settings.truth
    zoo_paths = {name: run.path for name, run in study.runs.items()}
    trained, refused = _watch(zoo_paths, statistics, truth)
    trained = [of_zoo(run, settings.quiet) for run in trained]
    if refused:
        raise ValueError(f"zoo: {'; '.join(f'{name}: {why}' for name, why in refused.items())}")
    others = recorded_runs(settings.runs, root_of(study.path), study.path)
    recorded, left_out = _watch(others, statistics, truth)
    index = statistics.index(settings.judged)
    return judge_statistics(
        trained, recorded, left_out, statistics, index, truth, settings.rate, settings.resamples
    )


def of_zoo(run: Watched, quiet: Sequence[str]) -> Watched:
    """A run of the zoo with the task that its name begins with, and whether its ending is one of `quiet`."""
    task, _, ending = run.run.rpartition("_")
    return dataclasses.replace(run, task=task or run.run, quiet=bool(task) and ending in quiet)


def _watch(
    paths: Mapping[str, Path], statistics: tuple[Statistic, ...], truth: Truth
) -> tuple[list[Watched], dict[str, str]]:
    """The seeds of all runs, and why a run is left out."""
    watched: list[Watched] = []
    left_out: dict[str, str] = {}
    for index, (name, path) in enumerate(paths.items(), start=1):
        print(f"early_warning: reading {name}, {index} of {len(paths)}", file=sys.stderr, flush=True)
        try:
            watched += watch_run(path, name, statistics, truth)
        except (ValueError, KeyError) as error:
            left_out[name] = " ".join(str(error).split()).removeprefix(f"{path}: ")
    return watched, left_out


def judge_statistics(
    trained: Sequence[Watched],
    recorded: Sequence[Watched],
    left_out: Mapping[str, str],
    statistics: tuple[Statistic, ...],
    judged: int,
    truth: Truth,
    rate: float,
    resamples: int,
) -> Measurements:
    """Judge every statistic.

    Raises:
        ValueError: fewer than two tasks.
    """
    first, second = (trained, recorded) if trained else (recorded, ())
    if len({run.task for run in first}) < 2:
        raise ValueError(
            f"runs: {len(first)} seeds of {len({run.task for run in first})} tasks; valid: two tasks or "
            f"more, because intervals are over tasks"
        )
    pool = pool_of(first)
    weights = resampled(pool, resamples)
    judgements = tuple(judge(pool, scores, weights, rate) for scores in pool.scores)
    others = pool_of(second) if second else None
    return Measurements(pool, others, left_out, statistics, judged, judgements, truth, rate)
