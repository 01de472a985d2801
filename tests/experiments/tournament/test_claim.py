"""The tournament claim: its scales, what it refuses, which checks notice what, a whole small run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from experiments import tournament as claim
from experiments.tournament import checks as tournament_checks
from experiments.tournament import figures as tournament_figures
from experiments.tournament import measure as tournament_study
from experiments.tournament import tables as tournament_tables
from experiments.tournament.attempts import MIN_KL, OFFSET, OFFSET_EXACT, SIMPLE, Design, Outcome
from experiments.tournament.measure import Cell, Settings, Study, study
from tracking import Progress

EXAMPLES = (64, 256, 1024, 4096)


@functools.cache
def measured() -> Study:
    """A small study; not all of its checks pass, since intervals over eight seeds are wide."""
    design = Design(EXAMPLES, 12, 2, (0.25,), 0.25, 0.05)
    settings = Settings(tuple(range(700, 708)), (4, 64, 256), (6, 8, 16), 16, design, 16, (1, 256, 4096), 8)
    return study(settings, Progress())


def failed(found: Study) -> set[str]:
    return {check.name for check in tournament_checks.checks(found) if not check.passed}


def changed(family: str, change: Callable[[Outcome], Outcome]) -> Study:
    """The study with all outcomes of a family changed."""
    found = measured()
    cells = {
        key: Cell(tuple(change(each) for each in cell.outcomes)) if key[0] == family else cell
        for key, cell in found.cells.items()
    }
    return dataclasses.replace(found, cells=cells)


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
    passed = {check.name for check in tournament_checks.checks(measured()) if check.passed}
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
    found = measured()
    assert noticed not in failed(found)
    values = getattr(found.pair, what)
    wrong = {"wrong": values[rule] * 0.2, "regret": values[rule] / np.sqrt(found.settings.pair_examples)}[
        what
    ]
    pair = found.pair._replace(**{what: values | {rule: wrong}})
    assert noticed in failed(dataclasses.replace(found, pair=pair))


def test_a_regret_that_few_seeds_have_gives_no_exponent() -> None:
    values = np.zeros((32, 3))
    values[:5] = 1.0
    fitted = tournament_checks.slope(measured(), values, (1, 2, 4))
    assert np.isnan([fitted.estimate, fitted.low, fitted.high]).all()


def test_expected_regret_of_the_worst_pair_is_about_one_over_e_n() -> None:
    places, members, expected = tournament_study.worst_pairs(measured())
    assert places == [1, 2]
    for n, member, value in zip((256, 4096), members, expected, strict=True):
        assert value == pytest.approx(1 / (np.e * n), rel=0.1)
        assert 0.5 < n * measured().pair.missed[member] < 2


def test_report_has_its_figures_and_tables() -> None:
    found = measured()
    assert [each.name for each in tournament_figures.drawings(found)] == [
        "rates",
        "guarantee",
        "families",
        "curve",
    ]
    for _, columns, rows in tournament_tables.tables(found):
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    assert all(text.endswith(".") for text in tournament_checks.notes(found))


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_span_a_factor_of_16_with_fresh_seeds(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    chosen = claim.settings(compose_config("tournament", f"scale={scale}"))
    assert len(chosen.seeds) >= 32
    assert len(chosen.design.examples) >= 5
    assert chosen.design.examples[-1] >= 16 * chosen.design.examples[0]
    assert len(chosen.sizes) >= 3
    fitted = [n for n in chosen.pair_examples if n >= 16 * chosen.pair_m]
    assert len(fitted) >= 5
    assert fitted[-1] >= 16 * fitted[0]
    assert not set(range(900, 912)) & set(chosen.seeds), "settings were chosen on these"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sizes=[3,4,5]"], "sizes: [3, 4, 5]; valid: at least 3 different integers >= 4"),
        (["reference=5"], "reference: 5; valid: one of sizes, [4, 16, 64]"),
        (["ns=[4,16,64]"], "ns: [4, 16, 64]; valid: with [256], at which families are judged"),
        (["a=[0.5]"], "a: [0.5]; valid: different numbers from 0 to below 1, 0.25 among them"),
        (["a=[0.25,1.5]"], "a: 1.5 is not a number strictly between 0 and 1"),
        (["offset_a=0.5"], "offset_a: 0.5 is not a number strictly between 0 and 0.5"),
        (["delta=0"], "delta: 0 is not a number strictly between 0 and 1"),
        (["examples=[64,256]"], "examples: [64, 256]; valid: at least 3 different integers >= 1"),
        (["sets=0"], "sets: 0 is not an integer >= 1"),
        (["samples=0"], "samples: 0 is not an integer >= 1"),
        (["seeds=1"], "seeds: 1 is not an integer >= 2"),
        (["pair_m=2"], "pair_m: 2 is not an integer >= 3"),
        (["pair_examples=[1,256]"], "pair_examples: [1, 256]; valid: at least 2 of them >= 16 M = 256"),
        (["pair_members=1"], "pair_members: 1 is not an integer >= 2"),
    ],
)
def test_bad_input_is_one_line(overrides: list[str], message: str, refuses: Callable[..., None]) -> None:
    refuses(claim.settings, "tournament", overrides, message)


def test_bad_input_ends_the_command_before_anything_is_written(
    call: Callable[..., Any], tmp_path: Path
) -> None:
    ended = call(claim.main, "sets=many")
    assert (ended.status, ended.err) == (2, "error: sets: 'many' is not an integer >= 1\n")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_command_ends_in_a_verdict_and_a_report(run_claim: Callable[..., Any]) -> None:
    tiny = ["seed=700", "seeds=8", "sets=8", "samples=2", "sizes=[4,8,16]", "ns=[4,64,256]", "a=[0.25]"]
    tiny += ["examples=[64,256,1024]", "pair_examples=[1,256,1024]"]
    verdict, path = run_claim("tournament", *tiny)
    assert (path / "report.html").read_text().count("<figure") == 4
    for check in verdict.checks:
        if check.name.startswith("guarantee"):
            assert check.passed, check
