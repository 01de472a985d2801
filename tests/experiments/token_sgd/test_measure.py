"""Token-level SGD: its scales, a tiny run, checks that notice what grows with H."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from oracles.reports import assert_whole

from covlab.claims.claim import Study
from experiments.token_sgd import CLAIM, checks, figures
from experiments.token_sgd.measure import Point, Settings, measure
from tracking import Progress


@pytest.mark.slow
def test_a_tiny_run(tiny_settings: Callable[[str], Settings]) -> None:
    tiny = tiny_settings("token_sgd")
    results = measure(tiny, Study({}, Progress(), Path()))
    assert_whole(
        figures.drawings(results), ["rates", "robustness"], figures.tables(results), checks.notes(results)
    )
    assert all(check.measured is not None for check in checks.checks(results))
    assert CLAIM.seeds(results) == (620,)
    # Fixed parameters are never below the least of any proper method: draws share their prompts.
    for name in ("fixed, best", "sequence, best"):
        assert np.all(results.over_horizons(name) >= results.floor - 1e-12)
    bounds = {check.name: check for check in checks.checks(results) if "over its bound" in check.name}
    assert len(bounds) == 4
    assert all(check.passed for check in bounds.values())

    # A KL that grows with H is noticed.
    def grown(point: Point, horizon: int) -> Point:
        return dataclasses.replace(point, kl=point.kl | {"TTT": point.kl["TTT"] * horizon})

    slower = dataclasses.replace(
        results,
        by_horizon=tuple(map(grown, results.by_horizon, tiny.horizons)),
        by_count=tuple(map(grown, results.by_count, tiny.sequence_counts)),
    )
    failed = {check.name for check in checks.checks(slower) if not check.passed}
    assert {
        "TTT, the theorem's step: exponent of H in KL, from above",
        "TTT: exponent of T in KL",
        "TTT: KL over the least of any proper method, longest H",
    } <= failed
