"""Ties, ends of ranges, draws and the solver's speed, by plain sums and by hand."""

import math
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import pytest
from scipy import optimize, special, stats

from theory.maximum_likelihood import fitting
from theory.maximum_likelihood.bit_laws import LOG_TOLERANCE, grouped_coverage, shared_coverage
from theory.maximum_likelihood.fitting import best_of_class, fit_categorical_in_box, fit_logistic_on_ball
from theory.maximum_likelihood.random_trees import RandomTrees
from theory.maximum_likelihood.rate_classes import Bernoulli, CoarseRate, FineRate, Visits
from theory.maximum_likelihood.rate_instances import Bits, HeavyTail, TwoPrompts, VarianceNeeded


def tie(log_ratio: float) -> float:
    """The ln N whose distance from a log ratio is exactly `LOG_TOLERANCE` in float64."""
    found = [log_ratio + LOG_TOLERANCE]
    for end in (math.inf, -math.inf):
        for _ in range(40):
            found.append(float(np.nextafter(found[-1], end)))
        found.append(found[0])
    return next(each for each in found if each - LOG_TOLERANCE == log_ratio)


@pytest.mark.parametrize("horizon", [1, 2, 6])
def test_shared_coverage_on_a_grid_by_plain_sums(horizon: int) -> None:
    star = np.array([-3.0, -0.4, 0.0, 2.5])[:, None, None]
    fitted = np.array([[-40.0, -3.0, -0.41], [0.0, 0.7, 40.0]])
    log_n = np.array([0.0, 0.1, math.log(2), 1.0, 5.0, 40.0, 1000.0])
    found = shared_coverage(star, fitted, horizon, log_n)
    assert found.shape == (4, 2, 3, 7)
    for i, u in enumerate(star[:, 0, 0]):
        for j, v in np.ndenumerate(fitted):
            one, zero = (float(special.log_expit(s * u) - special.log_expit(s * v)) for s in (1, -1))
            for k, threshold in enumerate(log_n):
                plain = sum(
                    stats.binom.pmf(c, horizon, special.expit(u))
                    for c in range(horizon + 1)
                    if c * one + (horizon - c) * zero >= threshold - LOG_TOLERANCE
                )
                assert found[(i, *j, k)] == pytest.approx(plain, abs=1e-12), (u, v, threshold)


def test_a_tie_with_the_tolerance_counts_and_what_is_further_does_not() -> None:
    # Equal laws: X = 0.
    at = np.array([LOG_TOLERANCE, 1.001 * LOG_TOLERANCE])
    assert shared_coverage(np.array(0.3), np.array(0.3), 5, at).tolist() == [1, 0]
    sizes, star = np.array([[4]]), 0.3
    for log_n, wanted in zip(at, (1, 0), strict=True):
        rng = np.random.default_rng(0)
        assert grouped_coverage(rng, star, np.array([[star]]), sizes, 3, log_n) == wanted
    log_probs = RandomTrees(2, 2).sample_classes(np.random.default_rng(0))[0]
    np.testing.assert_allclose(RandomTrees(2, 2).coverage(log_probs, at)[0], [1, 0])
    coarse = CoarseRate(3, 5, 4.0)
    np.testing.assert_allclose(coarse.coverage(np.log(coarse.probs)[None], at)[0], [1, 0])

    instance, fitted = Bernoulli(0.25, 4), np.array([0.125])
    one = tie(math.log(0.25) - float(np.log(0.125)))
    assert instance.coverage(fitted, one) == 0.25
    assert instance.coverage(fitted, one + 1e-12) == 0
    fitted = np.array([0.4375])
    zero = tie(math.log1p(-0.25) - float(np.log1p(-0.4375)))
    assert instance.coverage(fitted, zero) == 0.75
    assert instance.coverage(fitted, zero + 1e-12) == 0


def test_grouped_coverage_of_given_numbers_of_ones() -> None:
    ones = np.array([[[2, 0], [1, 3]], [[0, 1], [1, 0]], [[1, 1], [0, 2]]])
    rng = mock.Mock()
    rng.binomial.return_value = ones
    star, fitted, sizes = 0.5, np.array([[0.1, -1.0], [2.0, 0.4]]), np.array([[2, 1], [1, 3]])
    log_n = 0.35
    found = grouped_coverage(rng, star, fitted, sizes, 3, log_n)
    rng.binomial.assert_called_once_with(sizes, special.expit(star), (3, 2, 2))
    plain = []
    for draw in range(2):
        ratios = [
            sum(
                k * (special.log_expit(star) - special.log_expit(v))
                + (size - k) * (special.log_expit(-star) - special.log_expit(-v))
                for k, v, size in zip(ones[r, draw], fitted[draw], sizes[draw], strict=True)
            )
            for r in range(3)
        ]
        plain.append(np.mean([ratio >= log_n for ratio in ratios]))
    assert found.tolist() == plain
    assert 0 < sum(plain) < 2


