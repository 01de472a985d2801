"""Sweeps: what `--multirun` does with a command that trains runs.

Every combination of values is a job: the single command with these values, in a process of its own
(`sweep_jobs`). Where and how many at once is a Hydra launcher's matter (`conf/launcher/`). A job whose run is
complete is skipped, so the same command again does what is left. A job that fails is named, the others go on.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins import sweeper
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from experiments import slurm
from experiments.build import plain
from experiments.runs import VOLATILE, run_path
from experiments.slots import Slot, share
from experiments.stopping import STOP_SIGNALS, GoingOn, Signals
from experiments.sweep_jobs import (
    STOPPED,
    JobRunner,
    Outcome,
    Plan,
    one_line,
    outcome_file,
    read_outcome,
    varying,
)
from tracking import read_status
from tracking.run_config import RunDirectoryError, differences, plain_config, read_config

USER_ERROR = 2
_RUN_KEYS = ("root", "group", "name")
_OF_THE_SWEEP = re.compile(r"^\+*launcher=")


@dataclasses.dataclass
class Job:
    """One combination of a sweep: its overrides, its run directory, and how it stands.

    `given` are the overrides of the sweep's command, `overrides` those of the single command. `state` is one
    of complete, skipped (it was complete), stopped, failed; empty while it is to be done.
    """

    number: int
    given: tuple[str, ...]
    overrides: tuple[str, ...]
    path: Path | None = None
    state: str = ""
    reason: str = ""
    status: int = 0

    def end(self, state: str, status: int, reason: str = "") -> None:
        """How it ended."""
        self.state, self.status, self.reason = state, status, reason


def register_sweeper(module: str, report: Callable[[int], None], explain: Callable[[Exception], str]) -> None:
    """Make Hydra's `--multirun` sweep with `Sweeper`.

    Args:
        module: what `python -m` starts the single command with.
        report: takes the sweep's exit status.
        explain: Hydra's complaint about a configuration in one line.
    """
    # Hydra makes the sweeper itself, from its class: what it needs to know lies there.
    Sweeper.module, Sweeper.report, Sweeper.explain = module, staticmethod(report), staticmethod(explain)
    # Hydra instantiates only plugins whose name begins with one of its own packages.
    name = f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"
    classes = Plugins.instance().class_name_to_class
    if classes[name] is not Sweeper:
        Sweeper.basic, classes[name] = classes[name], Sweeper


class Sweeper(sweeper.Sweeper):
    """Hydra's sweeper over all combinations, with runs that are skipped, continued and named.

    Commands whose configuration describes no run directory are swept as Hydra does it.
    """

    basic: Any
    module: str
    report: Callable[[int], None]
    explain: Callable[[Exception], str]
    hydra_context: HydraContext
    config: DictConfig

    def __init__(self, max_batch_size: int | None = None, params: dict[str, str] | None = None) -> None:
        self._given = {"max_batch_size": max_batch_size, "params": params}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.hydra_context, self.config = hydra_context, config
        self._other: Any = None
        if not all(key in config for key in _RUN_KEYS):
            self._other = self.basic(**self._given)
            self._other.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run all jobs, and print how each ended.

        Raises:
            ValueError: two jobs would share a run directory, or the launcher cannot be used.
        """
        if self._other is not None:
            return self._other.sweep(arguments)
        jobs = self._jobs(arguments)
        _check_paths(jobs)
        _check_run_id(jobs)
        todo = [job for job in jobs if not job.state]
        names = [job.overrides for job in jobs]
        for job in (job for job in jobs if job.state == "failed"):
            named = f"job {job.number + 1} of {len(jobs)} ({varying(names, job.number)})"
            print(f"error: {named}: {job.reason}", file=sys.stderr)
        stopped = None
        if todo:
            folder = _make_folder(Path(str(self.config.hydra.sweep.dir)))
            stopped = self._launch(jobs, todo, folder)
            _write_summary(folder, jobs)
        print(summary(jobs))
        if stopped is not None:
            print(f"{stopped}: the sweep is stopped; the same command continues it", file=sys.stderr)
        self.report(STOPPED if stopped is not None else max((job.status for job in jobs), default=0))
        return None

    def _jobs(self, arguments: list[str]) -> list[Job]:
        """Every combination, and what can be said of it before anything is started."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        combinations = BasicSweeper.split_arguments(parser.parse_overrides(arguments), None)[0]
        jobs = []
        for number, overrides in enumerate(combinations):
            single = tuple(text for text in overrides if not _OF_THE_SWEEP.match(text))
            job = Job(number, tuple(overrides), single)
            try:
                self._look(job)
            except (HydraException, OmegaConfBaseException) as error:
                job.end("failed", USER_ERROR, self.explain(error))
            except (ValueError, OSError) as error:
                job.end("failed", USER_ERROR, " ".join(str(error).split()))
            jobs.append(job)
        return jobs

    def _look(self, job: Job) -> None:
        """Find the job's run directory, and whether its run is complete already."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(job.given))
        dirname = str(config.hydra.job.override_dirname)
        sweep_dir = Path(str(config.hydra.sweep.dir))
        with open_dict(config):
            del config["hydra"]
        job.path = run_path(config, dirname)
        # Hydra makes this directory for every job, and a launcher that cannot would take the sweep with it.
        sweep_dir.mkdir(parents=True, exist_ok=True)
        status = read_status(job.path)
        if status is None or status.state != "complete" or str(config.resume) == "never":
            return
        # A claim is judged after its run is complete.
        if self.module != "experiments.train" and not (job.path / "verdict.json").exists():
            return
        try:
            changed = differences(read_config(job.path), plain_config(plain(config)), VOLATILE)
        except RunDirectoryError:
            return
        if not changed:
            job.end("skipped", 1 if status.reason else 0, status.reason or "complete already")

    def _launch(self, jobs: Sequence[Job], todo: Sequence[Job], folder: Path) -> str | None:
        """Run `todo` with the configured launcher; the signal that stopped the sweep, or None."""
        launcher, kind = self._launcher(folder)
        slots: tuple[Slot, ...] = ()
        if kind == "joblib":
            slots = share(len(todo), int(launcher.joblib["n_jobs"]))
            launcher.joblib["n_jobs"] = len(slots)
            cores = len(slots[0].cores)
            print(f"{len(todo)} of {len(jobs)} jobs to do: {len(slots)} at once, {cores} cores each")
        plan = Plan(
            (sys.executable, "-m", self.module, *_flags(self.config)),
            kind,
            tuple(job.overrides for job in jobs),
            tuple(job.number for job in todo),
            slots,
        )
        plan.write(folder)
        troubles: dict[int, str] = {}
        files = {job.number: outcome_file(folder, job.number) for job in todo}
        with GoingOn(folder).hold() as stop:

            def on_first(name: str) -> None:
                print(f"{name}: the running jobs save and stop, no other starts", file=sys.stderr)
                stop(name)

            with Signals(STOP_SIGNALS[:2], on_first) as signals:
                try:
                    if kind == "slurm":
                        troubles = slurm.launch(launcher, plan, folder, files, todo, lambda: signals.reason)
                    else:
                        launcher.launch([list(job.given) for job in todo], initial_job_idx=0)
                except KeyboardInterrupt:
                    print("the sweep is left at once; what runs saves and stops by itself", file=sys.stderr)
                except ValueError:
                    raise
                except Exception as error:
                    # A launcher that breaks down: what its jobs wrote still counts.
                    troubles = {job.number: one_line(error) for job in todo}
        for job in todo:
            _conclude(job, read_outcome(files[job.number]), signals.reason, troubles.get(job.number, ""))
        return signals.reason

    def _launcher(self, folder: Path) -> tuple[Any, str]:
        target = str(self.config.hydra.launcher._target_)
        known = {"basic_launcher.": "basic", "joblib_launcher.": "joblib", ".SlurmLauncher": "slurm"}
        kind = next((name for part, name in known.items() if part in target), "other")
        launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=JobRunner(str(folder)), config=self.config
        )
        return launcher, kind


