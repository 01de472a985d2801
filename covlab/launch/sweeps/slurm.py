"""A sweep's jobs on a Slurm cluster, through the plugin hydra-submitit-launcher and its library submitit.

The plugin submits jobs and starts Python on the node. This module adds three things. Every job is waited for,
whatever becomes of the others. A job that is warned (preemption, end of its time) saves, then is requeued. A
repeated sweep waits for jobs that are still queued instead of submitting them again.
"""

from __future__ import annotations

import getpass
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from covlab.launch.import_path import ROOT
from covlab.launch.stopping import STOP_SIGNALS, Signals
from covlab.launch.sweeps.jobs import (
    STOPPED,
    Job,
    Outcome,
    Plan,
    announce,
    one_line,
    outcome_file,
    read_outcome,
    run_process,
    title,
    write_outcome,
)

_POLL_SECONDS = 2.0
_GONE_AFTER = 3
"""Number of consecutive queries without a job after which it counts as ended: its files may arrive late."""


def launch(
    launcher: Any,
    plan: Plan,
    folder: Path,
    files: dict[int, Path],
    todo: Sequence[Job],
    stopped: Callable[[], str | None],
) -> dict[int, str]:
    """Submit `todo` as one array of Slurm jobs and wait for all of them.

    Args:
        launcher: the plugin's Slurm launcher.
        plan: the sweep's plan.
        folder: the sweep's folder.
        files: outcome files by job; replaced for a job that an earlier sweep submitted.
        todo: the jobs to submit.
        stopped: returns the reason why the sweep is to stop, or None. The jobs are then cancelled: Slurm
            warns them, and they save.

    Returns:
        Slurm's state of the jobs that ended without an outcome.

    Raises:
        ValueError: there is no Slurm here, or it refuses the jobs.
    """
    known = _Queued(folder.parent / "slurm" / "queued.json")
    active = _active()
    ids: dict[int, str] = {}
    for job in todo:
        entry = known.entries.get(str(job.path))
        if entry is not None and entry["id"] in active:
            ids[job.number], files[job.number] = entry["id"], Path(entry["outcome"])
            print(f"{title(plan, job.number)}: waiting for Slurm job {entry['id']} of an earlier sweep")
    positions = [index for index, job in enumerate(todo) if job.number not in ids]
    if positions:
        submitted = _submit(launcher, [list(todo[index].given) for index in positions], positions)
        ids |= {todo[index].number: name for index, name in zip(positions, submitted, strict=True)}
        print(f"submitted as Slurm jobs {', '.join(submitted)}")
    known.add({str(job.path): {"id": ids[job.number], "outcome": str(files[job.number])} for job in todo})

    def log(name: str) -> Path:
        return Path(launcher.params["submitit_folder"].replace("%j", name)) / f"{name}_0_log.err"

    return _wait(plan, ids, files, stopped, log)


def _wait(
    plan: Plan,
    ids: Mapping[int, str],
    files: Mapping[int, Path],
    stopped: Callable[[], str | None],
    logs: Callable[[str], Path],
) -> dict[int, str]:
    """Wait until none of the jobs `ids` is in the queue."""
    absent = dict.fromkeys(ids, 0)
    said: dict[int, str] = {}
    cancelled = False
    while absent:
        if stopped() is not None and not cancelled:
            cancelled = True
            subprocess.run(["scancel", *(ids[number] for number in absent)], check=False)
        active = _active(default=set(ids.values()))
        for number in list(absent):
            absent[number] = 0 if ids[number] in active else absent[number] + 1
            outcome = read_outcome(files[number])
            if absent[number] == 0 or (outcome is None and absent[number] < _GONE_AFTER):
                continue
            del absent[number]
            if outcome is None and not cancelled:
                said[number] = f"Slurm job {ids[number]} ended without a result: {_state(ids[number])}"
            ended = outcome or Outcome(STOPPED if cancelled else 1, said.get(number, ""))
            announce(title(plan, number), ended, logs(ids[number]))
        time.sleep(_POLL_SECONDS if absent else 0)
    return said


