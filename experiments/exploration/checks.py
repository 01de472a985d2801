"""Checks of experiments.exploration, with the reason for each target, and notes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from covlab.report.tables import cell, change_text
from covlab.report.verdict import Check, above, at_least
from experiments.exploration.measure import Arm, Measurements, TestTime
from experiments.exploration.pools import REPRESENTATION, WHITENED
from experiments.exploration.rules import (
    APPEARANCE,
    BONUS_GAP,
    BONUS_SPREAD,
    DISTINCT,
    DUPLICATES,
    FEATURES_AUC,
    LIKELIEST,
    LIKELY_AUC,
    RANDOM,
    UNLIKELIHOOD,
)
from metrics import Interval, mean_interval, paired_difference_interval

PRICE = 0.02
"""Pass@1 that the bonus may cost."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The checks, with 95 % Student intervals over seeds, paired; each asked with its whole interval.

    The efficiency of a rule is what another rule needs in verifier calls up to the first correct response,
    over what it needs itself: the authors' samples-to-correct. What they report, and so the targets:

    - With strong models picking by representations needs fewer calls than random choice (1.5 times fewer with
      14 billion parameters): on the strongest checkpoint the efficiency is above 1. How far above is not
      claimed for models of this size. It gains by not trying a wrong answer again, so it is asked on prompts
      whose wrong answer repeats, the class `repeats` of a task; where no class does nothing is asked.
    - That weak models gain nothing is the authors' remark on their own models and no check here: the
      efficiency on the weakest checkpoint is in the notes.
    - It is the representation that helps. Not the authors' comparison, but without it the word is empty: on
      the strongest checkpoint fewer calls than random choice among the different responses.
    - Both are asked of the authors' features and of whitened ones, in which a direction does not count more
      because the model's states spread along it.
    - In reinforcement learning the bonus keeps Pass@k at large k above that of GRPO without it, at no price
      in Pass@1 (`PRICE` at most), and more of the correct responses stay in reach.
    - It is the representation that helps there: more different correct responses than with a bonus that
      counts copies.
    """
    made: list[Check] = []
    for name, curves in results.test_time.items():
        if curves.repeats is None:
            continue
        where = f"{name}, prompts of {curves.repeats}, strongest checkpoint"
        for rule in (REPRESENTATION, WHITENED):
            text = f"{where}, {rule}: efficiency over random choice"
            gain = ratio(curves.efficiency(rule)[:, -1])
            beyond = ratio(curves.efficiency(rule, DISTINCT)[:, -1])
            made += [above(text, gain, 1), above(f"{text} among different responses", beyond, 1)]
    for name, arms in results.arms.items():
        (plain, before), (judged, after), *others = arms.items()
        small, large, draws = min(before.passes), max(before.passes), before.draws
        pairs = [
            (f"Pass@{large}", after.passes[large], plain, before.passes[large], 0),
            (f"Pass@{small}", after.passes[small], plain, before.passes[small], -PRICE),
            (f"different correct among {draws}", after.distinct, plain, before.distinct, 0),
        ]
        for other, arm in others:
            pairs.append((f"different correct among {arm.draws}", after.distinct, other, arm.distinct, 0))
        for text, one, other, two, target in pairs:
            difference = paired_difference_interval(one[:, -1], two[:, -1])
            judge = at_least if target else above
            made.append(
                judge(f"{name}, reinforcement learning: {text}, {judged} less {other}", difference, target)
            )
    return tuple(made)


def ratio(logs: Float[np.ndarray, " seeds"]) -> Interval:
    """The geometric mean of ratios, with its interval, from their logarithms; NaN where a seed has none,
    because no pool of it has a correct response."""
    if not np.isfinite(logs).all():
        return Interval(math.nan, math.nan, math.nan)
    mean = mean_interval(logs)
    return Interval(math.exp(mean.estimate), math.exp(mean.low), math.exp(mean.high))


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers, with reasons."""
    written = []
    for name, curves in results.test_time.items():
        written += [_test_time_note(name, curves), _why_note(name, curves)]
    written += [_arms_note(name, dict(arms)) for name, arms in results.arms.items()]
    written.append(
        "Derived: with ridge 0 and affinely independent features of the different responses, the bonus of a "
        "response with m copies in a group of S is 1/m - 1/S, whatever the features are. What is left of "
        "representations is what the ridge, or too narrow features, make of it."
    )
    return tuple(written)


