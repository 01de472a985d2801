"""Every check of `coverage_bounds` on measurements made by hand: right, wrong and at its threshold.

With two draws of each of two sizes the bootstrap's ends are the least and the largest slope that pairs of
draws give; sizes double, so that a slope is a logarithm to the base 2.
"""

import dataclasses
from math import log, log2
from types import SimpleNamespace
from typing import Any

import numpy as np

from covlab.testing.known_checks import Known, known_answers, power
from experiments.coverage_bounds.checks import checks
from experiments.coverage_bounds.measure import Measurements
from theory.coverage_laws import Sides

SIZES = (8, 16)
INEQUALITIES = {
    "KL": "Cov_N - KL/(ln N - 1 + 1/N)",
    "Hellinger": "Cov_N - 2N/(sqrt N - 1)^2 D_H^2",
    "converse": "KL - C (1 + ln(ln W/C))",
    "stopped KL": "Cov_N - 2/(ln N - 1) D_seq,N",
    "stopped KL, sharper": "Cov_N - (1/ln N + 1/(ln N - 1 + 1/N)) D_seq,N",
    "Hellinger along": "P[sum_h D_H,h^2 >= ln(sqrt N/delta)] - delta - Cov_N",
    "transitivity": "Cov_N(T||hat) - M Cov_N/M(D||hat) - Cov_M(T||D)",
    "answers": "Cov^ans_cN - c/(c - 1) Cov_N",
}
INFORMATIVE = {"KL": 5, "Hellinger": 4, "stopped KL": 6, "transitivity": 2, "answers": 3}
"""Number of the 7 comparisons that have a bound below 1."""


def sides(left: list[float], right: list[float]) -> Sides:
    return Sides(np.array([[left]]), np.array([[right]]))


def compared() -> dict[tuple[str, str], Sides]:
    """The k-th inequality is closest to violated by -(k + 1)/100, in its second family; bounds of 1 and above
    count relatively, -.5/4 the closest of them."""
    found = {}
    for k, name in enumerate(INEQUALITIES):
        below = INFORMATIVE.get(name, 0)
        right = [0.9] * min(below, 4) + [4.0] * (4 - min(below, 4))
        found[name, "first"] = sides([each - 0.5 for each in right], right)
        right = [0.9] * max(below - 4, 0) + [1.0] * (3 - max(below - 4, 0))
        found[name, "second"] = sides([each - (k + 1) / 100 for each in right], right)
    return found


def bernoulli(ratios: list[list[float]]) -> Sides:
    """Bound over coverage by draw and N = 4, 16; a second comparison that is none of the pair's."""
    right = np.array(ratios)[..., None] * 0.25
    left = np.full_like(right, 0.25)
    return Sides(np.concatenate([left, left + 0.5], axis=2), np.concatenate([right, right + 1.5], axis=2))


# (ln N - 1/2 + 1/(2N))/(ln N - 1 + 1/N) at N = 4 and 16, and 1 + (1 + 1/sqrt N)^2/4.
KL_AT = ((log(4) - 0.375) / (log(4) - 0.75), (log(16) - 0.46875) / (log(16) - 0.9375))
HELLINGER_AT = (1.5625, 1.390625)


def grown(factor: float) -> dict[str, np.ndarray]:
    """Draws that are 2 % apart; the bound by KL doubles."""
    covered = np.array([[0.04, 0.04], [0.0408, 0.0408]]) * factor
    return {
        "bound by KL": np.array([[0.6, 1.2], [0.612, 1.224]]) * factor,
        "Cov": covered,
        "bound by stopped KL": np.array([[0.1, 0.102], [0.1, 0.1]]) * factor,
        "lower bound": covered * np.array([[0.5, 0.9], [0.6, 0.95]]),
    }


