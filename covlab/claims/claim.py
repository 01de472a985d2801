"""The description of a claim, and the one function that runs every claim.

    run(claim, config): read the settings; train the stages, if there are any; measure; judge; write

Every claim writes `claim.yaml`, `verdict.json`, `figures/` and `report.html` to <root>/<group>/<name>. Its
training runs lie below.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from covlab.claims.arms import Arm, train_arms
from covlab.claims.settings import field_checks, read
from covlab.claims.stored import store
from covlab.launch import cli
from covlab.launch.build import Setup, identity_of, make, plain
from covlab.launch.cli import StopRequest
from covlab.launch.run_names import VOLATILE, override_key, run_path
from covlab.launch.runtime import configure, configure_run
from covlab.launch.settings import TrackingSettings
from covlab.launch.trained import TrainedRun
from covlab.report.page import Tables, write_report
from covlab.report.plotting import Drawing, save_all
from covlab.report.verdict import Check, Verdict, hardware, open_text, versions
from models.target import platform
from tracking import Progress
from tracking.atomic import atomic_write
from tracking.run_directory import RESUME
from tracking.timings import timing_facts, worked_seconds
from training.precision import exact_products, used

__all__ = ["Claim", "Plan", "Study", "command", "register", "require_seeds", "run"]

S = TypeVar("S")
M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)
M_contra = TypeVar("M_contra", contravariant=True)

_PLACE = (*VOLATILE, "scale", "launcher")
"""Settings that change no number of a verdict."""


class Study(NamedTuple):
    """Inputs of a measurement besides the settings.

    Attributes:
        runs: the finished training runs of the claim, by name; empty for a claim that trains nothing.
        progress: the bar to update while measuring.
        path: the claim's directory.
    """

    runs: Mapping[str, TrainedRun]
    progress: Progress
    path: Path


class Plan(NamedTuple):
    """Inputs of the training runs of a claim.

    Attributes:
        config: the command's configuration: that of experiments.train with the claim's settings added.
        path: the claim's directory.
        claim_keys: keys of `config` that belong to the claim alone.
    """

    config: DictConfig
    path: Path
    claim_keys: frozenset[str]

    def run_config(self, name: str, *changes: Mapping[str, Any] | None) -> DictConfig:
        """The configuration of the run `name` for experiments.train, without the claim's keys and with
        `changes` merged in turn."""
        base = OmegaConf.create(
            {key: value for key, value in self.config.items() if key not in self.claim_keys}
        )
        OmegaConf.set_struct(base, False)
        named = {"name": f"{self.path.name}-{name}"}
        merged = OmegaConf.merge(base, *(change or {} for change in changes), named)
        assert isinstance(merged, DictConfig)
        return merged


Stage = Callable[[Any, Plan], Mapping[str, Arm | TrainedRun] | int]
"""Takes the settings and the plan, returns the training runs of a stage by name, or finished runs. Called
when all earlier stages are complete. A stage that returns an exit status ends the command without a
verdict."""


class _Measure(Protocol[S, M_co]):
    __name__: str

    @property
    def Settings(self) -> type[S]: ...
    @property
    def measure(self) -> Callable[[S, Study], M_co]: ...


class _Checks(Protocol[M_contra]):
    def checks(self, results: M_contra, /) -> Sequence[Check]: ...
    def notes(self, results: M_contra, /) -> Sequence[str]: ...


class _Figures(Protocol[M_contra]):
    def drawings(self, results: M_contra, /) -> Sequence[Drawing]: ...
    def tables(self, results: M_contra, /) -> Tables: ...


def _seeds(results: Any) -> Sequence[int]:
    return results.seeds if hasattr(results, "seeds") else (results.settings.seed,)


@dataclasses.dataclass(frozen=True)
class Claim(Generic[S, M]):
    """The source and settings of a claim, and how it is measured and judged.

    Attributes:
        name: the name of the folder, of the configuration and of the group of runs.
        source: paper and section.
        title: the report's title.
        introduction: the report's introduction, one text per paragraph.
        settings: a dataclass that `covlab.claims.settings.read` fills.
        measure: computes the measurements.
        checks: judges the measurements by targets that were fixed before.
        notes: returns sentences for the verdict.
        drawings, tables: return the report's figures and tables, in the order of the page.
        seeds: returns the seeds that the checks were computed on; by default `results.seeds`, else only
            `results.settings.seed`.
        scales: scale -> settings that differ from their defaults, for a claim that trains nothing. A claim
            that trains has conf/<name>.yaml and conf/experiment/<name>_<scale>.yaml.
        stages: the training runs, stage by stage; empty for a claim that trains nothing.
        check_run: refuses, before anything is compiled, a run that the claim cannot be judged on.
        check_runs: refuses, after `check_run`, runs of a stage that cannot be compared; takes setups by name.
        timings: takes the seconds of all runs by name, and returns those that the page shows.
        module: the claim's package, which `python -m` runs; by default experiments.<name>.
    """

    name: str
    source: str
    title: str
    introduction: tuple[str, ...]
    settings: type[S]
    measure: Callable[[S, Study], M]
    checks: Callable[[M], Sequence[Check]]
    notes: Callable[[M], Sequence[str]]
    drawings: Callable[[M], Sequence[Drawing]]
    tables: Callable[[M], Tables]
    seeds: Callable[[M], Sequence[int]] = _seeds
    scales: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    check_run: Callable[[S, str, Setup], None] | None = None
    check_runs: Callable[[S, Mapping[str, Setup]], None] | None = None
    timings: Callable[[Mapping[str, float]], Mapping[str, float]] = dict
    module: str = ""

    def __post_init__(self) -> None:
        if not self.module:
            object.__setattr__(self, "module", f"experiments.{self.name}")

    @classmethod
    def of(cls, modules: tuple[_Measure[S, M], _Checks[M], _Figures[M]], **said: Any) -> Claim[S, M]:
        """A claim from the modules `measure`, `checks` and `figures` of its package; `said` are the other
        attributes."""
        measure, checks, figures = modules
        return cls(
            settings=measure.Settings,
            measure=measure.measure,
            checks=checks.checks,
            notes=checks.notes,
            drawings=figures.drawings,
            tables=figures.tables,
            scales=getattr(measure, "SCALES", {}),
            **{"module": measure.__name__.rpartition(".")[0], **said},
        )


def command(claim: Claim[Any, Any]) -> Callable[[], None]:
    """The `main()` of `python -m <the claim's package>`, for example `python -m experiments.figure1`."""
    register(claim)
    return cli.command(claim.name, functools.partial(run, claim), module=claim.module)


def register(claim: Claim[Any, Any]) -> None:
    """Register the configuration of a claim that trains nothing with Hydra: defaults and scales."""
    if not claim.stages:
        defaults = claim.settings()
        fields = {each.name: getattr(defaults, each.name) for each in dataclasses.fields(defaults)}
        store(claim.name, fields, claim.scales)


def run(claim: Claim[S, M], config: DictConfig) -> int:
    """`judge` as a command, which prints the verdict.

    Returns:
        The exit status: 0 whether or not the claim holds, else that of `judge`.

    Raises:
        ValueError: as `judge`.
    """
    stop = functools.cache(lambda: StopRequest().install())
    judged = judge(claim, config, HydraConfig.get().overrides.task, stop)
    if isinstance(judged, int):
        return judged
    print_verdict(*judged)
    return 0


class Judged(NamedTuple):
    """A verdict, and the claim's directory, which holds `verdict.json` and `report.html`."""

    verdict: Verdict
    path: Path