def _test_time_note(name: str, own: TestTime) -> str:
    parts = []
    for column, step in enumerate(own.steps):
        calls = {rule: values[:, column].mean() for rule, values in own.calls.items()}
        parts.append(
            f"step {step} (Pass@1 {own.curves[RANDOM][:, column, 0].mean():.3f}, cross-entropy "
            f"{own.cross_entropy[:, column].mean():.3g}, {own.solvable[:, column].mean():.0%} of the pools "
            f"solvable): " + ", ".join(f"{rule} {calls[rule]:.3g}" for rule in calls)
        )
    gain = own.efficiency(REPRESENTATION)
    growth = ratio(gain[:, -1] - gain[:, 0])
    where = "all prompts, not judged" if own.repeats is None else f"prompts of {own.repeats}"
    return (
        f"{name}, {where}: verifier calls to a correct response, of pools of {own.size}: "
        + "; ".join(parts)
        + f". Efficiency over random choice: {cell(ratio(gain[:, 0]))} on the weakest checkpoint, "
        f"{cell(growth)} times that on the strongest."
    )


def _why_note(name: str, own: TestTime) -> str:
    parts = []
    for column, step in enumerate(own.steps):
        facts = {key: float(values[:, column].mean()) for key, values in own.facts.items()}
        beyond = ratio(own.efficiency(REPRESENTATION, APPEARANCE)[:, column])
        likely = ratio(own.efficiency(LIKELIEST, REPRESENTATION)[:, column])
        white = ratio(own.efficiency(WHITENED, REPRESENTATION)[:, column])
        parts.append(
            f"step {step}: {facts[DUPLICATES]:.0%} copies; among different responses a correct one is picked "
            f"before a wrong one with probability {facts[FEATURES_AUC]:.3f}, is likelier with "
            f"{facts[LIKELY_AUC]:.3f}, and picking early goes with being unlikely "
            f"({facts[UNLIKELIHOOD]:+.2f}); efficiency over skipping copies {cell(beyond)}, of the likeliest "
            f"first over representations {cell(likely)}, of whitened features over plain ones "
            f"{cell(white)}; the bonus is {facts[BONUS_GAP]:.3f} from 1/m - 1/S on average and varies by "
            f"{facts[BONUS_SPREAD]:.3f} within a group"
        )
    return f"{name}, why: " + "; ".join(parts) + "."


def _arms_note(name: str, arms: dict[str, Arm]) -> str:
    parts = []
    for arm, curve in arms.items():
        small, large = min(curve.passes), max(curve.passes)
        parts.append(
            f"{arm}: Pass@{small} {change_text(curve.passes[small])}, "
            f"Pass@{large} {change_text(curve.passes[large])}, "
            f"different correct among {curve.draws} {change_text(curve.distinct)}, "
            f"Cov {change_text(curve.coverage)}, KL {change_text(curve.kl)} nats"
        )
    plain, *others = arms
    large = max(arms[plain].passes)
    for arm in others:
        gains = [
            f"{text} {cell(mean_interval(at_equal_small_k(arms[plain], arms[arm], of)))}"
            for text, of in (
                (f"Pass@{large}", lambda curve: curve.passes[large]),
                ("different correct", lambda curve: curve.distinct),
            )
        ]
        parts.append(f"{arm} at its end less {plain} where its Pass@{small} was the same: {', '.join(gains)}")
    return f"{name}, reinforcement learning: " + "; ".join(parts) + "."


def at_equal_small_k(
    plain: Arm, other: Arm, of: Callable[[Arm], Float[np.ndarray, "seeds points"]]
) -> Float[np.ndarray, " seeds"]:
    """Difference between `other` at its end and `plain` where its Pass@k at the smallest k was equal.

    The latter is interpolated along its run: a bonus that only slows sharpening down gains nothing here.
    """
    k = min(plain.passes)
    texts = []
    for row, level in enumerate(other.passes[k][:, -1]):
        along = np.maximum.accumulate(plain.passes[k][row])
        texts.append(of(other)[row, -1] - np.interp(level, along, of(plain)[row]))
    return np.array(texts)
