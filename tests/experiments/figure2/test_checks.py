"""Figure 2's checks on hand-made measurements: what each reads off them, and where its target lies."""

import dataclasses
import math
from typing import Any, cast

import numpy as np
import pytest
from oracles.answers import Case, Known, columns, known_answers

from experiments.figure2.branching import Branching
from experiments.figure2.checks import OTHER_LAWS, checks, over_seeds, relative_change, worst
from experiments.figure2.measure import ClosedForm, Horizon, Measurements
from metrics import Interval

STEPS = np.array([750, 800, 875, 900, 1000])
"""The first one, two in the last eighth but one of the steps (750, 875], two in the last."""
JUNK = 0.777
Value = float | tuple[float, float]
Values = tuple[Value, Value, Value]
AUC = Interval(0.5, 0.48, 0.52)


def curve(start: Value, earlier: Value, converged: Value, apart: float) -> np.ndarray:
    """Evaluations at `STEPS`; those of an eighth are `apart` from their mean, one below and one above it."""
    pairs = [(columns(value) - apart, columns(value) + apart) for value in (earlier, converged)]
    return np.concatenate([columns(start), *pairs[0], *pairs[1]], axis=1)


def made(**changes: Any) -> Measurements:
    """Two seeds at three horizons; a quantity is given by its values at these, converged unless named so.

    With H = 4, 6, 14 the least-squares slope is (-4 a - 2 b + 6 c)/56, and the chord at H = 6 is .8 a + .2 c.
    """
    given: dict[str, Any] = {
        "depths": (4, 6, 14),
        "apart": 1e-3,
        "kl": (0.084, 0.1302, (0.294, 0.00056)),
        "earlier_kl": (0.08, 0.1302, 0.3),
        "derived": (0.07, 0.105, 0.245),
        "cov": (0.05, (0.048, 0.00014), (0.052, 0.0002)),
        "earlier_cov": (0.05, 0.05, 0.052),
        "chain_start": (0.99, (0.96, 1e-4), 0.97),
        "chain": (0.005, (0.01, 1e-4), 0.002),
        "uniform_start": (0.95, 0.97, (0.94, 1e-4)),
        "uniform": ((0.6, 1e-3), 0.5, 0.4),
        "xor": (0.97, (0.9, 1e-3), 0.95),
        "local_start": (0.95, 0.93, (0.925, 1e-4)),
        "local": ((0.1, 1e-3), 0.05, 0.02),
        "choice": (0.69, (0.68, 1e-4), (0.71, 2e-4)),
        "auc": (
            (Interval(0.49, 0.47, 0.51), Interval(0.49, 0.46, 0.52)),
            (AUC, AUC),
            (Interval(0.52, 0.51, 0.53), Interval(0.52, 0.49, 0.55)),
        ),
        "excess": (-0.5, -0.125, -0.25),
    }
    assert changes.keys() <= given.keys()
    return Measurements(3.0, (1, 2), (), tuple(one(i, given | changes) for i in range(3)))


def one(i: int, given: dict[str, Any]) -> Horizon:
    depth, apart = given["depths"][i], given["apart"]
    own = {name: value[i] for name, value in given.items() if name not in ("depths", "apart")}
    local = 16.0 * 2 ** (depth // 2)
    junk = curve(JUNK, JUNK, JUNK, apart)
    choice = np.full((2, 3, 2), JUNK)
    choice[:, -1, 0] = columns(own["choice"])[:, 0]
    return Horizon(
        depth=depth,
        steps=STEPS,
        kl=curve(3.0, own["earlier_kl"], own["kl"], apart),
        cov={2.0: junk, 3.0: curve(1.0, own["earlier_cov"], own["cov"], apart), local: junk},
        class_kl={},
        class_cov={
            "chain": {3.0: curve(own["chain_start"], JUNK, own["chain"], apart), local: junk},
            "xor": {
                3.0: curve(JUNK, JUNK, own["xor"], apart),
                local: curve(own["local_start"], JUNK, own["local"], apart),
            },
            "uniform": {3.0: curve(own["uniform_start"], JUNK, own["uniform"], apart), local: junk},
        },
        branching=Branching((0, 500, 1000), cast(Any, None), choice, own["auc"], {}),
        bound_excess=own["excess"],
        closed={
            "independent guesses": ClosedForm(own["derived"], {}),
            "reads the path": ClosedForm(own["derived"] ** 2, {}),
        },
    )


def flat(name: str, *values: Value, **more: Any) -> dict[str, Any]:
    """Changes at the edge: equal evaluations; one value stands for all horizons."""
    return {name: values if len(values) == 3 else values * 3, "apart": 0.0} | more


def contrast(*x: float) -> tuple[float, float, float]:
    """The direction of the residuals of a line through three points."""
    return x[2] - x[1], x[0] - x[2], x[1] - x[0]


def squared_error(x: tuple[float, ...], y: tuple[float, ...]) -> float:
    """Of the least-squares line whose intercept is at least 0."""
    mx, my = sum(x) / 3, sum(y) / 3
    slope = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
    intercept = my - slope * mx
    if intercept < 0:
        slope, intercept = sum(a * b for a, b in zip(x, y, strict=True)) / sum(a * a for a in x), 0.0
    return sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))


