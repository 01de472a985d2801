"""The tournament claim: which checks notice what on a small study, its scales, its report."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from covlab.claims.claim import Study
from covlab.claims.settings import read
from covlab.report.verdict import Verdict
from experiments.tournament import checks, figures
from experiments.tournament.attempts import MIN_KL, OFFSET, OFFSET_EXACT, SIMPLE, Outcome
from experiments.tournament.measure import Cell, Measurements, Settings, measure, worst_pairs
from tracking import Progress

EXAMPLES = (64, 256, 1024, 4096)


@functools.cache
def measured() -> Measurements:
    """A small study; not all of its checks pass, since intervals over eight seeds are wide."""
    settings = Settings(
        seed=700,
        seeds=8,
        examples=EXAMPLES,
        sets=12,
        ns=(4, 64, 256),
        sizes=(6, 8, 16),
        samples=2,
        a=(0.25,),
        pair_examples=(1, 256, 4096),
        pair_members=8,
    )
    return measure(settings, Study({}, Progress(), Path()))


def failed(results: Measurements) -> set[str]:
    return {check.name for check in checks.checks(results) if not check.passed}


def changed(family: str, change: Callable[[Outcome], Outcome]) -> Measurements:
    """The study with all outcomes of a family changed."""
    results = measured()
    cells = {
        key: Cell(tuple(change(each) for each in cell.outcomes)) if key[0] == family else cell
        for key, cell in results.cells.items()
    }
    return dataclasses.replace(results, cells=cells)


def with_loss(
    rule: str, what: str, change: Callable[[np.ndarray], np.ndarray]
) -> Callable[[Outcome], Outcome]:
    def apply(outcome: Outcome) -> Outcome:
        if rule not in outcome.losses:
            return outcome
        losses = outcome.losses[rule]
        new = losses._replace(**{what: change(getattr(losses, what))})
        return outcome._replace(losses=outcome.losses | {rule: new})

    return apply


def test_what_a_small_study_already_shows() -> None:
    passed = {check.name for check in checks.checks(measured()) if check.passed}
    assert {
        "pair: share of held-out sets at which the MLE is pi_2, least over n and alpha",
        "pair: exponent of min-KL's regret in n, alpha = 1, from below",
        "pair: tournament's regret less its exact value, standard errors, largest over n",
        "rare prompts, |Pi| = 16: exponent of the tournament's regret in n, from above",
        "checkpoints: Pass@N of the tournament's choice less min-KL's, largest n",
        "rogue: share of instances at which the offset tournament's premise holds",
        "rogue: N times the simple tournament's regret, largest n",
        "guarantee: share of sets beyond it, largest over cells",
        "guarantee of the offset tournament: share of sets beyond it, largest over cells",
    } <= passed


def flat(values: np.ndarray) -> np.ndarray:
    return np.full_like(values, 0.01)


def in_guarantees(what: str, more: float) -> Callable[[Outcome], Outcome]:
    def apply(outcome: Outcome) -> Outcome:
        new = {
            a: each._replace(**{what: getattr(each, what) + more}) for a, each in outcome.guarantees.items()
        }
        return outcome._replace(guarantees=new)

    return apply


def in_offset(outcome: Outcome) -> Outcome:
    return outcome._replace(offset=outcome.offset._replace(violated=outcome.offset.violated + 0.1))


RATE = 1.0 / np.array(EXAMPLES)
RARE = "rare prompts, |Pi| = 16: exponent of the tournament's regret in n, from"


@pytest.mark.parametrize(
    ("family", "change", "noticed"),
    [
        ("rare_prompts", with_loss(SIMPLE, "regret", flat), f"{RARE} above"),
        ("rare_prompts", with_loss(SIMPLE, "regret", lambda x: RATE**2), f"{RARE} below"),
        (
            "rare_prompts",
            with_loss(SIMPLE, "regret", lambda x: x + 0.01),
            "rare prompts: min-KL's regret less 10 times the tournament's, largest n",
        ),
        (
            "aligned",
            with_loss(SIMPLE, "regret", lambda x: x + 0.1),
            "aligned: n times what the tournament loses to min-KL, largest over n",
        ),
        (
            "checkpoints",
            with_loss(MIN_KL, "pass_regret", lambda x: 0 * x),
            "checkpoints: Pass@N of the tournament's choice less min-KL's, largest n",
        ),
        (
            "rogue",
            with_loss(SIMPLE, "regret", lambda x: 0 * x),
            "rogue: N times the simple tournament's regret, largest n",
        ),
        (
            "rogue",
            with_loss(OFFSET_EXACT, "regret", flat),
            "rogue: exponent of the offset tournament's regret in n, from above",
        ),
        (
            "rogue",
            with_loss(OFFSET_EXACT, "regret", flat),
            "rogue: n times the offset tournament's regret, largest over n",
        ),
        (
            "rogue",
            with_loss(OFFSET, "regret", flat),
            "rogue: n times what sampling the offset term costs, largest over n",
        ),
        (
            "rogue",
            lambda each: each._replace(premise=False),
            "rogue: share of instances at which the offset tournament's premise holds",
        ),
        (
            "rogue",
            in_offset,
            "guarantee of the offset tournament: share of sets beyond it, largest over cells",
        ),
        (
            "logistic",
            in_guarantees("violated", 0.06),
            "guarantee: share of sets beyond it, largest over cells",
        ),
        (
            "logistic",
            in_guarantees("paper_violated", 0.06),
            "guarantee, the paper's constants: share of sets beyond it, largest over cells",
        ),
        (
            "rare_prompts",
            in_guarantees("bound", 1.0),
            "guarantee: right-hand side, rare prompts, a = 1/4, largest n",
        ),
    ],
)
def test_a_failure_is_noticed(family: str, change: Callable[[Outcome], Outcome], noticed: str) -> None:
    assert noticed not in failed(measured())
    assert noticed in failed(changed(family, change))


def test_a_min_kl_that_finds_coverage_is_noticed() -> None:
    name = "rare prompts: exponent of min-KL's regret in n, from below"
    assert name not in failed(changed("rare_prompts", with_loss(MIN_KL, "regret", flat)))
    assert name in failed(changed("rare_prompts", with_loss(MIN_KL, "regret", lambda x: RATE)))


@pytest.mark.parametrize(
    ("rule", "what", "noticed"),
    [
        (MIN_KL, "wrong", "pair: share of held-out sets at which the MLE is pi_2, least over n and alpha"),
        (MIN_KL, "regret", "pair: exponent of min-KL's regret in n, alpha = 1, from below"),
        (SIMPLE, "regret", "pair: tournament's regret less its exact value, standard errors, largest over n"),
    ],
)
def test_a_failure_of_the_pair_is_noticed(rule: str, what: str, noticed: str) -> None:
    results = measured()
    assert noticed not in failed(results)
    values = getattr(results.pair, what)
    wrong = {"wrong": values[rule] * 0.2, "regret": values[rule] / np.sqrt(results.settings.pair_examples)}[
        what
    ]
    pair = results.pair._replace(**{what: values | {rule: wrong}})
    assert noticed in failed(dataclasses.replace(results, pair=pair))


def test_a_regret_that_few_seeds_have_gives_no_exponent() -> None:
    values = np.zeros((32, 3))
    values[:5] = 1.0
    fitted = checks.slope(measured(), values, (1, 2, 4))
    assert np.isnan([fitted.estimate, fitted.low, fitted.high]).all()


def test_expected_regret_of_the_worst_pair_is_about_one_over_e_n() -> None:
    places, members, expected = worst_pairs(measured())
    assert places == [1, 2]
    for n, member, value in zip((256, 4096), members, expected, strict=True):
        assert value == pytest.approx(1 / (np.e * n), rel=0.1)
        assert 0.5 < n * measured().pair.missed[member] < 2


def test_report_has_its_figures_and_tables() -> None:
    results = measured()
    assert [each.name for each in figures.drawings(results)] == ["rates", "guarantee", "families", "curve"]
    for _, columns, rows in figures.tables(results):
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    assert all(text.endswith(".") for text in checks.notes(results))


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_span_a_factor_of_16_with_fresh_seeds(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    settings = read(Settings, compose_config("tournament", f"scale={scale}"))
    assert settings.seeds >= 32
    assert len(settings.examples) >= 5
    assert settings.examples[-1] >= 16 * settings.examples[0]
    assert len(settings.sizes) >= 3
    fitted = [n for n in settings.pair_examples if n >= 16 * settings.pair_m]
    assert len(fitted) >= 5
    assert fitted[-1] >= 16 * fitted[0]
    assert not set(range(900, 912)) & set(settings.all_seeds), "settings were chosen on these"


def test_every_guarantee_of_the_tiny_command_holds(tiny_claim: Callable[[str], Path]) -> None:
    verdict = Verdict.read(tiny_claim("tournament") / "verdict.json")
    guarantees = [check for check in verdict.checks if check.name.startswith("guarantee")]
    assert guarantees
    for check in guarantees:
        assert check.passed, check
