"""Ancestral sampling against the model's own probabilities, by enumeration of every sequence."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from oracles import gpt2

from covlab.testing.statistics import chi_square_p
from decoding import sample_responses
from models import GPT, sequence_log_probs

MODEL = GPT(
    vocab_size=4, prompt_length=3, response_length=3, num_layers=1, num_heads=2, width=8, init_std=0.25
)
PROMPT = np.array([[1, 2, 3], [0, 0, 3], [1, 2, 3]], np.int32)
MASK = PROMPT > 0
SEQUENCES = np.array(list(itertools.product(range(4), repeat=3)), np.int32)
COUNT = 6000
TEMPERATURE = 1.7


@pytest.fixture(scope="module")
def params() -> Any:
    return MODEL.init(jax.random.key(2))


@pytest.fixture(scope="module")
def law(params: Any) -> dict[float, np.ndarray]:
    """ln pi_T of all 64 sequences after each prompt, (prompts, 64), from the NumPy model."""
    exact = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    found = {1.0: np.zeros((3, 64)), TEMPERATURE: np.zeros((3, 64))}
    for row, prompt in enumerate(PROMPT):
        real = prompt[prompt > 0].tolist()
        for i, sequence in enumerate(SEQUENCES.tolist()):
            logits = gpt2.forward(exact, real + sequence[:-1], MODEL.num_heads)[len(real) - 1 :]
            for temperature, table in found.items():
                table[row, i] = gpt2.log_probs(logits / temperature)[range(3), sequence].sum()
    return found


def draw(params: Any, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    responses, log_probs = sample_responses(
        MODEL, params, PROMPT, MASK, jax.random.key(seed), COUNT, temperature
    )
    return np.asarray(responses), np.asarray(log_probs)


def test_the_law_is_far_from_uniform(law: dict[float, np.ndarray]) -> None:
    for table in law.values():
        np.testing.assert_allclose(np.exp(table).sum(axis=1), 1)
    assert np.exp(law[1.0]).max() > 0.05
    assert np.exp(law[1.0]).min() > 5 / COUNT


@pytest.mark.parametrize("temperature", [1.0, TEMPERATURE])
def test_frequencies_are_the_models_probabilities(
    params: Any, law: dict[float, np.ndarray], temperature: float
) -> None:
    responses, log_probs = draw(params, temperature)
    assert responses.shape == (3, COUNT, 3)
    other = TEMPERATURE if temperature == 1.0 else 1.0
    for row in range(3):
        observed = (responses[row] @ np.array([16, 4, 1])).tolist()
        assert chi_square_p(observed, dict(enumerate(np.exp(law[temperature][row])))) > 1e-3
        assert chi_square_p(observed, dict(enumerate(np.exp(law[other][row])))) < 1e-6
        np.testing.assert_allclose(log_probs[row], law[temperature][row][observed], atol=1e-5)


def test_log_probs_are_the_teacher_forced_scores(params: Any) -> None:
    responses, log_probs = draw(params, 1.0)
    few = responses[:, :50]
    scores = jax.jit(sequence_log_probs, static_argnums=0)(
        MODEL, params, PROMPT, MASK, few, np.ones(few.shape, bool)
    )
    np.testing.assert_allclose(log_probs[:, :50], scores, atol=1e-5)


def test_low_temperature_is_greedy(params: Any, law: dict[float, np.ndarray]) -> None:
    responses, log_probs = draw(params, 1e-4)
    for row in range(3):
        greedy: list[int] = []
        for _ in range(3):
            mass = [
                np.exp(law[1.0][row][np.all(SEQUENCES[:, : len(greedy) + 1] == [*greedy, v], axis=1)]).sum()
                for v in range(4)
            ]
            greedy.append(int(np.argmax(mass)))
        assert np.all(responses[row] == greedy)
    np.testing.assert_allclose(log_probs, 0, atol=1e-5)


def test_the_key_decides_and_samples_are_independent(params: Any, law: dict[float, np.ndarray]) -> None:
    first, second, other = draw(params, 1.0), draw(params, 1.0), draw(params, 1.0, seed=1)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert np.any(first[0] != other[0])
    # The first and the last prompt are the same: their samples must agree no more often than by chance.
    chance = np.sum(np.exp(2 * law[1.0][0]))
    neighbours = np.all(first[0][0, 1:] == first[0][0, :-1], axis=1).mean()
    twins = np.all(first[0][0] == first[0][2], axis=1).mean()
    keys = np.all(first[0][0] == other[0][0], axis=1).mean()
    assert max(abs(rate - chance) for rate in (neighbours, twins, keys)) < 5 * np.sqrt(chance / COUNT)