LAWS = {"sqrt(H)": math.sqrt, "log(H)": math.log, "H^2": lambda h: h * h, "2^(H/2)": lambda h: 2 ** (h / 2)}


def fits_worse(law: str, passed: bool, *values: Value) -> Case:
    """Converged KL at H = 4, 6, 14, and what two seeds' squared errors say of a + b f(H) and a + b H."""
    seeds = columns(*values).tolist()
    rise = (seeds[0][2] - seeds[0][0] + seeds[1][2] - seeds[1][0]) / 2
    other = tuple(LAWS[law](h) for h in (4, 6, 14))
    one, two = ((squared_error(other, y) - squared_error((4, 6, 14), y)) / rise**2 for y in seeds)
    return Case(flat("kl", *values), (one + two) / 2, abs(one - two) / 2, passed)


def between_laws(law: str) -> float:
    """The KL at H = 6, between 3 at H = 4 and 4 at H = 14, at which a line and the other law fit equally
    well, moved by a millionth towards the other law."""
    found = []
    for x in ((4.0, 6.0, 14.0), tuple(map(LAWS[law], (4, 6, 14)))):
        w = contrast(*x)
        found.append((-(3 * w[0] + 4 * w[2]) / w[1], abs(w[1]) / math.hypot(*w)))
    (line, steep), (other, steeper) = found
    middle = (steep * line + steeper * other) / (steep + steeper)
    return middle + 1e-6 * (1 if other > line else -1)


MISFITS = {
    f"KL: a + b {law} fits worse than a + b H, squared errors' difference per rise^2": Known(
        "lower end of the interval > 0",
        fits_worse(law, True, 0.084, 0.1302, (0.294, 0.00056)),
        fits_worse(
            law, False, *(0.1 + 0.02 * LAWS[law](h) for h in (4, 6)), (0.1 + 0.02 * LAWS[law](14), 1e-6)
        ),
        fits_worse(law, False, 3.0, between_laws(law), 4.0),
    )
    for law in OTHER_LAWS
}
# H four times as large; a power law has the same exponent throughout.
POWERS = (4, 8, 16)


def power(name: str, exponent: float, factor: float = 0.02, **more: Any) -> dict[str, Any]:
    return flat(name, *(factor * h**exponent for h in POWERS), depths=POWERS, **more)


def exponent(*values: float) -> float:
    """Least-squares slope of ln y on ln H at H = 4, 6, 14."""
    x = [math.log(h) for h in (4, 6, 14)]
    x = [each - sum(x) / 3 for each in x]
    return sum(a * math.log(b) for a, b in zip(x, values, strict=True)) / sum(a * a for a in x)


def exponents(changes: dict[str, Any], of: Any, passed: bool) -> Case:
    """What two seeds' exponents of KL and Cov_3 at H = 4, 6, 14 say through `of`."""
    kl = columns(*changes.get("kl", (0.084, 0.1302, (0.294, 0.00056))))
    cov = columns(*changes.get("cov", (0.05, (0.048, 0.00014), (0.052, 0.0002))))
    one, two = (of(exponent(*a), exponent(*b)) for a, b in zip(kl, cov, strict=True))
    return Case(changes, (one + two) / 2, abs(one - two) / 2, passed)


