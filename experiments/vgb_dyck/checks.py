"""Checks of experiments.vgb_dyck, with the reason for each target, and notes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from covlab.report.tables import interval_text
from covlab.report.verdict import Check, above, at_most
from experiments.vgb_dyck.measure import IN, OUT, Measurements
from experiments.vgb_dyck.sweep import (
    BACKTRACKING,
    BASE,
    OUTCOME,
    VALUE_GUIDED,
    WITHOUT_BACKTRACKING,
    shortfall,
)
from experiments.vgb_dyck.trees import ACTION, FIXED
from metrics import mean_interval

RIVALS = {
    "decoders that use values and never go back": WITHOUT_BACKTRACKING,
    "outcome-level rejection": (OUTCOME,),
    "backtracking rejection": (BACKTRACKING,),
}
"""Decoders that VGB is compared with: the first are the paper's baselines for accuracy and diversity."""


def behind(
    results: Measurements, prompts: str, rivals: tuple[str, ...], budget: int
) -> Float[np.ndarray, " seeds"]:
    """`shortfall` of VGB's points behind the rivals' front, by seed."""
    guided = results.sweep.points(prompts, (VALUE_GUIDED,), budget)
    others = results.sweep.points(prompts, rivals, budget)
    return np.array([shortfall(a, b) for a, b in zip(guided, others, strict=True)])


def best_accuracy(
    results: Measurements, prompts: str, family: str, budget: int
) -> Float[np.ndarray, " seeds"]:
    """The highest accuracy of a family's settings, by seed."""
    accuracy = results.sweep.points(prompts, (family,), budget)[..., 0]
    return np.asarray(accuracy.max(axis=1))


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; those on an interval (95 % over seeds) ask it of the whole interval.

    The reasons for the targets:

    - The base model is good, KL to pi_D at most 0.1 nats, and fails on the out-of-distribution prompts: there
      is something to gain, and VGB gains a good part of it.
    - VGB is on or beyond a front where no point of it lies more than the margin above VGB's nearest point in
      both coordinates, accuracy and diversity (`shortfall`). The margin is about twice the standard error of
      one point; a maximum over many noisy points is biased against VGB by about as much.
    - Errors of the values: action-level rejection sampling passes them on, so its total variation to pi* at
      the largest error exceeds that with exact values by 0.1; VGB's stays below 0.05 at every error.
    - With learned values VGB is no farther from pi* than action-level rejection sampling, on average over the
      training of the value function.
    """
    last = results.sweep.grid.budgets[-1]
    base_out, base_in = (best_accuracy(results, prompts, BASE, last) for prompts in (OUT, IN))
    gain = best_accuracy(results, OUT, VALUE_GUIDED, last) - base_out
    fronts = []
    for name, rivals in RIVALS.items():
        for budget in results.sweep.grid.budgets:
            distance = mean_interval(behind(results, OUT, rivals, budget))
            text = f"at most {budget} queries: VGB behind the front of {name}"
            fronts.append(at_most(text, distance, results.margin))
    trees = results.trees
    growth = mean_interval(trees.corrupted[ACTION][:, -1] - trees.corrupted[ACTION][:, 0])
    flat = max((mean_interval(column) for column in trees.corrupted[FIXED].T), key=lambda each: each.high)
    learned = mean_interval((trees.learned[FIXED] - trees.learned[ACTION]).mean(axis=1))
    harder = "base model: accuracy in distribution minus out of distribution"
    gained = f"at most {last} queries: accuracy of VGB minus the base model's, out of distribution"
    passed_on = "exact laws: action-level rejection's total variation, largest error minus none"
    closer = "exact laws, learned values: VGB's total variation minus action-level rejection's"
    return (
        at_most("base model: KL to pi_D (nats)", mean_interval(results.kl), 0.1),
        above(harder, mean_interval(base_in - base_out), 0.1),
        above(gained, mean_interval(gain), 0.1),
        *fronts,
        above(passed_on, growth, 0.1),
        at_most("exact laws: VGB's total variation, worst error", flat, 0.05),
        at_most(closer, learned, 0.0),
    )


def notes(results: Measurements) -> tuple[str, ...]:
    """Choices, limits and numbers that no check is about."""
    grid, last = results.sweep.grid, results.sweep.grid.budgets[-1]
    lines = [
        f"Diversity is the number of different correct responses among {grid.samples} returned samples, over "
        f"{grid.samples}; {grid.num_prompts} prompts of each kind, the same for every seed.",
        "A decoder's answer at a smaller budget is read off the same chains: one that needed more queries "
        "counts as wrong.",
        "Backtracking rejection is tokenwise rejection sampling with the learned values as its verifier.",
    ]
    for prompts in (OUT, IN):
        parts = []
        for family in (BASE, VALUE_GUIDED, *(name for rivals in RIVALS.values() for name in rivals)):
            value = mean_interval(best_accuracy(results, prompts, family, last))
            parts.append(f"{family} {interval_text(value, '.3g')}")
        where = prompts.replace("_", " ")
        lines.append(f"Best accuracy {where} with at most {last} queries: {', '.join(parts)}.")
    error, reward = (
        interval_text(mean_interval(results.value[key]), ".3g") for key in ("squared_error", "reward")
    )
    lines.append(f"Value function on held-out rollouts: squared error {error}, with mean reward {reward}.")
    return tuple(lines)
