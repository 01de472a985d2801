"""The claim about KL against the response's length: it holds at small sizes, and what its checks notice."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from oracles.reports import assert_whole

from covlab.claims.claim import Study
from experiments.mle_horizon import checks, figures
from experiments.mle_horizon.measure import Measurements, Settings, measure
from tracking import Progress

STUDY = Study({}, Progress(show=False), Path())


@pytest.fixture(scope="module")
def measured(tiny_settings: Callable[[str], Settings]) -> Measurements:
    return measure(tiny_settings("mle_horizon"), STUDY)


def failed(results: Measurements) -> set[str]:
    return {check.name for check in checks.checks(results) if not check.passed}


def test_the_claim_holds_at_small_sizes(measured: Measurements) -> None:
    assert not failed(measured)


def test_the_same_seed_gives_the_same_numbers(measured: Measurements) -> None:
    again = measure(measured.settings, STUDY)
    np.testing.assert_array_equal(again.kl, measured.kl)
    other = measure(dataclasses.replace(again.settings, seed=8), STUDY)
    assert (other.kl != again.kl).any()


def test_notes_and_tables_are_whole(measured: Measurements) -> None:
    names = ["horizon"]
    assert_whole(figures.drawings(measured), names, figures.tables(measured), checks.notes(measured))