# Equally spaced, so that slopes and chords of dyadic numbers are exact: (c - a)/4 and (a + c)/2.
EVEN = {"depths": (4, 6, 8)}
LOW, HIGH = Interval(0.46, 0.45, 0.47), Interval(0.54, 0.53, 0.55)
CHECKS = {
    "KL: slope of the converged value in H (nats a layer)": Known(
        "lower end of the interval > 0",
        Case({}, 0.02085, 6e-5, True),
        Case({"kl": (0.084, 0.14, (0.294, 0.0168))}, 0.0205, 0.0018, False),
        Case(flat("kl", 0.125), 0.0, 0, False),
    ),
    "KL: that slope over the derived one, from below": Known(
        "lower end of the interval >= 0.7",
        Case({}, 0.02085 / 0.0175, 6e-5 / 0.0175, True),
        Case({"kl": (0.035, 0.0525, (0.1225, 0.00056))}, 0.5, 6e-5 / 0.0175, False),
        Case(flat("kl", 0, 9, 28, derived=(0, 6, 40), **EVEN), 0.7, 0, True),
    ),
    "KL: that slope over the derived one, from above": Known(
        "upper end of the interval <= 2",
        Case({}, 0.02085 / 0.0175, 6e-5 / 0.0175, True),
        Case({"kl": (0.175, 0.2625, (0.6125, 0.00056))}, 2.5, 6e-5 / 0.0175, False),
        Case(flat("kl", 0, 9, 80, derived=(0, 6, 40), **EVEN), 2.0, 0, True),
    ),
    "KL: exponent of H in the converged value, from below": Known(
        "lower end of the interval >= 0.75",
        exponents({}, lambda kl, cov: kl, True),
        exponents({"kl": (0.1, 0.11, (0.12, 1e-4))}, lambda kl, cov: kl, False),
        Case(power("kl", 0.750001), 0.750001, 0, True),
    ),
    "KL: exponent of H in the converged value, from above": Known(
        "upper end of the interval <= 1.25",
        exponents({}, lambda kl, cov: kl, True),
        exponents({"kl": (0.05, 0.1, (0.4, 1e-4))}, lambda kl, cov: kl, False),
        Case(power("kl", 1.249999), 1.249999, 0, True),
    ),
    "KL: inner horizons' deviation from the line, per rise, from below": Known(
        "lower end of the interval >= -0.08",
        Case({}, 0.0042 / 0.21, 0.000112 / 0.21, True),
        # The chord is at .126.
        Case({"kl": (0.084, (0.105, 1e-4), 0.294)}, -0.1, 1e-4 / 0.21, False),
        Case(flat("kl", 0, 4200001, 10000000, **EVEN), -0.0799999, 0, True),
    ),
    "KL: inner horizons' deviation from the line, per rise, from above": Known(
        "upper end of the interval <= 0.08",
        Case({}, 0.0042 / 0.21, 0.000112 / 0.21, True),
        Case({"kl": (0.084, (0.147, 1e-4), 0.294)}, 0.1, 1e-4 / 0.21, False),
        Case(flat("kl", 0, 5799999, 10000000, **EVEN), 0.0799999, 0, True),
    ),
    **MISFITS,
    "Cov_3: exponent of H in the converged value, from below": Known(
        "lower end of the interval >= -0.15",
        exponents({}, lambda kl, cov: cov, True),
        exponents({"cov": (0.06, 0.05, (0.04, 1e-4))}, lambda kl, cov: cov, False),
        Case(power("cov", -0.149999), -0.149999, 0, True),
    ),
    "Cov_3: exponent of H in the converged value, from above": Known(
        "upper end of the interval <= 0.15",
        exponents({}, lambda kl, cov: cov, True),
        exponents({"cov": (0.04, 0.05, (0.06, 1e-4))}, lambda kl, cov: cov, False),
        Case(power("cov", 0.149999), 0.149999, 0, True),
    ),
    "KL and Cov_3: exponent of KL minus 5 times that of Cov_3": Known(
        "lower end of the interval > 0",
        exponents({}, lambda kl, cov: kl - 5 * cov, True),
        exponents({"cov": (0.04, 0.05, (0.06, 1e-4))}, lambda kl, cov: kl - 5 * cov, False),
        Case(power("cov", 0.2, kl=tuple(0.02 * h**0.999999 for h in POWERS)), -1e-6, 0, False),
    ),
    "Cov_3: converged, from below, lowest horizon": Known(
        "lower end of the interval >= 0.035",
        Case({}, 0.048, 0.00014, True),
        Case({"cov": (0.05, 0.05, (0.04, 0.001))}, 0.04, 0.001, False),
        Case(flat("cov", 0.06, 0.035, 0.05), 0.035, 0, True),
    ),
    "Cov_3: converged, from above, highest horizon": Known(
        "upper end of the interval <= 0.065",
        Case({}, 0.052, 0.0002, True),
        Case({"cov": ((0.06, 0.001), 0.05, 0.04)}, 0.06, 0.001, False),
        Case(flat("cov", 0.06, 0.065, 0.05), 0.065, 0, True),
    ),
    "KL / Cov_3: slope of the converged ratio in H (nats a layer)": Known(
        "lower end of the interval > 0",
        Case({"cov": (0.05, 0.05, 0.05)}, 0.417, 0.0012, True),
        Case({"kl": (0.05, 0.06, (0.07, 0.00056)), "cov": (0.05, 0.1, 0.1)}, -1.0 / 56, 0.0006, False),
        Case(flat("kl", 0.125, cov=(0.5, 0.5, 0.5)), 0.0, 0, False),
    ),
    "chain: Cov_3 at initialisation": Known(
        "lower end of the interval >= 0.9",
        Case({}, 0.96, 1e-4, True),
        Case({"chain_start": (0.99, 0.97, (0.905, 1e-3))}, 0.905, 1e-3, False),
        Case(flat("chain_start", 0.9, 1, 1), 0.9, 0, True),
    ),
    "chain: Cov_3 converged": Known(
        "upper end of the interval <= 0.02",
        Case({}, 0.01, 1e-4, True),
        Case({"chain": (0.0, 0.01, (0.015, 1e-3))}, 0.015, 1e-3, False),
        Case(flat("chain", 0.02, 0, 0), 0.02, 0, True),
    ),
    "uniform: Cov_3 at initialisation": Known(
        "lower end of the interval >= 0.9",
        Case({}, 0.94, 1e-4, True),
        Case({"uniform_start": (0.99, (0.91, 1e-3), 0.98)}, 0.91, 1e-3, False),
        Case(flat("uniform_start", 1, 1, 0.9), 0.9, 0, True),
    ),
    "uniform: Cov_3 converged": Known(
        "upper end of the interval <= 0.8",
        Case({}, 0.6, 1e-3, True),
        Case({"uniform": (0.5, 0.3, (0.79, 1e-3))}, 0.79, 1e-3, False),
        Case(flat("uniform", 0.1, 0.8, 0.2), 0.8, 0, True),
    ),
    "xor: Cov_3 converged": Known(
        "lower end of the interval >= 0.8",
        Case({}, 0.9, 1e-3, True),
        Case({"xor": ((0.81, 1e-3), 0.9, 0.95)}, 0.81, 1e-3, False),
        Case(flat("xor", 1, 1, 0.8), 0.8, 0, True),
    ),
    "xor: Cov at N = 16 * 2^(H/2) at initialisation": Known(
        "lower end of the interval >= 0.9",
        Case({}, 0.925, 1e-4, True),
        Case({"local_start": (0.99, (0.91, 1e-3), 0.98)}, 0.91, 1e-3, False),
        Case(flat("local_start", 1, 0.9, 1), 0.9, 0, True),
    ),
    "xor: Cov at N = 16 * 2^(H/2) converged": Known(
        "upper end of the interval <= 0.2",
        Case({}, 0.1, 1e-3, True),
        Case({"local": (0.1, (0.19, 1e-3), 0.02)}, 0.19, 1e-3, False),
        Case(flat("local", 0, 0, 0.2), 0.2, 0, True),
    ),
    "hard rule: loss of the first branching layer, from below (nats)": Known(
        "lower end of the interval >= 0.65",
        Case({}, 0.68, 1e-4, True),
        Case({"choice": ((0.66, 1e-3), 0.7, 0.7)}, 0.66, 1e-3, False),
        Case({"choice": (0.7, 0.65, 0.7)}, 0.65, 0, True),
    ),
    "hard rule: loss of the first branching layer, from above (nats)": Known(
        "upper end of the interval <= 0.8",
        Case({}, 0.71, 2e-4, True),
        Case({"choice": ((0.79, 1e-3), 0.7, 0.7)}, 0.79, 1e-3, False),
        Case({"choice": (0.7, 0.8, 0.7)}, 0.8, 0, True),
    ),
    "hard rule: AUC of the first layer's log-odds, from below": Known(
        "lower end of the interval >= 0.45",
        Case({}, 0.49, (0.465, 0.515), True),
        Case(
            {"auc": ((AUC, AUC), (AUC, AUC), (LOW, Interval(0.46, 0.42, 0.5)))}, 0.46, (0.435, 0.485), False
        ),
        Case({"auc": ((AUC, AUC), (Interval(0.45, 0.45, 0.45),) * 2, (AUC, AUC))}, 0.45, (0.45, 0.45), True),
    ),
    "hard rule: AUC of the first layer's log-odds, from above": Known(
        "upper end of the interval <= 0.55",
        Case({}, 0.52, (0.5, 0.54), True),
        Case(
            {"auc": ((HIGH, Interval(0.54, 0.5, 0.58)), (AUC, AUC), (AUC, AUC))}, 0.54, (0.515, 0.565), False
        ),
        Case({"auc": ((AUC, AUC), (Interval(0.55, 0.55, 0.55),) * 2, (AUC, AUC))}, 0.55, (0.55, 0.55), True),
    ),
    "converged: largest relative change of the median KL over the last quarter": Known(
        "<= 0.1",
        Case({}, 0.05, None, True),
        Case({"earlier_kl": (0.084, 0.2, 0.294)}, 0.349, None, False),
        Case(flat("kl", 0, 0, 0.9, earlier_kl=(0, 0, 1.0)), 0.1, None, True),
    ),
    "converged: largest relative change of the median Cov_3 over the last quarter": Known(
        "<= 0.1",
        Case({}, 0.04, None, True),
        Case({"earlier_cov": (0.04, 0.048, 0.052)}, 0.25, None, False),
        Case(flat("cov", 0.9, 1, 0, earlier_cov=(1.0, 1.0, 0)), 0.1, None, True),
    ),
    "coverage bound by KL: largest excess at any evaluation": Known(
        "<= 1e-09",
        Case({}, -0.125, None, True),
        Case({"excess": (0.0, 0.0, 2e-9)}, 2e-9, None, False),
        Case({"excess": (1e-9, -1.0, 0.0)}, 1e-9, None, True),
    ),
}


