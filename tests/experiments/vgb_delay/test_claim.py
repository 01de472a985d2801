"""The delay claim: its scales, what it refuses, which checks notice which failure, a whole tiny run."""

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
from experiments import vgb_delay as claim
from experiments.vgb_delay import measure as measuring
from metrics import mean_interval
from theory.vgb.laws import ChainSettings, Goodness, Sampled, expected_queries, laws_of
from theory.vgb.typed_trees import action_level_moves as moves_of
from theory.vgb.typed_trees import delay_tree, first_leaf_steps, leaf_probability, parity_tree

NAMES = ("action level", "first leaf", "fixed steps")
FINE = dict(zip(NAMES, (Goodness(0.5, 1e-9), Goodness(0.5, 0.5), Goodness(0.5, 0.5)), strict=True))


def sampled(queries: np.ndarray, reward: float = 1.0) -> Sampled:
    shape = (1, len(queries))
    ones = np.ones(shape, int)
    decoded = Decoded(ones[..., None], ones > 0, np.full(shape, reward), queries[None], ones)
    return Sampled(decoded, mean_interval(queries.astype(float)))


@functools.cache
def measured() -> measuring.Measurements:
    chain = ChainSettings(steps=8, longest=12, delta=0.002, seeds=(1, 2, 3), leaves=16)
    settings = measuring.Settings((4, 8, 16), 1.0, 2, chain, 3, 64, 64)
    spread = np.linspace(0.9, 1.1, 64)
    parity = []
    for h in settings.horizons:
        tree = parity_tree(h, 2)
        success = leaf_probability(moves_of(tree))
        cost = expected_queries(moves_of(tree), 2) / success
        walk = sampled(np.round(1.5 * h**2 * spread).astype(int))
        parity.append(measuring.ParityCost(h, success, cost, first_leaf_steps(tree), walk))
    return measuring.Measurements(
        settings=settings,
        laws=tuple(laws_of(delay_tree(h, 1.0), measuring.error_of(1.0), chain) for h in settings.horizons),
        parity=tuple(parity),
        goodness=FINE,
        sampled={name: sampled(np.arange(4)) for name in NAMES},
        **measuring._of_counts(settings),
    )


def failed(found: measuring.Measurements) -> set[str]:
    return {check.name for check in claim.checks(found) if not check.passed}


BASE = {
    "delay, action level: TV at the longest H",
    "delay, VGB, first leaf: TV at the longest H over TV at a quarter of it",
    "parity: queries of VGB (upper end) over the action level's, longest H",
}
"""Checks that are made for horizons longer than 16."""


def test_the_checks_pass_on_what_theory_says() -> None:
    assert failed(measured()) == BASE


def change(found: measuring.Measurements, **fields: Callable[[Any], Any]) -> measuring.Measurements:
    laws = [
        dataclasses.replace(each, **{name: new(each) for name, new in fields.items()}) for each in found.laws
    ]
    return dataclasses.replace(found, laws=tuple(laws))


@pytest.mark.parametrize(
    ("changed", "noticed"),
    [
        (
            lambda found: change(found, chain=lambda each: each.chain + 0.004 * each.depth),
            "VGB: largest TV over H",
        ),
        (
            lambda found: change(found, chain=lambda each: each.chain + 0.004 * each.depth),
            "VGB: slope of TV in ln H",
        ),
        (
            lambda found: change(found, divergence=lambda each: each.divergence + 0.1),
            "VGB: loss of regularised reward, largest over H",
        ),
        (
            lambda found: change(found, mixing_steps=lambda each: each.mixing_steps * each.depth),
            "VGB: exponent of H in the steps to mix",
        ),
        (
            lambda found: change(found, leaf_probability=lambda each: each.leaf_probability / each.depth),
            "VGB: leaf mass * 8 (1 + eps) H, least",
        ),
        (
            lambda found: dataclasses.replace(found, blind=found.blind + 1e-6),
            "action level: largest |P(bit = 1) - 1/2| before the last bit",
        ),
        (
            lambda found: dataclasses.replace(found, divergence=found.divergence / 2),
            "action level: loss of regularised reward, least over H",
        ),
        (
            lambda found: dataclasses.replace(found, mean=found.mean | {"VGB": found.mean["VGB"] - 0.01}),
            "VGB: largest |E mean(y) - that of pi*| over H",
        ),
    ],
)
def test_a_failure_on_delay_is_noticed(changed: Any, noticed: str) -> None:
    assert f"delay, {noticed}" in failed(changed(measured()))


