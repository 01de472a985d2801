"""Command lines of runs and options: `compare RUN... key=value`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Sequence

from omegaconf import DictConfig

from covlab.launch.cli import command

_FLAGS_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--info", "-i")


def split_arguments(arguments: Sequence[str], keys: Collection[str]) -> tuple[list[str], list[str]]:
    """(runs, options) of a command line.

    An option is a flag, or a `key=value` whose key is one of `keys` or that is not an existing path. So a
    misspelt key is an unknown key and not a missing run.
    """
    runs, options = [], []
    rest = iter(arguments)
    for argument in rest:
        match = re.match(r"[+~]*(\w+)[\w.@]*=", argument)
        if argument in _FLAGS_WITH_VALUE:
            options += [argument, *([following] if (following := next(rest, None)) is not None else [])]
        elif argument.startswith("-") or (match and (match[1] in keys or not os.path.exists(argument))):
            options.append(argument)
        else:
            runs.append(argument)
    return runs, options


def command_on_runs(
    config_name: str,
    keys: Collection[str],
    run: Callable[[DictConfig, Sequence[str], Sequence[str]], int],
) -> Callable[[], None]:
    """A `main()` whose command line is split in two, because Hydra takes only options.

    `run` gets the configuration, the runs and the whole command line; it returns the exit status.
    """

    def main() -> None:
        whole = sys.argv
        runs, options = split_arguments(whole[1:], keys)
        sys.argv = [whole[0], *options]
        try:
            command(config_name, lambda config: run(config, runs, whole[1:]), makes_runs=False)()
        finally:
            sys.argv = whole

    return main