def made_parities(**changes: Any) -> Measurements:
    """The same with the class "parities", whose later branching layers are judged too and cost `later`."""
    later = changes.pop("later", 0.7)
    found = made(**changes)
    horizons = []
    for each in found.horizons:
        choice = each.branching.choice_loss.copy()
        choice[:, -1, 1] = later
        cov = {"parities" if name == "xor" else name: values for name, values in each.class_cov.items()}
        branching = dataclasses.replace(each.branching, choice_loss=choice)
        closed = {"independent guesses": each.closed["independent guesses"]}
        horizons.append(dataclasses.replace(each, class_cov=cov, branching=branching, closed=closed))
    return dataclasses.replace(found, horizons=tuple(horizons))


def of_parities(name: str) -> str:
    return (
        name.replace("xor:", "parities:")
        .replace("first branching layer", "every branching layer")
        .replace("the every", "every")
    )


PARITIES = {of_parities(name): known for name, known in CHECKS.items()}
for end, later in (("below", 0.64), ("above", 0.81)):
    loss = f"hard rule: loss of every branching layer, from {end} (nats)"
    PARITIES[loss] = PARITIES[loss]._replace(wrong=Case({"later": later}, later, 0, False))


TestKnownAnswers = known_answers(checks, made, CHECKS)
TestKnownAnswersOfParities = known_answers(checks, made_parities, PARITIES)


