"""The verdict of Figure 1: its checks on curves whose answer is known, and the whole command on a tiny
run."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from covlab.claims.selection import RunMatrices, run_tables
from covlab.claims.shortcut import (
    COVERAGE_NS,
    PASS_NS,
    TURN_NS,
    FineTuning,
    Tournament,
    coverage_of_halves,
    picks,
    turn,
)
from covlab.report.verdict import Verdict
from experiments.figure1.checks import checks, notes
from metrics import Interval
from tracking import read_config


def class_blind_matrices(paths: np.ndarray, per_class: int = 50) -> RunMatrices:
    """The matrices of seeds whose model puts mass p on the majority's path and 1 - p on the minority's."""
    groups = np.repeat([0, 1], per_class)
    weights = np.where(groups == 0, 0.9, 0.1) / per_class
    log_probs = np.where(groups == 0, np.log(paths)[..., None], np.log1p(-paths)[..., None])
    return RunMatrices(
        phase="finetune",
        steps=tuple(range(paths.shape[1])),
        seeds=tuple(range(paths.shape[0])),
        diverged=(),
        log_probs=log_probs,
        log_pi=np.zeros(groups.size),
        weights=weights,
        groups=groups,
        log_prob_correct=log_probs,
        prompt_weights=weights,
    )


def measured(paths: np.ndarray, auc: float = 0.5) -> FineTuning:
    matrices = class_blind_matrices(paths)
    tables = run_tables(matrices, COVERAGE_NS, pass_ns=PASS_NS)

    passes = matrices.pass_at_n(PASS_NS)
    assert passes is not None
    return FineTuning(
        tournament=Tournament(2.0, "min_cross_entropy"),
        matrices=matrices,
        kl=matrices.kl(),
        cov=matrices.coverage(COVERAGE_NS),
        halves={n: coverage_of_halves(matrices, n) for n in TURN_NS},
        passes=passes,
        tables=tables,
        chosen=picks(tables, "simple_tournament", 2.0, "min_cross_entropy"),
        lowest=picks(tables, "min_kl"),
        blindness={seed: Interval(auc, auc - 0.01, auc + 0.01) for seed in matrices.seeds},
        log_odds={},
        bound_excess=0.0,
    )


def ideal(seeds: int = 3, end: float = 0.88) -> np.ndarray:
    # A start on both paths with a little less than its half, then along the class-blind curve.
    rng = np.random.default_rng(0)
    return np.linspace(0.45, end, 60) + rng.uniform(-1e-3, 1e-3, (seeds, 1))


def failing(found: FineTuning) -> list[str]:
    return [check.name for check in checks(found) if not check.passed]


def test_checks_pass_where_the_shortcut_is_learned() -> None:
    # From (0.17, 0.17) on the two paths, as a pre-trained model has with mixed paths, to the class-blind
    # optimum.
    found = measured(ideal())
    start = np.log([0.17, 0.17, 0.17])
    log_probs = found.matrices.log_probs.copy()
    log_probs[:, 0] = start[:, None]
    matrices = dataclasses.replace(found.matrices, log_probs=log_probs, log_prob_correct=log_probs)
    passes = matrices.pass_at_n(PASS_NS)
    assert passes is not None
    found = dataclasses.replace(
        found,
        matrices=matrices,
        kl=matrices.kl(),
        cov=matrices.coverage(COVERAGE_NS),
        halves={n: coverage_of_halves(matrices, n) for n in TURN_NS},
        passes=passes,
    )
    assert failing(found) == []


def test_checks_fail_without_a_shortcut() -> None:
    # A model that stops half way never loses the minority: coverage does not degrade and nothing is gained by
    # selecting.
    names = failing(measured(ideal(end=0.6)))
    assert "Cov_4: at the end" in names
    assert "Pass@8: tournament's choice over min-KL's" in names
    assert "Pass@8 of the min-KL checkpoint" in names


def test_the_turning_point_of_a_seed_is_chosen_by_the_other_seeds_on_the_other_half() -> None:
    # On the first half seeds 0 and 1 are lowest at 1, seed 2 at 2; on the second half all are at 3.
    first = np.array([[0.5, 0.1, 0.2, 0.3, 0.4], [0.7, 0.2, 0.3, 0.4, 0.6], [0.9, 0.8, 0.0, 0.7, 0.8]])
    second = np.array([[0.5, 0.5, 0.4, 0.2, 0.5], [0.6, 0.6, 0.5, 0.1, 0.3], [0.7, 0.6, 0.6, 0.2, 0.9]])
    found = turn(np.stack([first, second]))
    # Others' sums on the first half: [1.6, 1.0, .3, ...], [1.4, .9, .2, ...] and [1.2, .3, .5, ...].
    np.testing.assert_array_equal(found.place, [[3, 3, 3], [2, 2, 1]])
    np.testing.assert_allclose(found.fall, [(0.2 + 0.1) / 2, (0.3 + 0.1) / 2, (0.2 + 0.1) / 2])
    np.testing.assert_allclose(found.rise, [(0.1 + 0.1) / 2, (0.2 - 0.2) / 2, (0.1 + 0.3) / 2], atol=1e-12)


def test_curves_that_only_fluctuate_neither_fall_nor_rise() -> None:
    # Noise of a seed's training, the same on both halves, and noise of the prompts, the same for all seeds:
    # a seed's own minimum would lie about 2.3 below the start.
    rng = np.random.default_rng(0)
    shape = (4000, 1, 4, 40)
    halves = rng.normal(size=shape) + rng.normal(size=(4000, 2, 1, 40))
    found = [turn(one) for one in halves]
    for change in ("fall", "rise"):
        values = np.array([getattr(each, change).mean() for each in found])
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))


def test_halves_have_alternating_prompts_of_each_class() -> None:
    matrices = class_blind_matrices(np.full((2, 3), 0.6), per_class=4)
    log_probs = matrices.log_probs.copy()
    # Prompts 0, 2 of the first class (first half) and 1 of the second class (second half) are uncovered.
    log_probs[:, 1, [0, 2, 5]] = np.log(0.1)
    found = coverage_of_halves(dataclasses.replace(matrices, log_probs=log_probs), 4)
    np.testing.assert_allclose(found[0], [[0, 0.9, 0]] * 2)
    np.testing.assert_allclose(found[1], [[0, 0.05, 0]] * 2)


def test_notes_say_what_the_whole_interval_misses() -> None:
    text = notes(measured(ideal(end=0.6)))
    assert text[0].startswith("Not met by the whole 95 % interval over the seeds: ")
    assert "Cov_4: at the end" in text[0]
    assert "below the class-blind closed form on average" in text[1]


def test_the_only_run_lies_in_the_claims_directory(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("figure1")
    verdict = Verdict.read(path / "verdict.json")
    assert (verdict.holds, verdict.seeds) == (False, (0, 1))
    assert "seeds=2" in verdict.command
    assert (path / "report.html").read_text().count("<figure") == 5
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert {record["phase"] for record in records} == {"pretrain", "finetune"}
    # Runs of earlier versions hold the settings of the claim in config.yaml, and are continued.
    assert read_config(path)["tournament"] == {"n": 2, "tie_break": "min_cross_entropy"}
