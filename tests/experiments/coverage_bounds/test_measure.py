"""The claim about bounds of coverage: what its checks notice, its scales, its report."""

from collections.abc import Callable
from pathlib import Path

import pytest
from oracles.reports import assert_whole

from covlab.claims.claim import Study
from experiments.coverage_bounds import checks, figures
from experiments.coverage_bounds.measure import Measurements, Settings, measure
from tracking import Progress


@pytest.fixture(scope="module")
def measured(tiny_settings: Callable[[str], Settings]) -> Measurements:
    return measure(tiny_settings("coverage_bounds"), Study({}, Progress(), Path()))


def failed(results: Measurements) -> set[str]:
    return {check.name for check in checks.checks(results) if not check.passed}


def of_theorems(names: set[str]) -> set[str]:
    """Those that no small sample can fail."""
    return {name for name in names if "largest" in name or "counterexample" in name}


def test_what_is_a_theorem_holds_on_a_tiny_sample(measured: Measurements) -> None:
    assert of_theorems(failed(measured)) == set()
    assert {check.name for check in checks.checks(measured) if "exponent" in check.name}


def test_the_counterexample_is_the_papers_statement_failing() -> None:
    assert checks.counterexample() == pytest.approx(0.4)


def test_the_report_has_its_figures_and_tables(measured: Measurements) -> None:
    names = ["horizon", "slack", "tight"]
    assert_whole(figures.drawings(measured), names, figures.tables(measured), checks.notes(measured))