FACTORS = {"rare prompts": 1.0, "switch": 1.5}
RIGHT = Measurements(
    SimpleNamespace(  # type: ignore[arg-type]
        seed=1, sizes={"bernoulli": (4, 16), **dict.fromkeys(("heavy tail", "rare prompts", "switch"), SIZES)}
    ),
    {
        **compared(),
        ("KL", "bernoulli"): bernoulli([[0.9 * KL_AT[0], 0.9 * KL_AT[1]], [0.7 * KL_AT[0], 0.95 * KL_AT[1]]]),
        ("Hellinger", "bernoulli"): bernoulli(
            [[0.9 * HELLINGER_AT[0], 0.8 * HELLINGER_AT[1]], [0.7 * HELLINGER_AT[0], 0.85 * HELLINGER_AT[1]]]
        ),
    },
    {"transitivity": np.array([1.00005, 1.0]), "answers": np.array([1.0, 1.00007])},
    {
        ("heavy tail", "gap"): np.array([[0.2, 0.1], [0.204, 0.102]]),
        **{(family, name): each for family, by in FACTORS.items() for name, each in grown(by).items()},
    },
)


def changed(field: str, key: Any, value: Any) -> Measurements:
    return dataclasses.replace(RIGHT, **{field: {**getattr(RIGHT, field), key: value}})


def exceeded(name: str) -> Any:
    """Relative to a bound of 4 in the first family."""

    def at(value: float) -> Measurements:
        return changed("sides", (name, "first"), sides([4 + 4 * value, 0.0], [4.0, 0.5]))

    return at


def of_pair(name: str, constants: tuple[float, float]) -> Any:
    def at(value: float) -> Measurements:
        ratios = [[0.5, 0.5], [0.5, value * constants[1]]]
        return changed("sides", (name, "bernoulli"), bernoulli(ratios))

    return at


def informative(name: str) -> Any:
    """`eighths` of 8 bounds below 1, the others exactly 1."""

    def at(share: float) -> Measurements:
        right = [0.5] * round(8 * share) + [1.0] * (8 - round(8 * share))
        kept = {key: each for key, each in RIGHT.sides.items() if key[0] != name or key[1] == "bernoulli"}
        kept[name, "first"] = sides([0.0] * 8, right)
        if (name, "bernoulli") in kept:
            # Its four bounds count too: none is below 1 now, and four more of the others are.
            kept[name, "bernoulli"] = Sides(np.ones((1, 2, 2)), np.ones((1, 2, 2)))
            right = [0.5] * round(12 * share) + [1.0] * (8 - round(12 * share))
            kept[name, "first"] = sides([0.0] * 8, right)
        return dataclasses.replace(RIGHT, sides=kept)

    return at


def longer(results: Measurements) -> Measurements:
    """A shorter horizon before the others, so that the longest one is neither the second nor the first."""
    sizes = {**results.settings.sizes, "rare prompts": (4, *SIZES), "switch": (4, *SIZES)}
    wider = {
        key: np.concatenate([each[:, :1], each], axis=1) if key[0] in FACTORS else each
        for key, each in results.growth.items()
    }
    return dataclasses.replace(results, settings=SimpleNamespace(seed=1, sizes=sizes), growth=wider)


