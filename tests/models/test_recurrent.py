"""Recurrent modules against plain NumPy models: whole sequences, token by token, gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from oracles import recurrent

from models.delta_net import DeltaNet, DeltaProduct
from models.recurrent import GRU, LSTM, orthogonal

pytestmark = pytest.mark.long

VOCAB, LENGTH = 7, 19
SIZES: dict[str, Any] = {"num_layers": 2, "width": 8}
DELTA: dict[str, Any] = {**SIZES, "num_heads": 2, "chunk_size": 8}


def delta(steps: int, largest: float) -> Callable[[Any, list[int]], np.ndarray]:
    return lambda params, tokens: recurrent.delta_product(params, tokens, 2, steps, largest)


MODELS: dict[str, tuple[Callable[[nnx.Rngs], Any], Callable[[Any, list[int]], np.ndarray]]] = {
    "lstm": (lambda rngs: LSTM(VOCAB, **SIZES, rngs=rngs), recurrent.lstm),
    "gru": (lambda rngs: GRU(VOCAB, **SIZES, rngs=rngs), recurrent.gru),
    "deltanet": (lambda rngs: DeltaNet(VOCAB, **DELTA, rngs=rngs), delta(1, 1.0)),
    "deltaproduct": (
        lambda rngs: DeltaProduct(VOCAB, **DELTA, householder_steps=3, rngs=rngs),
        delta(3, 2.0),
    ),
    "no-convolution": (
        lambda rngs: DeltaProduct(VOCAB, **DELTA, kernel_size=0, negative_eigenvalues=False, rngs=rngs),
        delta(2, 1.0),
    ),
}


def moved(name: str) -> tuple[Any, Any, np.ndarray]:
    """Graph, parameters far from their start, tokens (3, LENGTH)."""
    graph, params = nnx.split(MODELS[name][0](nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: a + rng.normal(0, 0.3, a.shape).astype("f"), params)
    return graph, params, rng.integers(0, VOCAB, (3, LENGTH), np.int32)


def by_steps(model: Any, tokens: Any) -> Any:
    _, logits = jax.lax.scan(model.step, model.initial_carry(len(tokens)), tokens.T)
    return jnp.swapaxes(logits, 0, 1)


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_plain_model(name: str) -> None:
    graph, params, tokens = moved(name)
    found = jax.jit(lambda params: nnx.merge(graph, params)(tokens))(params)
    assert found.shape == (3, LENGTH, VOCAB)
    assert found.dtype == jnp.float32
    exact = jax.tree.map(lambda a: np.asarray(a, np.float64), nnx.to_pure_dict(params))
    plain = np.stack([MODELS[name][1](exact, row.tolist()) for row in tokens])
    np.testing.assert_allclose(found, plain, atol=1e-5 * np.abs(plain).max())


@pytest.mark.parametrize("name", MODELS)
def test_steps_give_the_same_logits_and_gradients(name: str) -> None:
    graph, params, tokens = moved(name)
    direction = np.random.default_rng(1).normal(size=(3, LENGTH, VOCAB)).astype("f")

    def product(forward: Callable[[Any, Any], Any]) -> Any:
        return jax.jit(
            jax.value_and_grad(lambda params: jnp.sum(direction * forward(nnx.merge(graph, params), tokens)))
        )(params)

    whole, stepped = product(lambda model, tokens: model(tokens)), product(by_steps)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(stepped), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * float(np.abs(b).max()))
        assert np.abs(b).max() > 0


@pytest.mark.parametrize("name", MODELS)
def test_a_state_has_the_batch_first_and_one_size(name: str) -> None:
    graph, params, tokens = moved(name)
    model = nnx.merge(graph, params)
    carry = model.initial_carry(3)
    after, logits = model.step(carry, tokens[:, 0])
    assert logits.shape == (3, VOCAB)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, carry)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(carry)} == {3}
    # A row of the batch does not depend on the others.
    alone, _ = model.step(model.initial_carry(1), tokens[1:2, 0])
    for one, all_ in zip(jax.tree.leaves(alone), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(one[0], all_[1], atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_but_parameters_is_kept(name: str) -> None:
    """No random streams and no statistics, which a forward pass would change."""
    _, params, rest = nnx.split(MODELS[name][0](nnx.Rngs(0)), nnx.Param, ...)
    assert jax.tree.leaves(params)
    assert not jax.tree.leaves(rest)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_embeddings_and_output_start_with_their_standard_deviations(kind: Any) -> None:
    model = kind(60, num_layers=1, width=50, rngs=nnx.Rngs(0))
    for table, std in ((model.embedding.embedding, 1.0), (model.output.kernel, 50**-0.5)):
        # Four standard errors of an estimated standard deviation.
        assert np.std(table[...]) == pytest.approx(std, rel=4 / np.sqrt(2 * 3000))
    # Orthogonal rows, all gates together.
    recurrent = model.layers[0].cell.dense_h.kernel[...]
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(50), atol=1e-5)


@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize("fields", [{"width": 0}, {"num_layers": "2"}])
def test_a_bad_size_is_one_line(kind: Any, fields: dict[str, Any]) -> None:
    ((field, value),) = fields.items()
    with pytest.raises(ValueError, match="model") as refused:
        kind(VOCAB, **fields, rngs=nnx.Rngs(0))
    assert str(refused.value) == f"model.module.{field}: {value!r} is not an integer >= 1"


@pytest.mark.parametrize("shape", [(6, 24), (24, 6), (5, 5), (1, 1)])
def test_orthogonal_matrices_are_orthonormal_and_uniform(shape: tuple[int, int]) -> None:
    """Orthonormal rows or columns; over many draws every entry has mean 0 and variance 1/max(shape)."""
    drawn = jax.vmap(lambda key: orthogonal(key, shape))(jax.random.split(jax.random.key(3), 3000))
    few, many = sorted(shape)
    products = drawn @ drawn.swapaxes(1, 2) if shape[0] == few else drawn.swapaxes(1, 2) @ drawn
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(few), products.shape), atol=2e-6)
    np.testing.assert_allclose(np.mean(drawn, axis=0), np.zeros(shape), atol=5 / np.sqrt(3000 * many))
    squares = np.asarray(drawn) ** 2 * many
    np.testing.assert_allclose(np.mean(squares, axis=0), np.ones(shape), atol=5 * np.sqrt(2 / 3000))
