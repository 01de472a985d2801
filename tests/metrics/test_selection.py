import math

import numpy as np
import pytest

from metrics.coverage import coverage_profile
from metrics.pass_rates import pass_at_n
from metrics.selection import (
    TIE_BREAKS,
    last,
    min_cross_entropy,
    min_kl,
    offset_tournament,
    oracle_coverage,
    oracle_pass_at_n,
    select_lowest,
    simple_tournament,
    tournament_matrix,
)


def plain_ratio_reaches(challenger: float, chosen: float, threshold: float) -> bool:
    if challenger == chosen == -math.inf:
        return threshold <= 0
    return challenger - chosen >= threshold


def plain_matrix(log_probs: np.ndarray, n: float, weights: np.ndarray, tolerance: float) -> list[list[float]]:
    size, threshold = len(log_probs), math.log(n) - tolerance
    return [
        [
            0.0
            if i == j
            else sum(
                w
                for w, p, q in zip(weights, log_probs[j], log_probs[i], strict=True)
                if plain_ratio_reaches(p, q, threshold)
            )
            / sum(weights)
            for j in range(size)
        ]
        for i in range(size)
    ]


def random_log_probs(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    log_probs = -rng.exponential(3.0, size=shape)
    log_probs[rng.random(shape) < 0.1] = -np.inf
    return log_probs


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [1, 2, 5.7])
def test_matrix_rows_are_the_chosen_and_columns_the_challengers(seed: int, n: float) -> None:
    log_probs, weights = random_log_probs(seed, (5, 17)), np.random.default_rng(seed).random(17)
    matrix = tournament_matrix(log_probs, n, weights)
    np.testing.assert_allclose(matrix, plain_matrix(log_probs, n, weights, 1e-5), atol=1e-12)
    selection = simple_tournament(log_probs, n, weights, tie_break="earliest")
    worst = [max(row) for row in matrix.tolist()]
    assert selection.scores.tolist() == pytest.approx(worst)
    assert selection.index == worst.index(min(worst))


def test_a_weight_of_two_is_an_example_twice() -> None:
    log_probs = random_log_probs(3, (4, 9))
    doubled = np.concatenate([log_probs, log_probs[:, :3]], axis=1)
    weights = np.repeat([2.0, 1.0], [3, 6])
    np.testing.assert_allclose(tournament_matrix(log_probs, 3, weights), tournament_matrix(doubled, 3))


def test_equality_counts_up_to_the_tolerance() -> None:
    log_probs = np.array([[-3.0], [-3.0 + math.log(4) - 5e-6]])
    assert tournament_matrix(log_probs, 4).tolist() == [[0, 1], [0, 0]]
    assert tournament_matrix(log_probs, 4, tolerance=1e-6).tolist() == [[0, 0], [0, 0]]


def test_a_checkpoint_does_not_challenge_itself_not_even_at_one() -> None:
    log_probs = np.array([[-1.0, -1.0], [-2.0, -2.0]])
    assert simple_tournament(log_probs, 1).scores.tolist() == [0, 1]
    assert simple_tournament(log_probs[:1], 1).scores.tolist() == [0]


def test_two_impossibilities_are_no_victory_and_one_is() -> None:
    log_probs = np.array([[-np.inf, -np.inf], [-np.inf, -700.0]])
    assert tournament_matrix(log_probs, 1e6).tolist() == [[0, 0.5], [0, 0]]
    selection = simple_tournament(log_probs, 1e6)
    assert (selection.index, selection.tied) == (1, (1,))


def test_every_tie_break_takes_what_it_says() -> None:
    # Checkpoint 0 is beaten by a ratio e^3 on the second example; 1 to 4 tie at 0.
    log_probs = np.array([[-1.0, -5.0], [-1.2, -2.2], [-1.3, -2.0], [-1.1, -2.1], [-1.4, -2.4]])
    chosen = {rule: simple_tournament(log_probs, 4, tie_break=rule) for rule in TIE_BREAKS}
    assert {s.tied for s in chosen.values()} == {(1, 2, 3, 4)}
    assert {rule: s.index for rule, s in chosen.items()} == {
        "min_cross_entropy": 3,
        "earliest": 1,
        "latest": 4,
        "middle": 2,
    }
    weighted = simple_tournament(log_probs, 4, np.array([0.1, 0.9]))
    assert weighted.index == 2


def test_tie_tolerance_and_its_edge_cases() -> None:
    scores = np.array([0.3, 0.1 + 5e-13, 0.1, 0.1 + 5e-12])
    assert select_lowest("rule", scores).tied == (1, 2)
    assert select_lowest("rule", scores, tie_tolerance=0.0).tied == (2,)
    assert select_lowest("rule", scores, tie_tolerance=1.0, tie_break="middle").index == 1
    assert select_lowest("rule", np.array([np.inf, np.inf]), "latest").index == 1
    tied = select_lowest("rule", np.zeros(3), "min_cross_entropy", cross_entropies=np.array([2.0, 1.0, 1.0]))
    assert tied.index == 1


def test_select_lowest_refuses() -> None:
    with pytest.raises(ValueError, match=r"^tie_break: 'first'; valid: one of min_cross_entropy, earliest"):
        select_lowest("rule", np.zeros(2), "first")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^cross_entropies: None"):
        select_lowest("rule", np.zeros(2), "min_cross_entropy")
    with pytest.raises(ValueError, match=r"^cross_entropies: shape \(3,\)"):
        select_lowest("rule", np.zeros(2), "min_cross_entropy", cross_entropies=np.zeros(3))
    for scores in (np.array([]), np.array([0.0, np.nan]), np.zeros((2, 2))):
        with pytest.raises(ValueError, match=r"^scores"):
            select_lowest("rule", scores)
    with pytest.raises(ValueError, match=r"^tolerance: -1"):
        select_lowest("rule", np.zeros(2), tie_tolerance=-1)


