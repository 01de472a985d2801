"""Reinforcement learning with verifiable rewards sharpens: Pass@1 rises, Pass@k at large k falls.

    python -m experiments.rl_pass_at_k scale=cpu|paper

A transformer is trained on paths through layered graphs whose class it cannot see, and then by policy
gradients on the verifier's reward. What it can gain is to commit to the likelier class's rule, at the price
of the other class. Pass@k and the coverage profile of the base model and of the model after reinforcement
learning are computed exactly, from the probabilities of the correct responses. Writes `verdict.json` and
`report.html` above the runs' directories.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

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
from covlab.launch.build import Setup, build
from covlab.launch.cli import command
from covlab.launch.run_names import run_path
from covlab.launch.runtime import configure
from experiments.rl_pass_at_k.figures import draw_all, tables
from experiments.rl_pass_at_k.measure import NS, Measurements, checks, living, measure_arm, notes
from tasks import LayeredGraph
from tasks.checks import whole

CLAIM = Claim(
    name="rl_pass_at_k",
    source="Yue et al., arXiv 2504.13837, section 3; GRPO, arXiv 2402.03300; closed forms derived",
    title="Reinforcement learning raises Pass@1, and Pass@k at large k falls below the base model's",
    introduction=(
        "A small transformer is trained by cross-entropy on paths through layered graphs of two classes. "
        "Which class a prompt belongs to is decided by an XOR over half of its nodes, which the model cannot "
        "see: calibrated, it gives the path of each class that class's probability. Then it answers prompts "
        "itself, a verifier says whether an answer is its class's path, and a policy gradient follows.",
        "The best that such a model can earn is to take the likelier class's path always. Its Pass@1 is then "
        "that class's probability, and so is its Pass@k for every k: the other class's paths, which the base "
        "model found in a few samples, are lost. In the coverage profile Cov_N = P[pi_D/pi_hat >= N] the "
        "other class's probability remains at every N, where the base model's profile falls to 0.",
    ),
)
OWN_KEYS = ("scale", "rl", "arms", "small_k", "large_k")
"""Settings of the claim that the base run does not depend on."""


def rl_pass_at_k(config: DictConfig) -> int:
    """Train (or continue, or reuse) the runs and judge them; exit status 0 whether or not the claim holds."""
    began = Began.now()
    arms = _check(config)
    configure(config.seeds if isinstance(config.seeds, int) else 1, config.devices, config.data_parallel)
    path = run_path(config, HydraConfig.get().overrides.task)
    base = base_config(config, OWN_KEYS, f"{path.name}-base")
    setup = build(base)
    probs = _check_setup(setup)
    status = train_runs(CLAIM.name, {"base": base}, {"base": setup}, {"base": path / "base"})
    if status is not None:
        return status
    configs = {}
    for name in arms:
        overrides = (config.rl, config.arms[name])
        configs[name] = rl_run_config(base, path / "base", "last", f"{path.name}-{name}", overrides)
    directories = {name: path / name for name in arms}
    setups = {name: build(own) for name, own in configs.items()}
    status = train_runs(CLAIM.name, configs, setups, directories)
    if status is not None:
        return status
    found = measure(config, directories, setups, probs)
    timings: dict[str, float] = {}
    for name, directory in {"base": path / "base", **directories}.items():
        timings |= timing_facts(directory, f"{name}, ")
    worked = worked_seconds(timings)
    verdict = make_verdict(
        CLAIM, config, began, worked, checks(found), found.judged.seeds, notes(found, worked)
    )
    leave(path, CLAIM, verdict, config, lambda: draw_all(path, found), tables(found), timings)
    return 0


def measure(
    config: DictConfig, directories: Mapping[str, Path], setups: Mapping[str, Setup], probs: tuple[float, ...]
) -> Measurements:
    """Read the runs, for the seeds that diverged in none.

    Raises:
        ValueError: fewer than two seeds.
    """
    seeds = living(directories)
    require_seeds(CLAIM.name, seeds)
    weights = {}
    for name, setup in setups.items():
        objective: Any = setup.phases[-1].objective
        in_reward = getattr(objective, "kl", None) == "reward" and objective.normalise == "none"
        weights[name] = float(objective.kl_weight) if in_reward else None
    return Measurements(
        {name: measure_arm(path, seeds, config.large_k) for name, path in directories.items()},
        probs,
        config.small_k,
        config.large_k,
        weights,
    )


def _check_setup(setup: Setup) -> tuple[float, ...]:
    """The classes' probabilities, largest first; refuses a base run that the claim cannot be judged on."""
    require_seeds(CLAIM.name, setup.seeds)
    task = setup.phases[-1].task
    if not isinstance(task, LayeredGraph) or task.groups != ("G1", "G2"):
        raise ValueError("task.mixture: rl_pass_at_k needs LayeredGraph with the classes G1 and G2")
    if task.group_probs[0] <= task.group_probs[1]:
        raise ValueError(f"task.mixture.G1: {task.group_probs[0]:g}; rl_pass_at_k needs more than G2's")
    if not task.num_enumerated:
        raise ValueError("task.max_enumerated: too few; rl_pass_at_k needs all valid paths enumerated")
    if setup.checkpoint.parameters == "none":
        raise ValueError("checkpoint.parameters: none; rl_pass_at_k needs ends or evaluations")
    return task.group_probs


def _check(config: DictConfig) -> list[str]:
    """Refuse bad settings of the claim itself; the arms' names."""
    arms = check_mapping("arms", config.arms)
    check_rl_settings("rl", config.rl)
    for name in arms:
        check_rl_settings(f"arms.{name}", config.arms[name])
        if name == "base" or not name.replace("_", "").isalnum():
            raise ValueError(f"arms: {name!r} is no name of letters, digits and _ other than base")
    small, large = (whole(key, config[key], 1) for key in ("small_k", "large_k"))
    for key, value in (("small_k", small), ("large_k", large)):
        if value not in NS:
            raise ValueError(
                f"{key}: {value}; valid: {NS[0]} to 64, or one of {', '.join(map(str, NS[64:]))}"
            )
    if not small < large:
        raise ValueError(f"large_k: {large} is not above small_k = {small}")
    return arms


main = command("rl_pass_at_k", rl_pass_at_k)
