"""Exact laws of the perturbation claim: the checks that notice a failure, a tiny run, the scales."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from oracles.reports import assert_whole

from covlab.report.verdict import Verdict
from decoding import Decoded
from experiments.vgb_perturbation import checks, figures
from experiments.vgb_perturbation.measure import Measurements, Settings
from metrics import Interval
from theory.vgb.laws import Goodness, Sampled, laws_of
from theory.vgb.typed_trees import perturbation_tree

NAMES = ("action level", "first leaf", "fixed steps")
FINE = dict(zip(NAMES, (Goodness(0.5, 1e-9), Goodness(0.5, 0.5), Goodness(0.5, 0.5)), strict=True))


def sampled(queries: int = 5) -> Sampled:
    ones = np.ones((1, 4), int)
    return Sampled(
        Decoded(ones[..., None], ones > 0, ones, ones, queries * ones), Interval(queries, 1.0, 9.0)
    )


@functools.cache
def measured() -> Measurements:
    settings = Settings(
        steps=8, longest=12, delta=0.002, seed=1, seeds=3, leaves=16,
        horizons=(4, 8, 16), epsilons=(0.1, 0.2, 1.0), sampled_horizon=3, sampled_epsilon=0.5, chains=64,
    )  # fmt: skip
    laws = {
        (h, eps): laws_of(perturbation_tree(h, eps), 1 + eps, settings.chain)
        for h in settings.horizons
        for eps in settings.epsilons
    }
    return Measurements(settings, laws, FINE, {name: sampled() for name in NAMES})


def failed(results: Measurements) -> set[str]:
    return {check.name for check in checks.checks(results) if not check.passed}


BASE = {
    "action level: TV at the longest H and largest eps",
    "VGB, first leaf: TV at the longest H over TV at a quarter of it, largest eps",
}
"""These two are made for longer horizons: at H = 16 they come out at .48 and 1.13."""


def test_the_checks_pass_on_what_theory_says() -> None:
    assert failed(measured()) == BASE


def test_report_has_its_figures_and_tables() -> None:
    results = measured()
    names = ["horizon", "epsilon", "mixing"]
    assert_whole(figures.drawings(results), names, figures.tables(results), checks.notes(results))


def test_decoders_agree_with_their_laws(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("vgb_perturbation")
    assert (path / "report.html").read_text().count("<figure") == 3
    checked = [
        check for check in Verdict.read(path / "verdict.json").checks if check.name.startswith("decoder")
    ]
    assert len(checked) == 4
    assert all(check.passed for check in checked), checked
