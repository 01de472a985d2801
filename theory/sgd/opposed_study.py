"""How many sequences SGD's lower-bound family needs, each way of training with its own best step size.

What the claims `token_sgd` and `truncated_distillation` ask of `opposed_prompts`: step sizes are chosen on
one seed and counted on another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from tasks import check_seed
from tasks.checks import real, whole, wholes
from theory.sgd.opposed_prompts import Family, Method, Slopes, slope_steps, spike_steps
from theory.sgd.rare_prompts import generator
from tracking import Progress


@dataclasses.dataclass(frozen=True)
class FamilySettings:
    """Fields that both claims have.

    Attributes:
        family_horizons: H.
        family: the family; its horizon is replaced by each of `family_horizons`.
        family_draws, family_tuning_draws: draws of the prompts' order, of the verdict and for the choice.
        tuning_seed: of the draws that step sizes are chosen on.
        seed: of all others.
    """

    family_horizons: tuple[int, ...]
    family: Family
    family_draws: int
    family_tuning_draws: int
    tuning_seed: int
    seed: int


def family_settings(config: DictConfig, n: float) -> FamilySettings:
    """Check these fields of a configuration; N is that of Cov_N.

    Raises:
        ValueError: one line, with the field, its value and what would be valid.
    """
    seeds = [check_seed(name, config[name]) for name in ("tuning_seed", "seed")]
    if seeds[0] == seeds[1]:
        raise ValueError(f"seed: {seeds[1]}; valid: another one than tuning_seed, which steps are chosen on")
    inner = real("family_inner", config.family_inner, above=4, below=100)
    plus = real("family_plus", config.family_plus, above=1 / 16, below=15 / 16)
    return FamilySettings(
        family_horizons=wholes("family_horizons", config.family_horizons, 64, at_least=3),
        family=Family(0, n, inner, plus, 1 / 16),
        family_draws=whole("family_draws", config.family_draws, 8),
        family_tuning_draws=whole("family_tuning_draws", config.family_tuning_draws, 2),
        tuning_seed=seeds[0],
        seed=seeds[1],
    )


def halvings(name: str, value: object) -> tuple[float, ...]:
    """Step sizes 2^-k, the largest first.

    Raises:
        ValueError: not at least two different whole numbers.
    """
    return tuple(2.0**-k for k in wholes(name, value, 0, at_least=2))


class Arm(NamedTuple):
    """One way of training and of answering.

    Attributes:
        method: a step a sequence, a truncated one, or a step a token.
        grid: step sizes.
        most: sequences at most on the family; four times as many on the draws of the verdict.
        spikes, spike_most: how many spikes, and sequences at most on each.
        running: answers with running parameters (test-time training); only of "token".
    """

    method: Method
    grid: tuple[float, ...]
    most: int
    spikes: int = 24
    spike_most: int = 256
    running: bool = False

    def needed(self, found: Slopes) -> Float[np.ndarray, "rates draws"]:
        """Of what was found, the part that this way of answering stands for."""
        if not self.running:
            return found.fixed
        assert found.running is not None, "running parameters: only of a step a token"
        return found.running


@dataclasses.dataclass(frozen=True)
class FamilyRun:
    """Sequences until Cov_N is at its target for good on the worst instance, (draws, H) by arm, and the step
    sizes chosen."""

    needed: dict[str, Float[np.ndarray, "draws horizons"]]
    steps: dict[str, tuple[float, ...]]


def measure_family(
    claim: str, arms: Mapping[str, Arm], chosen: FamilySettings, progress: Progress
) -> FamilyRun:
    """Every arm at every H, with the step of its grid whose worst instance needs the fewest on the tuning
    seed. Arms of one method have one grid, and are tuned on the same runs."""
    needed: dict[str, list[np.ndarray]] = {name: [] for name in arms}
    steps: dict[str, list[float]] = {name: [] for name in arms}
    for done, horizon in enumerate(chosen.family_horizons):
        progress.update("family", done, len(chosen.family_horizons), {"H": horizon})
        family = chosen.family._replace(horizon=horizon)
        tuning: dict[Method, tuple[np.ndarray, Slopes]] = {}
        for name, arm in arms.items():
            rates = np.array(arm.grid)
            if arm.method not in tuning:
                spikes = spike_steps(family, arm.method, rates, arm.spikes, arm.spike_most)
                rng = generator(chosen.tuning_seed, claim, "family", arm.method, horizon)
                draws = chosen.family_tuning_draws
                found = slope_steps(family, arm.method, rates, draws, rng, arm.most, spikes)
                tuning[arm.method] = spikes, found
            spikes, found = tuning[arm.method]
            best = int(np.maximum(spikes, arm.needed(found).mean(axis=1)).argmin())
            rng = generator(chosen.seed, claim, "family", name, horizon)
            found = slope_steps(family, arm.method, rates[[best]], chosen.family_draws, rng, 4 * arm.most)
            needed[name].append(np.maximum(arm.needed(found)[0], spikes[best]))
            steps[name].append(float(rates[best]))
    progress.update("family", len(chosen.family_horizons), len(chosen.family_horizons))
    return FamilyRun(
        {name: np.stack(each, axis=1) for name, each in needed.items()},
        {name: tuple(each) for name, each in steps.items()},
    )
