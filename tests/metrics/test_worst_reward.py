"""The worst reward of Best-of-N against all sets of responses, all tuples of draws, and closed forms."""

import itertools
import math

import numpy as np
import pytest
from oracles.best_of_n import loss_of, reward_of_best, worst_set_loss

from metrics import (
    coverage_profile,
    hockey_stick_divergence,
    log_density_ratio,
    samples_needed,
    threshold_loss,
    worst_loss,
)

NS = (1, 2, 3, 7, 40)


def random_pair(seed: int, size: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """pi_T and pi_hat with zeros on either side, equal ratios, and mass of pi_hat on responses left out."""
    rng = np.random.default_rng(seed)
    target, model = rng.dirichlet(np.full(size, 0.5)), rng.dirichlet(np.full(size + 1, 0.5))[:-1]
    target[rng.random(size) < 0.15] = 0.0
    model[rng.random(size) < 0.15] = 0.0
    target /= target.sum()
    model[:2] = target[:2] / 8  # a tie
    return target, model / max(model.sum(), 1.0)


@pytest.mark.parametrize("seed", range(40))
def test_thresholds_of_the_ratio_beat_all_sets(seed: int) -> None:
    target, model = random_pair(seed)
    found = worst_loss(target, model, NS)
    expected = [worst_set_loss(target.tolist(), model.tolist(), n) for n in NS]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_no_reward_between_0_and_1_does_worse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, model = random_pair(seed, size=4)
    for n in (1, 2, 3):
        for reward in rng.random((5, 4)):
            loss = float(target @ reward) - reward_of_best(model.tolist(), reward.tolist(), n)
            assert loss <= worst_loss(target, model, (n,))[0] + 1e-12
        indicator = rng.integers(0, 2, 4)
        chosen = np.flatnonzero(indicator).tolist()
        by_tuples = float(target @ indicator) - reward_of_best(model.tolist(), indicator.tolist(), n)
        assert by_tuples == pytest.approx(loss_of(target.tolist(), model.tolist(), chosen, n), abs=1e-12)


def test_a_batch_is_prompt_by_prompt_and_the_formula_keeps_its_precision() -> None:
    pairs = [random_pair(seed) for seed in range(6)]
    targets, models = (np.array(part).reshape(2, 3, 7) for part in zip(*pairs, strict=True))
    for function in (worst_loss, threshold_loss, hockey_stick_divergence):
        batch = function(targets, models, NS)
        assert batch.shape == (2, 3, len(NS))
        for row, (target, model) in zip(batch.reshape(6, -1), pairs, strict=True):
            np.testing.assert_array_equal(row, function(target, model, NS))
    tiny = worst_loss(np.array([1e-12]), np.array([1e-20]), (1000,))[0]
    assert tiny == pytest.approx(1e-12 * (1 - 1e-5), rel=1e-9)


def test_constant_ratio_in_closed_form() -> None:
    # pi_T on responses that pi_hat has M times less: the loss is (1 - 1/M)^N, reward everything.
    target = np.array([0.2, 0.3, 0.5])
    for m in (1, 2, 10, 64):
        expected = [(1 - 1 / m) ** n for n in NS]
        np.testing.assert_allclose(worst_loss(target, target / m, NS), expected, atol=1e-12)
    for m, loss in itertools.product((2, 10, 64), (0.3, 0.01)):
        assert samples_needed(target, target / m, loss) == math.ceil(math.log(loss) / math.log1p(-1 / m))
    assert samples_needed(target, target, 0.1) == 1
    assert samples_needed(np.array([1.0]), np.array([0.0]), 0.5, at_most=64) is None
    assert samples_needed(np.array([0.5, 0.5]), np.array([0.5, 0.0]), 0.5) == 1


@pytest.mark.parametrize("seed", range(20))
def test_samples_needed_is_the_first(seed: int) -> None:
    target, model = random_pair(seed)
    losses = worst_loss(target, model, range(1, 200))
    assert (np.diff(losses) <= 1e-15).all()
    level = float(losses[-1] + losses[0]) / 2
    assert samples_needed(target, model, level) == 1 + int(np.flatnonzero(losses <= level)[0])


@pytest.mark.parametrize("seed", range(40))
def test_thresholds_are_between_coverage_and_the_worst(seed: int) -> None:
    target, model = random_pair(seed)
    with np.errstate(divide="ignore"):
        ratio = log_density_ratio(np.log(target), np.log(model))
    worst = worst_loss(target, model, NS)
    stick = hockey_stick_divergence(target, model, NS)
    assert (stick <= worst + 1e-12).all()
    for factor in (1.1, 2, 8):
        covered = coverage_profile(ratio, [factor * n for n in NS], target, tolerance=1e-9)
        loss = threshold_loss(target, model, NS, factor, tolerance=1e-9)
        assert (loss >= (1 - 1 / factor) * covered - 1e-8).all()
        assert (loss <= worst + 1e-12).all()
        assert (stick >= (1 - 1 / factor) * covered - 1e-8).all()
    for n, found in zip(NS, stick, strict=True):
        assert found == pytest.approx(sum(max(t - n * h, 0) for t, h in zip(target, model, strict=True)))


def test_the_papers_witness_in_closed_form() -> None:
    # pi_T = Ber(p) against Ber(p/2N): Cov_2N = p, and the reward of y = 1 loses p - 1 + (1 - p/2N)^N.
    for n, p in itertools.product((2, 4, 16), (0.3, 1e-4)):
        target, model = np.array([p, 1 - p]), np.array([p / (2 * n), 1 - p / (2 * n)])
        loss = threshold_loss(target, model, (n,), tolerance=1e-9)[0]
        assert loss == pytest.approx(p - 1 + (1 - p / (2 * n)) ** n, abs=1e-14)
        assert p / 2 <= loss <= p / 2 * (1 + p)
        assert threshold_loss(target, model, (2 * n,), tolerance=1e-9)[0] == 0


@pytest.mark.parametrize(
    ("target", "model", "ns", "message"),
    [
        ([0.5, 0.6], [0.5, 0.5], (1,), "target: not a law"),
        ([1 + 1.2e-9], [1.0], (1,), "target: not a law"),
        ([[0.5, 0.5], [0.5, 0.6]], [[0.5, 0.5]] * 2, (1,), "target: not a law"),
        ([0.5, 0.5], [-0.1, 0.5], (1,), "model: not a law"),
        ([0.5, np.nan], [0.1, 0.5], (1,), "target: not a law"),
        ([0.5, 0.5], [0.5], (1,), r"model: shape \(1,\); valid: that of target"),
        ([], [], (1,), r"target: shape \(0,\)"),
        ([1.0], [1.0], (1.5,), "ns: contains 1.5"),
        ([1.0], [1.0], (0,), "ns: 0 is not a number >= 1"),
    ],
)
def test_bad_input_is_one_line(target: list, model: list, ns: tuple, message: str) -> None:
    for function in (worst_loss, threshold_loss, hockey_stick_divergence):
        with pytest.raises(ValueError, match=f"^{message}"):
            function(np.array(target), np.array(model), ns)


def test_a_law_may_exceed_one_by_rounding() -> None:
    # Its probabilities may be 0.
    target, model = np.array([1 + 0.8e-9, 0.0]), np.array([1.0, 0.0])
    assert worst_loss(target, model, (1,)) == pytest.approx(0, abs=1e-8)


def test_bad_levels_are_refused() -> None:
    one = np.ones(1)
    for loss in (0, 1):
        with pytest.raises(ValueError, match=rf"^loss: {loss}; valid"):
            samples_needed(one, one, loss)
    with pytest.raises(ValueError, match=r"^factor: 0; valid"):
        threshold_loss(one, one, (1,), 0)
    with pytest.raises(ValueError, match=r"^tolerance: -1 is not a number >= 0"):
        threshold_loss(one, one, (1,), 2, -1)


def test_a_factor_below_1_rewards_what_the_model_has_enough_of() -> None:
    """pi_T = pi_hat = (1/2, 1/2) and N = 1: both responses have ratio 1 >= 1/2, and one draw always hits."""
    half = np.array([0.5, 0.5])
    assert threshold_loss(half, half, (1,), factor=0.5)[0] == pytest.approx(0, abs=1e-15)
    # From factor 1 on with N = 2 none is rewarded, with 1/2 both are, and two draws still always hit.
    assert threshold_loss(half, half, (2,), factor=0.5)[0] == pytest.approx(0, abs=1e-15)
    with pytest.raises(ValueError, match="factor: 0; valid: a positive number"):
        threshold_loss(half, half, (1,), factor=0)
