"""The law of samples against plain Python: grids of bits, one sample after another, and a search over M."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from oracles.best_of_n import worst_set_loss

from theory import scaling_law as law


def kl_of_bits(t: float, h: float) -> float:
    return t * math.log(t / h) + ((1 - t) * math.log((1 - t) / (1 - h)) if t < 1 else 0.0)


@pytest.mark.parametrize("n", [2, 3, 10, 1000, 10**6])
def test_no_pair_of_bits_loses_more_than_its_kl_over_r(n: int) -> None:
    """All pairs of a grid down to t = 1e-6. The largest share is near 1, so no smaller bound would do."""
    r = law.guaranteed_ratio(n)
    best = 0.0
    for t in [10 ** (-k / 8) for k in range(49)]:
        for step in range(1, 400):
            h = t * math.exp(-step / 20)
            loss = t + math.expm1(n * math.log1p(-h))
            best = max(best, loss * r / kl_of_bits(t, h))
    assert 0.995 < best <= 1 + 1e-9


@pytest.mark.parametrize("ratio", [0.01, 1.0, 5.0, 30.0, 300.0])
def test_the_ratio_of_a_number_of_samples_undoes_the_law(ratio: float) -> None:
    """Against the series of (e^r - 1)/r, sum over k of r^k/(k + 1)!."""
    series = math.fsum(math.exp(k * math.log(ratio) - math.lgamma(k + 2)) for k in range(1200))
    assert law.scaling_law(ratio) == pytest.approx(series, rel=1e-10)
    assert law.guaranteed_ratio(series) == pytest.approx(ratio, rel=1e-7)


@pytest.mark.parametrize("ratio", [2.5, 4.0])
def test_samples_of_the_worst_pair_one_after_another(ratio: float) -> None:
    """The pair of bits needs the law rounded up, counted by trying N = 1, 2, 3 over all four sets."""
    pair = law.worst_pair(1e-4, ratio)
    target, model = pair.target[0].tolist(), pair.model[0].tolist()
    kl = kl_of_bits(target[0], model[0])
    assert pair.divergence == pytest.approx(kl, rel=1e-10)
    counted = next(n for n in range(1, 10**4) if worst_set_loss(target, model, n) <= kl / ratio)
    assert counted == math.ceil(law.scaling_law(ratio))


def test_the_worst_pair_attains_the_bound_of_coverage_by_kl() -> None:
    for ratio in (2.0, 6.0):
        pair = law.worst_pair(1e-5, ratio)
        assert pair.coverage(math.exp(ratio)) == pytest.approx(1e-5)
        assert pair.coverage(1.01 * math.exp(ratio)) == 0
        assert 1e-5 * (ratio - 1 + math.exp(-ratio)) / pair.divergence == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("kl", "eps"), [(0.3, 0.1), (1.0, 0.05), (0.01, 0.2)])
def test_the_printed_route_against_a_search_over_m(kl: float, eps: float) -> None:
    best = math.inf
    for step in range(1, 400_000):
        log_m = step / 4000
        covered = kl / (log_m - 1 + math.exp(-log_m))
        if covered < eps:
            best = min(best, log_m + math.log(2 * math.log(1 / (eps - covered))))
    assert law.printed_samples(kl, eps) == pytest.approx(best, abs=0.01)
    assert law.printed_samples(kl, eps) > math.log(law.scaling_law(kl / eps))


def test_random_pairs_are_laws_with_a_finite_kl() -> None:
    rng = np.random.default_rng(0)
    for pair in (law.random_pair(rng, 6, 3), law.random_bits(rng, 5), law.even_pair(2.0)):
        np.testing.assert_allclose(pair.target.sum(axis=1), 1)
        assert (pair.model.sum(axis=1) <= 1 + 1e-12).all()
        assert pair.prompts.sum() == pytest.approx(1)
        plain = sum(
            mu * sum(t * math.log(t / h) for t, h in zip(target, model, strict=True) if t > 0)
            for mu, target, model in zip(pair.prompts, pair.target, pair.model, strict=True)
        )
        assert 0 < pair.divergence == pytest.approx(plain)
    assert law.even_pair(2.0).divergence == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: law.scaling_law(0.0), "ratio: 0.0 is not a number strictly between 0 and 700"),
        (lambda: law.guaranteed_ratio(1.0), "n: 1.0 is not a number strictly between 1 and inf"),
        (lambda: law.printed_samples(0.0, 0.1), "divergence: 0.0 is not a number strictly between 0 and inf"),
        (lambda: law.printed_samples(1.0, 0.5), "epsilon: 0.5 is not a number strictly between 0 and 0.5"),
        (lambda: law.worst_pair(1.5, 2.0), "mass: 1.5 is not a number"),
        (lambda: law.even_pair(-1.0), "divergence: -1.0 is not a number strictly between 0 and 700"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
