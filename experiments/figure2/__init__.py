"""Figure 2 of the Coverage Principle (arXiv 2510.15020): KL grows with the horizon, coverage does not.

    python -m experiments.figure2 scale=cpu|paper

Models are trained on paths through layered graphs with H intermediate layers, for several H. One prompt in
twenty (class "xor") has H/2 branching layers that follow a rule too hard to learn; a model guesses there. Its
converged KL grows linearly with H, its converged Cov_N does not. Trains one run of all seeds for each
horizon, draws the figure, writes `verdict.json` and `report.html` above the runs' directories.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
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
from experiments.figure2.checks import checks, notes
from experiments.figure2.figures import draw_all
from experiments.figure2.measure import CLASSES, measure, window
from experiments.figure2.tables import tables
from tasks.checks import real, whole, wholes

Value = TypeVar("Value")

OWN_KEYS = ("horizons", "per_horizon", "n", "branching_examples", "branching_checkpoints", "scale")
"""Settings of the claim that no run depends on: a run's `config.yaml` is one of experiments.train."""
CLAIM = Claim(
    name="figure2",
    source="Coverage Principle, arXiv 2510.15020, Figure 2; appendix C.3",
    title="Figure 2: KL grows with the horizon, coverage does not",
    introduction=(
        "A small transformer is trained on paths through layered graphs with H intermediate layers. "
        "Nineteen prompts in twenty have one valid path. In one of twenty (class xor) H/2 layers branch, "
        "and an XOR over the parities of all passable nodes decides which of the 2^(H/2) valid paths is "
        "right. The model learns to stay on valid paths, not to compute the XOR, and guesses.",
        "Each guess adds ln 2 to the cross-entropy, so that the converged KL grows linearly with H. "
        "Whether the right path's ratio pi_D/pi_hat is 2^2 or 2^5, it is above N: the coverage profile "
        "Cov_N is the share of such prompts at every H. KL / Cov_N shows how loose the bound of coverage "
        "by KL becomes.",
    ),
)


def figure2(config: DictConfig) -> int:
    """Train (or continue, or reuse) a run for each horizon, and judge them; exit status 0 whether or not the
    claim holds."""
    began = Began.now()
    _check(config)
    configure(config.seeds if isinstance(config.seeds, int) else 1, config.devices, config.data_parallel)
    path = run_path(config, HydraConfig.get().overrides.task)
    configs = {horizon: horizon_config(config, path, horizon) for horizon in sorted(config.horizons)}
    setups = {horizon: _build(horizon, own) for horizon, own in configs.items()}
    directories = {horizon: path / f"H{horizon}" for horizon in configs}
    status = train_runs("figure2", by_name(configs), by_name(setups), by_name(directories))
    if status is not None:
        return status
    found = measure(
        {horizon: (directories[horizon], setup) for horizon, setup in setups.items()},
        float(config.n),
        config.branching_examples,
        config.branching_checkpoints,
    )
    timings: dict[str, float] = {}
    for horizon, directory in directories.items():
        timings |= timing_facts(directory, f"H = {horizon}, ")
    worked = worked_seconds(timings)
    verdict = make_verdict(CLAIM, config, began, worked, checks(found), found.seeds, notes(found, worked))
    leave(path, CLAIM, verdict, config, lambda: draw_all(path, found), tables(found), timings)
    return 0


def horizon_config(config: DictConfig, path: Path, horizon: int) -> DictConfig:
    """The run of one horizon as a configuration of experiments.train: its depth, then `per_horizon`'s own."""
    own = OmegaConf.create({key: value for key, value in config.items() if key not in OWN_KEYS})
    changes = dict(config.per_horizon.get(f"H{horizon}") or {})
    OmegaConf.set_struct(own, False)
    task = {"task": {"depth": horizon}}
    place = {"group": config.group, "name": f"{path.name}-H{horizon}"}
    merged = OmegaConf.merge(own, task, changes, place)
    assert isinstance(merged, DictConfig)
    return merged


def by_name(of_horizons: Mapping[int, Value]) -> dict[str, Value]:
    """What belongs to the horizons, by the names of their runs."""
    return {f"horizon {horizon}": value for horizon, value in of_horizons.items()}


def _build(horizon: int, config: DictConfig) -> Setup:
    """Build a horizon's run, and refuse before compiling one that the claim cannot be judged on."""
    try:
        setup = build(config)
        _check_setup(setup)
    except ValueError as error:
        raise ValueError(f"horizon {horizon}: {error}") from None
    return setup


def _check_setup(setup: Setup) -> None:
    require_seeds("figure2", setup.seeds)
    phase = setup.phases[-1]
    if len(setup.phases) != 1:
        raise ValueError(f"phases: {[each.name for each in setup.phases]}; figure2 needs a single phase")
    if set(phase.task.groups) != set(CLASSES):
        raise ValueError(f"task.mixture: {phase.task.groups}; figure2 needs {', '.join(CLASSES)}")
    if setup.checkpoint.parameters == "none":
        raise ValueError("checkpoint.parameters: none; figure2 needs ends or evaluations")
    steps = np.asarray(phase.schedule.steps(phase.steps))
    if 0 not in steps or not (window(steps).any() and window(steps, 1).any()):
        raise ValueError(
            f"evaluation.schedule: {len(steps)} evaluations in {phase.steps} steps; figure2 needs one at "
            f"step 0, one in the last eighth and one in the eighth before it"
        )


def _check(config: DictConfig) -> None:
    """Refuse bad settings of the claim itself."""
    horizons = wholes("horizons", config.horizons, 2, at_least=3)
    if not isinstance(config.per_horizon, DictConfig):
        raise ValueError(f"per_horizon: {config.per_horizon!r} is not a mapping from H<horizon> to overrides")
    valid = [f"H{each}" for each in horizons]
    for name, changes in config.per_horizon.items():
        if name not in valid:
            raise ValueError(f"per_horizon: {name!r} is not one of {', '.join(valid)}")
        for key in changes or {}:
            if key not in PHASE_KEYS:
                raise ValueError(
                    f"per_horizon.{name}.{key}: no such field; valid are {', '.join(PHASE_KEYS)}"
                )
    real("n", config.n, least=1)
    for field, low in (("branching_examples", 16), ("branching_checkpoints", 1)):
        whole(field, config[field], low)


main = command("figure2", figure2)