def _flags(config: DictConfig) -> list[str]:
    """The flags that decide which configuration files a job composes."""
    flags = []
    for source in config.hydra.runtime.config_sources:
        if source.provider == "command-line":
            flags += ["--config-dir", str(source.path)]
    return flags


def _check_paths(jobs: Sequence[Job]) -> None:
    shared = Counter(job.path for job in jobs if job.path is not None)
    for path, count in shared.items():
        if count > 1:
            numbers = [job.number + 1 for job in jobs if job.path == path]
            raise ValueError(
                f"name: jobs {numbers[0]} and {numbers[1]} of the sweep would share {path}; leave name out, "
                f"or say what differs, for example 'name=seed-${{seed}}'"
            )


def _check_run_id(jobs: Sequence[Job]) -> None:
    given = os.environ.get("WANDB_RUN_ID")
    mirrored = [job for job in jobs if "tracking.wandb=disabled" not in job.overrides]
    if given and len(mirrored) > 1:
        raise ValueError(
            f"WANDB_RUN_ID: {given!r} names one W&B run, but the sweep makes {len(mirrored)}: unset it"
        )


def _make_folder(parent: Path) -> Path:
    """A new folder for this sweep's plan, outcomes and logs."""
    try:
        for attempt in range(1000):
            folder = parent.absolute() / (time.strftime("%Y%m%d-%H%M%S") + (f"-{attempt}" if attempt else ""))
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                continue
        raise ValueError(f"{parent}: no free name for a new folder")
    except OSError as error:
        raise ValueError(f"{parent}: {error.strerror}: choose a root=... that can be written") from None


