"""The claim about maximum likelihood's lower bounds: it holds at small sizes, what its checks notice."""

from collections.abc import Callable
from pathlib import Path

import pytest
from oracles.reports import assert_whole

from covlab.claims.claim import Study
from experiments.mle_lower_bounds import checks, figures
from experiments.mle_lower_bounds.measure import Measurements, Settings, measure
from tracking import Progress


@pytest.fixture(scope="module")
def measured(tiny_settings: Callable[[str], Settings]) -> Measurements:
    return measure(tiny_settings("mle_lower_bounds"), Study({}, Progress(show=False), Path()))


def failed(results: Measurements) -> set[str]:
    return {check.name for check in checks.checks(results) if not check.passed}


def test_the_claim_holds_at_small_sizes(measured: Measurements) -> None:
    assert not failed(measured)


def test_notes_and_tables_are_whole(measured: Measurements) -> None:
    names = ["coarse", "fine", "variance"]
    assert_whole(figures.drawings(measured), names, figures.tables(measured), checks.notes(measured))
