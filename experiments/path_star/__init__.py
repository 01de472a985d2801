"""Path-star graphs: the choice that teacher forcing does not teach (Bachmann, Nagarajan, arXiv 2403.06963).

    python -m experiments.path_star scale=cpu|paper

One small transformer is trained three times: on responses written from the start (forward), from the goal
(reversed), and from the start without ever reading its response (teacherless). The claim: forward training
learns to follow edges and leaves the choice of the arm at chance, as the closed form of "Clever Hans" says
in accuracy, cross-entropy, coverage and Pass@N, while reversed training solves the task. What teacherless
training reaches is reported beside them. Draws figures, writes `verdict.json` and `report.html` above the
runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from covlab.claims.old_claim import (
    Began,
    Claim,
    leave,
    make_verdict,
    require_seeds,
    timing_facts,
    worked_seconds,
)
from covlab.claims.several_runs import train_runs
from covlab.launch.build import PHASE_KEYS, Setup, build
from covlab.launch.cli import command
from covlab.launch.run_names import run_path
from covlab.launch.runtime import configure
from experiments.path_star.checks import checks, notes
from experiments.path_star.figures import draw_all, tables
from experiments.path_star.measure import FORWARD, REVERSED, TEACHERLESS, measure
from tasks import PathStar
from tasks.checks import real, whole

RUNS: Mapping[str, Mapping[str, Any]] = {
    FORWARD: {"task": {"reversed": False}, "model": {"_target_": "models.GPT"}},
    REVERSED: {"task": {"reversed": True}, "model": {"_target_": "models.GPT"}},
    TEACHERLESS: {"task": {"reversed": False}, "model": {"_target_": "models.TeacherlessGPT"}},
}
OWN_KEYS = ("per_run", "factor", "fresh_examples", "fresh_checkpoints", "scale")
"""Settings of the claim that no run depends on: a run's `config.yaml` is one of experiments.train."""
_RUN_KEYS = ("model", *PHASE_KEYS)
CLAIM = Claim(
    name="path_star",
    source="Bachmann and Nagarajan, arXiv 2403.06963, sections 4 and 5; closed forms derived",
    title="Path-star graphs: the choice that teacher forcing does not teach",
    introduction=(
        "A path-star graph has several arms that leave one start. The prompt lists its edges in random "
        "order and names the start and a goal, the end of one arm; the response is that arm. Read from the "
        "goal, each node is one look-up. From the start, everything is decided at the first step, which "
        "needs the whole arm.",
        "With the right tokens before it as input, every later token is one look-up too. A model that has "
        "learned this 'Clever Hans' look-up earns no more from the rest, and the choice stays at chance, "
        "1/d. Then the cross-entropy is ln d, Cov_N is 1 up to N = d and 0 beyond, and Pass@N is 1 - (1 - "
        "1/d)^N: a model that fails by accuracy covers the answer, and a few samples find it.",
    ),
)


def path_star(config: DictConfig) -> int:
    """Train (or continue, or reuse) the three runs and judge them; exit status 0 whether or not the claim
    holds."""
    began = Began.now()
    _check(config)
    configure(config.seeds if isinstance(config.seeds, int) else 1, config.devices, config.data_parallel)
    path = run_path(config, HydraConfig.get().overrides.task)
    configs = {name: run_config(config, path, name) for name in RUNS}
    setups = {name: _build(name, own) for name, own in configs.items()}
    directories = {name: path / name for name in configs}
    status = train_runs("path_star", configs, setups, directories)
    if status is not None:
        return status
    found = measure(
        {name: (directories[name], setup) for name, setup in setups.items()},
        float(config.factor),
        config.fresh_examples,
        config.fresh_checkpoints,
    )
    timings: dict[str, float] = {}
    for name, directory in directories.items():
        timings |= timing_facts(directory, f"{name}, ")
    worked = worked_seconds(timings)
    verdict = make_verdict(CLAIM, config, began, worked, checks(found), found.seeds, notes(found, worked))
    leave(path, CLAIM, verdict, config, lambda: draw_all(path, found), tables(found), timings)
    return 0


def run_config(config: DictConfig, path: Path, name: str) -> DictConfig:
    """One run as a configuration of experiments.train: `per_run`'s changes, then what defines the run."""
    own = OmegaConf.create({key: value for key, value in config.items() if key not in OWN_KEYS})
    OmegaConf.set_struct(own, False)
    changes = dict(config.per_run.get(name) or {})
    merged = OmegaConf.merge(own, changes, RUNS[name], {"group": config.group, "name": f"{path.name}-{name}"})
    assert isinstance(merged, DictConfig)
    return merged


def _build(name: str, config: DictConfig) -> Setup:
    """Build a run, and refuse before compiling one that the claim cannot be judged on."""
    try:
        setup = build(config)
        _check_setup(setup)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return setup


def _check_setup(setup: Setup) -> None:
    require_seeds("path_star", setup.seeds)
    if len(setup.phases) != 1:
        raise ValueError(f"phases: {[each.name for each in setup.phases]}; path_star needs a single phase")
    task = setup.phases[-1].task
    if isinstance(task, PathStar) and task.path_length < 3:
        raise ValueError(
            f"task.path_length: {task.path_length}; path_star needs at least 3, or the goal itself "
            f"follows the start"
        )
    if setup.checkpoint.parameters == "none":
        raise ValueError("checkpoint.parameters: none; path_star needs ends or evaluations")


def _check(config: DictConfig) -> None:
    """Refuse bad settings of the claim itself."""
    target = config.task.get("_target_")
    if target != "tasks.PathStar":
        raise ValueError(f"task: {target}; path_star needs tasks.PathStar (task=path_star)")
    if not isinstance(config.per_run, DictConfig):
        raise ValueError(f"per_run: {config.per_run!r} is not a mapping from a run's name to overrides")
    given: Any = OmegaConf.to_container(config.per_run)
    for name, changes in given.items():
        if name not in RUNS:
            raise ValueError(f"per_run: {name!r} is not one of {', '.join(RUNS)}")
        if not isinstance(changes, dict | None):
            raise ValueError(
                f"per_run.{name}: {changes!r} is not a mapping; valid keys are {', '.join(_RUN_KEYS)}"
            )
        for key in changes or {}:
            if key not in _RUN_KEYS:
                raise ValueError(f"per_run.{name}.{key}: no such field; valid are {', '.join(_RUN_KEYS)}")
    real("factor", config.factor, above=1)
    for field, low in (("fresh_examples", 16), ("fresh_checkpoints", 1)):
        whole(field, config[field], low)


main = command("path_star", path_star)
