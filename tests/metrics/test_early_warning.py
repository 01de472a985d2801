"""Statistics of an early warning: known answers, plain oracles, and inputs that must not matter."""

import math

import numpy as np
import pytest

from metrics import coverage_profile, early_warning, tournament_matrix

# Class-blind models: nine prompts of the majority, one of the minority, whose response has 1 - p.
ONES = np.ones(10)


def class_blind(*masses: float) -> np.ndarray:
    return np.array([[math.log(p)] * 9 + [math.log(1 - p)] for p in masses])


def every() -> tuple[early_warning.Statistic, ...]:
    return early_warning.candidates((2, 4), (0.9, 0.99), (0.1,))


def random_log_probs(seed: int, checkpoints: int = 5, examples: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return -rng.exponential(2.0, (checkpoints, examples)), rng.uniform(0.1, 1.0, examples)


def lower(before: np.ndarray, now: np.ndarray, weights: np.ndarray) -> bool:
    """Cross-entropy is lower now, by more than two paired standard errors."""
    total = math.fsum(weights)
    gains = [(w / total, b - a) for w, a, b in zip(weights, before, now, strict=True)]
    mean = math.fsum(w * gain for w, gain in gains)
    return mean > 2 * math.sqrt(math.fsum((w * (gain - mean)) ** 2 for w, gain in gains))


def test_class_blind_models_from_even_to_the_majority() -> None:
    even, sharp = class_blind(0.5, 0.9)
    known = {
        ("tournament", 2.0): 0.1,  # the minority's response falls from .5 to .1
        ("tournament", 4.0): 0.1,
        ("net_tournament", 2.0): 0.1,  # the majority's gains by 1.8 < 2
        ("net_tournament", 1.5): 0.1 - 0.9,
        ("envelope_tournament", 4.0): 0.1,
        ("envelope_tournament", 1.5): 0.1 - 0.9,
        ("nll_tail_rise", 4.0): 0.1,
        ("ratio_quantile", 0.95): math.log(5),
        ("ratio_quantile", 0.9): math.log(0.5 / 0.9),
        ("ratio_tail_mean", 0.1): math.log(5),
        ("ratio_tail_mean", 0.2): (math.log(5) + math.log(0.5 / 0.9)) / 2,
        ("nll_quantile_rise", 0.95): math.log(5),
        ("nll_spread_rise", None): math.log(9) * 0.3,  # sd of two values with weights .9 and .1
        ("ratio_spread", None): math.log(9) * 0.3,
        (early_warning.BASELINE, None): -0.9 * math.log(0.9) - 0.1 * math.log(0.1) - math.log(2),
    }
    for (kind, parameter), value in known.items():
        found = early_warning.Statistic(kind, parameter).compare(even[None], sharp, ONES)
        np.testing.assert_allclose(found, [value], atol=1e-12, err_msg=f"{kind} {parameter}")
    assert {kind for kind, _ in known} == set(early_warning.KINDS)


@pytest.mark.parametrize("statistic", every(), ids=str)
def test_only_earlier_checkpoints_of_higher_cross_entropy_count(statistic: early_warning.Statistic) -> None:
    log_probs, weights = random_log_probs(0)
    # Of the last checkpoint half of the examples are much better: it has improved, others may have by chance.
    log_probs[-1, ::2] /= 50
    counts = [len([s for s in range(t) if lower(log_probs[s], log_probs[t], weights)]) for t in range(5)]
    assert counts[-1] == 4
    assert sum(counts) < 10
    for t in range(len(log_probs)):
        found = statistic.strongest(log_probs[:t], log_probs[t], weights)
        allowed = [
            s
            for s in range(t)
            if statistic.kind == early_warning.BASELINE or lower(log_probs[s], log_probs[t], weights)
        ]
        alone = {s: statistic.compare(log_probs[s : s + 1], log_probs[t], weights)[0] for s in allowed}
        # envelope_tournament looks at every earlier checkpoint at once.
        if statistic.kind == "envelope_tournament":
            values = statistic.compare(log_probs[:t], log_probs[t], weights) if t else []
            alone = {s: values[s] for s in allowed}
        if not alone:
            assert (found.value, found.earlier) == (-math.inf, -1)
        else:
            assert found.value == pytest.approx(max(alone.values()))
            assert found.earlier in alone
            assert alone[found.earlier] == pytest.approx(found.value)


@pytest.mark.parametrize("statistic", every(), ids=str)
def test_weights_are_multiplicities(statistic: early_warning.Statistic) -> None:
    log_probs, _ = random_log_probs(1)
    times = np.random.default_rng(2).integers(1, 4, log_probs.shape[1])
    repeated = np.repeat(log_probs, times, axis=1)
    # Not `strongest_values`: copies of an example are no further evidence that cross-entropy has improved.
    np.testing.assert_allclose(
        statistic.compare(log_probs[:-1], log_probs[-1], times.astype(float)),
        statistic.compare(repeated[:-1], repeated[-1], np.ones(repeated.shape[1])),
        atol=1e-9,
    )


@pytest.mark.parametrize("statistic", every(), ids=str)
def test_equal_checkpoints_raise_nothing(statistic: early_warning.Statistic) -> None:
    log_probs, weights = random_log_probs(3)
    same = np.repeat(log_probs[:1], 3, axis=0)
    values = early_warning.strongest_values(statistic, same, weights)
    assert (values[1:] == (0 if statistic.kind == early_warning.BASELINE else -math.inf)).all()


def test_the_tournament_is_a_row_of_the_selection_rules_matrix() -> None:
    log_probs, weights = random_log_probs(4)
    matrix = tournament_matrix(log_probs, 3, weights)
    own = early_warning.Statistic("tournament", 3).compare(log_probs[:-1], log_probs[-1], weights)
    np.testing.assert_allclose(own, matrix[-1, :-1])


def test_tail_of_the_likelihood_and_envelope_are_coverage_where_they_should_be() -> None:
    log_probs, weights = random_log_probs(5)
    # Deterministic pi_D: X = -ln pi_hat.
    profile = coverage_profile(-log_probs, (4,), weights)[:, 0]
    tail = early_warning.Statistic("nll_tail_rise", 4).compare(log_probs[:-1], log_probs[-1], weights)
    np.testing.assert_allclose(tail, profile[-1] - profile[:-1], atol=1e-12)
    # A checkpoint that is pi_D itself and above all others is the envelope.
    best = np.zeros(log_probs.shape[1])
    envelope = early_warning.Statistic("envelope_tournament", 4).compare(
        np.concatenate([best[None], log_probs[:-1]]), log_probs[-1], weights
    )
    np.testing.assert_allclose(envelope[1:], profile[-1] - profile[:-1], atol=1e-12)


def test_quantiles_and_tail_means_against_plain_python() -> None:
    values, weights = random_log_probs(6)
    for level in (0.05, 0.5, 0.9, 0.99, 1.0):
        for row, found in zip(values, early_warning.upper_quantile(values, weights, level), strict=True):
            below, pairs = 0.0, sorted(zip(row, weights, strict=True))
            reached = []
            for value, weight in pairs:
                below += weight
                if below >= level * weights.sum() - 1e-12:
                    reached.append(value)
            assert found == reached[0]
        for row, found in zip(values, early_warning.tail_mean(values, weights, level), strict=True):
            left, total = level * weights.sum(), 0.0
            for value, weight in sorted(zip(row, weights, strict=True), reverse=True):
                total += value * min(left, weight)
                left -= min(left, weight)
            assert found == pytest.approx(total / (level * weights.sum()))
    np.testing.assert_array_equal(early_warning.upper_quantile(np.arange(10.0), np.full(10, 0.1), 0.9), 8.0)


def test_responses_without_probability() -> None:
    earlier, now = np.log([[0.5, 0.5]]), np.array([math.log(0.9), -math.inf])
    assert early_warning.Statistic("tournament", 4).compare(earlier, now, np.ones(2))[0] == 0.5
    assert early_warning.Statistic("tournament", 4).compare(now[None], now, np.ones(2))[0] == 0
    assert early_warning.Statistic("ratio_quantile", 0.9).compare(earlier, now, np.ones(2))[0] == math.inf
    assert not early_warning.improved(earlier, now, np.ones(2))[0]


def test_one_response_a_prompt_is_drawn_with_its_weight() -> None:
    certain = np.eye(3)[[0, 2, 1, 2]]
    np.testing.assert_array_equal(early_warning.drawn_candidates(certain), [0, 2, 1, 2])
    weights = np.tile([0.25, 0.0, 0.75], (4000, 1))
    drawn = early_warning.drawn_candidates(weights)
    np.testing.assert_array_equal(drawn, early_warning.drawn_candidates(weights))
    assert set(drawn.tolist()) == {0, 2}
    assert np.mean(drawn == 2) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("kind", "parameter", "message"),
    [
        ("unknown", 2, "kind: 'unknown'; valid: one of tournament"),
        ("tournament", 1, "parameter: 1 is not a number > 1"),
        ("tournament", None, "parameter: None is not a number > 1"),
        ("ratio_quantile", 1.0, "parameter: 1.0 is not a number strictly between 0 and 1"),
        ("ratio_spread", 2, "valid for ratio_spread: none"),
    ],
)
def test_bad_statistics_are_refused(kind: str, parameter: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        early_warning.Statistic(kind, parameter)


def test_bad_numbers_are_refused() -> None:
    rule = early_warning.Statistic("tournament", 2)
    with pytest.raises(ValueError, match="log_probs: shape"):
        early_warning.strongest_values(rule, np.array([[0.0, 0.0], [0.0, np.nan]]), np.ones(2))
    for weight in (0.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="weights: shape"):
            early_warning.strongest_values(rule, np.zeros((2, 2)), np.array([1.0, weight]))
    with pytest.raises(ValueError, match="level: 0"):
        early_warning.upper_quantile(np.zeros(3), np.ones(3), 0)
    with pytest.raises(ValueError, match="share: 2"):
        early_warning.tail_mean(np.zeros(3), np.ones(3), 2)


def test_names_say_the_parameter() -> None:
    assert str(early_warning.Statistic("tournament", 4)) == "tournament(N = 4)"
    assert str(early_warning.Statistic("ratio_quantile", 0.95)) == "ratio_quantile(level = 0.95)"
    assert str(early_warning.Statistic("ratio_spread")) == "ratio_spread"
    assert set(early_warning.PARAMETERS) < set(early_warning.KINDS)
