"""Sweeps of a command that writes run directories, however they were asked for.

Every combination of values is a job: the single command with these values, in a separate process
(`sweeps.jobs`). A Hydra launcher (`conf/launcher/`) decides where jobs run and how many at once. A job whose
run is complete is skipped, so the same command continues a sweep. A failed job is named and stops no other.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from covlab.launch.build import identity_of
from covlab.launch.commands import EXIT_USER_ERROR
from covlab.launch.explain import explain
from covlab.launch.run_names import VOLATILE, override_key, run_path
from covlab.launch.stopping import STOP_SIGNALS, GoingOn, Signals
from covlab.launch.sweeps import slurm
from covlab.launch.sweeps.jobs import (
    STOPPED,
    Job,
    JobRunner,
    Outcome,
    Plan,
    one_line,
    outcome_file,
    read_outcome,
    varying,
)
from covlab.launch.sweeps.slots import Slot, share
from tracking import read_status
from tracking.run_config import RunDirectoryError, differences, plain_config, read_config
from tracking.wandb_options import require_no_run_id

_OF_THE_SWEEP = re.compile(r"^\+*launcher=")


class Sweeper:
    """Hydra's sweeper over all combinations, which names, skips and continues runs."""

    hydra_context: HydraContext
    config: DictConfig

    def __init__(
        self,
        module: str,
        config_name: str,
        report: Callable[[int], None],
        max_batch_size: int | None = None,
        params: Mapping[str, str] | None = None,
    ) -> None:
        """A sweeper for one command.

        Args:
            module: the single command's module for `python -m`.
            config_name: the command's file in `conf/`.
            report: takes the sweep's exit status.
            max_batch_size: ignored; a key of `hydra.sweeper`.
            params: a key of `hydra.sweeper`.
        """
        self._module, self._config_name, self._report = module, config_name, report
        self._params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        """Run all jobs, and print the outcomes.

        Raises:
            ValueError: two jobs would share a run directory, or the launcher cannot be used.
        """
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
        self._report(STOPPED if stopped is not None else max((job.status for job in jobs), default=0))
        return None

    def _jobs(self, arguments: list[str]) -> list[Job]:
        """Every combination as a job, with its run directory and state."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        # In the order of Hydra's sweeper: those of the command line come last, and win.
        given = [*(f"{key}={value}" for key, value in self._params.items()), *arguments]
        parsed = parser.parse_overrides(given)
        swept = {override_key(str(item.input_line)) for item in parsed if item.is_sweep_override()}
        combinations = BasicSweeper.split_arguments(parsed, None)[0]
        jobs = []
        for number, overrides in enumerate(combinations):
            single = tuple(text for text in overrides if not _OF_THE_SWEEP.match(text))
            job = Job(number, tuple(overrides), single)
            try:
                self._look(job, swept)
            except (HydraException, OmegaConfBaseException) as error:
                asked = [*_flags(self.config, self._config_name), *job.given]
                job.end("failed", EXIT_USER_ERROR, explain(error, self._config_name, asked))
            except (ValueError, OSError) as error:
                job.end("failed", EXIT_USER_ERROR, " ".join(str(error).split()))
            jobs.append(job)
        return jobs

    def _look(self, job: Job, swept: Collection[str]) -> None:
        """Find the job's run directory, and skip the job if its run is complete."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(job.given))
        sweep_dir = Path(str(config.hydra.sweep.dir))
        with _as_in_the_job(config) as (job_config, overrides):
            job.path = run_path(job_config, overrides, swept)
            if job.path != run_path(job_config, overrides):
                job.name = job.path.name
            identity = plain_config(identity_of(job_config))
            job.wandb = str(OmegaConf.select(job_config, "tracking.wandb"))
        # Hydra makes this directory for every job, and a launcher that cannot would end the sweep.
        sweep_dir.mkdir(parents=True, exist_ok=True)
        status = read_status(job.path)
        if status is None or status.state != "complete" or identity.get("resume") == "never":
            return
        # A claim is judged after its run is complete.
        if self._module != "experiments.train" and not (job.path / "verdict.json").exists():
            return
        try:
            changed = differences(read_config(job.path), identity, VOLATILE)
        except RunDirectoryError:
            return
        if not changed:
            job.end("skipped", 1 if status.reason else 0, status.reason or "complete already")

    def _launch(self, jobs: Sequence[Job], todo: Sequence[Job], folder: Path) -> str | None:
        """Run `todo` with the configured launcher; returns the signal that stopped the sweep, or None."""
        launcher, kind = self._launcher(folder)
        slots: tuple[Slot, ...] = ()
        if kind == "joblib":
            slots = share(len(todo), int(launcher.joblib["n_jobs"]))
            launcher.joblib["n_jobs"] = len(slots)
            cores = len(slots[0].cores)
            print(f"{len(todo)} of {len(jobs)} jobs to do: {len(slots)} at once, {cores} cores each")
        plan = Plan(
            (sys.executable, "-m", "covlab", self._module, *_flags(self.config, self._config_name)),
            kind,
            tuple(job.overrides for job in jobs),
            tuple(job.number for job in todo),
            slots,
            {str(job.number): job.name for job in jobs if job.name},
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
                    # A launcher failed; the outcomes that its jobs wrote still count.
                    troubles = {job.number: one_line(error) for job in todo}
        for job in todo:
            _conclude(job, read_outcome(files[job.number]), signals.reason, troubles.get(job.number, ""))
        return signals.reason

    def _launcher(self, folder: Path) -> tuple[Any, str]:
        target = str(self.config.hydra.launcher._target_)
        known = {"basic_launcher.": "basic", "joblib_launcher.": "joblib", ".SlurmLauncher": "slurm"}
        kind = next((name for part, name in known.items() if part in target), "other")
        launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context,
            task_function=JobRunner(str(folder), slurm.run_slurm_job if kind == "slurm" else None),
            config=self.config,
        )
        return launcher, kind


