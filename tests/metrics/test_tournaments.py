"""Many held-out sets at once against the rules for one set, example by example."""

import math

import numpy as np
import pytest

from metrics import TIE_BREAKS, offset_tournament, select_lowest, simple_tournament, tournament_matrix
from metrics.tournaments import challenges, offset_gaps, own_matrices, select_many, tournament_matrices

MODELS, OUTCOMES, N = 4, 6, 3.0


def laws(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = np.exp(2 * rng.standard_normal((MODELS, OUTCOMES)))
    weights[1, 2] = weights[2, 2] = 0.0
    with np.errstate(divide="ignore"):
        return np.log(weights / weights.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(5))
def test_simple_tournament_is_that_of_one_set(seed: int) -> None:
    log_probs = laws(seed)
    counts = np.random.default_rng([seed, 1]).integers(0, 4, (7, OUTCOMES))
    counts[:, 2] = 0
    shares = counts / counts.sum(axis=1, keepdims=True)
    matrices = tournament_matrices(challenges(log_probs, N), shares)
    seen = np.isfinite(log_probs).all(axis=0)
    entropies = -shares[:, seen] @ log_probs[:, seen].T
    for tie_break in TIE_BREAKS:
        chosen = select_many(matrices.max(axis=2), tie_break, entropies)
        for row, count in enumerate(counts):
            examples = np.repeat(log_probs, count, axis=1)
            np.testing.assert_allclose(matrices[row], tournament_matrix(examples, N), atol=1e-12)
            assert chosen[row] == simple_tournament(examples, N, tie_break=tie_break).index


@pytest.mark.parametrize("seed", range(3))
def test_offset_tournament_is_that_of_one_set(seed: int) -> None:
    """One prompt: every example's samples are drawn from the same law."""
    log_probs = laws(seed)
    rng = np.random.default_rng([seed, 2])
    data = np.where(np.isfinite(log_probs).all(axis=0), 1.0, 0.0)
    drawn = rng.choice(OUTCOMES, size=9, p=data / data.sum())
    samples = np.stack([rng.choice(OUTCOMES, size=(9, 5), p=np.exp(law)) for law in log_probs])
    of_samples = np.stack([[each[samples[k]] for each in log_probs] for k in range(MODELS)])
    shares = np.bincount(drawn, minlength=OUTCOMES)[None] / 9
    own = np.stack([np.bincount(each.ravel(), minlength=OUTCOMES) for each in samples])[None] / 45
    challenged = challenges(log_probs, N)
    gaps = offset_gaps(tournament_matrices(challenged, shares), own_matrices(challenged, own), N, 0.25)
    expected = offset_tournament(log_probs[:, drawn], of_samples, N, 0.25)
    np.testing.assert_allclose(gaps.max(axis=2)[0], expected.scores, atol=1e-12)


def test_own_matrices_of_the_laws_are_the_mean_over_samples() -> None:
    log_probs = laws(0)
    challenged = challenges(log_probs, N)
    exact = own_matrices(challenged, np.exp(log_probs)[None])[0]
    for k in range(MODELS):
        for j in range(MODELS):
            reached = [
                i != 2 and k != j and log_probs[j, i] - log_probs[k, i] >= math.log(N)
                for i in range(OUTCOMES)
            ]
            reached[2] = bool(
                k in (0, 3) and j in (0, 3) and k != j and log_probs[j, 2] - log_probs[k, 2] >= math.log(N)
            )
            assert exact[k, j] == pytest.approx(sum(np.exp(log_probs[k])[reached]))


@pytest.mark.parametrize("tie_break", TIE_BREAKS)
def test_choices_are_those_of_one_score_at_a_time(tie_break: str) -> None:
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 3, (200, 7)) / 7.0
    order = rng.integers(0, 4, (200, 7)).astype(float)
    chosen = select_many(scores, tie_break, order)  # type: ignore[arg-type]
    for row in range(200):
        expected = select_lowest("any", scores[row], tie_break, cross_entropies=order[row])  # type: ignore[arg-type]
        assert chosen[row] == expected.index


def test_an_infinite_cross_entropy_still_gives_a_tied_one() -> None:
    chosen = select_many(np.array([[1.0, 0.0, 0.0]]), "min_cross_entropy", np.full((1, 3), np.inf))
    assert chosen.tolist() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.array([[0.0, math.nan]])}, "scores: shape"),
        ({"tie_break": "first"}, "tie_break: 'first'; valid"),
        ({"cross_entropies": np.zeros((1, 2))}, "cross_entropies: shape"),
    ],
)
def test_bad_scores_are_one_line(change: dict, message: str) -> None:
    good = {"scores": np.zeros((1, 1)), "tie_break": "latest", "cross_entropies": np.zeros((1, 1))}
    with pytest.raises(ValueError, match=f"^{message}"):
        select_many(**(good | change))


def test_bad_log_probs_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"^log_probs: shape"):
        challenges(np.zeros(3), 2.0)
    with pytest.raises(ValueError, match=r"^ns: 0.5 is not a number >= 1"):
        challenges(np.zeros((2, 2)), 0.5)
