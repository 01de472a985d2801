"""The claim about bounds of coverage: what its checks notice, its scales, its report."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from covlab.claims.claim import Study
from covlab.claims.settings import read
from experiments.coverage_bounds import checks, figures
from experiments.coverage_bounds.measure import Measurements, Settings, measure
from theory.coverage_laws import Sides
from tracking import Progress

TINY = {
    "draws": 32,
    "budgets": [4, 16],
    "alphabets": [4, 16],
    "steps": [32, 128],
    "depths": [1, 4],
    "horizons": [128, 256],
    "short_horizons": [8, 32],
    "seed": 950,
}


@functools.cache
def composed(compose_config: Callable[..., DictConfig]) -> DictConfig:
    return compose_config("coverage_bounds")


@pytest.fixture(scope="module")
def measured(compose_config: Callable[..., DictConfig]) -> Measurements:
    settings = read(Settings, OmegaConf.merge(composed(compose_config), TINY))
    return measure(settings, Study({}, Progress(), Path()))


def failed(results: Measurements) -> set[str]:
    return {check.name for check in checks.checks(results) if not check.passed}


def of_theorems(names: set[str]) -> set[str]:
    """Those that no small sample can fail."""
    return {name for name in names if "largest" in name or "counterexample" in name}


def test_what_is_a_theorem_holds_on_a_tiny_sample(measured: Measurements) -> None:
    assert of_theorems(failed(measured)) == set()
    assert {check.name for check in checks.checks(measured) if "exponent" in check.name}


@pytest.mark.parametrize(
    ("inequality", "family", "noticed"),
    [
        ("KL", "softmax", "Cov_N - KL/(ln N - 1 + 1/N), largest"),
        ("Hellinger", "tree", "Cov_N - 2N/(sqrt N - 1)^2 D_H^2, largest"),
        ("converse", "heavy tail", "KL - C (1 + ln(ln W/C)), largest"),
        ("stopped KL", "switch", "Cov_N - 2/(ln N - 1) D_seq,N, largest"),
        ("Hellinger along", "rare prompts", "P[sum_h D_H,h^2 >= ln(sqrt N/delta)] - delta - Cov_N, largest"),
        ("transitivity", "triples", "Cov_N(T||hat) - M Cov_N/M(D||hat) - Cov_M(T||D), largest"),
        ("answers", "chains", "Cov^ans_cN - c/(c - 1) Cov_N, largest"),
    ],
)
def test_a_bound_that_is_too_small_is_noticed(
    inequality: str, family: str, noticed: str, measured: Measurements
) -> None:
    each = measured.sides[inequality, family]
    shrunk = measured.sides | {(inequality, family): Sides(each.left, each.right / 1e8)}
    assert noticed in failed(dataclasses.replace(measured, sides=shrunk))


@pytest.mark.parametrize(
    ("key", "power", "noticed"),
    [
        (("rare prompts", "Cov"), 0.5, "rare prompts: exponent of Cov_N in H, from above"),
        (
            ("switch", "lower bound"),
            -2,
            "switch: lower bound (Hellinger along) over Cov_N at the longest H, least",
        ),
        (("switch", "bound by KL"), -0.5, "switch: exponent of bound by KL in H, from below"),
        (("switch", "bound by stopped KL"), 0.5, "switch: exponent of bound by stopped KL in H, from above"),
        (
            ("rare prompts", "bound by stopped KL"),
            3,
            "rare prompts: bound by stopped KL at the longest H, largest",
        ),
    ],
)
def test_a_wrong_growth_is_noticed(
    key: tuple[str, str], power: float, noticed: str, measured: Measurements
) -> None:
    sizes = np.array(measured.settings.sizes[key[0]], float)
    grown = measured.growth | {key: measured.growth[key] * (sizes / sizes[0]) ** power}
    assert noticed in failed(dataclasses.replace(measured, growth=grown))


def test_a_loose_pair_is_noticed(measured: Measurements) -> None:
    loose = dataclasses.replace(measured, tight={key: 1.01 * each for key, each in measured.tight.items()})
    assert {name.split(":")[0] for name in failed(loose) - failed(measured)} == {"transitivity", "answers"}


def test_the_counterexample_is_the_papers_statement_failing() -> None:
    assert checks.counterexample() == pytest.approx(0.4)


def test_the_report_has_its_figures_and_tables(measured: Measurements) -> None:
    assert [drawing.name for drawing in figures.drawings(measured)] == ["horizon", "slack", "tight"]
    for _, columns, rows in figures.tables(measured):
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    assert all(text.endswith(".") for text in checks.notes(measured))


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_span_a_factor_of_16_with_fresh_seeds(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    settings = read(Settings, compose_config("coverage_bounds", f"scale={scale}"))
    for name, sizes in settings.sizes.items():
        assert len(sizes) >= 5, name
        assert sizes[-1] >= 16 * sizes[0], name
    assert settings.draws >= 32
    assert settings.seed not in range(900, 960), "settings were chosen on these"