@pytest.mark.parametrize(("kl", "slope"), [((0.125,) * 3, 0.0), ((0.125, 0.25, np.nan), None)])
def test_without_a_rise_no_deviation_from_the_line_passes(kl: Values, slope: float | None) -> None:
    found = [check for check in checks(made(**flat("kl", *kl))) if check.name.startswith("KL: ")]
    assert found[0].measured == slope
    # The deviations, and the errors of the other laws.
    assert [check.measured for check in found[5:]] == [None] * 6
    assert not any(check.passed for check in [found[0], *found[5:]])


def test_the_median_over_the_seeds_decides_whether_a_run_has_converged() -> None:
    (horizon, *_) = made().horizons
    # Earlier 1 for all; later 1.05 in the median, while the mean is 3 and the extremes are .5 and 10.
    values = np.array([[0.0, 1, 1, v, v] for v in (0.5, 1.05, 1.05, 1.05, 10)])
    assert relative_change(horizon, values) == pytest.approx(0.05)
    early = np.array([[0.0, v, v, 1, 1] for v in (0.2, 0.8, 0.8, 0.8, 9)])
    assert relative_change(horizon, early) == pytest.approx(0.25)


def test_the_worst_interval_is_the_one_that_reaches_farthest_or_has_no_number() -> None:
    down, up, none = Interval(-0.3, -0.4, -0.2), Interval(0.2, 0.1, 0.35), over_seeds(np.array([1, np.nan]))
    assert [worst([up, down], end) for end in ("low", "high", "far")] == [down, up, down]
    assert all(worst([up, none, down], end) is none for end in ("low", "high", "far"))
    assert np.isnan(none.estimate)
