"""Bernoulli, the fine-rate class with its hull, and random trees, against brute force."""

import itertools
import math
from typing import Any
from unittest import mock

import numpy as np
import pytest
from scipy import optimize

from theory.maximum_likelihood.random_trees import RandomTrees
from theory.maximum_likelihood.rate_classes import Bernoulli, FineRate, Visits


def test_bernoulli_by_plain_sums() -> None:
    instance = Bernoulli(0.15, 12)
    log_n = math.log(3)
    counts = np.arange(13)
    law = np.array([math.comb(12, k) * 0.15**k * 0.85 ** (12 - k) for k in counts])
    fitted = instance.fit(counts)
    np.testing.assert_allclose(fitted, np.minimum(counts / 12, 0.5))
    coverage = instance.coverage(fitted, log_n)
    plain = [
        sum(p for p, q in ((0.15, min(k / 12, 0.5)), (0.85, 1 - min(k / 12, 0.5))) if q == 0 or p / q >= 3)
        for k in counts
    ]
    np.testing.assert_allclose(coverage, plain)
    np.testing.assert_allclose(law @ coverage, instance.mean_coverage(log_n))
    kl = instance.kl(fitted)
    assert np.isinf(kl[0])
    assert np.isfinite(kl[1:]).all()
    np.testing.assert_allclose(kl[3], 0.15 * math.log(0.15 / 0.25) + 0.85 * math.log(0.85 / 0.75))
    ones = instance.sample(np.random.default_rng(0), 20_000)
    np.testing.assert_allclose(
        np.bincount(ones, minlength=13) / 20_000, law, atol=5 * 0.5 / math.sqrt(20_000)
    )


def models(instance: FineRate) -> list[np.ndarray]:
    """pi(1|x) of every model of the class, pi_D first; prompts 0, 1, ..., d."""
    flat = [np.array([1.0, *[0.5] * instance.size])]
    for theta in itertools.product((-1, 1), repeat=instance.size):
        flat.append(np.array([math.exp(-instance.log_n), *((1 + instance.tilt * t) / 2 for t in theta)]))
    return flat


def test_fine_rate_misses_by_brute_force() -> None:
    instance = FineRate(size=3, num_samples=24, log_n=math.log(2.5))
    data = instance.sample(np.random.default_rng(1), 60)
    assert (data.hidden + data.visits.sum(axis=1) == 24).all()
    np.testing.assert_allclose(data.hidden.mean() / 24, instance.mass, atol=5 * 0.5 / math.sqrt(60 * 24))
    every = models(instance)
    expected = []
    for c0, visits, ones in zip(*data, strict=True):
        sums = [
            c0 * math.log(p[0]) + ones @ np.log(p[1:]) + (visits - ones) @ np.log(1 - p[1:]) for p in every
        ]
        expected.append(max(sums[1:]) > sums[0])
    assert instance.misses(data).tolist() == expected
    assert 0 < np.mean(expected) < 1


def test_fine_rate_coverage_of_every_model_is_the_hidden_mass() -> None:
    instance = FineRate(size=2, num_samples=16, log_n=math.log(4))
    masses = np.array([instance.mass, *[(1 - instance.mass) / 2] * 2])
    np.testing.assert_allclose(instance.mass, 0.5 * (0.25 * 2 / 16) / math.log(4))
    for p in models(instance)[1:]:
        by_sum = masses[0] * (1 / p[0] >= 4 - 1e-9)
        by_sum += sum(
            m * 0.5 * (0.5 / q >= 4) for m, one in zip(masses[1:], p[1:], strict=True) for q in (one, 1 - one)
        )
        np.testing.assert_allclose(by_sum, instance.mass)
    np.testing.assert_allclose(instance.coverage(np.array([1.0, 0.99, 0.0])), [instance.mass, 0, 0])


