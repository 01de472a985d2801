import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from metrics.pass_rates import pass_at_n, pass_at_n_unbiased


@pytest.mark.parametrize("p", [Fraction(1, 10**300), Fraction(1, 10**40), Fraction(1, 10**9), Fraction(1, 3)])
@pytest.mark.parametrize("n", [1, 2, 12, 1000])
def test_pass_at_n_matches_exact_fractions(p: Fraction, n: int) -> None:
    # The first terms of 1 - (1-p)^n in exact arithmetic; the rest is below float64's resolution for tiny p.
    exact = (
        1 - (1 - p) ** n
        if p > Fraction(1, 10)
        else sum(-math.comb(n, k) * (-p) ** k for k in range(1, min(n, 6) + 1))
    )
    log_p = math.log(p.numerator) - math.log(p.denominator)
    # The rounding of ln p itself is about 1e-16 |ln p|.
    assert pass_at_n(np.array(log_p), (n,))[0] == pytest.approx(float(exact), rel=2e-13)


@pytest.mark.parametrize("miss", [1e-15, 1e-3, 0.4])
def test_pass_at_n_of_a_nearly_certain_answer(miss: float) -> None:
    passed = pass_at_n(np.array(math.log1p(-miss)), (1, 3))
    assert passed.tolist() == pytest.approx([1 - miss, 1 - miss**3], rel=1e-15)


def test_pass_at_n_at_the_ends_and_its_shape() -> None:
    passed = pass_at_n(np.array([[-np.inf, 0.0, 1e-4, math.log(0.5)]]), (1, 4))
    assert passed.shape == (1, 4, 2)
    np.testing.assert_allclose(passed[0], np.array([[0, 0], [1, 1], [1, 1], [0.5, 0.9375]]))
    assert not np.signbit(passed).any()


@pytest.mark.parametrize(
    ("log_prob", "ns", "field"),
    [
        (1.1e-4, (1,), "log_prob_correct"),
        (math.nan, (1,), "log_prob_correct"),
        (-1.0, (0,), "ns"),
        (-1.0, (2.5,), "ns"),
    ],
)
def test_pass_at_n_refuses(log_prob: float, ns: tuple[float, ...], field: str) -> None:
    with pytest.raises(ValueError, match=rf"^{field}: (contains .*; valid: |.* is not )[^\n]*$"):
        pass_at_n(np.array([-1.0, log_prob]), ns)


@pytest.mark.parametrize("num_samples", [1, 2, 5, 40])
def test_unbiased_estimate_is_the_ratio_of_binomials(num_samples: int) -> None:
    ns = sorted({1, 2, num_samples // 2, num_samples} & set(range(1, num_samples + 1)))
    correct = np.arange(num_samples + 1).reshape(1, -1)
    estimate = pass_at_n_unbiased(num_samples, correct, ns)
    assert estimate.shape == (1, num_samples + 1, len(ns))
    for c, (k, n) in itertools.product(range(num_samples + 1), enumerate(ns)):
        exact = 1 - Fraction(math.comb(num_samples - c, n), math.comb(num_samples, n))
        assert estimate[0, c, k] == pytest.approx(float(exact), rel=1e-12, abs=0)


@pytest.mark.parametrize("p", [0.03, 0.5, 0.97])
def test_unbiased_estimate_is_unbiased(p: float) -> None:
    num_samples, ns = 9, (1, 4, 9)
    estimate = pass_at_n_unbiased(num_samples, np.arange(num_samples + 1), ns)
    chance = [math.comb(num_samples, c) * p**c * (1 - p) ** (num_samples - c) for c in range(num_samples + 1)]
    np.testing.assert_allclose(chance @ estimate, pass_at_n(np.array(math.log(p)), ns), rtol=1e-12)


def test_unbiased_estimate_does_not_overflow() -> None:
    assert pass_at_n_unbiased(100_000, np.array([1]), (1000,))[0, 0] == pytest.approx(0.01, rel=1e-10)


@pytest.mark.parametrize(
    ("num_samples", "correct", "ns", "field"),
    [
        (4, [1], (5,), "ns"),
        (4, [1], (1.5,), "ns"),
        (4, [5], (1,), "num_correct"),
        (4, [-1], (1,), "num_correct"),
        (4, [0.5], (1,), "num_correct"),
        (0, [0], (1,), "num_samples"),
    ],
)
def test_unbiased_estimate_refuses(
    num_samples: int, correct: list[int], ns: tuple[float, ...], field: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{field}: .*; valid: [^\n]*$"):
        pass_at_n_unbiased(num_samples, np.array(correct), ns)
