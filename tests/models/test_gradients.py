"""The gradients written by hand, against those that JAX derives from the plain layers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import GPT, cache, gpt, gradients, layers, nnx_layers, sequence_log_probs
from models.layers import Memory
from models.target import traced_for

pytestmark = pytest.mark.long

NAMES = ("attend", "linear", "lookup", "standardise")


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(0, 1, shape).astype("f")


def arguments(name: str) -> tuple[Any, ...]:
    """Arguments of a layer, floats first: prompt 1's query 0 sees no key; some rows are looked up twice."""
    rng = np.random.default_rng(0)
    if name == "lookup":
        return normal(rng, 5, 3), np.array([[1, 3, 1], [0, 1, 4]])
    if name == "standardise":
        return (2 * normal(rng, 3, 8) + 1,)
    shared, own = np.ones((2, 1, 1, 4, 5), bool), np.tri(4, dtype=bool)[None, None, None].repeat(2, axis=0)
    shared[1, ..., 0, :] = False
    own[1, ..., 0, :] = False
    return normal(rng, 2, 2, 3, 4, 6), (
        Memory(normal(rng, 2, 2, 5, 6), normal(rng, 2, 2, 5, 6), shared),
        Memory(normal(rng, 2, 2, 3, 4, 6), normal(rng, 2, 2, 3, 4, 6), own),
    )


def require_equal_gradients(name: str, *given: Any) -> None:
    """Equal values to the bit, and equal gradients to rounding, of which none is 0 everywhere."""
    leaves, structure = jax.tree.flatten(given)
    floats = [leaf.dtype.kind == "f" for leaf in leaves]

    def both(module: Any) -> Any:
        def pulled(moving: list[Any]) -> Any:
            moved = iter(moving)
            every = [next(moved) if real else leaf for leaf, real in zip(leaves, floats, strict=True)]
            value = getattr(module, name)(*jax.tree.unflatten(structure, every))
            return jnp.sum(normal(np.random.default_rng(1), *value.shape) * value), value

        moving = [leaf for leaf, real in zip(leaves, floats, strict=True) if real]
        (_, value), gradient = jax.jit(jax.value_and_grad(pulled, has_aux=True))(moving)
        return value, gradient

    (value, ours), (expected, derived) = both(gradients), both(layers)
    np.testing.assert_array_equal(value, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, derived)
    assert all(np.any(leaf != 0) for leaf in ours)


@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("name", ["attend", "lookup", "standardise"])
def test_a_layers_gradient_is_the_derived_one(name: str, backend: str) -> None:
    with traced_for(backend):
        require_equal_gradients(name, *arguments(name))


@pytest.mark.parametrize(("fan_in", "fan_out"), [(12, 5), (5, 12), (7, 7)])
def test_a_linear_maps_gradient_is_the_derived_one(fan_in: int, fan_out: int) -> None:
    rng = np.random.default_rng(0)
    require_equal_gradients("linear", normal(rng, 9, fan_in), normal(rng, fan_in, fan_out))


def test_the_transformers_gradient_is_the_derived_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With left padding, whose queries see no key, and a prompt of several blocks of queries."""
    model = GPT(vocab_size=11, prompt_length=9, response_length=4, num_layers=2, num_heads=2, width=8)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: a + 0.3 * normal(rng, *a.shape), model.init(jax.random.key(0)))
    mask = np.arange(9) >= np.array([0, 5, 8])[:, None]
    prompt = np.where(mask, rng.integers(1, 11, (3, 9)), 0)
    responses = rng.integers(1, 11, (3, 2, 4))
    monkeypatch.setattr(cache, "CAUSAL_BLOCK", 4)

    def gradient() -> Any:
        def loss(p: Any) -> Any:
            return jnp.sum(sequence_log_probs(model, p, prompt, mask, responses, np.ones((3, 2, 4), bool)))

        return jax.jit(jax.value_and_grad(loss))(params)

    value, ours = gradient()
    places = {"attend": gpt, "lookup": gpt, "linear": nnx_layers, "standardise": nnx_layers}
    assert places.keys() == set(NAMES)
    for name, place in places.items():
        assert getattr(place, name) is getattr(gradients, name)
        monkeypatch.setattr(place, name, getattr(layers, name))
    expected, derived = gradient()
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), ours, derived)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(ours))
