"""The claim about KL against the response's length: it holds at small sizes, and what its checks notice."""

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
from experiments.mle_horizon import checks, figures
from experiments.mle_horizon.measure import Measurements, Settings, measure
from tracking import Progress

SMALL = ("horizons=[64,256,1024]", "samples=64", "draws=512", "seed=7")
STUDY = Study({}, Progress(show=False), Path())


@pytest.fixture(scope="module")
def measured(compose_config: Callable[..., DictConfig]) -> Measurements:
    config = OmegaConf.merge(compose_config("mle_horizon"), OmegaConf.from_dotlist([*SMALL]))
    return measure(read(Settings, config), STUDY)


def failed(results: Measurements) -> set[str]:
    return {check.name for check in checks.checks(results) if not check.passed}


def test_the_claim_holds_at_small_sizes(measured: Measurements) -> None:
    assert not failed(measured)


def test_the_same_seed_gives_the_same_numbers(measured: Measurements) -> None:
    again = measure(measured.settings, STUDY)
    np.testing.assert_array_equal(again.kl, measured.kl)
    other = measure(dataclasses.replace(again.settings, seed=8), STUDY)
    assert (other.kl != again.kl).any()


@pytest.mark.parametrize(
    ("change", "noticed"),
    [
        (lambda f: {"kl": f.kl / np.array(f.settings.horizons) * 64}, "KL: exponent in H, from below"),
        (
            lambda f: {"coverage": f.coverage * np.array(f.settings.horizons) ** 0.2},
            "Cov_N: exponent in H, from above",
        ),
        (lambda f: {"coverage": f.coverage * 1.1}, "Cov_N over 1/(2n), largest over all data sets"),
        (
            lambda f: {"kl": f.kl * 0.9},
            "probability that KL >= .1639 H/n, least over H, larger of the two theta*",
        ),
    ],
)
def test_a_failure_of_the_horizon_claim_is_noticed(change: Any, noticed: str, measured: Measurements) -> None:
    assert noticed in failed(measured._replace(**change(measured)))


def test_notes_and_tables_are_whole(measured: Measurements) -> None:
    assert all(text.endswith(".") for text in checks.notes(measured))
    for _, names, rows in figures.tables(measured):
        assert rows
        assert all(len(row) == len(names) for row in rows)
    assert [drawing.name for drawing in figures.drawings(measured)] == ["horizon"]


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_have_draws_and_sizes_enough_and_fresh_seeds(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    settings = read(Settings, compose_config("mle_horizon", f"scale={scale}"))
    assert settings.seed < 900, "settings were chosen on 900 and above"
    assert settings.draws >= 32
    assert len(settings.horizons) >= 5
    assert max(settings.horizons) >= 16 * min(settings.horizons)
