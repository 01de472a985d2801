"""VGB on the "perturbation" task: a value function that is a little too fond of one action.

    python -m experiments.vgb_perturbation scale=cpu|paper

Responses of H letters a, b, c without a c, each as probable as the other: pi*. The value function overrates
`a` by 1 + eps. A sampler that never goes back ends at total variation of order min(eps sqrt(H), 1) to pi*;
VGB, which may go back, ends at pi* whatever eps and H. Nothing is trained: all laws are exact at every H, and
the decoders' samples are tested against them where the tree can be enumerated.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig

from covlab.claims import decoders as report
from covlab.claims.direct_claim import Claim, Drawing, Findings, run_direct_claim
from covlab.launch.cli import command
from covlab.report.page import format_interval
from covlab.report.verdict import Check, check_interval, check_value
from decoding.analytic_values import Overrated
from metrics import line_fit
from tasks.checks import real, whole, wholes
from tasks.perturbation import Perturbation
from theory.vgb.laws import (
    ChainSettings,
    Goodness,
    Laws,
    Sampled,
    chain_settings,
    decoders,
    goodness_of_fit,
    laws_of,
    log_slope,
    over_seeds,
    sample,
    slope_in_log,
    upper_end,
)
from theory.vgb.typed_trees import perturbation_tree
from tracking import Progress

CLAIM = Claim(
    name="vgb_perturbation",
    source="Taming Imperfect Process Verifiers, arXiv 2510.03149, Example 3.1 and Theorem 4.1",
    title="Perturbation: errors of the value function add up without backtracking, and not with it",
    introduction=(
        "A response has H letters a, b, c, the base model is uniform, and a response with a c earns nothing: "
        "pi* is uniform on {a, b}^H. The value function is exact but for one action, which it overrates: "
        "V^(y_1:h) = (1 + eps 1{y_h = a}) V(y_1:h).",
        "Action-level rejection sampling draws every letter in proportion to pi_ref V^ and never goes back: "
        "it writes a with probability (1 + eps)/(2 + eps), and H such errors add up. VGB is a random walk on "
        "the tree of partial responses that also goes back, with weight V^; its stationary law on the leaves "
        "is pi* for any positive V^. It is stopped either after a fixed number of steps, of order H^2, and "
        "repeated until it ends at a leaf, or at the first leaf that it meets.",
        "No number of a law is sampled but one: the total variation of VGB after a fixed number of steps is "
        "a mean over leaves drawn from pi*, at each of which the law is known exactly.",
    ),
)
LOG_SLOPE = (0.4, 0.6)
"""Of the total variation in H where it is small: 1/2, up to the last letter, whose value is exact."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured: `horizons` x `epsilons`, VGB's chain, and the decoders' samples at one small
    instance."""

    horizons: tuple[int, ...]
    epsilons: tuple[float, ...]
    chain: ChainSettings
    sampled_horizon: int
    sampled_epsilon: float
    chains: int


@dataclasses.dataclass(frozen=True)
class Measurements:
    """`laws` by (H, eps); p-values and samples of the decoders, by name."""

    settings: Settings
    laws: dict[tuple[int, float], Laws]
    goodness: dict[str, Goodness]
    sampled: dict[str, Sampled]

    def table(self, value: Any) -> np.ndarray:
        """`value(laws)` for every (H, eps), seeds first where it has them."""
        rows = [[value(self.laws[h, eps]) for eps in self.settings.epsilons] for h in self.settings.horizons]
        array = np.asarray(rows, np.float64)
        return np.moveaxis(array, 2, 0) if array.ndim == 3 else array


def settings(config: DictConfig) -> Settings:
    """Check the configuration.

    Raises:
        ValueError: one line, with the field, its value and what would be valid.
    """
    epsilons = list(config.epsilons) if isinstance(config.epsilons, Sequence) else []
    if len(set(epsilons)) < 2 or len(set(epsilons)) != len(epsilons):
        raise ValueError(f"epsilons: {config.epsilons}; valid: at least 2 different positive numbers")
    horizons = wholes("horizons", config.horizons, 3, at_least=3)
    sampled = whole("sampled_horizon", config.sampled_horizon, 2)
    for length in (*horizons, sampled):
        Perturbation(length=length)
    if sampled > 8:
        raise ValueError(f"sampled_horizon: {sampled}; valid: 2 to 8, whose trees can be enumerated")
    return Settings(
        horizons=horizons,
        epsilons=tuple(sorted(real("epsilons", each, above=0, below=10) for each in epsilons)),
        chain=chain_settings(config),
        sampled_horizon=sampled,
        sampled_epsilon=real("sampled_epsilon", config.sampled_epsilon, above=0, below=10),
        chains=whole("chains", config.chains, 32),
    )


def measure(chosen: Settings, progress: Progress) -> Findings:
    """All laws, the decoders' samples, and what follows from them."""
    laws = {}
    todo = [(h, eps) for h in chosen.horizons for eps in chosen.epsilons]
    for done, (h, eps) in enumerate(todo):
        progress.update("laws", done, len(todo), {"H": h, "eps": eps})
        laws[h, eps] = laws_of(perturbation_tree(h, eps), 1 + eps, chosen.chain)
    progress.update("laws", len(todo), len(todo))
    task = Perturbation(length=chosen.sampled_horizon)
    values = Overrated(task, task.response_tokens[0], chosen.sampled_epsilon)
    steps = chosen.chain.steps * task.length**2
    sampled = {}
    methods = decoders(steps)
    for done, (name, decoder) in enumerate(methods.items()):
        progress.update("decoders", done, len(methods))
        sampled[name] = sample(task, values, decoder, chosen.chains, chosen.chain.seeds[0], name)
    progress.update("decoders", len(methods), len(methods))
    found = Measurements(chosen, laws, goodness_of_fit(task, values, sampled, steps), sampled)
    return Findings(
        checks=checks(found),
        seeds=chosen.chain.seeds,
        notes=notes(found),
        drawings=drawings(found),
        tables=tables(found),
    )


