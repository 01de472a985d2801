"""Ways to ask for a sweep: `--multirun`, `hydra.mode=MULTIRUN`, or `hydra.sweeper.params`, each on the
command line or in a configuration file.

`sweeps.Sweeper` serves commands that make runs. Hydra's sweeper, whose jobs share one process, serves the
others.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from hydra._internal.core_plugins import basic_sweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins import sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from covlab.launch.sweeps.jobs import JOB_VARIABLE

SWEEP = "hydra.mode=MULTIRUN"
"""Override that makes a command a sweep."""
_SINGLE = "hydra.mode=RUN"


def as_sweep(arguments: Sequence[str]) -> list[str]:
    """The arguments with every `hydra.sweeper.params.<key>=<values>` as `<key>=<values>` of a sweep.

    A job of a sweep is always a single run, whatever the configuration files say.

    Example:
        >>> as_sweep(["steps=3", "+hydra.sweeper.params.seed=1,2"])
        ['hydra.mode=MULTIRUN', 'seed=1,2', 'steps=3']
    """
    swept, rest = [], []
    for argument in arguments:
        match = re.match(r"\+*hydra\.sweeper\.params\.([^=]+)=(['\"]?)(.*)\2$", argument)
        if match is None:
            rest.append(argument)
        else:
            swept.append(f"{match[1]}={match[3]}")
    if JOB_VARIABLE in os.environ:
        return [_SINGLE, *rest]
    return [*([SWEEP] if swept and not _says_mode(rest) else []), *swept, *rest]


def is_sweep(arguments: Sequence[str]) -> bool:
    """True if a command line asks for several runs."""
    parsed = get_args_parser().parse_known_intermixed_args(list(arguments))[0]
    return bool(parsed.multirun) or SWEEP in parsed.overrides


def _says_mode(arguments: Sequence[str]) -> bool:
    """True if the command line states the mode, one run or a sweep."""
    parsed = get_args_parser().parse_known_intermixed_args(list(arguments))[0]
    other = parsed.run or parsed.multirun or parsed.cfg or parsed.info
    return bool(other) or any(text.startswith("hydra.mode=") for text in parsed.overrides)


def is_sweep_by_file(arguments: Sequence[str]) -> bool:
    """True if a file's `hydra.sweeper.params` ask for a sweep that Hydra takes for a single run."""
    hydra: Any = HydraConfig.get()
    params = OmegaConf.select(hydra, "sweeper.params")
    # Hydra adds the mode to the overrides where nobody has said it.
    return bool(params) and _SINGLE in hydra.overrides.hydra and not _says_mode(arguments)


def sweep_with(
    module: str,
    config_name: str,
    report: Callable[[int], None],
    by_file: Callable[[], None],
    makes_runs: bool = True,
) -> None:
    """Make Hydra sweep with `LazySweeper` if the command line asks for a sweep.

    Args:
        module: the single command's module for `python -m`.
        config_name: the command's file in `conf/`.
        report: takes the sweep's exit status.
        by_file: called instead of a sweep that only a file's `hydra.mode` asks for. Until then the command
            line was read as that of a single run, in which a comma does not separate paths.
        makes_runs: True if the command's jobs make run directories; else Hydra's sweeper serves.
    """
    # Hydra instantiates the sweeper, and only a class whose module name begins with a Hydra package.
    LazySweeper.command = (module, config_name, report) if makes_runs else None
    LazySweeper.by_file = (by_file,)
    Plugins.instance().class_name_to_class[f"{basic_sweeper.__name__}.BasicSweeper"] = LazySweeper


class LazySweeper(sweeper.Sweeper):
    """`sweeps.Sweeper`, imported only for a sweep: most commands do without its imports.

    `command` is None for a command that makes no runs, which Hydra's sweeper serves.
    """

    command: ClassVar[tuple[str, str, Callable[[int], None]] | None]
    by_file: ClassVar[tuple[Callable[[], None]]]

    def __init__(self, max_batch_size: int | None = None, params: Mapping[str, str] | None = None) -> None:
        self._given = max_batch_size, None if params is None else dict(params)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self._sweeper: Any
        if self.command is None:
            # Hydra reloads its plugins' modules, so `super` of an earlier class would be another class.
            self._sweeper = basic_sweeper.BasicSweeper(*self._given)
        else:
            from covlab.launch.sweeps.sweeper import Sweeper

            self._sweeper = Sweeper(*self.command, *self._given)
        self._sweeper.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run all jobs."""
        if not is_sweep(sys.argv[1:]):
            return self.by_file[0]()
        return self._sweeper.sweep(arguments)
