"""Coverage where one response is right: closed forms of docs/science.md, section 7."""

from __future__ import annotations

import math

import numpy as np
import pytest

from metrics import coverage_profile, kl, pass_at_n

NS = (1.5, 2, 4, 8, 100)
DRAWS = {
    "spread": np.random.default_rng(0).uniform(1e-6, 1, 4000),
    "sure": np.random.default_rng(1).beta(0.05, 0.05, 4000).clip(1e-9, 1 - 1e-9),
    "at the edge": np.full(5, 0.25),
}
"""Probabilities of the right response, one for each prompt."""


@pytest.mark.parametrize("name", DRAWS)
def test_coverage_counts_prompts_of_small_probability(name: str) -> None:
    p = DRAWS[name]
    found = coverage_profile(-np.log(p), NS)
    np.testing.assert_allclose(found, [np.mean(p <= 1 / n) for n in NS], atol=1e-12)
    assert float(kl(-np.log(p))) == pytest.approx(-np.log(p).mean())


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("n", [2, 8, 64])
def test_pass_at_n_lies_between_its_bounds_by_coverage(name: str, n: int) -> None:
    p = DRAWS[name]
    passed = float(np.mean(pass_at_n(np.log(p), (n,))))
    (cov,) = coverage_profile(-np.log(p), (n,))
    upper = 1 - cov * (1 - 1 / n) ** n
    assert passed <= upper + 1e-9
    for m in (2, 3, n, 10 * n):
        (missed,) = coverage_profile(-np.log(p), (m,))
        assert passed >= (1 - missed) * (1 - (1 - 1 / m) ** n) - 1e-9
    if name == "at the edge" and n == 64:
        # p = 1/4 for all prompts: the lower bound with M just above 4 is nearly attained.
        assert passed == pytest.approx(1 - (1 - 1 / 4.001) ** n, abs=1e-6)


def test_a_uniform_guess_has_a_step_and_a_sure_model_of_a_noisy_law_is_flat() -> None:
    guess = np.full(10, math.log(6))
    np.testing.assert_array_equal(coverage_profile(guess, (1, 5.9, 6, 6.1)), [1, 1, 1, 0])
    noise = 0.2
    ratios, weights = np.array([math.log(1 - noise), math.inf]), np.array([1 - noise, noise])
    np.testing.assert_allclose(coverage_profile(ratios, (1.01, 10, 1e6), weights), [noise] * 3)
