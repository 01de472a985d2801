"""Word problems and sorting: products, lengths, noise."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.small import group_word as oracle
from oracles.small import sorting as sorted_by_python

from covlab.testing.drawing import draw, judge
from covlab.testing.statistics import chi_square_p
from tasks import PAD, stream
from tasks.group_word import GroupWord
from tasks.sequences import SequenceTask
from tasks.sorting import Sorting

DRAWS = 3000
OPTIONS: list[dict[str, Any]] = [
    {"group": "z2", "length": 12, "longer": (20, 33)},
    {"group": "z97", "answer": "running", "min_length": 1, "length": 5, "longer": (9,)},
    {"group": "s4", "answer": "running", "length": 6, "longer": (), "generators": True},
    {"group": "a5", "min_length": 4, "length": 4, "longer": (8,)},
]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options["group"])


def of_class(task: SequenceTask, group: int, count: int = DRAWS) -> Any:
    """Examples of one class, as NumPy arrays."""
    keys = jax.random.split(stream(group, "test"), count)
    sampled = jax.jit(jax.vmap(task.sample_group, (0, None)))(keys, jnp.asarray(group))
    return jax.tree.map(np.asarray, sampled)


@pytest.mark.long
@every_option
def test_responses_are_products_at_every_length(options: dict[str, Any]) -> None:
    task = GroupWord(**options)
    for group in range(len(task.groups)):
        examples = of_class(task, group)
        assert set(examples.group.tolist()) == {group}
        assert (examples.log_prob == 0).all()
        for i in range(60):
            prompt = task.decode(examples.prompt[i])
            assert examples.response[i].tolist() == oracle.answer(task, prompt)


@pytest.mark.long
@every_option
def test_lengths_are_uniform_on_the_range_of_the_class(options: dict[str, Any]) -> None:
    task = GroupWord(**options)
    assert task.group_probs[0] == 1
    assert sum(task.group_probs) == 1
    assert set(draw(task, DRAWS).group.tolist()) == {0}, "training draws a length beyond training"
    least = options.get("min_length", 3)
    for group, high in enumerate((task.length, *task.longer)):
        examples = of_class(task, group)
        lengths = examples.prompt_mask.sum(axis=1) - 1
        assert task.groups[group] == f"length_{least}_{high}"
        expected = dict.fromkeys(range(least, high + 1), 1 / (high + 1 - least))
        if len(expected) == 1:
            assert set(lengths.tolist()) == set(expected)
        else:
            assert chi_square_p(lengths.tolist(), expected) > 1e-3
        assert (np.diff(examples.prompt_mask.astype(int), axis=1) >= 0).all()
        found = jax.vmap(task.max_tokens)(examples.latent)
        np.testing.assert_array_equal(found, lengths if task.answer == "running" else 1)
        least = high + 1


@every_option
def test_elements_are_uniform(options: dict[str, Any]) -> None:
    task = GroupWord(**options)
    examples = of_class(task, 0)
    elements = examples.prompt[:, :-1]
    drawn = (elements[elements != PAD] - 1).tolist()
    law = dict.fromkeys(task.structure.generators if task.generators else range(task.structure.order), 1.0)
    assert chi_square_p(drawn, {element: 1 / len(law) for element in law}) > 1e-3


def test_z2_is_parity() -> None:
    task = GroupWord(group="z2", length=12, longer=(20,))
    examples = of_class(task, 1)
    odd = (examples.prompt == 2).sum(axis=1) % 2
    np.testing.assert_array_equal(examples.response[:, 0], 1 + odd)


def test_the_sign_of_a_product_in_s3_is_the_parity_of_its_odd_elements() -> None:
    task = GroupWord(group="s3", length=9, longer=())
    examples = of_class(task, 0, 200)
    for i in range(200):
        words = task.decode(examples.prompt[i]).removesuffix("=").split()
        expected = math.prod(oracle.sign(word) for word in words)
        assert oracle.sign(task.decode(examples.response[i])) == expected


def test_noise_has_its_law_at_every_token() -> None:
    task = GroupWord(group="z5", answer="running", min_length=2, length=4, longer=(6,), noise=0.3)
    for group in (0, 1):
        examples = of_class(task, group, 6000)
        right, asked = examples.latent.answer, examples.latent.answer != PAD
        offsets = (examples.response - right)[asked] % 5
        law = {0: 0.7} | dict.fromkeys(range(1, 5), 0.075)
        assert chi_square_p(offsets.tolist(), law) > 1e-3
        assert chi_square_p(offsets.tolist(), {0: 0.65} | dict.fromkeys(range(1, 5), 0.0875)) < 1e-6
        wrong = (examples.response != right) & asked
        both = wrong[:, 0] & wrong[:, 1]
        assert abs(both.mean() - 0.09) < 4 * math.sqrt(0.09 * 0.91 / 6000), "errors are not independent"
        expected = np.log(0.7) * (asked & ~wrong).sum(axis=1) + np.log(0.075) * wrong.sum(axis=1)
        np.testing.assert_allclose(examples.log_prob, expected, rtol=1e-5)
        assert (examples.response[~asked] == PAD).all()


@pytest.mark.long
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_entropy_and_the_kl_of_a_guess_are_sums_over_all_responses(noise: float) -> None:
    task = GroupWord(group="s3", length=4, longer=(), noise=noise)
    examples = draw(task, 8)
    every = np.broadcast_to(np.arange(task.vocab_size)[:, None], (8, task.vocab_size, 1))
    log_prob, _, _ = judge(task, examples.latent, every)
    mass = np.exp(log_prob)
    terms = np.where(mass > 0, mass * np.where(mass > 0, log_prob, 0), 0).sum(axis=1)
    np.testing.assert_allclose(-terms, task.token_entropy, atol=1e-6)
    np.testing.assert_allclose(terms + np.log(6), task.guess_kl, atol=1e-6)


def test_coverage_of_a_uniform_guess() -> None:
    """X = ln(|G| (1 - eps)) with probability 1 - eps, else ln(|G| eps/(|G| - 1)): Cov_N has two steps."""
    task = GroupWord(group="s3", length=4, longer=(), noise=0.2)
    ratio = np.exp(draw(task, 6000).log_prob) * 6
    for n, expected in ((0.23, 1.0), (0.25, 0.8), (4.7, 0.8), (4.9, 0.0)):
        assert (ratio >= n).mean() == pytest.approx(expected, abs=0.02)


@pytest.mark.long
def test_sorting_at_lengths_beyond_training() -> None:
    task = Sorting(min_length=2, length=5, longer=(9, 17), num_symbols=7)
    for group in range(3):
        examples = of_class(task, group, 200)
        for i in range(200):
            prompt = task.decode(examples.prompt[i])
            assert examples.response[i].tolist() == sorted_by_python.answer(prompt, 17)
            low, high = task.ranges[group]
            assert low <= len(prompt.split()) - 1 <= high
    assert task.ranges == ((2, 5), (6, 9), (10, 17))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "d4"}, "task.group: 'd4' is no group; valid: z<n> with n from 2 to 1000, "),
        ({"answer": "all"}, "task.answer: 'all' is not one of final, running"),
        ({"min_length": 0}, "task.min_length: 0 is not an integer >= 1"),
        ({"min_length": 5, "length": 4}, "task.length: 4 is not an integer >= 5"),
        ({"longer": (20,)}, r"task.longer: \[20\] is not a list of increasing integers > task.length = 20"),
        ({"longer": (50, 40)}, r"task.longer: \[50, 40\] is not a list of increasing integers"),
        ({"longer": (50, 50)}, r"task.longer: \[50, 50\] is not a list of increasing integers"),
        ({"longer": (40.0,)}, r"task.longer: \[40.0\] is not a list of increasing integers"),
        ({"longer": 40}, "task.longer: 40 is not a list of increasing integers"),
        ({"noise": 1.0}, r"task.noise: 1.0 is not a number in \[0, 1\)"),
        ({"generators": 1}, "task.generators: 1 is not true or false"),
    ],
)
def test_bad_fields_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        GroupWord(**options)


def test_a_word_that_is_no_symbol_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^text: '124' is neither a symbol \(123, 132, 213, .*\) nor =$"):
        GroupWord(group="s3").encode("123 124 =")
    with pytest.raises(
        ValueError, match=r"^text: '8' is neither a symbol \(1, 2, 3, 4, 5, 6, \.\.\.\) nor =$"
    ):
        Sorting(num_symbols=7).encode("8")