def of_growth(family: str) -> dict[str, Known]:
    factor, two_percent = FACTORS[family], log2(1.02)

    def slope(quantity: str) -> Any:
        return lambda value: changed("growth", (family, quantity), power(SIZES, value, 0.1))

    def at_longest(quantity: str, others: float, times: np.ndarray | None = None) -> Any:
        def at(value: float) -> Measurements:
            values = np.full((2, 2), others)
            values[1, 1] = value
            values = values if times is None else values * times
            return longer(changed("growth", (family, quantity), values))

        return at

    def mean_at_longest(value: float) -> Measurements:
        values = np.array([[9.0, value - 0.5], [9.0, value + 0.5]])
        return longer(changed("growth", (family, "bound by KL"), values))

    table = {}
    for quantity, shown, found, ends in (
        ("bound by KL", "bound by KL", 1.0, (1 - two_percent, 1 + two_percent)),
        ("Cov", "Cov_N", 0.0, (-two_percent, two_percent)),
        ("bound by stopped KL", "bound by stopped KL", log2(1.01), (0.0, two_percent)),
    ):
        low, high = (0.9, 1.1) if quantity == "bound by KL" else (-0.1, 0.1)
        name = f"{family}: exponent of {shown} in H"
        table[f"{name}, from below"] = Known(
            f"lower end of the interval >= {low}", found, ends, slope(quantity), low - 0.5
        )
        table[f"{name}, from above"] = Known(
            f"upper end of the interval <= {high}", found, ends, slope(quantity), high + 0.5
        )
    covered = RIGHT.growth[family, "Cov"]
    return table | {
        f"{family}: bound by stopped KL at the longest H, largest": Known(
            "< 1",
            0.102 * factor,
            None,
            at_longest("bound by stopped KL", 0.5),
            2.0,
            ((1.0, False), (0.999, True)),
        ),
        f"{family}: lower bound (Hellinger along) over Cov_N at the longest H, least": Known(
            ">= 0.85", 0.9, None, at_longest("lower bound", 0.99, covered), 0.5
        ),
        f"{family}: bound by KL at the longest H, mean": Known(
            "> 1", 1.212 * factor, None, mean_at_longest, 0.6, ((1.0, False), (1.0001, True))
        ),
    }


def tight(name: str) -> Any:
    return lambda value: changed("tight", name, np.array([value, 1.0]))


def gap(value: float) -> Measurements:
    return changed("growth", ("heavy tail", "gap"), power(SIZES, value, 0.2))


GAP_ENDS = (-1 - log2(1.02), -1 + log2(1.02))
# The four bounds of the Bernoulli pair count among the KL's and Hellinger's: .25 ratio, and .25 ratio + 1.5.
SHARES = {
    "KL": (5 + 4) / 15,
    "Hellinger": (4 + 4) / 15,
    "stopped KL": 6 / 7,
    "transitivity": 2 / 7,
    "answers": 3 / 7,
}
TABLE = {
    **{
        f"{text}, largest": Known("<= 1e-07", -(k + 1) / 100, None, exceeded(name), 0.1)
        for k, (name, text) in enumerate(INEQUALITIES.items())
    },
    "Bernoulli: bound by KL over Cov_N, over its constant, largest": Known(
        "<= 1.0000001", 0.95, None, of_pair("KL", KL_AT), 2.0, ((1.0000002, False), (1.0, True))
    ),
    "Bernoulli: bound by Hellinger over Cov_N, over its constant, largest": Known(
        "<= 1.0000001", 0.9, None, of_pair("Hellinger", HELLINGER_AT), 2.0, ((1.0000002, False), (1.0, True))
    ),
    "heavy tail: exponent of 1 - KL/(its bound) in steps": Known(
        "lower end of the interval >= -1.1", -1.0, GAP_ENDS, gap, -1.5
    ),
    "heavy tail: the same, from above": Known("upper end of the interval <= -0.9", -1.0, GAP_ENDS, gap, -0.5),
    "transitivity: bound over Cov_N of its tight pairs, largest": Known(
        "<= 1.0001", 1.00005, None, tight("transitivity"), 1.1, ((1.0001, True), (1.00011, False))
    ),
    "answers: bound over coverage of their tight pairs, largest": Known(
        "<= 1.0001", 1.00007, None, tight("answers"), 1.1, ((1.0001, True), (1.00011, False))
    ),
    **of_growth("rare prompts"),
    **of_growth("switch"),
    **{
        f"{name}: share of comparisons with a bound < 1": Known(
            ">= 0.25", share, None, informative(name), 0.0, ((0.25, True),)
        )
        for name, share in SHARES.items()
    },
    "answers, as printed: Cov^ans_2 - Cov_2 of the counterexample": Known("> 0.39", 0.4, None, None),
}


TestKnownAnswers = known_answers(checks, RIGHT, TABLE, list(TABLE)[-1:])
