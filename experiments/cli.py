"""The command line: Hydra's, with every user error in one line, and signals that save before they stop."""

from __future__ import annotations

import difflib
import os
import re
import signal
import sys
from collections.abc import Callable
from types import FrameType

import hydra
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.schema import register_schemas

EXIT_USER_ERROR = 2


class StopRequest:
    """Turns SIGINT and SIGTERM into a reason to stop at the next boundary; a second one stops at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def install(self) -> StopRequest:
        """Take over the two signals."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        print(
            f"{signal.Signals(number).name}: saving at the next boundary; once more stops at once",
            file=sys.stderr,
        )

    def __call__(self) -> str | None:
        """The reason, or None."""
        return None if self.signal is None else signal.Signals(self.signal).name


def command(config_name: str, run: Callable[[DictConfig], int]) -> Callable[[], None]:
    """A `main()` that composes `conf/<config_name>.yaml` with the command line's overrides and exits with
    `run`'s status.

    Errors of the user (an unknown key, a bad value, a directory of another run) print one line and exit with
    status 2.
    """

    def main() -> None:
        # With this set, Hydra hands its exceptions over instead of printing several lines of its own.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        register_schemas()
        status: list[int] = []

        @hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)
        def job(config: DictConfig) -> int:
            try:
                status.append(run(config))
            except ValueError as error:
                # Caught here, because Hydra would print a line of its own before handing the error on.
                if "\n" in str(error) or not is_user_error(error):
                    raise
                print(f"error: {error}", file=sys.stderr)
                status.append(EXIT_USER_ERROR)
            return status[-1]

        try:
            job()
        except (HydraException, OmegaConfBaseException) as error:
            print(f"error: {explain(error, config_name)}", file=sys.stderr)
            sys.exit(EXIT_USER_ERROR)
        sys.exit(max(status, default=0))

    return main


def is_user_error(error: ValueError) -> bool:
    """Whether a ValueError was raised by this project's own checks, not inside a library that it calls."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    name = trace.tb_frame.f_globals.get("__name__", "")
    return name.split(".")[0] in {
        "tasks",
        "models",
        "decoding",
        "metrics",
        "training",
        "tracking",
        "experiments",
        "__main__",
    }


def explain(error: Exception, config_name: str) -> str:
    """Hydra's message in one line, with the valid keys where a key is unknown."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    match = re.match(r"Could not override '([^']+)'", lines[0]) if lines else None
    if match is None:
        cause = error.__cause__
        if cause is not None and str(cause) not in str(error):
            lines += [str(cause).splitlines()[0]]
        return " ".join(lines)
    key = match.group(1)
    valid = _valid_keys(config_name, key.rpartition(".")[0])
    close = difflib.get_close_matches(key.rpartition(".")[2], valid, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{key}: no such key; valid are {', '.join(valid)}{hint}"


def _valid_keys(config_name: str, parent: str) -> list[str]:
    GlobalHydra.instance().clear()
    with initialize_config_module("conf", version_base="1.3"):
        node = OmegaConf.select(compose(config_name), parent) if parent else compose(config_name)
    return sorted(str(key) for key in node if key != "_target_") if isinstance(node, DictConfig) else []
