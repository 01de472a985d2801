"""The perturbation claim: its scales, what it refuses, which checks notice what, a whole tiny run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from decoding import Decoded
from experiments import vgb_perturbation as claim
from metrics import Interval
from theory.vgb.laws import ChainSettings, Goodness, Sampled, laws_of
from theory.vgb.typed_trees import perturbation_tree

NAMES = ("action level", "first leaf", "fixed steps")
FINE = dict(zip(NAMES, (Goodness(0.5, 1e-9), Goodness(0.5, 0.5), Goodness(0.5, 0.5)), strict=True))


def sampled(queries: int = 5) -> Sampled:
    ones = np.ones((1, 4), int)
    return Sampled(
        Decoded(ones[..., None], ones > 0, ones, ones, queries * ones), Interval(queries, 1.0, 9.0)
    )


@functools.cache
def measured() -> claim.Measurements:
    chain = ChainSettings(steps=8, longest=12, delta=0.002, seeds=(1, 2, 3), leaves=16)
    settings = claim.Settings((4, 8, 16), (0.1, 0.2, 1.0), chain, 3, 0.5, 64)
    laws = {
        (h, eps): laws_of(perturbation_tree(h, eps), 1 + eps, chain)
        for h in settings.horizons
        for eps in settings.epsilons
    }
    return claim.Measurements(settings, laws, FINE, {name: sampled() for name in NAMES})


def failed(found: claim.Measurements) -> set[str]:
    return {check.name for check in claim.checks(found) if not check.passed}


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
        (
            lambda laws: {"action_level": 0.02},
            "action level: slope of ln TV in ln H, least eps, from below",
        ),
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
    found = measured()
    laws = {key: dataclasses.replace(each, **change(each)) for key, each in found.laws.items()}
    assert noticed in failed(dataclasses.replace(found, laws=laws))


def test_a_decoder_with_another_law_and_a_test_without_power_are_noticed() -> None:
    wrong = FINE | {"fixed steps": Goodness(1e-5, 0.5), "action level": Goodness(0.5, 0.5)}
    assert failed(dataclasses.replace(measured(), goodness=wrong)) - BASE == {
        "decoder, fixed steps: p-value against its exact law",
        "decoder, action level: p-value against pi* (the test's power)",
    }


def test_report_has_its_figures_and_tables() -> None:
    found = measured()
    assert [drawing.name for drawing in claim.drawings(found)] == ["horizon", "epsilon", "mixing"]
    for _, columns, rows in claim.tables(found):
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    assert all(text.endswith(".") for text in claim.notes(found))


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_span_a_factor_of_16_with_fresh_seeds(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    settings = claim.settings(compose_config("vgb_perturbation", f"scale={scale}"))
    assert len(settings.horizons) >= 5
    assert settings.horizons[-1] >= 16 * settings.horizons[0]
    assert settings.epsilons[-1] >= 16 * settings.epsilons[0]
    assert not {900, 901, 902, 999} & set(settings.chain.seeds), "settings were chosen on these"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["horizons=[4,8]"], "horizons: [4, 8]; valid: at least 3 different integers >= 3"),
        (["horizons=[4,8,300]"], "task.length: 300 is too long"),
        (["epsilons=[0.1]"], "epsilons: [0.1]; valid: at least 2 different positive numbers"),
        (["epsilons=[0.1,0]"], "epsilons: 0 is not a number strictly between 0 and 10"),
        (["epsilons=0.1"], "epsilons: 0.1; valid"),
        (["steps=0"], "steps: 0 is not an integer >= 1"),
        (["longest=4"], "longest: 4 is not an integer >= 8"),
        (["delta=1"], "delta: 1 is not a number strictly between 0 and 1"),
        (["seeds=1"], "seeds: 1 is not an integer >= 2"),
        (["sampled_horizon=9"], "sampled_horizon: 9; valid: 2 to 8"),
        (["chains=8"], "chains: 8 is not an integer >= 32"),
    ],
)
def test_bad_input_is_one_line(overrides: list[str], message: str, refuses: Callable[..., None]) -> None:
    refuses(claim.settings, "vgb_perturbation", overrides, message)


def test_bad_input_ends_the_command_before_anything_is_written(
    call: Callable[..., Any], tmp_path: Path
) -> None:
    ended = call(claim.main, "leaves=few")
    assert (ended.status, ended.err) == (2, "error: leaves: 'few' is not an integer >= 8\n")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_command_ends_in_a_verdict_and_a_report(run_claim: Callable[..., Any]) -> None:
    tiny = [
        "horizons=[3,4,6]",
        "epsilons=[0.1,0.2,1.0]",
        "seeds=2",
        "leaves=8",
        "chains=256",
        "sampled_horizon=4",
    ]
    tiny += ["sampled_epsilon=1.0"]
    verdict, path = run_claim("vgb_perturbation", *tiny)
    report = (path / "report.html").read_text()
    assert report.count("<figure") == 3
    for check in verdict.checks:
        if check.name.startswith("decoder"):
            assert check.passed, check
