"""Truncated distillation: its scales, a tiny run, a check that notices a budget that grows with H."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from oracles.reports import assert_whole

from covlab.claims.claim import Study
from covlab.report.rates import exponent
from experiments.truncated_distillation import checks, figures
from experiments.truncated_distillation.measure import Settings, measure
from tracking import Progress


@pytest.mark.slow
def test_a_tiny_run(tiny_settings: Callable[[str], Settings]) -> None:
    tiny = tiny_settings("truncated_distillation")
    results = measure(tiny, Study({}, Progress(), Path()))
    assert_whole(figures.drawings(results), ["rates"], figures.tables(results), checks.notes(results))
    assert all(check.measured is not None for check in checks.checks(results))
    rng = np.random.default_rng(0)
    needed = results.family.needed
    assert exponent(tiny.family_horizons, needed["sequence"], rng).low > 0.5
    assert needed["truncated"].max() < 60
    # A budget that grows with H is noticed.
    grown = {name: each * np.array(tiny.family_horizons) for name, each in needed.items()}
    family = dataclasses.replace(results.family, needed=grown)
    checked = checks.checks(dataclasses.replace(results, family=family))
    failed = {check.name for check in checked if not check.passed}
    assert "family, truncated: exponent of H in the steps needed, from above" in failed
