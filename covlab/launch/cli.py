"""The command line: Hydra's, with one line per user error, and signals that stop a run after saving."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from covlab.launch import outside
from covlab.launch.commands import EXIT_USER_ERROR, say
from covlab.launch.explain import explain
from covlab.launch.path_arguments import quoted_paths
from covlab.launch.processes import run_on_all_processes
from covlab.launch.schema import register_schemas
from covlab.launch.search_path import check_config_dir
from covlab.launch.stopping import STOP_SIGNALS
from covlab.launch.sweeps.jobs import JOB_VARIABLE, STOPPED, Outcome, one_line, write_outcome
from covlab.launch.sweeps.requests import SWEEP, as_sweep, is_sweep, is_sweep_by_file, sweep_with

_ONE_REQUEST = 1.0
"""Seconds within which two signals are one request."""


class StopRequest:
    """Turns SIGINT, SIGTERM and a scheduler's SIGUSR1 and SIGUSR2 into a reason to stop at the next boundary.

    A second signal stops at once, unless it comes within a second of the first: a terminal, a shell and a
    scheduler may each send one. Slurm warns more than once before it kills, so in a Slurm job, and in a job
    of a sweep, only a second SIGINT stops at once. A job of a sweep is also asked to stop on its standard
    input, whose end means that the sweep is gone.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._since = 0.0

    def install(self) -> StopRequest:
        """Install the signal handlers."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._handle)
        # A sweep starts its jobs with these blocked, so that none is lost before this line.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        if JOB_VARIABLE in os.environ:
            threading.Thread(target=self._listen, daemon=True).start()
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.reason is None:
            self.reason, self._since = name, time.monotonic()
            # Not `print`, which is not reentrant: the signal may have interrupted one.
            with contextlib.suppress(OSError):
                os.write(2, f"{name}: saving at the next boundary; once more stops at once\n".encode())
        elif time.monotonic() - self._since < _ONE_REQUEST:
            return
        elif number == signal.SIGINT or not ({JOB_VARIABLE, "SLURM_JOB_ID"} & os.environ.keys()):
            raise KeyboardInterrupt

    def _listen(self) -> None:
        text = os.read(0, 100).decode(errors="replace").strip()
        if self.reason is None:
            self.reason, self._since = text or "the sweep was killed", time.monotonic()

    def __call__(self) -> str | None:
        """The reason, or None."""
        return self.reason


def command(
    config_name: str, run: Callable[[DictConfig], int], makes_runs: bool = True, module: str | None = None
) -> Callable[[], None]:
    """A `main()` that composes `conf/<config_name>.yaml` with the command line's overrides and exits with
    `run`'s status.

    Errors of the user (an unknown key, an invalid value, a directory of another run) print one line and exit
    with status 2. In a sweep every combination of values is a separate job, see `sweeps.Sweeper`. A sweep is
    asked for by `--multirun`, by `hydra.mode=MULTIRUN`, or by `hydra.sweeper.params`, on the command line or
    in a file. The jobs of a command that makes no runs share one process, with nothing to skip or continue.
    """

    own_module = module or f"experiments.{config_name}"

    def main() -> None:
        # With this set, Hydra raises exceptions instead of printing several lines.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        register_schemas()
        status: list[int] = []
        sweeps_in_file: list[bool] = []
        sweep_with(
            own_module,
            config_name,
            status.append,
            lambda: sweeps_in_file.append(True),
            makes_runs,
        )
        arguments = as_sweep(sys.argv[1:])
        if answer := _asked(config_name, own_module, arguments):
            say(answer)
            sys.exit(0)
        sys.argv[1:] = _read(arguments)

        @hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)
        def job(config: DictConfig) -> int:
            if is_sweep_by_file(sys.argv[1:]):
                sweeps_in_file.append(True)
                return 0
            try:
                status.append(run(config))
            except ValueError as error:
                # Caught here, because Hydra would print another line before raising the error again.
                if "\n" in str(error) or not is_user_error(error, own_module):
                    raise
                status.append(_refuse(str(error)))
            return status[-1]

        try:
            check_config_dir(sys.argv[1:])
            with _mode_said_here(sys.argv[1:]):
                job()
            if sweeps_in_file:
                sys.argv[1:] = _read([SWEEP, *arguments])
                job()
        except (HydraException, OmegaConfBaseException) as error:
            sys.exit(_refuse(explain(error, config_name, sys.argv[1:])))
        except BaseException as error:
            if isinstance(error, ValueError) and _raised_in(error) == "hydra":
                sys.exit(_refuse(explain(error, config_name, sys.argv[1:])))
            if isinstance(error, ValueError) and "\n" not in str(error) and is_user_error(error, own_module):
                sys.exit(_refuse(str(error)))
            _report(STOPPED if isinstance(error, KeyboardInterrupt) else 1, one_line(error))
            if isinstance(error, KeyboardInterrupt):
                print("stopped at once: the same command continues from what is saved", file=sys.stderr)
                sys.exit(STOPPED)
            raise
        _report(max(status, default=0))
        sys.exit(max(status, default=0))

    return run_on_all_processes(main, lambda: StopRequest().install(), _configure)


def _asked(config_name: str, module: str, arguments: Sequence[str]) -> str:
    """The page or the completions that a command line asks for, instead of a run; "" if it asks for none."""
    if {"--help", "-h"} & set(arguments):
        from covlab.launch.help import page

        return page(module.rpartition(".")[2], config_name, module, arguments)
    if {"--shell-completion", "-sc"} & set(arguments):
        from covlab.launch.completion import shell_completion

        return shell_completion(config_name, arguments)
    return ""


@contextlib.contextmanager
def _mode_said_here(arguments: Sequence[str]) -> Iterator[None]:
    """Spare Hydra a whole composition, which it makes to look for a `hydra.mode` in the files.

    No file of `conf/` states one. A folder of the user's own may, and so may an override.
    """
    if any("hydra" in text or (text.startswith("-") and text not in _MODES) for text in arguments):
        yield
        return
    before = Hydra.get_mode
    setattr(Hydra, "get_mode", lambda *_, **__: None)  # noqa: B010
    try:
        yield
    finally:
        setattr(Hydra, "get_mode", before)  # noqa: B010


_MODES = ("--run", "-r", "--multirun", "-m")


def _configure(*arguments: Any) -> None:
    # Imported late: most commands need JAX only after reading their settings.
    from covlab.launch.runtime import configure

    configure(*arguments)


def _read(arguments: Sequence[str]) -> list[str]:
    """The arguments in a form that Hydra's grammar reads."""
    return flags_last(quoted_paths(arguments, several=is_sweep(arguments)))