def judge(
    claim: Claim[S, M],
    config: DictConfig,
    overrides: Sequence[str],
    stop: Callable[[], Callable[[], str | None]],
) -> Judged | int:
    """Train, continue or reuse the claim's runs, measure, judge, and write verdict, figures and page.

    Args:
        claim: the claim.
        config: its configuration.
        overrides: the overrides that `config` was composed with, which name the directory and the scale.
        stop: installs the signal handlers; called where a claim trains, after all checks.

    Returns:
        The verdict; or an exit status: 130 if training was stopped, 1 if every seed of a run diverged.

    Raises:
        ValueError: an invalid setting, directory name or directory; one line, before anything is compiled.
    """
    clock, date = time.monotonic(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    settings = read(claim.settings, plain(config))
    path = run_path(config, overrides)
    tracking: TrackingSettings = make(config.tracking, "tracking", TrackingSettings)
    if claim.stages:
        configure_run(config)
    else:
        _check_contents(path, config)
        configure()

    plan = Plan(config, path, frozenset({"scale", *field_checks(claim.settings)}))
    runs: dict[str, TrainedRun] = {}
    timings: dict[str, float] = {}
    for stage in claim.stages:
        arms = stage(settings, plan)
        if isinstance(arms, int):
            return arms
        check = functools.partial(claim.check_run, settings) if claim.check_run else None
        check_all = functools.partial(claim.check_runs, settings) if claim.check_runs else None
        trained = train_arms(claim.name, arms, path, check, check_all, stop)
        if isinstance(trained, int):
            return trained
        runs |= trained
        for name, arm in arms.items():
            label = arm.label if isinstance(arm, Arm) else ""
            timings |= timing_facts(trained[name].path, f"{label or name}, ")

    progress = Progress(show=tracking.progress, interval=tracking.interval)
    try:
        with exact_products(platform()):
            results = claim.measure(settings, Study(runs, progress, path))
    finally:
        progress.close()
    worked = worked_seconds(timings)
    notes = list(claim.notes(results))
    if claim.stages:
        notes.append(f"Training and evaluation took {worked:.0f} s for all runs and seeds together.")
        if platform() != "cpu":
            setups = [run.setup for run in runs.values()]
            had = {used(it.model, platform(), phase.precision) for it in setups for phase in it.phases}
            notes.append(f"Training had precision {', '.join(sorted(had))}; metrics have float32's products.")
    verdict = Verdict(
        claim=claim.name,
        source=claim.source,
        scale=scale_name(config, overrides),
        checks=tuple(claim.checks(results)),
        seeds=tuple(claim.seeds(results)),
        # The time of reused runs counts too.
        wall_seconds=round(max(time.monotonic() - clock, worked), 1),
        hardware=hardware(),
        command=f"python -m {claim.module} " + " ".join(overrides),
        started=date,
        versions=versions(),
        notes=tuple(notes),
        title=claim.title,
    )
    facts = claim.timings(timings) or {"whole command (s)": verdict.wall_seconds}
    write_results(path, claim, verdict, config, results, facts)
    return Judged(verdict, path)


def write_results(
    path: Path,
    claim: Claim[Any, M],
    verdict: Verdict,
    config: DictConfig,
    results: M,
    timings: Mapping[str, Any],
) -> None:
    """Write claim.yaml, verdict.json, figures/ and report.html, in this order.

    The verdict comes first, so that an error in a drawing loses no number.
    """
    text = OmegaConf.to_yaml(OmegaConf.create(identity_of(config)))
    atomic_write(path / "claim.yaml", text.encode())
    verdict.write(path / "verdict.json")
    figures = save_all(path / "figures", claim.drawings(results))
    page, tables = path / "report.html", claim.tables(results)
    write_report(page, claim.title, verdict, figures, tables, text, timings, claim.introduction)


def scale_name(config: DictConfig, overrides: Sequence[str]) -> str:
    """The scale with the overrides that change it: a variant must not pass for the claim in the ledger."""
    changed = [text for text in overrides if override_key(text).partition(".")[0] not in _PLACE]
    return f"{config.scale} with {' '.join(changed)}" if changed else str(config.scale)


def print_verdict(verdict: Verdict, path: Path) -> None:
    """Print the verdict as a table on the terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    table = Table(title=f"{verdict.claim} ({verdict.scale}): {verdict.outcome.upper()}")
    for column in ("check", "measured", "95 % interval", "target", ""):
        table.add_column(column)
    for check in verdict.checks:
        measured = "-" if check.measured is None else f"{check.measured:.4g}"
        interval = "-" if check.interval is None else f"[{check.interval[0]:.4g}, {check.interval[1]:.4g}]"
        table.add_row(check.name, measured, interval, check.target, check.state)
    console.print(table)
    if needed := open_text(verdict):
        console.print(needed, soft_wrap=True)
    console.print(f"report: {path / 'report.html'}", soft_wrap=True)


def require_seeds(claim: str, seeds: Sequence[Any]) -> None:
    """Refuse a single seed.

    Raises:
        ValueError: fewer than two seeds, for which there is no interval.
    """
    if len(seeds) < 2:
        raise ValueError(f"seeds: {len(seeds)}; {claim} needs at least 2 for intervals over seeds")


def _check_contents(path: Path, config: DictConfig) -> None:
    """Refuse a directory that holds results of other settings or that `resume` does not allow."""
    file = path / "claim.yaml"
    resume = config.resume
    if resume not in RESUME:
        raise ValueError(f"resume: {resume!r} is not one of {', '.join(RESUME)}")
    if not file.exists():
        if resume == "must":
            raise ValueError(f"{path}: no results to compute again; resume=auto computes the first")
        return
    if resume == "never":
        raise ValueError(
            f"{path}: holds results already; another name=... or resume=auto computes them again"
        )
    there: Any = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    now = identity_of(config)
    for key in sorted({*there, *now} - set(VOLATILE)):
        if there.get(key) != now.get(key):
            raise ValueError(
                f"{path}: holds results with {key} {there.get(key)!r}, not {now.get(key)!r}; "
                f"another name=... keeps both"
            )
