"""The claim about maximum likelihood's rates: it holds at small sizes, and what its checks notice."""

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
from experiments.mle_rates import checks, figures
from experiments.mle_rates.measure import Measurements, Settings, measure, worst_probability, worst_quantile
from tracking import Progress

SMALL = (
    "bernoulli_samples=[32,512,8192]",
    "bernoulli_draws=512",
    "linear_samples=[512,2048,8192]",
    "linear_horizons=[16,64,256]",
    "linear_sample=2048",
    "log_ns=[0.75,2,5]",
    "tree_length=5",
    "tree_samples=[32,64,128]",
    "tree_sample=64",
    "tree_models=[4,32,128]",
    "tree_sets=16",
    "convex_size=768",
    "convex_samples=3072",
    "convex_ns=[5,8,16]",
    "draws=48",
    "seed=7",
)


@pytest.fixture(scope="module")
def measured(compose_config: Callable[..., DictConfig]) -> Measurements:
    config = OmegaConf.merge(compose_config("mle_rates"), OmegaConf.from_dotlist([*SMALL]))
    return measure(read(Settings, config), Study({}, Progress(show=False), Path()))


def failed(results: Measurements) -> set[str]:
    return {check.name for check in checks.checks(results) if not check.passed}


def test_the_claim_holds_at_small_sizes(measured: Measurements) -> None:
    # The hull's failures fade between N = 5 and 16 at d = 768, and 48 draws leave the slope uncertain.
    assert failed(measured) <= {"hull: exponent of Cov_N in N, from below"}


def scaled(results: Measurements, key: tuple[str, str], index: int, factor: Any) -> Measurements:
    """The measurements with one rate multiplied, size by size."""
    sweep = results.sweeps[key]
    rates = list(sweep.rates)
    rates[index] = rates[index]._replace(values=rates[index].values * factor(np.array(sweep.sizes, float)))
    return results._replace(sweeps={**results.sweeps, key: sweep._replace(rates=tuple(rates))})


@pytest.mark.parametrize(
    ("key", "index", "factor", "noticed"),
    [
        (("Bernoulli", "n"), 0, lambda x: x**0.5, "Bernoulli: exponent of E Cov_N in n, from above"),
        (("Bernoulli", "n"), 1, lambda x: 9 + 0 * x, "Bernoulli: largest share of the bound, against n"),
        (
            ("Bernoulli", "ln 1/delta"),
            0,
            lambda x: x**0.3,
            "Bernoulli: exponent of the quantile in ln 1/delta, from above",
        ),
        (("linear", "n"), 0, lambda x: x**0.5, "linear: exponent in n"),
        (("linear", "sigma*^2"), 0, lambda x: x**0.5, "linear: exponent in sigma*^2"),
        (("linear", "ln N"), 0, lambda x: 1000 + 0 * x, "linear: largest share of the bound, against ln N"),
        (("finite class", "n"), 0, lambda x: x**0.9, "finite class: exponent in n"),
        (("convex hull", "ln N"), 0, lambda x: x, "class: exponent of Cov_N in ln N, from above"),
        (("convex hull", "N"), 0, lambda x: x**0.7, "hull: exponent of Cov_N in N, from above"),
        (("convex hull", "N"), 0, lambda x: 0 * x, "hull: exponent of Cov_N in N, from above"),
    ],
)
def test_a_failure_of_the_rates_is_noticed(
    key: tuple[str, str], index: int, factor: Any, noticed: str, measured: Measurements
) -> None:
    assert noticed in failed(scaled(measured, key, index, factor))


def test_failures_outside_the_sweeps_are_noticed(measured: Measurements) -> None:
    assert "Bernoulli: share of data sets with infinite KL, least over n" in failed(
        measured._replace(infinite=0 * measured.infinite)
    )
    assert "linear: parameters over examples, least" in failed(measured._replace(dimension=64))


def test_notes_and_tables_are_whole(measured: Measurements) -> None:
    assert all(text.endswith(".") for text in checks.notes(measured))
    for _, names, rows in figures.tables(measured):
        assert rows
        assert all(len(row) == len(names) for row in rows)
    assert {key for _, _, keys in figures.FIGURES for key in keys} == set(measured.sweeps)
    names_of = [drawing.name for drawing in figures.drawings(measured)]
    assert names_of == ["bernoulli", "linear", "finite", "convex"]


def test_the_worst_probability_and_quantile_by_hand() -> None:
    assert worst_quantile(50, np.log(16), 1.0) == pytest.approx(1 - np.exp(-1 / 50), rel=0.01)
    assert worst_probability(50, np.log(1000)) == pytest.approx(1 / 51, rel=0.01)


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_have_draws_and_sizes_enough_and_fresh_seeds(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    settings = read(Settings, compose_config("mle_rates", f"scale={scale}"))
    assert settings.seed < 900, "settings were chosen on 900 and above"
    assert settings.draws >= 32
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, tuple):
            assert len(value) >= 5, field.name
            assert max(value) >= 16 * min(value) * (1 - 1e-9), field.name
