"""Modular addition: the split of the pairs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covlab.testing.drawing import draw
from covlab.testing.statistics import chi_square_p
from metrics.evaluators import make_held_out
from tasks import stream
from tasks.modular_addition import ModularAddition

OPTIONS: list[dict[str, Any]] = [
    {"modulus": 7},
    {"modulus": 11, "fraction": 0.3, "split_seed": 5},
    {"modulus": 8, "fraction": 0.75, "commuted": True},
]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=lambda options: str(options["modulus"]))


def pairs(prompts: np.ndarray) -> list[tuple[int, int]]:
    """(a, b) of each prompt."""
    return [(int(a) - 1, int(b) - 1) for a, _, b, _ in prompts]


def of_class(task: ModularAddition, group: int, count: int = 6000) -> list[tuple[int, int]]:
    keys = jax.random.split(stream(group, "test"), count)
    sampled = jax.jit(jax.vmap(task.sample_group, (0, None)))(keys, jnp.asarray(group))
    assert (np.asarray(sampled.group) == group).all()
    for (a, b), response in zip(pairs(np.asarray(sampled.prompt)), np.asarray(sampled.response), strict=True):
        assert response.tolist() == [1 + (a + b) % task.modulus]
    return pairs(np.asarray(sampled.prompt))


@pytest.mark.long
@every_option
def test_the_classes_are_complements_and_uniform(options: dict[str, Any]) -> None:
    task = ModularAddition(**options)
    train, held_out = of_class(task, 0), of_class(task, 1)
    p = task.modulus
    every = {(a, b) for a in range(p) for b in range(p)}
    trained = {pair for pair in every if task.trained[pair]}
    assert set(train) == trained
    assert set(held_out) == every - trained
    for drawn, members in ((train, trained), (held_out, every - trained)):
        assert chi_square_p(drawn, dict.fromkeys(members, 1 / len(members))) > 1e-3
    if task.commuted:
        assert trained == {(b, a) for a, b in trained}
        assert len({frozenset(pair) for pair in trained}) == round(task.fraction * p * (p + 1) / 2)
    else:
        assert len(trained) == round(task.fraction * p * p)
        assert trained != {(b, a) for a, b in trained}


@pytest.mark.long
def test_training_never_draws_a_held_out_pair() -> None:
    """Whatever the stream: seeds and steps of training, and the held-out set of an evaluation."""
    task = ModularAddition(modulus=13, fraction=0.4)
    trained = set(of_class(task, 0))
    for name in ("train", "other"):
        assert set(pairs(draw(task, 6000, name).prompt)) <= trained
    held_out = make_held_out(task, 256, 64, seed=0)
    prompts, groups = held_out.flat(held_out.batches.example.prompt), held_out.groups
    assert set(pairs(prompts[groups == 0])) <= trained
    assert not set(pairs(prompts[groups == 1])) & trained
    assert held_out.weights[groups == 1].sum() == 0


def test_the_split_follows_its_seed_alone() -> None:
    first, again, other = (ModularAddition(modulus=23, split_seed=seed).trained for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    # Two independent halves agree on half of the pairs.
    assert abs((first == other).mean() - 0.5) < 4 * 0.5 / 23


def test_sizes_for_display() -> None:
    assert ModularAddition().facts() == [("pairs of class train", 4704), ("pairs of class held_out", 4705)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modulus": 1}, "task.modulus: 1 is not an integer from 2 to 2000"),
        ({"modulus": 2001}, "task.modulus: 2001 is not an integer from 2 to 2000"),
        ({"fraction": 1.0}, "task.fraction: 1.0 is not a number strictly between 0 and 1"),
        ({"fraction": 1e-9}, "task.fraction: 1e-09 of 9409 pairs leaves a class empty; valid: at least one"),
        ({"modulus": 2, "fraction": 0.9}, "task.fraction: 0.9 of 4 pairs leaves a class empty"),
        ({"split_seed": -1}, "task.split_seed: -1 is not an integer from 0"),
        ({"commuted": "yes"}, "task.commuted: 'yes' is not true or false"),
    ],
)
def test_bad_fields_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        ModularAddition(**options)


def test_a_word_that_is_no_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^text: '7' is neither a number in 0\.\.6 nor \+ or =$"):
        ModularAddition(modulus=7).encode("3 + 7 =")