def checks(found: Measurements) -> tuple[Check, ...]:
    """The claim's checks; what has an interval is asked of the whole interval.

    The reasons for the targets:

    - Action level: order min(eps sqrt(H), 1). Where eps sqrt(H) is small, the slopes of ln TV are 1/2 in ln H
      and 1 in ln eps; the ratio TV/min(eps sqrt(H), 1) stays within constants, [.1, 1].
    - VGB: within .01 of pi* everywhere, and flat: the slopes of its TV in ln H at the largest eps, and in
      ln eps at the longest H, are below .005, while the action level's are above .05.
    - First leaf: biased, but the bias of a letter falls off with its distance from the leaf, so that the sum
      converges: it grows by less than a tenth over the last quadrupling of H, or is not there.
    - Steps to mix and leaf mass: the guarantee.
    - Decoders: samples agree with the exact laws; the test has the power to tell the action level's from pi*.
    """
    chosen = found.settings
    h, eps = np.array(chosen.horizons, float), np.array(chosen.epsilons)
    action, first = found.table(lambda each: each.action_level), found.table(lambda each: each.first_leaf)
    chain = found.table(lambda each: each.chain)
    bound = np.minimum(eps * np.sqrt(h)[:, None], 1)
    in_h = float(line_fit(np.log(h), np.log(action[:, 0]))[0])
    in_eps = float(line_fit(np.log(eps[:3]), np.log(action[0, :3]))[0])
    worst = max((over_seeds(chain[:, i, j]) for i in range(len(h)) for j in range(len(eps))), key=upper_end)
    mixing = found.table(lambda each: each.mixing_steps)
    exponents = [log_slope(h, mixing[:, :, j]) for j in range(len(eps))]
    guarantee = found.table(lambda each: each.guarantee) * math.log(1 / chosen.chain.delta)
    most = max((over_seeds(row) for row in (mixing / guarantee).reshape(len(mixing), -1).T), key=upper_end)
    mass = found.table(lambda each: min(each.leaf_mass, each.leaf_probability) / each.guaranteed_leaf_mass)
    return (
        check_value("action level: slope of ln TV in ln H, least eps, from below", in_h, ">=", LOG_SLOPE[0]),
        check_value("action level: slope of ln TV in ln H, least eps, from above", in_h, "<=", LOG_SLOPE[1]),
        check_value("action level: slope of ln TV in ln eps, shortest H, from below", in_eps, ">=", 0.8),
        check_value("action level: slope of ln TV in ln eps, shortest H, from above", in_eps, "<=", 1.1),
        check_value("action level: least TV / min(eps sqrt H, 1)", float((action / bound).min()), ">=", 0.1),
        check_value("action level: largest TV / min(eps sqrt H, 1)", float((action / bound).max()), "<=", 1),
        check_value("action level: TV at the longest H and largest eps", float(action[-1, -1]), ">=", 0.7),
        check_value(
            "action level: slope of TV in ln H, largest eps",
            float(line_fit(np.log(h), action[:, -1])[0]),
            ">",
            0.05,
        ),
        check_interval(
            "VGB: slope of TV in ln H, largest eps", slope_in_log(h, chain[:, :, -1]), "<", 0.005, "high"
        ),
        check_value(
            "action level: slope of TV in ln eps, longest H",
            float(line_fit(np.log(eps), action[-1])[0]),
            ">",
            0.05,
        ),
        check_interval(
            "VGB: slope of TV in ln eps, longest H", slope_in_log(eps, chain[:, -1]), "<", 0.005, "high"
        ),
        check_interval("VGB: largest TV over all H and eps", worst, "<=", 0.01, "high"),
        check_value(
            "VGB, first leaf: TV at the longest H over TV at a quarter of it, largest eps",
            float(first[-1, -1] / first[int(np.abs(h - h[-1] / 4).argmin()), -1]),
            "<=",
            1.1,
        ),
        check_interval(
            "VGB: exponent of H in the steps to mix, largest over eps",
            max(exponents, key=upper_end),
            "<=",
            2.2,
            "high",
        ),
        check_interval("VGB: steps to mix / H^2 (1 + eps)^4 ln(1/delta), largest", most, "<=", 1, "high"),
        check_value("VGB: leaf mass * 8 (1 + eps) H, least", float(mass.min()), ">=", 1),
        *report.goodness_checks(found.goodness),
    )