@contextlib.contextmanager
def _as_in_the_job(config: DictConfig) -> Iterator[tuple[DictConfig, list[str]]]:
    """The configuration and overrides as the job will see them, including `hydra:` interpolations."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    job_config = copy.deepcopy(config)
    with read_write(job_config), open_dict(job_config):
        del job_config["hydra"]
    try:
        yield job_config, list(config.hydra.overrides.task)
    finally:
        HydraConfig.instance().cfg = before


def _flags(config: DictConfig, config_name: str) -> list[str]:
    """Arguments that decide which configuration files a job composes."""
    flags = []
    for source in config.hydra.runtime.config_sources:
        if source.provider == "command-line":
            flags += ["--config-dir", str(source.path)]
    if config.hydra.job.config_name != config_name:
        flags += ["--config-name", str(config.hydra.job.config_name)]
    return flags + [text for text in config.hydra.overrides.hydra if text.startswith("hydra.searchpath=")]


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
    mirrored = [job.wandb for job in jobs if job.wandb != "disabled"]
    for mode in dict.fromkeys(mirrored if len(mirrored) > 1 else ()):
        require_no_run_id(mode, "the sweep")


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
    """Record a launched job's outcome."""
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
        status = read_status(job.path) if job.path is not None else None
        reason = (
            outcome.reason or (status.reason if status is not None else "") or f"exit status {outcome.status}"
        )
        job.end("stopped" if outcome.status == STOPPED else "failed", outcome.status, reason)


def summary(jobs: Sequence[Job]) -> str:
    """The table of a sweep: every job's number, state, run, values, and the reason if it is not complete."""
    counts = Counter(job.state for job in jobs)
    order = ("complete", "skipped", "stopped", "failed")
    parts = [f"{counts[state]} {state}" for state in order if counts[state]]
    lines = [f"sweep of {len(jobs)} jobs: {', '.join(parts)}"]
    paths = {job.number: "-" if job.path is None else str(job.path) for job in jobs}
    width = max((len(path) for path in paths.values()), default=0)
    names = [job.overrides for job in jobs]
    for job in jobs:
        told = job.reason if job.state in ("stopped", "failed") or job.status else ""
        values = f"({varying(names, job.number)})"
        row = f"{job.number + 1:5d}  {job.state:8s}  {paths[job.number]:{width}s}  {values} {told}"
        lines.append(row.rstrip())
    return "\n".join(lines)


def _write_summary(folder: Path, jobs: Sequence[Job]) -> None:
    rows = [dataclasses.asdict(job) | {"path": None if job.path is None else str(job.path)} for job in jobs]
    (folder / "summary.json").write_text(json.dumps(rows, indent=1) + "\n")
