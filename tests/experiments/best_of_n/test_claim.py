"""The claim about Best-of-N: its instances in closed form and by enumeration, what its checks notice."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from oracles.best_of_n import loss_of, worst_set_loss
from oracles.reports import assert_whole

from covlab.claims.claim import Study
from experiments.best_of_n import checks, figures
from experiments.best_of_n.instances import Instance, random_instance, ratio_instance, tail_instance
from experiments.best_of_n.measure import Measurements, Settings, compare, enough, measure, of_tail
from theory.coverage_laws import Sides
from tracking import Progress


@pytest.fixture(scope="module")
def measured(tiny_settings: Callable[[str], Settings]) -> Measurements:
    return measure(tiny_settings("best_of_n"), Study({}, Progress(), Path()))


@pytest.mark.parametrize("seed", range(6))
def test_both_sides_are_their_sums_over_all_sets(seed: int, tiny_settings: Callable[[str], Settings]) -> None:
    instance = random_instance(np.random.default_rng(seed), 5, 3)
    laws = list(zip(instance.prompts, instance.target.tolist(), instance.model.tolist(), strict=True))
    cells = [(mu * t, t, h) for mu, target, model in laws for t, h in zip(target, model, strict=True)]

    def covered(m: float) -> float:
        return sum(mass for mass, t, h in cells if t >= m * h * (1 - 1e-9))

    def worst(n: int) -> float:
        return sum(mu * worst_set_loss(target, model, n) for mu, target, model in laws)

    found = compare(instance, tiny_settings("best_of_n"))
    grid = [(m, epsilon) for m in (2, 8) for epsilon in (0.01, 0.1)]
    for factor, name in ((2, "sufficient"), (1, "sufficient, half as many")):
        ns = [math.ceil(factor * m * math.log(1 / epsilon)) for m, epsilon in grid]
        np.testing.assert_allclose(found[name][0], [worst(n) for n in ns], atol=1e-12)
        np.testing.assert_allclose(found[name][1], [covered(m) + epsilon for m, epsilon in grid], atol=1e-12)
    np.testing.assert_allclose(found["necessary"][0], [covered(2 * n) / 2 for n in (2, 16)], atol=1e-12)
    witness = [
        sum(
            mu
            * loss_of(target, model, [y for y in range(5) if target[y] >= 2 * n * model[y] * (1 - 1e-9)], n)
            for mu, target, model in laws
        )
        for n in (2, 16)
    ]
    np.testing.assert_allclose(found["necessary"][1], witness, atol=1e-12)
    np.testing.assert_allclose(found["witness"], [witness, [worst(2), worst(16)]], atol=1e-12)


def test_logits_of_random_models_are_off_by_three_tenths_to_four_normals() -> None:
    instance = random_instance(np.random.default_rng(0), 4000, 200)
    with np.errstate(divide="ignore"):
        off = np.log(instance.model / instance.target)
    missed = np.isinf(off)
    assert set(missed.sum(axis=1)) == {0, 1}
    spread = np.array([np.std(row[~gone]) for row, gone in zip(off, missed, strict=True)])
    assert 0.28 < spread.min() < 0.33
    assert 3.6 < spread.max() < 4.2
    # Uniform in the logarithm.
    assert np.median(spread) == pytest.approx(math.sqrt(0.3 * 4), rel=0.3)


def test_the_tail_is_a_power_law_and_its_worst_loss_tends_to_a_share_of_coverage() -> None:
    for alpha in (0.5, 1.0):
        instance = tail_instance(np.random.default_rng(0), alpha, 4000)
        assert instance.target.sum() == pytest.approx(1)
        assert instance.model.sum() <= 1
        covered = instance.coverage((64.0, 1024.0))
        assert math.log(covered[0] / covered[1]) / math.log(16) == pytest.approx(alpha, abs=0.01)
        stick = instance.hockey_stick((64,))[0]
        assert stick / covered[0] == pytest.approx(1 / (1 + alpha), rel=0.01)
        found = of_tail(instance, 64)
        assert found["necessary"] <= found["worst"] <= found["sufficient"] < 1
        # The guarantee at one M of the 200 that it takes the least over.
        assert found["sufficient"] <= instance.coverage((8.0,))[0] + math.exp(-4) + 0.01


def test_ratios_stay_below_m_but_for_the_missed_response() -> None:
    for seed in range(10):
        instance = ratio_instance(np.random.default_rng(seed), 16)
        missed = instance.target[0, -1]
        assert instance.target.sum() == pytest.approx(1)
        assert instance.model.sum() <= 1
        assert instance.coverage((16.0,))[0] == pytest.approx(missed)
        assert instance.coverage((4.0,))[0] > 0.5


def test_a_prompt_of_weight_0_does_not_count() -> None:
    both = Instance(np.array([[1.0], [1.0]]), np.array([[0.1], [0.0]]), np.array([1.0, 0.0]))
    assert both.worst((1,))[0] == pytest.approx(0.9)
    assert both.coverage((11.0,))[0] == 0


def test_enough_rounds_up() -> None:
    assert (enough(4, 0.1, 2), enough(4, math.exp(-1), 1)) == (19, 4)


def failed(found: Measurements) -> set[str]:
    return {check.name for check in checks.checks(found) if not check.passed}


def of_theorems(names: set[str]) -> set[str]:
    return {name for name in names if "largest" in name or "least" in name}


def test_what_is_a_theorem_holds_on_a_tiny_sample(measured: Measurements) -> None:
    assert of_theorems(failed(measured)) == set()


def test_a_failure_beyond_the_papers_condition_counts_for_the_derived_one_only(
    measured: Measurements,
) -> None:
    family = "one prompt"
    each, allowed = measured.sides["sufficient", family], measured.allowed[family]
    assert not allowed.all()
    left = np.where(allowed, each.left, each.right + 0.01)
    sides = measured.sides | {("sufficient", family): Sides(left, each.right)}
    noticed = failed(dataclasses.replace(measured, sides=sides)) - failed(measured)
    assert noticed == {"the same where Cov_M > 1/2 (derived), largest"}


def test_the_report_has_its_figures_and_tables(measured: Measurements) -> None:
    names = ["budget", "samples", "slack"]
    assert_whole(figures.drawings(measured), names, figures.tables(measured), checks.notes(measured))