def notes(found: Measurements) -> tuple[str, ...]:
    """What the numbers mean."""
    chosen = found.settings
    last = found.laws[chosen.horizons[-1], chosen.epsilons[-1]]
    return (
        f"VGB takes {chosen.chain.steps} H^2 steps, lazy ones included, and is repeated until it ends at a "
        f"leaf: {last.steps_per_response:.3g} steps a response at H = {last.depth}, eps = "
        f"{chosen.epsilons[-1]:g}.",
        "Stopped at its first leaf VGB is biased, by an amount that depends on eps and not on H: of order "
        "eps/k in the letter k steps before the end (derived).",
        "The reward (no c) and the uniform base model are this project's choice.",
    )


def drawings(found: Measurements) -> list[Drawing]:
    """The report's report."""
    chosen = found.settings
    steps = chosen.chain.steps
    columns = {f"eps = {eps:g}": [found.laws[h, eps] for h in chosen.horizons] for eps in chosen.epsilons}
    rows = {f"H = {h}": [found.laws[h, eps] for eps in chosen.epsilons] for h in chosen.horizons}
    largest = chosen.epsilons[-1]
    return [
        Drawing(
            "horizon",
            f"Total variation to pi* against the horizon, one colour an eps. Left: exact. Middle: exact. "
            f"Right: after {steps} H^2 steps, 95 % intervals over {len(chosen.chain.seeds)} seeds. Dashed: "
            f"min(eps sqrt H, 1)/4.",
            report.errors(
                columns,
                chosen.horizons,
                "horizon H",
                [np.minimum(eps * np.sqrt(chosen.horizons), 1) / 4 for eps in chosen.epsilons],
            ),
        ),
        Drawing(
            "epsilon",
            "The same against the error eps of the value function, one colour a horizon.",
            report.errors(rows, chosen.epsilons, "eps"),
        ),
        Drawing(
            "mixing",
            f"How VGB mixes, eps = {largest:g}: total variation to pi* given a leaf, against steps over H^2, "
            f"and the steps after which it stays below delta = {chosen.chain.delta:g}, over what is "
            f"guaranteed.",
            report.mixing(
                {f"H = {h}": found.laws[h, largest] for h in chosen.horizons}, columns, chosen.chain
            ),
        ),
    ]


def tables(found: Measurements) -> list[tuple[str, list[str], list[list[Any]]]]:
    """The report's tables."""
    rows = []
    for (h, eps), each in found.laws.items():
        chain, mixing = over_seeds(each.chain), over_seeds(each.mixing_steps)
        rows.append(
            [
                *(h, eps, each.action_level, each.first_leaf, chain.estimate),
                *(format_interval((chain.low, chain.high)), mixing.estimate),
                *(each.guarantee * math.log(1 / found.settings.chain.delta), each.leaf_mass),
                *(each.guaranteed_leaf_mass, each.first_leaf_steps, each.steps_per_response),
            ]
        )
    return [
        (
            "Total variation to pi*; steps to mix and leaf mass beside what is guaranteed; mean number of "
            "steps a response.",
            [
                *("H", "eps", "action level", "first leaf", "VGB", "interval", "steps to mix", "guaranteed"),
                *("leaf mass", "guaranteed", "steps, first leaf", "steps, VGB"),
            ],
            rows,
        ),
        report.sampled_table(found.goodness, found.sampled, found.settings.sampled_horizon),
    ]


def vgb_perturbation(config: DictConfig) -> int:
    """Run the claim."""
    return run_direct_claim(CLAIM, config, settings(config), measure)


main = command("vgb_perturbation", vgb_perturbation)