def _conclude(job: Job, outcome: Outcome | None, stopped: str | None, trouble: str) -> None:
    """How a launched job ended, from what it wrote."""
    if outcome is None:
        if trouble:
            job.end("failed", 1, trouble)
        elif stopped is not None:
            job.end("stopped", STOPPED, "not started")
        else:
            job.end("failed", 1, "the launcher ended without this job")
    elif outcome.status == 0:
        job.end("complete", 0)
    else:
        found = read_status(job.path) if job.path is not None else None
        reason = (
            outcome.reason or (found.reason if found is not None else "") or f"exit status {outcome.status}"
        )
        job.end("stopped" if outcome.status == STOPPED else "failed", outcome.status, reason)


def summary(jobs: Sequence[Job]) -> str:
    """The table of a sweep: number, state and run of each job, and why, where it is not complete."""
    counts = Counter(job.state for job in jobs)
    order = ("complete", "skipped", "stopped", "failed")
    parts = [f"{counts[state]} {state}" for state in order if counts[state]]
    lines = [f"sweep of {len(jobs)} jobs: {', '.join(parts)}"]
    paths = {job.number: "-" if job.path is None else str(job.path) for job in jobs}
    width = max((len(path) for path in paths.values()), default=0)
    for job in jobs:
        told = job.reason if job.state in ("stopped", "failed") or job.status else ""
        if job.state == "failed":
            told = f"({varying([other.overrides for other in jobs], job.number)}) {told}"
        lines.append(f"{job.number + 1:5d}  {job.state:8s}  {paths[job.number]:{width}s}  {told}".rstrip())
    return "\n".join(lines)


def _write_summary(folder: Path, jobs: Sequence[Job]) -> None:
    rows = [dataclasses.asdict(job) | {"path": None if job.path is None else str(job.path)} for job in jobs]
    (folder / "summary.json").write_text(json.dumps(rows, indent=1) + "\n")
