"""The claim about pessimism: its instances, what its checks notice on synthetic curves, and the command."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from oracles.reports import assert_rectangular

from covlab.report.verdict import Verdict
from experiments.pessimism import finite_sets
from experiments.pessimism.brackets import Arm, PoolSettings
from experiments.pessimism.checks import checks, notes, on_strings
from experiments.pessimism.figures import drawings, tables
from experiments.pessimism.measure import Measurements, Settings
from metrics import coverage_coefficient

TABULAR = finite_sets.TabularSettings(
    seed=970,
    instances=3,
    coverages=(4.0, 16.0),
    errors=(0.08,),
    ns=(1, 16, 64, 4096),
    multiples=(0.25, 1.0),
    law_draws=4,
)
SETTINGS = Settings(TABULAR, PoolSettings(ns=(1, 8, 64), responses=64, prompts=2, law_draws=2), {})


@pytest.mark.parametrize(("coverage", "error"), [(2, 0.02), (64, 0.08)])
def test_instances_have_the_coverage_and_the_error_that_is_asked(coverage: float, error: float) -> None:
    found = [finite_sets.random_instance(np.random.default_rng(seed), coverage, error) for seed in range(20)]
    for each in found:
        assert each.reference.sum() == pytest.approx(1)
        assert each.estimate.max() < finite_sets.CEILING
        best = np.where(each.reward == 1, each.reference, 0)
        assert coverage_coefficient(best / best.sum(), each.reference) == pytest.approx(coverage)
        overrated = slice(finite_sets.GOOD, finite_sets.GOOD + finite_sets.OVERRATED)
        # Only there is the estimate far off, and nothing is thought to be better.
        wrong = np.abs(each.estimate - each.reward)
        assert wrong[overrated].min() > 0.8 > 0.03 > np.delete(wrong, np.r_[overrated]).max()
        assert each.estimate[overrated].min() > np.delete(each.estimate, np.r_[overrated]).max()
        assert each.regret(best / best.sum()) == pytest.approx(0)
    assert np.mean([each.error for each in found]) == pytest.approx(error, rel=0.03)


def test_rises_and_falls() -> None:
    curves = np.array([[0.2, 0.5, 0.1], [0.1, 0.4, 0.6]])
    np.testing.assert_allclose(finite_sets.rises_to_peak(curves), [0.3, 0.3])
    np.testing.assert_allclose(finite_sets.falls_after_peak(curves), [0.4, -0.2])
    np.testing.assert_allclose(finite_sets.largest_fall(curves), [0.4, 0.0])


@pytest.fixture(scope="module")
def tabular() -> finite_sets.Tabular:
    return finite_sets.measure_tabular(TABULAR, lambda done, total: None)


def arm(coverage: float, best: list[float], own: list[float]) -> Arm:
    rng = np.random.default_rng(0)

    def spread(curve: list[float]) -> np.ndarray:
        return np.clip(np.array(curve) + rng.normal(0, 1e-3, (4, 1)), 0, 1)

    names = (
        *(finite_sets.multiple_name(each) for each in TABULAR.multiples),
        finite_sets.SAMPLE_MAXIMUM,
        finite_sets.OWN_SAMPLE,
    )
    rules = {finite_sets.BEST: spread(best)} | {name: spread(own) for name in names}
    few = np.full(4, 0.2)
    return Arm((1, 2, 3, 4), 64, np.full(4, coverage), few, few, rules)


GOOD_ARMS = {
    "covered": arm(4, [0.25, 0.9, 0.8], [0.25, 0.6, 0.6]),
    "uncovered": arm(20, [0.05, 0.4, 0.1], [0.05, 0.2, 0.2]),
}


def failing(tabular: finite_sets.Tabular, arms: dict[str, Arm]) -> list[str]:
    results = Measurements(SETTINGS, tabular, arms)
    return [check.name for check in checks(results) if not check.passed]


def test_the_claim_holds_where_it_should_and_notices_what_it_must(tabular: finite_sets.Tabular) -> None:
    assert failing(tabular, GOOD_ARMS) == []
    # Theory does not promise that Best-of-N falls on strings.
    flat = GOOD_ARMS | {"uncovered": arm(20, [0.05, 0.1, 0.1], [0.05, 0.2, 0.2])}
    assert failing(tabular, flat) == []
    falling = GOOD_ARMS | {"covered": arm(4, [0.25, 0.9, 0.8], [0.25, 0.7, 0.6])}
    assert failing(tabular, falling) == ["brackets, covered: pessimism, best N over the largest"]
    swapped = {"covered": GOOD_ARMS["uncovered"], "uncovered": GOOD_ARMS["covered"]}
    gains = [value.estimate for text, value in on_strings(swapped).items() if text.startswith("covered over")]
    assert len(gains) == 2
    assert max(gains) < 0
    # Pessimism that follows the estimate as Best-of-N does.
    rewards = {
        cell: rules | {finite_sets.THEORY: rules[finite_sets.BEST]} for cell, rules in tabular.reward.items()
    }
    found = failing(dataclasses.replace(tabular, reward=rewards), GOOD_ARMS)
    assert "finite sets: pessimism, best N over N = 4096, largest" in found
    assert "finite sets: pessimism at N = 4096 over Best-of-N, least" in found


def test_report_and_notes(tabular: finite_sets.Tabular) -> None:
    results = Measurements(SETTINGS, tabular, GOOD_ARMS)
    drawn = drawings(results)
    assert [each.name for each in drawn] == ["finite_sets", "coverage", "brackets"]
    assert_rectangular(tables(results))
    assert len(notes(results)) == 6
    assert results.seeds == (1, 2, 3, 4, 970)


def test_the_tiny_run_trains_both_arms(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("pessimism")
    verdict = Verdict.read(path / "verdict.json")
    assert verdict.seeds == (970, 971, 4760)
    assert (path / "figures" / "brackets.png").read_bytes().startswith(b"\x89PNG")
    assert "16 labels a network" in " ".join(verdict.notes)
