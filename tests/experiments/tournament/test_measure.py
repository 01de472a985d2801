"""The tournament claim: which checks notice what on a small study, its scales, its report."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from oracles.reports import assert_whole

from covlab.claims.claim import Study
from covlab.report.verdict import Verdict
from experiments.tournament import checks, figures
from experiments.tournament.measure import Measurements, Settings, measure, worst_pairs
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


@pytest.mark.slow
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
        "rare prompts, |Pi| = 16: exponent of the tournament's regret in n, from below",
        "rare prompts: min-KL's regret less 10 times the tournament's, largest n",
        "aligned: n times what the tournament loses to min-KL, largest over n",
        "rogue: exponent of the offset tournament's regret in n, from above",
        "rogue: n times the offset tournament's regret, largest over n",
        "rogue: n times what sampling the offset term costs, largest over n",
        "guarantee, the paper's constants: share of sets beyond it, largest over cells",
        "guarantee: right-hand side, rare prompts, a = 1/4, largest n",
        "guarantee: share of sets beyond it, largest over cells",
        "guarantee of the offset tournament: share of sets beyond it, largest over cells",
    } <= passed


@pytest.mark.long
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
    names = ["rates", "guarantee", "families", "curve"]
    assert_whole(figures.drawings(results), names, figures.tables(results), checks.notes(results))


def test_every_guarantee_of_the_tiny_command_holds(tiny_claim: Callable[[str], Path]) -> None:
    verdict = Verdict.read(tiny_claim("tournament") / "verdict.json")
    guarantees = [check for check in verdict.checks if check.name.startswith("guarantee")]
    assert guarantees
    for check in guarantees:
        assert check.passed, check
