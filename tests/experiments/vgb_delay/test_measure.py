"""Exact laws of the delay claim: what they are, the checks that notice a failure, a tiny run, the scales."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from oracles.reports import assert_whole

from covlab.report.verdict import Verdict
from decoding import Decoded
from experiments.vgb_delay import checks, figures
from experiments.vgb_delay import measure as measuring
from metrics import mean_interval
from theory.vgb.laws import Goodness, Sampled, expected_queries, laws_of
from theory.vgb.typed_trees import action_level_moves as moves_of
from theory.vgb.typed_trees import delay_tree, first_leaf_steps, leaf_probability, parity_tree

NAMES = ("action level", "first leaf", "fixed steps")
FINE = dict(zip(NAMES, (Goodness(0.5, 1e-9), Goodness(0.5, 0.5), Goodness(0.5, 0.5)), strict=True))


def sampled(queries: np.ndarray, reward: float = 1.0) -> Sampled:
    shape = (1, len(queries))
    ones = np.ones(shape, int)
    decoded = Decoded(ones[..., None], ones > 0, np.full(shape, reward), queries[None], ones)
    return Sampled(decoded, mean_interval(queries.astype(float)))


@functools.cache
def measured() -> measuring.Measurements:
    settings = measuring.Settings(
        steps=8, longest=12, delta=0.002, seed=1, seeds=3, leaves=16,
        horizons=(4, 8, 16), tilt=1.0, block=2, sampled_horizon=3, chains=64, parity_chains=64,
    )  # fmt: skip
    spread = np.linspace(0.9, 1.1, 64)
    parity = []
    for h in settings.horizons:
        tree = parity_tree(h, 2)
        success = leaf_probability(moves_of(tree))
        cost = expected_queries(moves_of(tree), 2) / success
        walk = sampled(np.round(1.5 * h**2 * spread).astype(int))
        parity.append(measuring.ParityCost(h, success, cost, first_leaf_steps(tree), walk))
    return measuring.Measurements(
        settings=settings,
        laws=tuple(
            laws_of(delay_tree(h, 1.0), measuring.error_of(1.0), settings.chain) for h in settings.horizons
        ),
        parity=tuple(parity),
        goodness=FINE,
        sampled={name: sampled(np.arange(4)) for name in NAMES},
        **measuring._of_counts(settings),
    )


def failed(results: measuring.Measurements) -> set[str]:
    return {check.name for check in checks.checks(results) if not check.passed}


BASE = {
    "delay, action level: TV at the longest H",
    "delay, VGB, first leaf: TV at the longest H over TV at a quarter of it",
    "parity: queries of VGB (upper end) over the action level's, longest H",
}
"""Checks that are made for horizons longer than 16."""


def test_the_checks_pass_on_what_theory_says() -> None:
    assert failed(measured()) == BASE


def test_the_laws_of_the_counts_are_laws_and_vgbs_is_the_targets() -> None:
    results = measured()
    for law in results.counts.values():
        assert law.sum() == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(results.counts["VGB"], results.counts["pi*"], atol=1e-3)
    assert np.abs(results.counts["action level"] - results.counts["pi*"]).sum() > 0.5
    assert results.mean["pi*"] == pytest.approx(np.e / (1 + np.e))


def test_the_error_of_late_values_is_their_largest_ratio() -> None:
    tree = delay_tree(3, 0.8)
    growth = tree.target[1, 0] * 2
    assert measuring.error_of(0.8) == pytest.approx(max(growth.max(), 1 / growth.min()))


def test_without_the_tilt_late_values_cost_1_over_sqrt_2_pi_h() -> None:
    assert measuring.linear_error(400) == pytest.approx(1 / np.sqrt(2 * np.pi * 400), rel=0.05)
    # y in {0, 1}^2: the action level gives 00, 01, 10, 11 the probabilities 0, 1/2, 1/6, 1/3.
    assert measuring.linear_error(2) == pytest.approx((0 + 1 / 4 + 1 / 12 + 1 / 6) / 2)


def test_report_has_its_figures_and_tables() -> None:
    results = measured()
    names = ["horizon", "counts", "mixing", "parity"]
    assert_whole(figures.drawings(results), names, figures.tables(results), checks.notes(results))


def test_decoders_agree_with_their_laws_and_every_response_is_rewarded(
    tiny_claim: Callable[[str], Path],
) -> None:
    path = tiny_claim("vgb_delay")
    assert (path / "report.html").read_text().count("<figure") == 4
    checked = [
        check
        for check in Verdict.read(path / "verdict.json").checks
        if check.name.startswith("decoder") or "reward 1, least" in check.name
    ]
    assert len(checked) == 5
    assert all(check.passed for check in checked), checked
