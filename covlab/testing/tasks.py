"""The contract of a task, on an instance small enough to list all sequences over its vocabulary."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest

from covlab.testing.drawing import draw, judge, listed, take
from covlab.testing.statistics import chi_square_p, uniform_p
from tasks import PAD, Task, stream

DRAWS = 6000
MOST_SEQUENCES = 200_000
"""Sequences that a test lists at most."""


@dataclasses.dataclass(frozen=True)
class Small:
    """A small instance; both answers are computed from the prompt's text, and share no code with the task.

    Attributes:
        probability: exact pi_D(response | prompt); None leaves out the tests of its values.
        reward: (prompt, class, response) -> the reward in [0, 1]: for tasks with a 0/1 reward, whether that
            class can emit the response; None leaves out the tests of its values.
    """

    task: Task
    probability: Callable[[str, Sequence[int]], Fraction | float] | None = None
    reward: Callable[[str, str, Sequence[int]], bool | Fraction | float] | None = None


def task_contract(
    task: Task,
    probability: Callable[[str, Sequence[int]], Fraction | float] | None = None,
    reward: Callable[[str, str, Sequence[int]], bool | Fraction | float] | None = None,
) -> type:
    """Tests of a task, to be given a name that begins with `Test`.

    Args:
        task: an instance with few sequences: vocab_size ** response_length of at most 200,000.
        probability: (text of the prompt, tokens of a response) -> pi_D(response | prompt).
        reward: (text of the prompt, name of the class, tokens of a response) -> reward.

    Raises:
        ValueError: an instance with more sequences.
    """
    return small_contract({type(task).__name__: Small(task, probability, reward)})


def small_contract(cases: Mapping[str, Small]) -> type:
    """The tests of `task_contract` for several instances, by the name that pytest shows."""
    for name, small in cases.items():
        count = small.task.vocab_size**small.task.response_length
        if count > MOST_SEQUENCES:
            raise ValueError(f"{name}: {count} sequences; valid: an instance with at most {MOST_SEQUENCES}")
    params = [pytest.param(small, id=name) for name, small in cases.items()]
    tests: type = pytest.mark.parametrize("small", params)(type("TestTask", (TaskTests,), {}))
    return tests


def all_sequences(small: Small) -> np.ndarray:
    """Every sequence of `response_length` tokens, padding included."""
    task = small.task
    return np.array(list(itertools.product(range(task.vocab_size), repeat=task.response_length)), np.int32)


class TaskTests:
    """The tests of one instance."""

    def test_probabilities_of_all_sequences_are_the_oracles_and_sum_to_one(self, small: Small) -> None:
        task = small.task
        examples = take(draw(task, DRAWS), slice(4))
        sequences = all_sequences(small)
        repeated = np.broadcast_to(sequences, (4, *sequences.shape))
        log_prob, reward, _ = judge(task, examples.latent, repeated)
        np.testing.assert_allclose(np.exp(log_prob).sum(axis=1), 1, atol=1e-6)
        for row in range(4):
            prompt, group = task.decode(examples.prompt[row]), task.groups[examples.group[row]]
            possible = np.flatnonzero((log_prob[row] > -np.inf) | (reward[row] > 0))
            others = np.random.default_rng(row).choice(len(sequences), 200)
            for i in {*possible.tolist(), *others.tolist()}:
                response = sequences[i].tolist()
                if small.probability is not None:
                    exact = float(small.probability(prompt, response))
                    assert np.exp(log_prob[row, i]) == pytest.approx(exact, abs=1e-6)
                if small.reward is not None:
                    earned = float(small.reward(prompt, group, response))
                    assert reward[row, i] == pytest.approx(earned, abs=1e-6)

    def test_enumeration_lists_every_response_of_positive_probability_once(self, small: Small) -> None:
        task = small.task
        if not task.num_enumerated:
            with pytest.raises(ValueError, match="does not enumerate"):
                task.enumerate(None)
            return
        examples = take(draw(task, DRAWS), slice(4))
        sequences = all_sequences(small)
        log_prob, _, validity = judge(
            task, examples.latent, np.broadcast_to(sequences, (4, *sequences.shape))
        )
        responses, mask = listed(task, examples.latent)
        assert responses.shape == (4, task.num_enumerated, task.response_length)
        for row in range(4):
            found = [tuple(response) for response in responses[row][mask[row]].tolist()]
            assert len(set(found)) == len(found)
            assert set(found) == {tuple(response) for response in sequences[validity[row] > 0].tolist()}
            assert {tuple(response) for response in sequences[log_prob[row] > -np.inf].tolist()} <= set(found)

    def test_sampled_responses_follow_log_prob(self, small: Small) -> None:
        """The randomised distribution function of pi_D(.|x) at a drawn response is uniform on [0, 1)."""
        task = small.task
        examples = draw(task, DRAWS)
        # A list of the only valid response could not tell a point mass from another law.
        if task.num_enumerated > 1:
            responses, mask = listed(task, examples.latent)
            log_prob, _, _ = judge(task, examples.latent, responses)
            log_prob = np.where(mask, log_prob, -np.inf)
        else:
            examples = take(examples, slice(500))
            sequences = all_sequences(small)
            responses = np.broadcast_to(sequences, (500, *sequences.shape))
            log_prob, _, _ = judge(task, examples.latent, responses)
            mask = np.ones(log_prob.shape, bool)
        drawn = np.all(responses == examples.response[:, None], axis=2) & mask
        assert np.array_equal(drawn.sum(axis=1), np.ones(len(drawn))), (
            "a sampled response is not among the valid ones"
        )
        mass = np.exp(log_prob)
        uniform = np.random.default_rng(0).uniform(size=len(drawn))

        def transformed(law: np.ndarray) -> np.ndarray:
            below = np.sum(np.where(np.cumsum(drawn, axis=1) == 0, law, 0), axis=1)
            return np.minimum(below + uniform * law[drawn], 1 - 1e-9)

        assert np.all(mass[drawn] > 0), "a response was drawn whose probability is 0"
        np.testing.assert_allclose(examples.log_prob, log_prob[drawn], atol=1e-6)
        assert uniform_p(transformed(mass)) > 1e-3
        tilted = (mass + np.eye(mass.shape[1])[0]) / 2
        assert uniform_p(transformed(tilted)) < 1e-6, "the test has no power against a wrong law"

    def test_sample_draws_a_class_and_then_what_sample_group_draws(self, small: Small) -> None:
        """The overlap of held-out and training prompts is counted by `sample_group`."""
        task = small.task
        if type(task).sample is Task.sample:
            return
        keys = jax.random.split(stream(0, "test"), 200)
        expected = jax.jit(jax.vmap(lambda key: Task.sample(task, key)))(keys)
        found = jax.jit(jax.vmap(task.sample))(keys)
        np.testing.assert_array_equal(found.prompt, expected.prompt)
        np.testing.assert_array_equal(found.group, expected.group)

    def test_sampled_classes_follow_the_mixture(self, small: Small) -> None:
        task = small.task
        assert sum(task.group_probs) == pytest.approx(1)
        drawn = draw(task, DRAWS).group.tolist()
        possible = np.flatnonzero(task.group_probs)
        if len(possible) == 1:
            assert set(drawn) == set(possible.tolist())
            return
        assert (
            chi_square_p(drawn, dict(enumerate(np.asarray(task.group_probs) / sum(task.group_probs)))) > 1e-3
        )
        wrong = 0.9 * np.asarray(task.group_probs) + 0.1 * np.eye(len(task.groups))[-1]
        assert chi_square_p(drawn, dict(enumerate(wrong / wrong.sum()))) < 1e-6

    def test_every_sampled_response_earns_a_reward_and_is_valid(self, small: Small) -> None:
        task = small.task
        examples = draw(task, DRAWS)
        log_prob, reward, validity = judge(task, examples.latent, examples.response[:, None])
        assert validity.min() == 1
        assert 0 < reward.min() <= reward.max() <= 1
        np.testing.assert_allclose(log_prob[:, 0], examples.log_prob, atol=1e-6)
        if small.reward is None:
            return
        for i in range(200):
            prompt, group = task.decode(examples.prompt[i]), task.groups[examples.group[i]]
            earned = small.reward(prompt, group, examples.response[i].tolist())
            assert reward[i, 0] == pytest.approx(float(earned), abs=1e-6)

    def test_padding_is_masked_left_in_prompts_and_right_in_responses(self, small: Small) -> None:
        task = small.task
        examples = draw(task, DRAWS)
        assert examples.prompt.shape == (DRAWS, task.prompt_length)
        assert examples.response.shape == (DRAWS, task.response_length)
        assert np.array_equal(examples.prompt_mask, examples.prompt != PAD)
        assert np.array_equal(examples.response_mask, examples.response != PAD)
        assert np.all(np.diff(examples.prompt_mask.astype(int), axis=1) >= 0)
        assert np.all(np.diff(examples.response_mask.astype(int), axis=1) <= 0)
        assert examples.prompt_mask[:, -1].all()
        assert examples.prompt_mask[:, 0].any(), "no prompt fills the length"
        for tokens in (examples.prompt, examples.response):
            assert tokens.min() >= 0
            assert tokens.max() < task.vocab_size

    def test_text_and_tokens_translate_both_ways(self, small: Small) -> None:
        task = small.task
        examples = draw(task, DRAWS)
        for i in range(50):
            for tokens in (examples.prompt[i], examples.response[i]):
                text = task.decode(tokens)
                assert task.encode(text) == tokens[tokens != PAD].tolist()
                assert task.decode(task.encode(text)) == text

    def test_a_task_is_a_static_argument(self, small: Small) -> None:
        task: Any = small.task
        again = type(task)(**{field.name: getattr(task, field.name) for field in dataclasses.fields(task)})
        assert again == task
        assert hash(again) == hash(task)

    def test_training_and_evaluation_share_no_example(self, small: Small) -> None:
        """Streams differ by name, so that neighbouring seeds cannot overlap."""
        task = small.task
        train, evaluation = draw(task, DRAWS, "train"), draw(task, DRAWS, "evaluation")
        same = np.all(train.prompt == evaluation.prompt, axis=1).mean()
        shifted = np.all(train.prompt[1:] == evaluation.prompt[:-1], axis=1).mean()
        chance = np.all(train.prompt == np.roll(train.prompt, 1, axis=0), axis=1).mean()
        assert max(same, shifted) <= chance + 0.03
        seeds = jax.vmap(lambda seed: jax.random.key_data(stream(seed, "train", "data")))(
            np.arange(100, dtype=np.uint32)
        )
        others = jax.vmap(lambda seed: jax.random.key_data(stream(seed, "evaluation", "data")))(
            np.arange(100, dtype=np.uint32)
        )
        keys = {tuple(key) for key in np.concatenate([seeds, others]).tolist()}
        assert len(keys) == 200
