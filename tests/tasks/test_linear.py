"""Laws of autoregressive linear models against plain NumPy: probabilities, sampling, enumeration."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import linear as oracle
from oracles.whole_prefix import WholePrefix, plain

from covlab.testing.statistics import chi_square_p
from tasks.linear import all_responses, linear_log_probs, next_log_probs, sample_linear

PHI = WholePrefix()
THETA = np.array([0.5, -0.6, 0.4])


@pytest.fixture(autouse=True)
def double() -> Any:
    """Float64, the precision of the oracle."""
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("prompt", [0, 1])
def test_probabilities_of_all_responses_are_the_oracles_and_sum_to_one(prompt: int) -> None:
    responses = all_responses(PHI)
    found = jax.jit(jax.vmap(lambda y: linear_log_probs(PHI, THETA, prompt, y)))(responses)
    assert found.dtype == np.float64
    assert np.exp(found.sum(axis=1)).sum() == pytest.approx(1, abs=1e-12)
    phi = plain(prompt)
    for response, row in zip(responses.tolist(), np.asarray(found), strict=True):
        probs = [oracle.next_probs(phi, 3, THETA, tuple(response[:h]))[response[h]] for h in range(4)]
        np.testing.assert_allclose(row, np.log(probs), rtol=1e-10)


def test_a_path_holds_the_children_of_every_proper_prefix_and_no_later_token() -> None:
    response = np.array([2, 0, 1, 2], np.int32)
    path = PHI.path(1, response)
    phi = plain(1)
    for h in range(4):
        expected = [phi((*response[:h].tolist(), a)) for a in range(3)]
        np.testing.assert_allclose(path[h], expected, rtol=1e-12)
    other = PHI.path(1, np.array([2, 0, 0, 0], np.int32))
    np.testing.assert_array_equal(path[:3], other[:3])


def test_large_scores_do_not_overflow() -> None:
    found = next_log_probs(jnp.asarray([1e4]), jnp.asarray([[1.0], [0.0], [-1.0]]))
    np.testing.assert_allclose(found, [0, -1e4, -2e4])


def test_samples_follow_the_law() -> None:
    keys = jax.random.split(jax.random.key(3), 20_000)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: sample_linear(PHI, THETA, 0, key)))(keys))
    assert drawn.dtype == np.int32
    law = oracle.law(plain(0), 3, 4, THETA)
    assert chi_square_p(map(tuple, drawn.tolist()), law) > 1e-3
    wrong = oracle.law(plain(0), 3, 4, THETA + 0.1)
    assert chi_square_p(map(tuple, drawn.tolist()), wrong) < 1e-6, "the test has no power"


def test_all_responses_are_in_lexicographic_order() -> None:
    found = all_responses(PHI)
    assert found.shape == (81, 4)
    assert found.dtype == np.int32
    assert [tuple(row) for row in found.tolist()] == oracle.responses(3, 4)


@dataclasses.dataclass(frozen=True)
class Long(WholePrefix):
    horizon = 14


def test_too_many_responses_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="features") as refused:
        all_responses(Long())
    assert str(refused.value) == "features: 3^14 responses; valid: at most 1048576"
