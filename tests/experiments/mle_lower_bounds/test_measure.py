"""The claim about maximum likelihood's lower bounds: it holds at small sizes, what its checks notice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from covlab.claims.claim import Study
from covlab.claims.settings import read
from experiments.mle_lower_bounds import checks, figures
from experiments.mle_lower_bounds.measure import Measurements, Settings, measure
from tracking import Progress

SMALL = (
    "draws=128",
    "coarse_samples=[128,256,512]",
    "coarse_sample=512",
    "coarse_sizes=[8,16,32]",
    "coarse_size=16",
    "coarse_norm=10",
    "coarse_log_ns=[0.75,3,10]",
    "fine_samples=[256,512,1024]",
    "fine_sample=1024",
    "fine_sizes=[32,64,128]",
    "fine_log_ns=[1,2,4]",
    "bits_samples=[2048,4096,8192]",
    "bits_horizons=[64,128,256]",
    "bits_horizon=64",
    "bits_long=128",
    "bits_log_ns=[0.7,1.4,2.8]",
    "bits_responses=64",
    "seed=7",
)


@pytest.fixture(scope="module")
def measured(compose_config: Callable[..., DictConfig]) -> Measurements:
    config = OmegaConf.merge(compose_config("mle_lower_bounds"), OmegaConf.from_dotlist([*SMALL]))
    return measure(read(Settings, config), Study({}, Progress(show=False), Path()))


def failed(results: Measurements) -> set[str]:
    return {check.name for check in checks.checks(results) if not check.passed}


def test_the_claim_holds_at_small_sizes(measured: Measurements) -> None:
    assert not failed(measured)


def scaled(results: Measurements, key: tuple[str, str], factor: Any) -> Measurements:
    """The measurements with the first rate of a sweep multiplied, size by size."""
    sweep = results.sweeps[key]
    first, *others = sweep.rates
    first = first._replace(values=first.values * factor(np.array(sweep.sizes, float)))
    return results._replace(sweeps={**results.sweeps, key: sweep._replace(rates=(first, *others))})


@pytest.mark.parametrize(
    ("key", "factor", "noticed"),
    [
        (("coarse", "n"), lambda x: x**-0.3, "coarse: exponent of Cov_N in n, from below"),
        (("coarse", "ln N"), lambda x: 1 / x, "coarse: exponent of Cov_N in ln N, from below"),
        (("fine", "d"), lambda x: 1 / x, "fine: exponent of Cov_N in d, from below"),
        (("fine", "ln N"), lambda x: x, "fine: exponent of Cov_N in ln N, from above"),
        (("variance", "H"), lambda x: 1 / x, "variance: exponent of Cov_N in H, from below"),
        (("variance", "sigma*^2"), lambda x: x, "variance: exponent of Cov_N in sigma*^2, from above"),
        (("variance", "n"), lambda x: 1000 + 0 * x, "variance: largest share of the upper bound"),
    ],
)
def test_a_failure_of_the_lower_bounds_is_noticed(
    key: tuple[str, str], factor: Any, noticed: str, measured: Measurements
) -> None:
    assert noticed in failed(scaled(measured, key, factor))


def test_failures_outside_the_sweeps_are_noticed(measured: Measurements) -> None:
    never = [0 * each for each in measured.missed]
    assert failed(measured._replace(missed=never, promised=never, trivial=0.1, spread=1.5)) >= {
        "coarse: probability of Cov_N >= (d - 1)/(10 n), least over n and d",
        "coarse: Cov_N at the trivial N = e^2B, largest",
        "fine: probability of missing pi_D, least over n, d and ln N",
        "fine: ln(1/(1 - eps)) over sqrt(d/n), largest",
    }


def test_notes_and_tables_are_whole(measured: Measurements) -> None:
    assert all(text.endswith(".") for text in checks.notes(measured))
    for _, names, rows in figures.tables(measured):
        assert rows
        assert all(len(row) == len(names) for row in rows)
    assert [drawing.name for drawing in figures.drawings(measured)] == ["coarse", "fine", "variance"]


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_have_draws_and_sizes_enough_and_fresh_seeds(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    settings = read(Settings, compose_config("mle_lower_bounds", f"scale={scale}"))
    assert settings.seed < 900, "settings were chosen on 900 and above"
    assert settings.draws >= 32
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, tuple):
            assert len(value) >= 5, field.name
            assert max(value) >= 16 * min(value) * (1 - 1e-9), field.name