@pytest.mark.parametrize(
    ("n", "p", "big_n"), [(12, "1/4", 3), (20, "3/10", 2), (20, "3/10", 6), (7, "1/8", 9)]
)
def test_bernoulli_misses_with_at_most_np_over_n_ones(n: int, p: str, big_n: int) -> None:
    most = int(n * Fraction(p) / big_n)
    law = [math.comb(n, k) * float(Fraction(p) ** k * (1 - Fraction(p)) ** (n - k)) for k in range(most + 1)]
    instance = Bernoulli(float(Fraction(p)), n)
    assert instance.missed(math.log(big_n)) == pytest.approx(sum(law), rel=1e-12)
    assert instance.mean_coverage(math.log(big_n)) == pytest.approx(float(Fraction(p)) * sum(law), rel=1e-12)


def test_copies_add_and_subtract_at_the_drawn_prefixes() -> None:
    """Numbers below q/2 add s, those from q/2 to q subtract it; every q at its own ties."""
    family = RandomTrees(length=2, num_models=3)
    shares = family.shares
    assert shares[[0, -1]].tolist() == pytest.approx([1 / 12, 1 / 2])
    np.testing.assert_allclose(shares[1:] / shares[:-1], 6 ** (1 / 7))
    assert len(shares) == 8
    base = np.array([0.2, -0.7, 1.1])
    signs = np.array([[[0, 0, 0], [1, -1, 0], [0, 1, -1]]] * 8)
    chance = np.where(signs == 1, 0.49, np.where(signs == -1, 0.5, 1.0)) * shares[:, None, None]
    for low, s in ((True, 0.5), (False, 16.0)):
        rng = mock.Mock()
        rng.normal.return_value = base
        rng.uniform.side_effect = lambda a, b, shape, low=low: np.full(shape, a if low else b)
        rng.random.return_value = chance
        classes = np.exp(family.sample_classes(rng))
        rng.normal.assert_called_once_with(size=3)
        rng.random.assert_called_once_with((8, 3, 3))
        assert classes.shape == (8, 3, 4)
        for model in range(3):
            root, after0, after1 = special.expit(base + s * signs[0, model])
            plain = [(1 - root) * (1 - after0), (1 - root) * after0, root * (1 - after1), root * after1]
            np.testing.assert_allclose(classes[:, model], [plain] * 8, rtol=1e-8)


def test_draws_of_the_instances_are_asked_for_with_their_laws() -> None:
    def recorded() -> Any:
        return mock.Mock(wraps=np.random.default_rng(3))

    rng = recorded()
    two = TwoPrompts(length=7, num_samples=5)
    assert two.radius == 2
    assert two.mass == 0.1
    bits = two.sample(rng, 1.5, 4)
    assert rng.binomial.call_args_list[0].args == (5, 0.1, (4, 1))
    assert set(bits.trials.ravel() % 7) == {0}
    np.testing.assert_array_equal(rng.binomial.call_args_list[1].args[0], bits.trials)
    assert rng.binomial.call_args_list[1].args[1] == pytest.approx(special.expit(1.5))

    rng = recorded()
    fine = FineRate(size=3, num_samples=20, log_n=1.0)
    data = fine.sample(rng, 6)
    assert rng.binomial.call_args_list[0].args == (20, fine.mass, 6)
    np.testing.assert_array_equal(rng.multinomial.call_args.args[0], 20 - data.hidden)
    np.testing.assert_allclose(rng.multinomial.call_args.args[1], [1 / 3] * 3)
    np.testing.assert_array_equal(rng.binomial.call_args_list[1].args[0], data.visits)
    assert rng.binomial.call_args_list[1].args[1] == 0.5

    rng = recorded()
    needed = VarianceNeeded(length=64, num_samples=3, log_n=2.0, norm=8.0)
    bits = needed.sample(rng, 5)
    assert rng.binomial.call_args_list[0].args == (3, needed.mass, (5, 1))
    assert bits.trials.shape == (5, 64)
    assert (bits.trials == bits.trials[:, :1]).all()
    assert rng.binomial.call_args_list[1].args[1] == pytest.approx(special.expit(1.0))


