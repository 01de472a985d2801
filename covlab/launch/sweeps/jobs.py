"""One job of a sweep: the single command in a separate process that can be asked to save and stop.

A launcher's worker may serve many jobs, and JAX's devices, signal handlers and Hydra's singletons outlive a
job. So no job runs in a worker: the worker starts the command that would train this one run. A sweep's
numbers are therefore those of the single commands, and a job that crashes harms no other.

Nothing here imports JAX, so that workers stay small.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from covlab.launch.stopping import GoingOn
from covlab.launch.sweeps.slots import Slot, take_slot

JOB_VARIABLE = "COVLAB_SWEEP_JOB"
"""Environment variable of a job's process: the file for the outcome, or "-" for none. Where it is set, the
process is asked to stop on standard input."""
STOPPED = 130
_POLL_SECONDS = 0.2


@dataclasses.dataclass
class Job:
    """One combination of a sweep: overrides, run directory and state.

    `given` are the overrides of the sweep's command, `overrides` those of the single command. `state` is
    complete, skipped (already complete), stopped or failed; empty before the job has run. `name` is the run
    directory's name where the job would not find it itself. `wandb` is the job's `tracking.wandb`.
    """

    number: int
    given: tuple[str, ...]
    overrides: tuple[str, ...]
    path: Path | None = None
    state: str = ""
    reason: str = ""
    status: int = 0
    name: str = ""
    wandb: str = "disabled"

    def end(self, state: str, status: int, reason: str = "") -> None:
        """Record the outcome."""
        self.state, self.status, self.reason = state, status, reason


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A job's exit status, and one line of explanation if it is not 0."""

    status: int
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Description of a sweep for the workers, a file in the sweep's folder.

    Attributes:
        command: the single command without overrides.
        launcher: "basic", "joblib", "slurm" or another.
        jobs: overrides of every job of the sweep.
        launched: numbers of the jobs that the launcher starts, in its order.
        slots: slots of the jobs that run at once; empty if the launcher decides alone.
        names: job number -> name of a run directory that the job would not find itself.
    """

    command: tuple[str, ...]
    launcher: str
    jobs: tuple[tuple[str, ...], ...]
    launched: tuple[int, ...]
    slots: tuple[Slot, ...] = ()
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def line(self, number: int) -> list[str]:
        """The command line of a job."""
        name = self.names.get(str(number))
        return [*self.command, *self.jobs[number], *([] if name is None else [f"name='{name}'"])]

    def write(self, folder: Path) -> None:
        """Write `plan.json`."""
        (folder / "plan.json").write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """Read `plan.json`."""
        fields = json.loads((folder / "plan.json").read_text())
        slots = tuple(Slot(tuple(slot["cores"]), slot["accelerator"]) for slot in fields["slots"])
        jobs = tuple(map(tuple, fields["jobs"]))
        return cls(
            tuple(fields["command"]),
            fields["launcher"],
            jobs,
            tuple(fields["launched"]),
            slots,
            fields.get("names", {}),
        )


def outcome_file(folder: Path, number: int) -> Path:
    """The file of job `number`'s outcome."""
    return folder / f"job-{number + 1:04d}.json"


def write_outcome(file: Path, outcome: Outcome) -> None:
    """Write an outcome atomically."""
    part = file.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(dataclasses.asdict(outcome)) + "\n")
    part.replace(file)


def read_outcome(file: Path) -> Outcome | None:
    """The outcome in `file`; None if there is none."""
    try:
        return Outcome(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def one_line(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def run_process(
    plan: Plan,
    folder: Path,
    number: int,
    asked: Callable[[], str | None],
    log: Path | None = None,
    variables: Mapping[str, str] | None = None,
    report: bool = True,
) -> Outcome:
    """Run job `number` in a separate process and wait for it.

    Args:
        plan: the sweep's plan.
        folder: the sweep's folder.
        number: the job's number.
        asked: returns the reason why the job should save and stop, or None; called repeatedly.
        log: file for the output; None for this process's output.
        variables: more environment variables.
        report: True if the job writes its outcome; of a job on many nodes, only the first rank does.
    """
    file = outcome_file(folder, number)
    if report:
        file.unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        output = None if log is None else stack.enter_context(log.open("ab"))
        process = subprocess.Popen(
            plan.line(number),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=None if log is None else subprocess.STDOUT,
            env={**os.environ, **(variables or {}), JOB_VARIABLE: str(file) if report else "-"},
        )
        assert process.stdin is not None
        # If this process ends, the pipe closes, and the job saves and stops.
        line = stack.enter_context(contextlib.closing(process.stdin))
        told = False
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(_POLL_SECONDS)
                break
            if not told and (reason := asked()) is not None:
                told = True
                with contextlib.suppress(BrokenPipeError):
                    line.write(f"{reason}\n".encode())
                    line.flush()
    if not report:
        return Outcome(status)
    outcome = read_outcome(file)
    if outcome is None:
        outcome = _died(status, asked())
        write_outcome(file, outcome)
    return outcome


def _died(status: int, asked: str | None) -> Outcome:
    """The outcome of a process that wrote none."""
    if asked is not None:
        return Outcome(STOPPED, asked)
    if status < 0:
        number = -status
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        hint = ", probably because memory ran out" if number == signal.SIGKILL else ""
        return Outcome(1, f"killed by {name}{hint}")
    return Outcome(status or 1, f"ended with exit status {status}")


@dataclasses.dataclass(frozen=True)
class JobRunner:
    """Function that a Hydra launcher calls for each job.

    Attributes:
        folder: the sweep's folder.
        run_on_node: runs a job for which the launcher started this process; None if jobs share this machine.
    """

    folder: str
    run_on_node: Callable[[Plan, Path, int], Outcome] | None = None

    def __call__(self, config: Any) -> int:
        """Run Hydra's current job; returns the exit status."""
        folder = Path(self.folder)
        plan = Plan.read(folder)
        number = plan.launched[int(HydraConfig.get().job.num)]
        if self.run_on_node is not None:
            return self.run_on_node(plan, folder, number).status
        going_on = GoingOn(folder)
        if going_on() is not None:
            return STOPPED
        here = plan.launcher == "basic"
        job = title(plan, number)
        if here:
            print(job, flush=True)
        with take_slot(folder, plan.slots) as slot:
            variables = {} if slot.accelerator is None else {"CUDA_VISIBLE_DEVICES": slot.accelerator}
            log = None if here else outcome_file(folder, number).with_suffix(".log")
            outcome = run_process(plan, folder, number, going_on, log, variables)
        announce(job, outcome, None if here else log)
        return outcome.status


def varying(jobs: Sequence[Sequence[str]], number: int) -> str:
    """The overrides that distinguish a job from the other jobs of the sweep."""
    common = set(jobs[0]).intersection(*jobs) if len(jobs) > 1 else set()
    return " ".join(text for text in jobs[number] if text not in common)


def title(plan: Plan, number: int) -> str:
    """A job's number, from 1, and its distinguishing overrides."""
    return f"job {number + 1} of {len(plan.jobs)} ({varying(plan.jobs, number)})"


def announce(job: str, outcome: Outcome, log: Path | None = None) -> None:
    """Print one line when a job has ended, and a failure's reason on standard error."""
    if outcome.status == 0:
        if log is not None:
            print(f"{job}: complete", flush=True)
    elif outcome.status == STOPPED:
        print(f"{job}: stopped", flush=True)
    else:
        where = "" if log is None or not log.exists() else f" (log: {os.path.relpath(log)})"
        print(f"error: {job}: {outcome.reason}{where}", file=sys.stderr, flush=True)