class _Queued:
    """The Slurm job that serves each run directory, remembered beyond the sweep that submitted it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.entries: dict[str, dict[str, str]] = {}
        if file.is_file():
            self.entries = json.loads(file.read_text())

    def add(self, entries: Mapping[str, dict[str, str]]) -> None:
        """Remember entries, and forget jobs that have left the queue."""
        active = _active()
        kept = {path: entry for path, entry in self.entries.items() if entry["id"] in active}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(kept | dict(entries), indent=1) + "\n")
        part.replace(self._file)


def _submit(launcher: Any, overrides: Sequence[list[str]], positions: Sequence[int]) -> list[str]:
    """Submit one Slurm job per list of overrides; returns the ids."""
    import submitit
    from hydra.core.singleton import Singleton
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    if Path.cwd() != ROOT:
        # Else Python searches the current folder first on the node, where a package of the user may have
        # the name of one of the lab's.
        os.environ["PYTHONSAFEPATH"] = "1"
    base = set(BaseQueueConf.__dataclass_fields__)
    settings = dict(launcher.params)
    try:
        executor = submitit.AutoExecutor(
            cluster="slurm",
            folder=settings.pop("submitit_folder"),
            slurm_max_num_timeout=settings.pop("max_num_timeout"),
        )
        executor.update_parameters(
            **{key if key in base else f"slurm_{key}": value for key, value in settings.items()}
        )
        state = Singleton.get_state()
        # The arguments of the launcher's __call__, which the job runs on the node.
        arguments = [
            (text, "hydra.sweep.dir", n, str(n), state) for text, n in zip(overrides, positions, strict=True)
        ]
        return [str(job.job_id) for job in executor.map_array(launcher, *zip(*arguments, strict=True))]
    except (RuntimeError, OSError, submitit.core.utils.UncompletedJobError) as error:
        raise ValueError(f"launcher=slurm: {' '.join(str(error).split())}") from None


def _active(default: set[str] | None = None) -> set[str]:
    """Ids of the user's queued or running jobs; `default` if the controller does not answer."""
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]
    try:
        queue = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        raise ValueError(
            "launcher=slurm: no Slurm on this machine (squeue is missing); launcher=joblib needs none"
        ) from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        if default is None:
            said = getattr(error, "stderr", None) or str(error)
            raise ValueError(f"launcher=slurm: {' '.join(str(said).split())}") from None
        return default
    return set(queue.stdout.split())


def _state(name: str) -> str:
    """A job's state in the controller's memory, for example RUNNING; UNKNOWN if there is none."""
    command = ["scontrol", "--oneliner", "show", "job", name]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "UNKNOWN"
    states = [part.removeprefix("JobState=") for part in answer.split() if part.startswith("JobState=")]
    return states[0] if states else "UNKNOWN"


def run_slurm_job(plan: Plan, folder: Path, number: int) -> Outcome:
    """Run job `number` on this node; a job that is warned is requeued after it has saved.

    submitit's handler of the warning, which counts timeouts and requeues, is called after the save and not
    at once. A job that Slurm requeues or cancels is left to Slurm.
    """
    requeue = next(
        (
            handler
            for number_ in (signal.SIGUSR2, signal.SIGUSR1)
            if getattr(handler := signal.getsignal(number_), "__name__", "") == "checkpoint_and_try_requeue"
        ),
        None,
    )
    first = os.environ.get("SLURM_PROCID", "0") == "0"
    print(title(plan, number), flush=True)

    def on_first(name: str) -> None:
        print(f"{name}: the job saves and stops", file=sys.stderr, flush=True)

    with Signals(STOP_SIGNALS, on_first) as signals:
        outcome = run_process(plan, folder, number, lambda: signals.reason, report=first)
        announce(title(plan, number), outcome)
        if signals.reason is None or outcome.status != STOPPED or not first:
            return outcome
        state = _state(os.environ["SLURM_JOB_ID"])
        print(f"the Slurm job is {state}", flush=True)
        if state == "RUNNING" and callable(requeue):
            try:
                requeue(signal.Signals[signals.reason], None)
            except Exception as error:
                outcome = Outcome(1, f"saved, not continued: {one_line(error)}")
                write_outcome(outcome_file(folder, number), outcome)
                return outcome
    # Exit without a result, so that submitit does not take the job for finished.
    raise SystemExit(STOPPED)