def test_heavy_tail_by_its_description() -> None:
    instance = HeavyTail(length=3, num_samples=40, active=3, passive=2, silent=0.5)
    tail = np.array([1, 1 / 4, 1 / 9])
    np.testing.assert_allclose(instance.masses, [*(0.25 * tail / tail.sum()), 0.125, 0.125, 0.5])
    assert instance.radius == pytest.approx(math.sqrt(3) * 2)
    for low, u in ((True, -0.5), (False, 2.0)):
        rng = mock.Mock()
        rng.uniform.side_effect = lambda a, b, shape, low=low: np.full(shape, a if low else b)
        rng.choice.side_effect = lambda signs, shape, low=low: np.full(shape, signs[0 if low else 1])
        np.testing.assert_allclose(instance.parameters(rng, 4), np.full((4, 3), u))
    star = np.array([[2.0, -2.0, 0.5]] * 4000)
    data = instance.sample(np.random.default_rng(0), star)
    assert not (data.trials % 3).any()
    for column, p in enumerate(special.expit([2.0, -2.0, 0.5, 0.0, 0.0])):
        trials = data.trials[:, column].sum()
        assert abs(data.ones[:, column].sum() - p * trials) < 5 * math.sqrt(p * (1 - p) * trials)


def test_defaults_are_those_of_the_recorded_results() -> None:
    """Another default needs new records in `results/`."""
    heavy, needed, fine = HeavyTail(8, 100), VarianceNeeded(128, 100, 1.0, 20.0), FineRate(2, 8, 1.0)
    assert (heavy.active, heavy.passive, heavy.silent) == (64, 32768, 0.75)
    assert (heavy.weakest, heavy.strongest) == (0.5, 2.0)
    assert (needed.c0, needed.c1) == (4, 1 / 8)
    assert (fine.c0, fine.rarer) == (0.5, False)


