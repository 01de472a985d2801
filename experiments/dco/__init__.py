"""Cross-entropy grows over-confident over many epochs; direct coverage optimisation (arXiv 2502.07154).

    python -m experiments.dco scale=cpu|paper

A small transformer is trained for many epochs on a small fixed set of graph problems, in several arms that
share seeds, data and initialisation: by cross-entropy, by DCO for several N', and by cross-entropy with each
intervention that is meant against over-confidence. The claim: under cross-entropy Pass@1 rises while Pass@N
at a large N falls and coverage degrades, and the model trained by DCO for N' near N is best at N. Everything
is computed exactly, from the probabilities of the valid responses. Draws figures, writes `verdict.json` and
`report.html` above the runs.
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
from covlab.launch.build import Setup, build
from covlab.launch.cli import command
from covlab.launch.run_names import run_path
from covlab.launch.runtime import configure
from experiments.dco.checks import checks, notes
from experiments.dco.figures import draw_all, tables
from experiments.dco.measure import measure
from tasks.checks import whole
from training import DCO, CrossEntropy

OWN_KEYS = ("arms", "early", "scale")
"""Settings of the claim that no run depends on: a run's `config.yaml` is one of experiments.train."""
_ARM_KEYS = ("objective", "optimizer", "averaging", "steps", "batch_size")
CLAIM = Claim(
    name="dco",
    source="Chen et al., arXiv 2502.07154; interventions as their objectives' sources say",
    title="Many epochs of cross-entropy raise Pass@1 and lower Pass@N; DCO for N' near N is best at N",
    introduction=(
        "Half of the graph problems have one path, found by a local rule that generalises. The others "
        "branch, and which branch is right is decided by a parity over the whole graph that the model does "
        "not learn: it can only remember it for the problems of its small training set. With every epoch it "
        "remembers more of them, and on fresh problems it is as sure of a branch as on those that it "
        "remembers, but not as often right.",
        "So Pass@1 rises, with the local rule, while Pass@N at a large N falls: where the model is sure of "
        "the wrong branch, no number of samples finds the right one. That is a loss of coverage, Cov_N = "
        "P[pi_D/pi_hat >= N]. Direct coverage optimisation (DCO) has the loss -ln(1 - (1 - p)^N'), whose "
        "gradient is cross-entropy's times a factor that vanishes once N' samples are enough: what will be "
        "found anyway is not learned any better.",
    ),
)


def dco(config: DictConfig) -> int:
    """Train (or continue, or reuse) the arms and judge them; exit status 0 whether or not the claim holds."""
    began = Began.now()
    configure(config.seeds if isinstance(config.seeds, int) else 1, config.devices, config.data_parallel)
    path = run_path(config, HydraConfig.get().overrides.task)
    configs, setups, trained_for = arms_of(config, path)
    phase = next(iter(setups.values())).phases[0]
    directories = {name: path / name for name in configs}
    status = train_runs("dco", configs, setups, directories)
    if status is not None:
        return status
    assert phase.dataset_size is not None
    epochs = phase.steps * phase.batch_size / phase.dataset_size
    found = measure(directories, trained_for, config.early, epochs)
    timings: dict[str, float] = {}
    for name, directory in directories.items():
        timings |= timing_facts(directory, f"{name}, ")
    worked = worked_seconds(timings)
    verdict = make_verdict(CLAIM, config, began, worked, checks(found), found.seeds, notes(found, worked))
    leave(path, CLAIM, verdict, config, lambda: draw_all(path, found), tables(found), timings)
    return 0


def arms_of(config: DictConfig, path: Path) -> tuple[dict[str, DictConfig], dict[str, Setup], dict[str, int]]:
    """By arm: its run's configuration, what that builds, and N' of those that are compared by it.

    Raises:
        ValueError: one line for a setting that the claim cannot be judged with.
    """
    _check(config)
    configs = {str(name): run_config(config, path, str(name)) for name in config.arms}
    setups = {name: _build(name, own) for name, own in configs.items()}
    trained_for = _trained_for(setups)
    phase = next(iter(setups.values())).phases[0]
    _check_early(config.early, phase.schedule.steps(phase.steps))
    return configs, setups, trained_for


def run_config(config: DictConfig, path: Path, name: str) -> DictConfig:
    """One arm as a configuration of experiments.train: a phase of its own overrides, under the same name in
    every arm, so that all see the same examples."""
    own = OmegaConf.create({key: value for key, value in config.items() if key not in OWN_KEYS})
    OmegaConf.set_struct(own, False)
    own.phases = {"train": config.arms[name] or {}}
    own.group, own.name = config.group, f"{path.name}-{name}"
    return own


def _build(name: str, config: DictConfig) -> Setup:
    """Build an arm, and refuse before compiling one that the claim cannot be judged on."""
    try:
        setup = build(config)
        require_seeds("dco", setup.seeds)
        phase = setup.phases[0]
        if phase.dataset_size is None:
            raise ValueError("dataset_size: null; dco needs a fixed training set")
        if not phase.task.num_enumerated:
            raise ValueError(f"task: {type(phase.task).__name__}; dco needs all valid responses enumerated")
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return setup


def _trained_for(setups: Mapping[str, Setup]) -> dict[str, int]:
    """N' of the first arm, which is 1, and of the plain DCO arms, smallest first."""
    objectives = {name: setup.phases[0].objective for name, setup in setups.items()}
    first = next(iter(objectives))
    if type(objectives[first]) is not CrossEntropy:
        raise ValueError(
            f"arms.{first}.objective: {type(objectives[first]).__name__}; the first arm of dco is "
            f"CrossEntropy"
        )
    found = {first: 1}
    for name, objective in objectives.items():
        if isinstance(objective, DCO):
            n = objective.n
            if n != int(n) or n in found.values():
                raise ValueError(
                    f"arms.{name}.objective.n: {n}; valid: a whole number > 1 that no other arm has"
                )
            found[name] = int(n)
    if len(found) < 3:
        raise ValueError(f"arms: {len(found) - 1} of DCO; dco needs at least 2")
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _check_early(early: Any, steps: tuple[int, ...]) -> None:
    if early not in steps[1:-1]:
        raise ValueError(
            f"early: {early!r} is no evaluation after the start and before the end; valid: "
            f"{', '.join(map(str, steps[1:-1]))}"
        )


def _check(config: DictConfig) -> None:
    """Refuse bad settings of the claim itself."""
    if config.phases:
        raise ValueError(
            f"phases: {', '.join(map(str, config.phases))}; dco has one phase, its arms override it"
        )
    if not isinstance(config.arms, DictConfig) or not config.arms:
        raise ValueError(f"arms: {config.arms!r} is not a mapping from names to overrides")
    for name, changes in {str(key): value for key, value in config.arms.items()}.items():
        if not name.replace("_", "").isalnum() or name == "ensemble":
            raise ValueError(f"arms: {name!r} is no name of letters, digits and _ other than ensemble")
        if not isinstance(changes, DictConfig | None):
            raise ValueError(
                f"arms.{name}: {changes!r} is not a mapping; valid keys are {', '.join(_ARM_KEYS)}"
            )
        for key in map(str, changes or {}):
            if key not in _ARM_KEYS:
                raise ValueError(f"arms.{name}.{key}: no such field; valid are {', '.join(_ARM_KEYS)}")
    whole("early", config.early, 1)


main = command("dco", dco)
