"""Truncated distillation: its scales, a tiny run, a check that notices a budget that grows with H."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from omegaconf import DictConfig

from covlab.claims.claim import Study
from covlab.claims.settings import read
from covlab.report.rates import exponent
from experiments.truncated_distillation import checks, figures
from experiments.truncated_distillation.measure import Measurements, Settings, measure
from tracking import Progress

TUNING = set(range(900, 906))


@pytest.fixture(scope="module")
def tiny(compose_config: Callable[..., DictConfig]) -> Settings:
    """The settings of the claim's tiny run."""
    contract = yaml.safe_load((Path(__file__).parent / "contract.yaml").read_text())
    return read(Settings, compose_config("truncated_distillation", *contract["tiny"]))


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_span_a_factor_of_16_with_fresh_seeds(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    settings = read(Settings, compose_config("truncated_distillation", f"scale={scale}"))
    for each in (settings.step_counts, settings.log_ns, settings.family_horizons):
        assert len(each) >= 5
        assert each[-1] >= 16 * each[0]
    assert min(settings.draws, settings.family_draws) >= 32
    assert settings.tuning_seed in TUNING
    assert settings.seed not in TUNING, "settings were chosen on these"


def complete(results: Measurements, names: list[str]) -> None:
    """A report with everything in it."""
    assert [drawing.name for drawing in figures.drawings(results)] == names
    checked = checks.checks(results)
    assert len({check.name for check in checked}) == len(checked)
    assert all(check.measured is not None for check in checked)
    for _, columns, rows in figures.tables(results):
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    assert all(text.endswith(".") for text in checks.notes(results))


@pytest.mark.slow
def test_a_tiny_run(tiny: Settings) -> None:
    results = measure(tiny, Study({}, Progress(), Path()))
    complete(results, ["rates"])
    rng = np.random.default_rng(0)
    needed = results.family.needed
    assert exponent(tiny.family_horizons, needed["sequence"], rng).low > 0.5
    assert needed["truncated"].max() < 60
    # A budget that grows with H is noticed.
    grown = {name: each * np.array(tiny.family_horizons) for name, each in needed.items()}
    family = dataclasses.replace(results.family, needed=grown)
    checked = checks.checks(dataclasses.replace(results, family=family))
    failed = {check.name for check in checked if not check.passed}
    assert "family, truncated: exponent of H in the steps needed, from above" in failed
