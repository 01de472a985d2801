"""Exploration by representations: choosing among samples at test time, and a bonus in reinforcement learning.

    python -m experiments.exploration scale=cpu|paper

Transformers are trained on two tasks. From checkpoints of different strength, k of N sampled responses are
chosen by their hidden states, and in several ways that need no representation, and go to the verifier. Then
policy gradients with and without a bonus for unlike responses start from one checkpoint, at equal verifier
calls. Writes `verdict.json` and `report.html` above the runs' directories.
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
from covlab.claims.rl_runs import base_config, check_mapping, check_rl_settings, rl_run_config
from covlab.claims.several_runs import train_runs
from covlab.launch.build import PHASE_KEYS, Setup, build
from covlab.launch.cli import command
from covlab.launch.run_names import run_path
from covlab.launch.runtime import configure
from covlab.launch.trained import open_run
from experiments.exploration.checks import checks, notes
from experiments.exploration.figures import draw_all, tables
from experiments.exploration.measure import Measurements, measure_arms, measure_test_time
from experiments.exploration.pools import PoolSettings
from experiments.rl_pass_at_k.measure import living
from tasks.checks import real, whole, wholes
from tracking import Progress

CLAIM = Claim(
    name="exploration",
    source="Representation-based exploration, arXiv 2510.11686, sections 3 and 4",
    title="Choosing responses by their representations saves verifier calls, and as a bonus keeps Pass@k",
    introduction=(
        "Each response has a feature, the mean of the model's last hidden states over its tokens. At test "
        "time N responses are drawn and k of them picked one after the other, each the one that is least "
        "explained by those picked before. In reinforcement learning a response earns a bonus for what its "
        "group's other responses do not explain. The authors find over 50 % fewer verifier calls with models "
        "of 14 billion parameters, and nothing with the smallest ones.",
        "Copies of one response are explained by each other. So the first question is what remains beyond "
        "dropping copies, which needs no representation: k of the different responses at random, in the "
        "order in which they appear, or the likeliest first; and in reinforcement learning a bonus that only "
        "counts copies.",
    ),
)
OWN_KEYS = ("scale", "tasks", "rl", "arms", "pool", "ks", "coverage_n")
"""Settings of the claim that no base run depends on, but for what `tasks` says of it."""
_OF_BASE = (*(key for key in PHASE_KEYS if key not in ("task", "source")), "model", "checkpoint")
_OF_TASK = ("task", "base", "checkpoints", "start", "rl", "prompts")


def exploration(config: DictConfig) -> int:
    """Train (or continue, or reuse) the runs and judge them; exit status 0 whether or not the claim holds."""
    began = Began.now()
    settings, arms = check_settings(config)
    names = list(settings)
    configure(config.seeds if isinstance(config.seeds, int) else 1, config.devices, config.data_parallel)
    path = run_path(config, HydraConfig.get().overrides.task)
    bases = {name: task_config(config, name, f"{path.name}-{name}") for name in names}
    directories = {name: path / name for name in names}
    setups = {name: build(own) for name, own in bases.items()}
    for name, setup in setups.items():
        check_setup(config, name, setup)
    status = train_runs(CLAIM.name, bases, setups, directories)
    if status is not None:
        return status
    configs, runs = {}, {name: {arm: path / f"{name}_{arm}" for arm in arms} for name in names}
    for name in names:
        own = config.tasks[name]
        for arm, directory in runs[name].items():
            overrides = (config.rl, own.rl, config.arms[arm])
            where = f"train:{own.start}"
            run_name = f"{path.name}-{directory.name}"
            configs[directory.name] = rl_run_config(
                bases[name], directories[name], where, run_name, overrides
            )
    every = {directory.name: directory for own in runs.values() for directory in own.values()}
    status = train_runs(CLAIM.name, configs, {name: build(own) for name, own in configs.items()}, every)
    if status is not None:
        return status
    found = measure(config, settings, directories, runs)
    timings: dict[str, float] = {}
    for name, directory in (directories | every).items():
        timings |= timing_facts(directory, f"{name}, ")
    worked = worked_seconds(timings)
    verdict = make_verdict(CLAIM, config, began, worked, checks(found), found.seeds, notes(found, worked))
    leave(path, CLAIM, verdict, config, lambda: draw_all(path, found), tables(found), timings)
    return 0


def measure(
    config: DictConfig,
    settings: Mapping[str, PoolSettings],
    directories: Mapping[str, Path],
    runs: Mapping[str, Mapping[str, Path]],
) -> Measurements:
    """Draw the pools of all runs, for the seeds that diverged in none.

    Raises:
        ValueError: fewer than two seeds.
    """
    every = dict(directories) | {own.name: own for arms in runs.values() for own in arms.values()}
    seeds = living(every)
    require_seeds(CLAIM.name, seeds)
    points = {
        name: [len(open_run(own).checkpoints(["all"])) for own in arms.values()]
        for name, arms in runs.items()
    }
    # The start of the arms is measured once.
    along = sum(sum(each) - len(each) + 1 for each in points.values())
    total = len(seeds) * (along + sum(len(config.tasks[name].checkpoints) for name in directories))
    progress, seed, n = Progress(bool(config.tracking.progress)), config.evaluation.seed, config.coverage_n
    done = iter(range(1, total + 1))

    def report() -> None:
        progress.update("pools", next(done), total)

    test_time, arms = {}, {}
    try:
        progress.update("pools", 0, total)
        for name, directory in directories.items():
            run, steps = open_run(directory), config.tasks[name].checkpoints
            test_time[name] = measure_test_time(
                run, seeds, tuple(steps), settings[name], seed, name, float(n), report
            )
            ks = tuple(config.ks)
            arms[name] = measure_arms(runs[name], seeds, settings[name], seed, name, ks, float(n), report)
    finally:
        progress.close()
    return Measurements(test_time, arms, seeds)


def task_config(config: DictConfig, name: str, run_name: str) -> DictConfig:
    """The base run on one task, as a configuration of experiments.train."""
    own = base_config(config, OWN_KEYS, run_name)
    node = config.tasks[name]
    merged = OmegaConf.merge(own, {"task": node.task}, node.base or {})
    assert isinstance(merged, DictConfig)
    return merged


def check_settings(config: DictConfig) -> tuple[dict[str, PoolSettings], list[str]]:
    """Refuse bad settings of the claim itself; the pools' settings by task, and the arms' names."""
    names, arms = check_mapping("tasks", config.tasks), check_mapping("arms", config.arms, at_least=2)
    for field, given in (("tasks", names), ("arms", arms)):
        for name in given:
            if not name.replace("_", "").isalnum():
                raise ValueError(f"{field}: {name!r} is no name of letters, digits and _")
    for name in names:
        node: Any = config.tasks[name]
        if not isinstance(node, DictConfig) or set(map(str, node)) != set(_OF_TASK):
            raise ValueError(f"tasks.{name}: valid is a mapping with the keys {', '.join(_OF_TASK)}")
        wholes(f"tasks.{name}.checkpoints", node.checkpoints, 0, at_least=2)
        whole(f"tasks.{name}.start", node.start, 0)
        whole(f"tasks.{name}.prompts", node.prompts, 1)
        for key in map(str, node.base or {}):
            if key not in _OF_BASE:
                raise ValueError(f"tasks.{name}.base.{key}: no such field; valid are {', '.join(_OF_BASE)}")
        check_rl_settings(f"tasks.{name}.rl", node.rl)
    check_rl_settings("rl", config.rl)
    for arm in arms:
        check_rl_settings(f"arms.{arm}", config.arms[arm])
    group = whole("rl.source.per_prompt", config.rl.source.per_prompt, 2)
    if config.phases:
        raise ValueError("phases: exploration trains one phase; valid: {}")
    wholes("ks", config.ks, 1)
    real("coverage_n", config.coverage_n, above=1, below=1e9)
    valid = ("responses", "ridge")
    if not isinstance(config.pool, DictConfig) or set(map(str, config.pool)) != set(valid):
        raise ValueError(f"pool: valid is a mapping with the keys {', '.join(valid)}")
    size = whole("pool.responses", config.pool.responses, 2)
    if size % group or size < max(config.ks):
        raise ValueError(
            f"pool.responses: {size}; valid: a multiple of rl.source.per_prompt = {group}, and at least the "
            f"largest of ks, {max(config.ks)}"
        )
    ridge = real("pool.ridge", config.pool.ridge, above=0, below=1e9)
    settings = {name: PoolSettings(size, int(config.tasks[name].prompts), ridge, group) for name in names}
    return settings, arms


def check_setup(config: DictConfig, name: str, setup: Setup) -> None:
    """Refuse a base run that does not keep what is asked of it."""
    require_seeds(CLAIM.name, setup.seeds)
    if setup.checkpoint.parameters != "evaluations":
        raise ValueError(
            f"checkpoint.parameters: {setup.checkpoint.parameters}; exploration needs evaluations"
        )
    phase = setup.phases[-1]
    there = set(phase.schedule.steps(phase.steps))
    for field, steps in (
        ("checkpoints", config.tasks[name].checkpoints),
        ("start", [config.tasks[name].start]),
    ):
        missing = sorted(set(steps) - there)
        if missing:
            raise ValueError(f"tasks.{name}.{field}: {missing[0]} is no evaluated step of its base run")


main = command("exploration", exploration)