def _refuse(message: str) -> int:
    """Report an error: to the sweep in a job of a sweep, else on standard error."""
    if not _report(EXIT_USER_ERROR, message):
        print(f"error: {message}", file=sys.stderr)
    return EXIT_USER_ERROR


def _report(status: int, reason: str = "") -> bool:
    """Write the outcome of a sweep's job for the sweep; True if there is a sweep.

    The first report stands: an error's message comes before the resulting status.
    """
    file = os.environ.pop(JOB_VARIABLE, "-")
    if file != "-":
        write_outcome(Path(file), Outcome(status, reason))
    return file != "-"


def flags_last(arguments: Sequence[str]) -> list[str]:
    """The arguments with the flags last, because Hydra's parser does not take flags between overrides.

    Example:
        >>> flags_last(["steps=3", "--multirun", "seed=0,1"])
        ['steps=3', 'seed=0,1', '--multirun']
    """
    overrides = list(get_args_parser().parse_known_intermixed_args(list(arguments))[0].overrides)
    rest = list(overrides)
    flags = []
    for argument in arguments:
        if argument in rest:
            rest.remove(argument)
        else:
            flags.append(argument)
    return overrides + flags


def is_user_error(error: ValueError, module: str = "") -> bool:
    """True if a ValueError was raised by this project's checks or by those of the user's own packages, not
    inside a library.

    Args:
        error: the error.
        module: the module of the command, whose package counts as the user's own.
    """
    return _raised_in(error) in {*_OUR_PACKAGES, module.partition(".")[0], *outside.packages()}


_OUR_PACKAGES = (
    "tasks",
    "models",
    "decoding",
    "metrics",
    "training",
    "tracking",
    "theory",
    "covlab",
    "experiments",
    "__main__",
)


def _raised_in(error: BaseException) -> str:
    """The top-level package of the code that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", "")).split(".")[0]