def test_the_ends_of_the_valid_ranges() -> None:
    at_end = VarianceNeeded(length=64, num_samples=1, log_n=2.0, norm=8.0)
    assert (at_end.star, at_end.mass) == (1.0, 1.0)
    assert Bernoulli(0.4, 3).missed(math.log(2)) == pytest.approx(0.6**3)
    assert FineRate(1, 2, math.log(2), c0=0.5).mass > 0
    assert CoarseRate(2, 2, math.log(10)).promised == 0.05
    CoarseRate(4, 4, math.log(20))
    for make, message in (
        (lambda: VarianceNeeded(64, 1, 2.0, 7.99), "log_n: 2; valid"),
        (lambda: VarianceNeeded(64, 1, 2.01, 99.0), "log_n: 2.01; valid"),
        (lambda: FineRate(0, 2, 1.0), "size: 0; valid"),
        (lambda: FineRate(2, 8, 1.0, c0=0.0), "c0: 0.0; valid"),
        (lambda: Bernoulli(0.0, 3), "probability: 0.0; valid"),
        (lambda: CoarseRate(1, 4, 9.0), "size: 1; valid"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_the_hull_without_visits_and_against_a_search() -> None:
    instance = FineRate(size=4, num_samples=60, log_n=math.log(8), rarer=True)
    rng = np.random.default_rng(6)
    visits = rng.integers(0, 9, (12, 4))
    data = Visits(rng.integers(1, 4, 12), visits, rng.binomial(visits, 0.9))
    weights = instance.hull_weight(data)
    assert ((weights > 0.01) & (weights < 0.99)).sum() > 3

    def loss(s: float, hidden: int, seen: np.ndarray, ones: np.ndarray) -> float:
        t = np.clip((2 * ones - seen) / np.maximum(seen, 1) / instance.tilt, -s, s) * instance.tilt
        return -float(hidden * np.log1p(-s * 7 / 8) + ones @ np.log1p(t) + (seen - ones) @ np.log1p(-t))

    for hidden, seen, ones, s in zip(*data, weights, strict=True):
        found = optimize.minimize_scalar(
            loss, bounds=(0, 1), args=(hidden, seen, ones), method="bounded", options={"xatol": 1e-9}
        )
        assert s == pytest.approx(found.x, abs=2e-6)
    nothing = Visits(np.array([0, 1]), np.zeros((2, 4), int), np.zeros((2, 4), int))
    assert instance.misses(nothing).tolist() == [False, False], "no more likely than pi_D"
    assert instance.hull_weight(nothing)[1] == 0
    # The likelihood of a single outcome still rises at s = 1, where the coverage changes.
    single = Visits(np.zeros(1, int), np.array([[1, 0, 0, 0]]), np.array([[1, 0, 0, 0]]))
    assert instance.hull_weight(single).tolist() == [1.0]


def test_a_free_optimum_on_the_ball_has_no_multiplier() -> None:
    fit = fit_logistic_on_ball(np.array([[3]]), np.array([[4]]), float(np.log(3.0)))
    assert fit.multiplier == 0
    assert fit.log_odds == np.log(3.0)


@pytest.mark.parametrize(
    ("ones", "trials", "radius", "steps"),
    [
        ([[5]], [[5]], 2.0, 6),
        ([[7, 2, 0]], [[7, 5, 0]], 1e-6, 2),
        ([[7, 2, 0]], [[7, 5, 0]], 60.0, 28),
        ([[900, 5, 0, 2]], [[1000, 1000, 0, 2]], 8.0, 8),
    ],
)
def test_newtons_method_ends_after_few_steps(
    ones: list[list[int]],
    trials: list[list[int]],
    radius: float,
    steps: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong derivative would also end at the optimum, later."""
    monkeypatch.setattr(fitting, "_STEPS", steps)
    fit_logistic_on_ball(np.array(ones), np.array(trials), radius)


@pytest.mark.parametrize(
    ("u", "multiplier", "radius", "worst"),
    [
        (0.0, 0.0, 1.0, "0.12"),  # the slope 2 - 3/2, over 1 + 3
        (math.log(2), 0.0, 0.5, "0.39"),  # (ln 2 - 1/2)/(1/2) beyond the ball
        (0.5, (2 - 3 * special.expit(0.5)) / 0.5, 2.0, "0.75"),  # a multiplier inside the ball
        (0.5, 0.0, 1.0, "0.033"),
    ],
)
def test_a_violated_condition_is_measured(u: float, multiplier: float, radius: float, worst: str) -> None:
    """Two of three trials; a draw at the optimum and one that is not; a coordinate that no draw has."""
    k, m, c = np.array([2.0, 5.0]), np.array([3.0, 9.0]), np.array([[1, 0], [1, 0]])
    both = np.array([[math.log(2), 0.0], [u, 0.0]])
    lam = np.array([0.0, multiplier])
    if radius >= math.log(2):
        fitting._require_optimal(k, m, c, both[:1], lam[:1], radius)
    with pytest.raises(ArithmeticError, match=f"violated by {worst}, more than 1e-09"):
        fitting._require_optimal(k, m, c, both, lam, radius)


def test_a_model_that_excludes_one_seen_outcome_is_not_the_best() -> None:
    log_probs = np.array([[0.0, -np.inf], [math.log(0.5), math.log(0.5)]])
    assert best_of_class(log_probs, np.array([[5, 5], [1, 0]])).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_logistic_on_ball(np.array([[1, -1]]), np.array([[1, 1]]), 1.0), "ones: valid"),
        (lambda: fit_categorical_in_box(np.array([[2, 1], [3, -1]]), 1.0), "log_bound: 1.0; valid"),
        (lambda: fit_categorical_in_box(np.array([[2, 1], [0, 0]]), 1.0), "log_bound: 1.0; valid"),
        (lambda: fit_categorical_in_box(np.array([[2, 1]]), 0.0), "log_bound: 0.0; valid"),
        (lambda: best_of_class(np.zeros(3), np.zeros((3, 1))), r"counts: shape \(3, 1\); valid"),
    ],
)
def test_one_bad_number_among_good_ones_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_one_count_in_a_box() -> None:
    fitted = np.exp(fit_categorical_in_box(np.array([[1, 0, 0], [1, 1, 1]]), 1.0))
    low, high = math.exp(-1), math.e
    np.testing.assert_allclose(
        fitted, [[high / (high + 2 * low), *[low / (high + 2 * low)] * 2], [1 / 3] * 3]
    )


def test_coverage_of_groups_in_an_instance_is_that_of_its_bits() -> None:
    """Every bit a group of its own, by the law of each bit; the estimate from many responses."""
    instance = VarianceNeeded(length=6, num_samples=10, log_n=0.1, norm=3.0)
    data = Bits(np.array([[3, 0, 3, 5, 5, 5]]), np.full((1, 6), 6))
    fitted = np.array([-0.5, 1.0, 0.3])[np.array([[1, 0, 1, 2, 2, 2]])]
    found = instance.coverage(np.random.default_rng(1), data, fitted, 20_000)
    plain = 0.0
    for response in np.ndindex(*[2] * 6):
        signs = 2 * np.array(response) - 1
        own = special.log_expit(signs * instance.star).sum()
        if own - special.log_expit(signs * fitted[0]).sum() >= 0.1:
            plain += math.exp(own)
    assert found[0] == pytest.approx(instance.mass * plain, abs=instance.mass * 5 * 0.5 / math.sqrt(20_000))


def test_draws_in_a_box_do_not_depend_on_each_other() -> None:
    """Draws whose search over the knots takes different numbers of halvings."""
    rng = np.random.default_rng(4)
    counts = rng.integers(0, 9, (12, 7)) * (rng.random((12, 7)) < np.linspace(0.1, 1, 12)[:, None])
    counts[:, 0] += 1
    together = fit_categorical_in_box(counts, 0.4)
    alone = np.concatenate([fit_categorical_in_box(row[None], 0.4) for row in counts])
    np.testing.assert_allclose(together, alone, rtol=1e-12)
