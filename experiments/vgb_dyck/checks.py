"""Checks of experiments.vgb_dyck, with the reason for each target, and notes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from covlab.report.tables import interval_text
from covlab.report.verdict import Check, above, at_least, at_most
from experiments.vgb_dyck.measure import Measurements
from experiments.vgb_dyck.sweep import (
    BASE,
    OUTCOME,
    PLAIN,
    VALUE_GUIDED,
    WITHOUT_BACKTRACKING,
)
from experiments.vgb_dyck.trees import ACTION, FIXED
from metrics import Interval, hypervolume, hypervolume_difference, mean_interval, seeds_and_prompts_interval

RIVALS = (*WITHOUT_BACKTRACKING, OUTCOME)
"""Decoders that VGB is compared with: the paper's."""
RESAMPLES_SEED = 2510
"""Seed of the resamples of seeds and prompts, which all comparisons share."""

Points = Float[np.ndarray, "seeds prompts settings 2"]


def fronts(results: Measurements, rival: str, budget: int) -> tuple[Points, Points]:
    """(VGB's points, the rival's), equally many: against outcome-level rejection, which has no setting,
    VGB's setting without a parameter alone."""
    sweep = results.sweep
    guided = (sweep.plain(),) if rival == OUTCOME else sweep.methods(VALUE_GUIDED, budget)
    return sweep.points(guided, budget), sweep.points(sweep.methods(rival, budget), budget)


def ahead(results: Measurements, rival: str, budget: int) -> Interval:
    """Hypervolume of VGB minus the rival's, out of distribution."""
    rng = np.random.default_rng(RESAMPLES_SEED)
    return hypervolume_difference(*fronts(results, rival, budget), rng)


def volume(results: Measurements, families: tuple[str, ...], budget: int) -> float:
    """Hypervolume of all settings of the families together, out of distribution."""
    methods = [method for family in families for method in results.sweep.methods(family, budget)]
    return float(hypervolume(results.sweep.points(methods, budget).mean(axis=(0, 1))))


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks. Intervals are at 95 %: over seeds for the KL and the exact laws, over seeds and
    prompts, which all seeds share, for all else.

    The reasons for the targets:

    - The base model is good: KL to pi_D at most 0.1 nats, accuracy in distribution at least 0.9. Out of
      distribution its accuracy is at most .05, so that outcome-level rejection is not free, and VGB gains
      accuracy.
    - VGB is beyond a rival's front if its hypervolume is larger by more than the margin. The margin is 0:
      where the base model nearly always fails, hypervolumes are small, and any allowance would decide. With
      equal numbers of settings, equal methods pass with a probability of .025.
    - Errors of the values: action-level rejection sampling passes them on, so its total variation to pi* at
      the largest error exceeds that with exact values by 0.1; VGB's stays below 0.05 at every error.
    - With learned values VGB is no farther from pi* than action-level rejection sampling, on average over the
      training of the value function.
    """
    sweep, trees = results.sweep, results.trees
    last = sweep.grid.budgets[-1]
    outside = _accuracy(results, BASE)
    plain = sweep.curves[sweep.plain()].accuracy[..., -1]
    front = [
        above(_name(rival, budget), ahead(results, rival, budget), results.margin)
        for rival in RIVALS
        for budget in sweep.grid.budgets
    ]
    growth = mean_interval(trees.corrupted[ACTION][:, -1] - trees.corrupted[ACTION][:, 0])
    flat = max((mean_interval(column) for column in trees.corrupted[FIXED].T), key=lambda each: each.high)
    learned = mean_interval((trees.learned[FIXED] - trees.learned[ACTION]).mean(axis=1))
    inside = seeds_and_prompts_interval(sweep.in_distribution.accuracy[..., -1])
    gained = f"at most {last} queries: accuracy of VGB, {PLAIN}, minus the base model's, out of distribution"
    passed_on = "exact laws: action-level rejection's total variation, largest error minus none"
    closer = "exact laws, learned values: VGB's total variation minus action-level rejection's"
    return (
        at_most("base model: KL to pi_D (nats)", mean_interval(results.kl), 0.1),
        at_least("base model: accuracy in distribution", inside, 0.9),
        at_most("base model: accuracy out of distribution", seeds_and_prompts_interval(outside), 0.05),
        above(gained, seeds_and_prompts_interval(plain - outside), 0.1),
        *front,
        above(passed_on, growth, 0.1),
        at_most("exact laws: VGB's total variation, worst error", flat, 0.05),
        at_most(closer, learned, 0.0),
    )


def _accuracy(results: Measurements, family: str) -> Float[np.ndarray, "seeds prompts"]:
    """Accuracy of a family of one setting at the largest budget, out of distribution."""
    (method,) = results.sweep.methods(family, results.sweep.grid.budgets[-1])
    return results.sweep.curves[method].accuracy[..., -1]


def _name(rival: str, budget: int) -> str:
    guided = f"VGB, {PLAIN}" if rival == OUTCOME else "VGB"
    return f"at most {budget} queries: hypervolume of {guided} minus that of {rival}"


def notes(results: Measurements) -> tuple[str, ...]:
    """Choices, limits and numbers that no check is about."""
    grid, last = results.sweep.grid, results.sweep.grid.budgets[-1]
    lines = [
        f"Diversity is the number of different correct responses among {grid.samples} returned samples, over "
        f"{grid.samples}; {grid.num_prompts} prompts of each kind, the same for every seed.",
        "A decoder's answer at a smaller budget is read off the same chains: one that needed more queries "
        "counts as wrong.",
        f"VGB and each rival with settings have {grid.settings} of them; the front is that of the means over "
        "seeds and prompts. The hypervolume of noisy means is a little too large, for both sides alike.",
    ]
    for budget in grid.budgets:
        joint, own = (volume(results, each, budget) for each in (WITHOUT_BACKTRACKING, (VALUE_GUIDED,)))
        lines.append(
            f"At most {budget} queries: hypervolume {own:.3g} of VGB; {joint:.3g} of the "
            f"{len(WITHOUT_BACKTRACKING)} value-guided rivals' settings together, "
            f"{len(WITHOUT_BACKTRACKING)} times as many, which favours them."
        )
    parts = []
    for family in (BASE, VALUE_GUIDED, *RIVALS):
        best = results.sweep.points(results.sweep.methods(family, last), last)[..., 0].mean(axis=(0, 1)).max()
        parts.append(f"{family} {best:.3g}")
    lines.append(
        f"Accuracy out of distribution of the best setting with at most {last} queries: {', '.join(parts)}."
    )
    error, reward = (
        interval_text(mean_interval(results.value[key]), ".3g") for key in ("squared_error", "reward")
    )
    lines.append(f"Value function on held-out rollouts: squared error {error}, with mean reward {reward}.")
    return tuple(lines)
