"""The claim about maximum likelihood's lower bounds: it holds at small sizes, what its checks notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from oracles.reports import assert_whole

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


def test_notes_and_tables_are_whole(measured: Measurements) -> None:
    names = ["coarse", "fine", "variance"]
    assert_whole(figures.drawings(measured), names, figures.tables(measured), checks.notes(measured))
