"""Every check of `batch_bias` on measurements made by hand: right, wrong and at its threshold."""

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from covlab.testing.known_checks import Known, known_answers
from experiments.batch_bias.checks import checks
from experiments.batch_bias.measure import RUNS, Measurements, Settings, closed_form
from theory.sgd.batch_bias import Bits

N = math.exp(2)
ALLOWED = 1 + 1 / 16 + 1e-8
SETTINGS = SimpleNamespace(inverses=(16, 64), n=N)
RIGHT = Measurements(
    SETTINGS,  # type: ignore[arg-type]
    squares=np.array([0.2, 0.5]),
    stopped=np.array([0.1, 0.01]),
    closed=np.array([1 + 1e-8, 1 - 4e-8]),
    factor=np.array([1.05, 1.02]),
    single=np.array([1.0, 1.0]),
    theorem=np.array([0.0, 0.0]),
    least=np.array([11.2, 44.8]),
    runs={RUNS[0]: np.full(4, 0.95), RUNS[1]: np.full(4, 0.02), RUNS[2]: np.full(4, 0.01)},
    rule=(0.1, 2.0, 0.5),
    mean=np.array([0.01, 0.02]),
)


def put(field: str, *values: Any) -> Any:
    """The field with the argument at None."""

    def at(value: float) -> Measurements:
        filled = np.array([value if each is None else each for each in values], float)
        return dataclasses.replace(RIGHT, **{field: filled})

    return at


def ran(name: str) -> Any:
    return lambda value: dataclasses.replace(RIGHT, runs={**RIGHT.runs, name: np.full(4, value)})


def bounded(value: float) -> Measurements:
    return dataclasses.replace(RIGHT, rule=(0.1, 2.0, value), mean=np.zeros(2))


def reached(value: float) -> Measurements:
    return dataclasses.replace(RIGHT, mean=np.array([0.0, 0.5 * value]))


def closed(value: float) -> Measurements:
    return dataclasses.replace(RIGHT, closed=np.array([1.0, 1 - value]))


def growing(value: float) -> Measurements:
    """The slope over a factor of 4, at a middle of .7/p*."""
    return dataclasses.replace(RIGHT, least=0.7 * 32 * np.array([0.5, 2.0]) ** value)


SMALL = "small lambda"
TABLE = {
    "Lemma I.8: left over right side, largest": Known(
        "<= 1.00000001", 0.5, None, put("squares", 0.1, None), 2.0
    ),
    "Lemma I.9: left over right side, largest": Known(
        "<= 1.00000001", 0.1, None, put("stopped", None, 0.1), 2.0
    ),
    "Theorem 5.1 at its own constants: right-hand side": Known("< 1", 0.5, None, bounded, 2.0),
    "Theorem 5.1: mean Cov_N of a run over its right-hand side, largest": Known(
        "<= 1", 0.04, None, reached, 1.5
    ),
    "K = 1, lambda = 1: |p at rest over its closed form - 1|, largest": Known(
        "<= 1e-06", 4e-8, None, closed, 0.5, ((0.9e-6, True), (1.1e-6, False))
    ),
    f"K = 1, {SMALL}: Cov_N at rest over p*, least": Known(
        ">= 0.99999999", 1.0, None, put("single", None, None), 0.0
    ),
    f"{SMALL}: exponent of the least K with Cov_N = 0 in 1/p*, from below": Known(
        ">= 0.9", 1.0, None, growing, 0.5, alone=False
    ),
    f"{SMALL}: exponent of the least K with Cov_N = 0 in 1/p*, from above": Known(
        "<= 1.1", 1.0, None, growing, 1.5, alone=False
    ),
    f"{SMALL}: least K times p*, least": Known(
        ">= 0.6", 0.7, None, lambda x: put("least", 16 * x, None)(64 * x), 0.1
    ),
    f"{SMALL}: least K times p*, largest": Known(
        "<= 0.8", 0.7, None, lambda x: put("least", 16 * x, None)(64 * x), 5.0
    ),
    f"{SMALL}, K = B/(p* ln N): Cov_N at rest over p*, largest": Known(
        "<= 0", 0.0, None, put("theorem", None, None), 1.0
    ),
    "K = 1, the proof's lambda: p*/p at rest, largest": Known(
        f"<= {ALLOWED:.15g}", 1.05, None, put("factor", None, 1.01), 2.0
    ),
    f"runs, K = 1, {SMALL}: mean Cov_N over p*": Known(
        "lower end of the interval >= 0.9", 0.95, (0.95, 0.95), ran(RUNS[0]), 0.5
    ),
    f"runs, K = B/(p* ln N), {SMALL}: mean Cov_N over p*": Known(
        "upper end of the interval <= 0.1", 0.02, (0.02, 0.02), ran(RUNS[1]), 0.5
    ),
    "runs, SGD with K = 1: mean Cov_N over p*": Known(
        "upper end of the interval <= 0.1", 0.01, (0.01, 0.01), ran(RUNS[2]), 0.5
    ),
}


TestKnownAnswers = known_answers(checks, RIGHT, TABLE)


def test_the_closed_form_solves_its_equation_below_p() -> None:
    for bound, rare, damping in ((32.0, 0.01, 1.0), (8.0, 0.3, 100.0), (8.0, 0.1, 1e-3)):
        p = closed_form(Bits(bound, rare), damping)
        assert 0 < p < rare
        left, right = damping * (rare - p), bound * p * (1 - p) * (1 - 2 * rare)
        np.testing.assert_allclose(left, right, rtol=1e-9)


def test_batches_of_the_theorem_and_the_run_are_those_of_the_settings() -> None:
    settings = Settings(inverses=(16, 64, 128), bound=32.0, n=N)
    assert settings.run_bits == Bits(32.0, 1 / 64)
    assert settings.theorem_batch_of(1 / 64) == 1024