def test_hull_weight_against_scipy() -> None:
    instance = FineRate(size=4, num_samples=60, log_n=math.log(8), rarer=True)
    np.testing.assert_allclose(instance.mass, 0.5 * instance.tilt**2 / 8)
    rng = np.random.default_rng(2)
    data = instance.sample(rng, 8)
    data = Visits(rng.integers(0, 3, 8), data.visits, data.ones)
    bad = 1 - 1 / 8
    weights = instance.hull_weight(data)
    assert (weights == 1).any()
    assert (weights < 0.99).any()
    for c0, visits, ones, s in zip(*data, weights, strict=True):

        def loss(v: np.ndarray, c0: int = c0, visits: np.ndarray = visits, ones: np.ndarray = ones) -> float:
            tilt = instance.tilt * v[1:]
            return -float(
                c0 * np.log1p(-v[0] * bad) + ones @ np.log1p(tilt) + (visits - ones) @ np.log1p(-tilt)
            )

        inside = [
            {"type": "ineq", "fun": lambda v, i=i, g=g: v[0] - g * v[i]} for i in range(1, 5) for g in (1, -1)
        ]
        found = optimize.minimize(
            loss,
            np.full(5, 0.5) * [1, 0, 0, 0, 0],
            bounds=[(0, 1)] + [(-1, 1)] * 4,
            constraints=inside,
            method="SLSQP",
            options={"ftol": 1e-13, "maxiter": 500},
        )
        share = (2 * ones - visits) / np.maximum(visits, 1) / instance.tilt
        ours = np.concatenate([[s], np.clip(share, -s, s)])
        assert loss(ours) <= found.fun + 1e-7
        np.testing.assert_allclose(s, found.x[0], atol=5e-3)


def test_random_trees_are_laws_and_coverage_is_a_sum() -> None:
    family = RandomTrees(length=3, num_models=5)
    rng = np.random.default_rng(3)
    classes = family.sample_classes(rng)
    assert classes.shape == (8, 5, 8)
    np.testing.assert_allclose(np.exp(classes).sum(axis=-1), 1)
    assert (classes[:, 0] == classes[0, 0]).all(), "pi_D is shared"
    differs = np.abs(classes[:, 1:] - classes[:, :1]).max(axis=-1) > 1e-9
    assert differs[-1].mean() > differs[0].mean(), "larger shares disturb more"
    log_ns = np.array([0.3, 1.0])
    found = family.coverage(classes[-1], log_ns)
    for model in range(5):
        plain = [
            sum(
                math.exp(d)
                for d, m in zip(classes[-1, 0], classes[-1, model], strict=True)
                if d - m >= each - 1e-9
            )
            for each in log_ns
        ]
        np.testing.assert_allclose(found[model], plain)
    assert not found[0].any()


def test_random_trees_factor_over_tokens() -> None:
    """ln pi(y) in lexicographic order: the law of the first bit follows from sums of the leaves."""
    classes = RandomTrees(length=2, num_models=3).sample_classes(np.random.default_rng(4))
    p = np.exp(classes[7])
    for model in p:
        first = model[2] + model[3]
        second = [model[1] / (model[0] + model[1]), model[3] / first]
        rebuilt = [(1 - first) * (1 - second[0]), (1 - first) * second[0]]
        rebuilt += [first * (1 - second[1]), first * second[1]]
        np.testing.assert_allclose(model, rebuilt)
    # pi_D's law at a prefix that a model leaves alone is its own.
    left = np.exp(classes[0])
    assert (np.abs(left[1:] - left[0]).max(axis=1) < 1e-12).any()


def test_random_trees_list_responses_in_lexicographic_order() -> None:
    # P[1] is 1/3 at the root, 1/4 after 0 and 1/5 after 1.
    rng = mock.Mock(wraps=np.random.default_rng(5))
    rng.normal.return_value = np.log([1 / 2, 1 / 3, 1 / 4])
    classes = RandomTrees(length=2, num_models=2).sample_classes(rng)
    np.testing.assert_allclose(np.exp(classes[0, 0]), [1 / 2, 1 / 6, 4 / 15, 1 / 15])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bernoulli(0.5, 3), "probability: 0.5; valid"),
        (lambda: Bernoulli(0.1, 3).missed(0.5), "log_n: 0.5; valid: at least ln 2"),
        (lambda: FineRate(5, 9, 1.0), "size: 5; valid: 1 to num_samples/2 = 4"),
        (lambda: FineRate(4, 9, 0.5), "log_n: 0.5; valid: at least ln 2"),
        (lambda: FineRate(4, 9, 1.0, c0=0.6), "c0: 0.6; valid"),
    ],
)
def test_bad_sizes_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
