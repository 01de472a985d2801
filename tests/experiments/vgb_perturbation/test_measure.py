"""Exact laws of the perturbation claim: the checks that notice a failure, a tiny run, the scales."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from covlab.claims.settings import read
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


@pytest.mark.parametrize(
    ("change", "noticed"),
    [
        (lambda laws: {"chain": laws.chain + 0.004 * laws.depth}, "VGB: largest TV over all H and eps"),
        (lambda laws: {"chain": laws.chain + 0.004 * laws.depth}, "VGB: slope of TV in ln H, largest eps"),
        (lambda laws: {"chain": laws.chain + 0.02 * laws.error}, "VGB: slope of TV in ln eps, longest H"),
        (lambda laws: {"action_level": 0.02}, "action level: slope of ln TV in ln H, least eps, from below"),
        (
            lambda laws: {"mixing_steps": laws.mixing_steps * laws.depth},
            "VGB: exponent of H in the steps to mix, largest over eps",
        ),
        (
            lambda laws: {"mixing_steps": laws.mixing_steps * np.nan},
            "VGB: steps to mix / H^2 (1 + eps)^4 ln(1/delta), largest",
        ),
        (lambda laws: {"leaf_mass": laws.leaf_mass / laws.depth}, "VGB: leaf mass * 8 (1 + eps) H, least"),
    ],
)
def test_a_failure_is_noticed(change: Any, noticed: str) -> None:
    results = measured()
    laws = {key: dataclasses.replace(each, **change(each)) for key, each in results.laws.items()}
    assert noticed in failed(dataclasses.replace(results, laws=laws))


def test_a_decoder_with_another_law_and_a_test_without_power_are_noticed() -> None:
    wrong = FINE | {"fixed steps": Goodness(1e-5, 0.5), "action level": Goodness(0.5, 0.5)}
    assert failed(dataclasses.replace(measured(), goodness=wrong)) - BASE == {
        "decoder, fixed steps: p-value against its exact law",
        "decoder, action level: p-value against pi* (the test's power)",
    }


def test_report_has_its_figures_and_tables() -> None:
    results = measured()
    assert [drawing.name for drawing in figures.drawings(results)] == ["horizon", "epsilon", "mixing"]
    for _, columns, rows in figures.tables(results):
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    assert all(text.endswith(".") for text in checks.notes(results))


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_span_a_factor_of_16_with_fresh_seeds(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    settings = read(Settings, compose_config("vgb_perturbation", f"scale={scale}"))
    assert len(settings.horizons) >= 5
    assert settings.horizons[-1] >= 16 * settings.horizons[0]
    assert settings.epsilons[-1] >= 16 * settings.epsilons[0]
    assert not {900, 901, 902, 999} & set(settings.chain.seeds), "settings were chosen on these"


def test_decoders_agree_with_their_laws(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("vgb_perturbation")
    assert (path / "report.html").read_text().count("<figure") == 3
    checked = [
        check for check in Verdict.read(path / "verdict.json").checks if check.name.startswith("decoder")
    ]
    assert len(checked) == 4
    assert all(check.passed for check in checked), checked
