import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metrics.evaluators import make_held_out
from tasks import LayeredGraph, stream

pytestmark = pytest.mark.long


@pytest.mark.slow
def test_every_class_is_drawn_from_its_own_stream_whatever_the_other_classes_are() -> None:
    task = LayeredGraph(depth=2, width=2, num_ids=8, mixture={"G1": 0.5, "G2": 0.25, "G3": 0.25})
    held_out = make_held_out(task, 3, 4, seed=7)
    assert held_out.batches.position.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 0, 1, 2]]
    assert held_out.batches.position.dtype == jnp.int32
    found = jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:])[:9], held_out.batches.example)
    draw = jax.jit(jax.vmap(task.sample_group, in_axes=(0, None)))
    for group, name in enumerate(task.groups):
        keys = jax.random.split(stream(7, "evaluation", "held-out", name), 3)
        alone = draw(keys, jnp.asarray(group))
        own = jax.tree.map(lambda a, group=group: a[3 * group : 3 * group + 3], found)
        jax.tree.map(np.testing.assert_array_equal, own, jax.tree.map(np.asarray, alone))


def test_flat_examples_are_in_order_and_none_is_repeated() -> None:
    task = LayeredGraph(depth=2, width=2, num_ids=8, mixture={"G1": 0.5, "G2": 0.25, "G3": 0.25})
    held_out = make_held_out(task, 5, 4, seed=0)
    assert held_out.num_examples % 4
    position, prompt = held_out.flat((held_out.batches.position, held_out.batches.example.prompt))
    assert position.tolist() == list(range(held_out.num_examples))
    at = [divmod(i, 4) for i in range(held_out.num_examples)]
    np.testing.assert_array_equal(
        prompt, [np.asarray(held_out.batches.example.prompt)[batch, row] for batch, row in at]
    )
