"""Rollouts of a fixed set of prompts: with repeated rollouts, an example always has the same labels."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from jaxtyping import Array, Int

from tasks import Example
from tasks.tabular import Tabular
from training import Rollouts

TASK = Tabular(length=6, num_symbols=3)


@pytest.mark.long
def test_an_example_has_its_own_rollouts_whatever_the_step() -> None:
    examples = jax.jit(jax.vmap(TASK.sample))(jax.random.split(jax.random.key(0), 6))

    @functools.partial(jax.jit, static_argnames="repeat")
    def answered(examples: Example, step: int, repeat: bool) -> Int[Array, "batch samples response"]:
        source = Rollouts(per_prompt=2, repeat=repeat)
        return source(TASK, examples, jax.random.split(jax.random.key(step), 6), ()).responses

    first = np.asarray(answered(examples, 1, True))
    np.testing.assert_array_equal(answered(examples, 2, True), first)
    backwards = jax.tree.map(lambda leaf: leaf[::-1], examples)
    np.testing.assert_array_equal(answered(backwards, 1, True), first[::-1])
    # Examples differ from each other, and so do the rollouts of one.
    assert len({row.tobytes() for row in first.reshape(12, -1)}) > 8
    assert np.any(np.asarray(answered(examples, 1, False)) != answered(examples, 2, False))


def test_repeat_is_true_or_false() -> None:
    with pytest.raises(ValueError, match=r"source\.repeat: 1 is not true or false"):
        Rollouts(repeat=1)  # type: ignore[arg-type]
