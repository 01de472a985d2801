"""Training, sweeping and judging from Python, by the functions that the commands call."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from covlab.api.overrides import PathLike, composed
from covlab.api.results import Judgement, Run
from covlab.api.training import stoppable, train_composed
from covlab.launch.composing import Composed


def train(*overrides: str, config_dir: PathLike | None = None, **settings: Any) -> Run:
    """A training run, by the code and with the files and numbers of `covlab train`.

    The run directory is `<root>/<group>/<name>`, by default named by the overrides. An existing run there is
    continued, a complete one is returned as it is; `resume` says otherwise ("never", "must").

    The first Ctrl-C, or interrupt of a notebook, saves and returns a run in state "stopped", which the same
    call continues; a second one raises KeyboardInterrupt. Another stop signal (SIGTERM, SIGUSR1, SIGUSR2) has
    its usual effect after the run is saved. In a thread that is not the main one no signal stops the run.

    JAX is configured at the first call, if it has not started before: the devices of a CPU are those that the
    first run asks for, by default one per core.

    Args:
        overrides: overrides as on the command line, for example `"task=dyck"`.
        config_dir: a folder with further configuration files, as `--config-dir` of the command.
        settings: overrides by keyword: `steps=300`, `task={"depth": 3}`, `**{"task.depth": 3}`. A class, a
            `functools.partial` of one, or a dataclass replaces a group: `task=MyTask(length=5)`,
            `model=functools.partial(MyModel, width=32)`. `name`, `root` and `resume` are settings too.

    Returns:
        The run. Its state is "complete", "stopped", or "failed" if every seed diverged.

    Raises:
        ValueError: an invalid setting, or a directory that holds another run; one line.

    Example:
        run = covlab.train("task=dyck", steps=300, seeds=4)
    """
    _refuse_sweep(overrides)
    return _train(composed("train", overrides, settings, config_dir))


def sweep(*overrides: str, config_dir: PathLike | None = None, **settings: Any) -> list[Run]:
    """Runs of all combinations of values, one after the other in this process.

    Positional overrides may state several values: `sweep("optimizer=adamw,sgd", "seed=0,1", steps=100)`
    trains four runs. All configurations are composed before the first run starts. A stopped run ends the
    sweep; the same call continues it.

    Args:
        overrides: overrides as on the command line of a sweep.
        config_dir: as in `train`.
        settings: settings of all runs, as in `train`.

    Returns:
        The runs in order, up to a stopped one.

    Raises:
        ValueError: as `train`, or two runs that would share a directory.
    """
    from covlab.launch.run_names import run_path

    every = [composed("train", combination, settings, config_dir) for combination in _combinations(overrides)]
    paths = [run_path(*setting) for setting in every]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(
                f"name: {paths.count(path)} runs of the sweep would share {path}; leave name out"
            )
    runs = []
    for setting in every:
        runs.append(_train(setting))
        if runs[-1].state == "stopped":
            break
    return runs


def load(path: PathLike) -> Run:
    """The run in a directory, which may be in progress.

    Raises:
        ValueError: there is no run of `covlab train` in `path`.
    """
    from covlab.launch.trained import run_config

    run_config(Path(path))
    return Run(Path(path))


def claim(name: str, /, *overrides: str, config_dir: PathLike | None = None, **settings: Any) -> Judgement:
    """A claim's verdict and page, by the code and with the files of `python -m experiments.<name>`.

    Ctrl-C acts as in `train` while a claim trains, and raises KeyboardInterrupt in a claim that trains
    nothing.

    Args:
        name: a folder below `experiments/`, for example "tournament", or a claim of an installed package.
        overrides, config_dir, settings: as in `train`, for example `scale="cpu"`.

    Returns:
        The judgement; its verdict is None if training was stopped or every seed of a run diverged.

    Raises:
        ValueError: no such claim, an invalid setting, or a directory of another run; one line.
    """
    from covlab.claims.claim import judge, register
    from covlab.launch.run_names import run_path

    described = _claim(name)
    register(described)
    config, named = composed(described.name, overrides, settings, config_dir)
    with stoppable() as stop:
        judged = judge(described, config, named, stop)
    if isinstance(judged, int):
        return Judgement(run_path(config, named), "stopped" if judged == 130 else "failed", None)
    return Judgement(judged.path, "complete", judged.verdict)


def _claim(name: str) -> Any:
    """The description of a claim.

    Raises:
        ValueError: there is no claim of this name; the message lists all claims.
    """
    from covlab.claims.running import claims, outside_claims

    if name.isidentifier() and importlib.util.find_spec(f"experiments.{name}") is not None:
        module = importlib.import_module(f"experiments.{name}")
        if hasattr(module, "CLAIM"):
            return module.CLAIM
    outside = outside_claims()
    if name in outside:
        return outside[name]
    raise ValueError(f"claim: {name!r} is not a claim; valid are {', '.join([*claims(), *outside])}")


def _train(wanted: Composed) -> Run:
    return Run(train_composed(wanted))


def _refuse_sweep(overrides: Sequence[str]) -> None:
    if len(_combinations(overrides)) > 1:
        raise ValueError(f"{' '.join(overrides)}: several values; valid: one run, or covlab.sweep(...)")


def _combinations(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """One tuple of overrides for every run of a sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from covlab.launch.path_arguments import quoted_paths

    choices: list[list[str]] = []
    for text in overrides:
        try:
            (parsed,) = OverridesParser.create().parse_overrides(quoted_paths([text], several=True))
        except (HydraException, TypeError):
            # Refused, with a reason, where the configuration is composed.
            choices.append([text])
            continue
        key = parsed.get_key_element()
        swept = parsed.is_sweep_override()
        choices.append([f"{key}={value}" for value in parsed.sweep_string_iterator()] if swept else [text])
    return list(itertools.product(*choices))
