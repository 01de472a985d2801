"""The claim about maximum likelihood's rates: it holds at small sizes, and what its checks notice."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from oracles.reports import assert_whole

from covlab.claims.claim import Study
from experiments.mle_rates import checks, figures
from experiments.mle_rates.measure import Measurements, Settings, measure, worst_probability, worst_quantile
from tracking import Progress


@pytest.fixture(scope="module")
def measured(tiny_settings: Callable[[str], Settings]) -> Measurements:
    return measure(tiny_settings("mle_rates"), Study({}, Progress(show=False), Path()))


def failed(results: Measurements) -> set[str]:
    return {check.name for check in checks.checks(results) if not check.passed}


@pytest.mark.long
def test_the_claim_holds_at_small_sizes(measured: Measurements) -> None:
    # The hull's failures fade between N = 5 and 16 at d = 768, and 48 draws leave the slope uncertain.
    assert failed(measured) <= {"hull: exponent of Cov_N in N, from below"}


def test_notes_and_tables_are_whole(measured: Measurements) -> None:
    assert {key for _, _, keys in figures.FIGURES for key in keys} == set(measured.sweeps)
    names = ["bernoulli", "linear", "finite", "convex"]
    assert_whole(figures.drawings(measured), names, figures.tables(measured), checks.notes(measured))


def test_the_worst_probability_and_quantile_by_hand() -> None:
    assert worst_quantile(50, np.log(16), 1.0) == pytest.approx(1 - np.exp(-1 / 50), rel=0.01)
    assert worst_probability(50, np.log(1000)) == pytest.approx(1 / 51, rel=0.01)
