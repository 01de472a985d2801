"""Command lines of runs and options: `compare RUN... key=value`."""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from covlab.launch.cli import command
from tracking.metric_names import natural

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


def asked_runs(config: DictConfig, runs: Sequence[str], module: str) -> list[str]:
    """The runs of the key `runs` and of the command line.

    Raises:
        ValueError: there are none.
    """
    asked = [*map(str, many(config.runs)), *runs]
    if not asked:
        raise ValueError(
            "runs: none; valid: run directories, folders of them or patterns, "
            f"as in python -m {module} runs/train/*"
        )
    return asked


def choose_metrics(wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    """The metrics among `names` that `wanted` names or matches, the matches of a pattern in natural order.

    Raises:
        ValueError: a pattern or name that no run has, with the nearest names.
    """
    metrics: dict[str, None] = {}
    for name in wanted:
        matches = [name] if name in names else fnmatch.filter(names, name)
        if not matches:
            raise ValueError(unknown("metric", name, names))
        metrics |= dict.fromkeys(sorted(matches, key=natural))
    return list(metrics)


def usual_metrics(names: Sequence[str]) -> list[str]:
    """The KL (or cross-entropy), the Cov_N with N nearest to 4 and the Pass@N with N nearest to 8; without
    these, any three.
    """
    first = next(([name] for name in ("eval/kl", "eval/ce") if name in names), [])
    return [*first, *nearest(names, "eval/cov/", 4), *nearest(names, "eval/pass/", 8)] or list(names[:3])


def nearest(names: Sequence[str], prefix: str, n: float) -> list[str]:
    """The name `<prefix><N>` with N nearest to `n` in ratio, as a list; empty if there is none."""
    ns = {name: float(name.removeprefix(prefix)) for name in names if re.fullmatch(rf"{prefix}[\d.]+", name)}
    return [min(ns, key=lambda name: max(ns[name] / n, n / ns[name]))] if ns else []


def unknown(field: str, name: str, names: Sequence[str]) -> str:
    """A line that says that no run has `name`, with the nearest names."""
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5) or list(names[:5])
    return f"{field}: {name!r} is in no run; valid are {len(names)}, for example {', '.join(near)}"


def many(value: Any) -> list[Any]:
    """A scalar as a list of one; None as an empty list."""
    if value is None:
        return []
    return list(value) if OmegaConf.is_list(value) else [value]