@pytest.mark.parametrize(
    ("fields", "noticed"),
    [
        (
            {"action_level": lambda cost: 10.0 * cost.depth},
            "action level: slope of ln queries until reward 1 in",
        ),
        ({"steps": lambda cost: 2.0**cost.depth}, "VGB: exponent of H in the steps until reward 1"),
        (
            {"backtracking": lambda cost: sampled(np.full(64, cost.depth**3))},
            "VGB: exponent of H in the queries until reward 1",
        ),
        (
            {"backtracking": lambda cost: sampled(np.full(64, cost.depth**2), reward=0.5)},
            "VGB: share of responses with reward 1, least",
        ),
    ],
)
def test_a_failure_on_parity_is_noticed(fields: Any, noticed: str) -> None:
    found = measured()
    parity = [
        dataclasses.replace(each, **{name: new(each) for name, new in fields.items()})
        for each in found.parity
    ]
    wrong = failed(dataclasses.replace(found, parity=tuple(parity)))
    assert any(name.startswith(f"parity, {noticed}") for name in wrong), wrong


def test_the_laws_of_the_counts_are_laws_and_vgbs_is_the_targets() -> None:
    found = measured()
    for law in found.counts.values():
        assert law.sum() == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(found.counts["VGB"], found.counts["pi*"], atol=1e-3)
    assert np.abs(found.counts["action level"] - found.counts["pi*"]).sum() > 0.5
    assert found.mean["pi*"] == pytest.approx(np.e / (1 + np.e))


def test_report_has_its_figures_and_tables() -> None:
    found = measured()
    names = [drawing.name for drawing in claim.drawings(found)]
    assert names == ["horizon", "counts", "mixing", "parity"]
    for _, columns, rows in claim.tables(found):
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    assert all(text.endswith(".") for text in claim.notes(found))


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_span_a_factor_of_16_with_fresh_seeds(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    settings = claim.settings(compose_config("vgb_delay", f"scale={scale}"))
    assert len(settings.horizons) >= 5
    assert settings.horizons[-1] >= 16 * settings.horizons[0]
    assert not {900, 901, 902, 999} & set(settings.chain.seeds), "settings were chosen on these"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["horizons=[4,8]"], "horizons: [4, 8]; valid: at least 3 different integers >= 4"),
        (["horizons=[4,8,96]"], "task.tilt: 1.0 times task.length 96 exceeds 80"),
        (["tilt=0"], "tilt: 0 is not a number strictly between 0 and 5"),
        (["block=3"], "block: 3; valid: a divisor of all horizons [4, 8, 16, 32, 64]"),
        (["block=1"], "block: 1 is not an integer >= 2"),
        (["sampled_horizon=12"], "sampled_horizon: 12; valid: 2 to 10"),
        (["parity_chains=1"], "parity_chains: 1 is not an integer >= 32"),
        (["seed=-1"], "seed: -1 is not an integer from 0 to 2147483647"),
    ],
)
def test_bad_input_is_one_line(overrides: list[str], message: str, refuses: Callable[..., None]) -> None:
    refuses(claim.settings, "vgb_delay", overrides, message)


def test_bad_input_ends_the_command_before_anything_is_written(
    call: Callable[..., Any], tmp_path: Path
) -> None:
    ended = call(claim.main, "leaves=few")
    assert (ended.status, ended.err) == (2, "error: leaves: 'few' is not an integer >= 8\n")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_command_ends_in_a_verdict_and_a_report(run_claim: Callable[..., Any]) -> None:
    tiny = ["horizons=[4,6,8]", "block=2", "seeds=2", "leaves=8", "chains=256", "sampled_horizon=4"]
    tiny += ["parity_chains=64"]
    verdict, path = run_claim("vgb_delay", *tiny)
    report = (path / "report.html").read_text()
    assert report.count("<figure") == 4
    for check in verdict.checks:
        if check.name.startswith("decoder") or "reward 1, least" in check.name:
            assert check.passed, check