@pytest.mark.parametrize(
    ("log_probs", "field"),
    [
        ([0.0, -1.0], "log_probs: shape"),
        ([[]], "log_probs: shape"),
        ([[0.0, math.nan]], "log_probs: contains NaN"),
        ([[0.0, 3.5]], "log_probs: contains 3.5; valid: log-probabilities <= 0 "),
    ],
)
def test_log_probs_are_checked(log_probs: list[list[float]], field: str) -> None:
    for rule in (min_cross_entropy, lambda p: simple_tournament(p, 2)):
        with pytest.raises(ValueError, match=f"^{field}"):
            rule(np.array(log_probs))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n", "a"), [(1, 0.0), (2, 0.0), (4, 0.25), (64, 0.25)])
def test_offset_tournament_equals_plain_loops(seed: int, n: float, a: float) -> None:
    log_probs, weights = random_log_probs(seed, (4, 6)), np.random.default_rng(seed).random(6)
    samples = random_log_probs(seed + 100, (4, 4, 6, 5))
    for i in range(4):
        samples[i, i] = np.where(np.isneginf(samples[i, i]), -9.0, samples[i, i])
    threshold = math.log(n) - 1e-5
    held_out, scores = plain_matrix(log_probs, n, weights, 1e-5), []
    for i in range(4):
        gaps = [0.0]
        for j in set(range(4)) - {i}:
            own = 0.0
            for k, w in enumerate(weights):
                hits = [
                    plain_ratio_reaches(p, q, threshold)
                    for p, q in zip(samples[i, j, k], samples[i, i, k], strict=True)
                ]
                own += w * sum(hits) / 5 / sum(weights)
            gaps.append(held_out[i][j] - 2 * n**a * own)
        scores.append(max(gaps))
    selection = offset_tournament(log_probs, samples, n, a, weights)
    assert selection.scores.tolist() == pytest.approx(scores, abs=1e-12)
    assert selection.index in selection.tied
    assert bool(selection.note) == (n ** (1 - 2 * a) < 8)


def test_offset_forgives_a_challenger_that_the_chosen_itself_would_lose_to() -> None:
    log_probs = np.array([[-3.0], [-0.1]])
    lost = np.full((2, 2, 1, 1), -3.0)
    assert offset_tournament(log_probs, lost, 4, 0).scores.tolist() == [1, 0]
    won = lost.copy()
    won[0, 1] = -0.1
    assert offset_tournament(log_probs, won, 4, 0).scores.tolist() == [0, 0]
    assert "N^(1-2a) = 4 at N = 4, a = 0" in offset_tournament(log_probs, lost, 4, 0).note
    assert "N^(1-2a) = 7.9 at" in offset_tournament(log_probs, lost, 7.9, 0).note
    assert offset_tournament(log_probs, lost, 8, 0).note == ""


def test_offset_tournament_refuses() -> None:
    log_probs, samples = np.full((2, 3), -1.0), np.full((2, 2, 3, 4), -1.0)
    with pytest.raises(
        ValueError, match=r"^sample_log_probs: shape \(2, 2, 2, 4\); valid: \(2, 2, 3, 'samples'\)"
    ):
        offset_tournament(log_probs, samples[:, :, :2], 2, 0)
    with pytest.raises(ValueError, match=r"^sample_log_probs: shape .*4 axes"):
        offset_tournament(log_probs, samples[0], 2, 0)
    with pytest.raises(ValueError, match=r"^a: -0.1"):
        offset_tournament(log_probs, samples, 2, -0.1)
    impossible = samples.copy()
    impossible[1, 1, 0, 0] = -np.inf
    with pytest.raises(
        ValueError, match=r"^sample_log_probs: -inf for a sample of checkpoint 1 under itself"
    ):
        offset_tournament(log_probs, impossible, 2, 0)


def test_baseline_rules_score_what_they_are_named_after() -> None:
    rng = np.random.default_rng(0)
    log_probs, log_pi, weights = (
        -rng.exponential(2, size=(6, 30)),
        -rng.exponential(1, size=30),
        rng.random(30),
    )
    ratios = log_pi - log_probs
    share = weights / weights.sum()
    entropy = min_cross_entropy(log_probs, weights)
    np.testing.assert_allclose(entropy.scores, -(log_probs @ share))
    np.testing.assert_allclose(min_kl(ratios, weights).scores, ratios @ share)
    assert min_kl(ratios, weights).index == entropy.index == int(np.argmax(log_probs @ share))
    covered = oracle_coverage(ratios, 3, weights)
    np.testing.assert_allclose(covered.scores, coverage_profile(ratios, (3,), weights)[:, 0])
    passed = oracle_pass_at_n(log_probs, 4, weights)
    np.testing.assert_allclose(passed.scores, 1 - pass_at_n(log_probs, (4,))[..., 0] @ share)
    assert passed.index == int(np.argmin(passed.scores))
    names = [s.rule for s in (entropy, min_kl(ratios), covered, passed, last(6))]
    assert names == ["min_cross_entropy", "min_kl", "oracle_coverage", "oracle_pass_at_n", "last"]


def test_last_is_the_last() -> None:
    assert (last(4).index, last(4).tied, last(4).scores.tolist()) == (3, (3,), [3, 2, 1, 0])
    with pytest.raises(ValueError, match=r"^num_checkpoints: 0"):
        last(0)
