"""Features of the last two tokens, and exact sums over responses."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import linear as oracle
from oracles.small.autoregressive_linear import position, random

from tasks import AutoregressiveLinear, markov_sums
from tasks.linear import FeatureMap

RANDOM = AutoregressiveLinear(horizon=4, num_symbols=3, num_prompts=2, dimension=5, bound=3.0, seed=4)
POSITION = AutoregressiveLinear(horizon=5, num_symbols=3, num_prompts=3, family="position", bound=3.0)
CASES = [
    pytest.param(RANDOM, random(RANDOM), id="random"),
    pytest.param(POSITION, position(POSITION), id="position"),
]
every_family = pytest.mark.parametrize(("task", "of_prompt"), CASES)


def another(task: AutoregressiveLinear) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.4, task.features.dimension)


@pytest.mark.long
@every_family
def test_features_are_their_definition_within_the_bound(task: AutoregressiveLinear, of_prompt: Any) -> None:
    features = task.features
    response = jnp.asarray([2, 0, 1, 1, 2][: task.horizon], jnp.int32)
    largest = 0.0
    for prompt in range(task.num_prompts):
        path = np.asarray(features.path(prompt, response))
        # The look-up of a whole path and the one of a node are written separately.
        np.testing.assert_array_equal(path, FeatureMap.path(features, prompt, response))
        for h in range(task.horizon):
            for a in range(3):
                expected = of_prompt(prompt)((*response[:h].tolist(), a))
                np.testing.assert_allclose(path[h, a], expected, rtol=1e-6)
                largest = max(largest, float(np.linalg.norm(expected)))
    assert largest == pytest.approx(features.bound)
    lengths = np.linalg.norm(features.table(), axis=-1)
    assert lengths.max() <= features.bound * (1 + 1e-12)
    if task.family == "random":
        np.testing.assert_allclose(lengths, features.bound)


@every_family
def test_sums_are_those_over_all_responses(task: AutoregressiveLinear, of_prompt: Any) -> None:
    features, star, theta = task.features, task.theta_star(), another(task)
    sizes = (features.vocab, features.horizon)
    found = {
        "kl": markov_sums.kls(features, star, theta),
        "entropy": markov_sums.entropies(features, star),
        "variance": markov_sums.variances(features, star),
    }
    for prompt in range(task.num_prompts):
        phi = of_prompt(prompt)
        assert found["kl"][prompt] == pytest.approx(oracle.kl(phi, *sizes, star, theta), rel=1e-10, abs=1e-12)
        assert found["entropy"][prompt] == pytest.approx(oracle.entropy(phi, *sizes, star), rel=1e-10)
        expected = oracle.variance(phi, *sizes, star)
        assert found["variance"][prompt] == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert task.exact_kl(theta) == pytest.approx(found["kl"].mean(), rel=1e-12)
    np.testing.assert_allclose(markov_sums.kls(features, star, star), 0, atol=1e-14)


@every_family
def test_coverage_lies_in_its_bracket(task: AutoregressiveLinear, of_prompt: Any) -> None:
    features, star, theta = task.features, task.theta_star(), another(task)
    ns = (1, 1.3, 2, 4, 50)
    low, high = markov_sums.coverages(features, star, theta, ns)
    coarse_low, coarse_high = markov_sums.coverages(features, star, theta, ns, bins=64)
    assert low.shape == (task.num_prompts, 5)
    for prompt in range(task.num_prompts):
        phi = of_prompt(prompt)
        exact = [oracle.coverage(phi, features.vocab, features.horizon, star, theta, n) for n in ns]
        for below, above in ((low, high), (coarse_low, coarse_high)):
            assert np.all(below[prompt] <= np.array(exact) + 1e-9)
            assert np.all(above[prompt] >= np.array(exact) - 1e-9)
    # Prompt 0 of the family "position" has the law of every theta: an atom at ln 1.
    assert np.max((high - low)[-1]) < 1e-3
    assert np.max((coarse_high - coarse_low)[-1]) > 0.01


def test_a_model_covers_itself() -> None:
    low, high = markov_sums.coverages(RANDOM.features, RANDOM.theta_star(), RANDOM.theta_star(), (1.01, 2))
    assert np.all(low == 0)
    assert np.all(high == 0)


def test_a_long_horizons_sums_are_sums_over_its_positions() -> None:
    """Independent tokens: the KL of H Bernoulli variables by hand."""
    task = AutoregressiveLinear(horizon=512, num_prompts=1, family="position", bound=20.0)
    star, theta = task.theta_star(), np.zeros(512)
    p = 1 / (1 + np.exp(-20 * star))
    expected = np.sum(p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p)))
    assert task.exact_kl(theta) == pytest.approx(expected, rel=1e-10)
    assert markov_sums.variances(task.features, star)[0] == pytest.approx(
        400 * np.sum(p * (1 - p)), rel=1e-10
    )


@pytest.mark.parametrize(
    ("ns", "bins", "line"),
    [
        ((0.5,), 100, "ns: [0.5]; valid: numbers N >= 1, at least one"),
        ((), 100, "ns: []; valid: numbers N >= 1, at least one"),
        ((2,), 8, "bins: 8; valid: at least 2 H + 4 = 12"),
    ],
)
def test_bad_questions_are_refused_in_one_line(ns: Any, bins: int, line: str) -> None:
    with pytest.raises(ValueError, match="valid") as refused:
        markov_sums.coverages(RANDOM.features, RANDOM.theta_star(), RANDOM.theta_star(), ns, bins)
    assert str(refused.value) == line


BAD = [
    ({"horizon": 0}, "task.horizon: 0 is not an integer >= 1"),
    ({"num_symbols": 1}, "task.num_symbols: 1 is not an integer >= 2"),
    ({"num_prompts": True}, "task.num_prompts: True is not an integer >= 1"),
    ({"theta_seed": -1}, "task.theta_seed: -1 is not an integer from 0 to 2147483647"),
    ({"bound": 0.0}, "task.bound: 0.0 is not a positive number"),
    ({"norm": 1.5}, "task.norm: 1.5 is not a number in [0, 1]"),
    ({"norm": float("nan")}, "task.norm: nan is not a number in [0, 1]"),
    ({"family": "gauss"}, "task.family: 'gauss' is not one of random, position"),
    ({"classes": "x"}, "task.classes: 'x' is not one of all, prompts"),
    ({"dimension": 0}, "task.dimension: 0 is neither null nor an integer >= 1"),
    (
        {"family": "position", "dimension": 3},
        "task.dimension: 3; valid for family position: null, or the horizon 8",
    ),
    (
        {"prompt_probs": (0.5, 0.5)},
        "task.prompt_probs: [0.5, 0.5] has 2 probabilities for task.num_prompts = 4",
    ),
    ({"prompt_probs": "half"}, "task.prompt_probs: 'half' is not a list of probabilities"),
    (
        {"horizon": 100_000},
        "task.horizon: 100000: features: 19200000 numbers for 4 prompts, horizon 100000, 2 tokens and "
        "dimension 8; valid: at most 4194304",
    ),
]


@pytest.mark.parametrize(("options", "line"), BAD)
def test_bad_settings_are_refused_in_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="task") as refused:
        AutoregressiveLinear(**options)
    assert str(refused.value) == line


def test_theta_star_is_in_the_ball_and_its_seed_leaves_the_features() -> None:
    for family in ("random", "position"):
        task = AutoregressiveLinear(family=family, norm=0.7)
        other = dataclasses.replace(task, theta_seed=1)
        assert np.linalg.norm(task.theta_star()) == pytest.approx(0.7)
        assert not np.array_equal(task.theta_star(), other.theta_star())
        assert task.features == other.features
    assert set(np.round(task.theta_star() * np.sqrt(8), 12)) == {-0.7, 0.7}
    assert dataclasses.replace(task, norm=0.0).exact_kl(np.zeros(8)) == 0
    assert dataclasses.replace(RANDOM, seed=5).features != RANDOM.features


def test_facts_are_means_over_prompts() -> None:
    task = dataclasses.replace(RANDOM, prompt_probs=[0.9, 0.1])
    assert hash(task)
    facts = dict(task.facts())
    entropies = markov_sums.entropies(task.features, task.theta_star())
    assert facts["exact entropy of pi_D(.|x), nats"] == pytest.approx(0.9 * entropies[0] + 0.1 * entropies[1])
    assert facts["KL of theta = 0, nats"] == pytest.approx(
        4 * np.log(3) - facts["exact entropy of pi_D(.|x), nats"]
    )
    assert 0 < facts["inherent variance sigma*^2"] <= 4 * 9


def test_prompts_are_drawn_with_their_probabilities() -> None:
    task = AutoregressiveLinear(num_prompts=3, prompt_probs=(0.7, 0.2, 0.1), horizon=1)
    keys = jax.random.split(jax.random.key(0), 8000)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: task.draw_prompt(key, jnp.int32(0))))(keys))
    shares = np.bincount(drawn, minlength=3) / 8000
    np.testing.assert_allclose(shares, task.mu, atol=0.02)
