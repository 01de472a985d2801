"""DeltaNet and DeltaProduct: eigenvalues, and word problems that weights set by hand solve."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from oracles import recurrent

from models.delta_net import DeltaNet, DeltaProduct

pytestmark = pytest.mark.long

LENGTH = 1000


@pytest.mark.parametrize(("negative", "low"), [(False, 0.0), (True, -1.0)])
@pytest.mark.parametrize("steps", [1, 2])
def test_eigenvalues_stay_in_their_range_and_reach_its_ends(negative: bool, low: float, steps: int) -> None:
    """With large weights, so that sigmoids saturate."""
    model = DeltaProduct(
        5, width=16, num_heads=2, householder_steps=steps, negative_eigenvalues=negative, init_std=3.0,
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    layer = model.layers[0].delta
    x = np.random.default_rng(0).normal(size=(200, 16)).astype("f")
    found = layer._recurrence(x, layer.query_key_value(x))
    keys, betas = (np.asarray(each, np.float64) for each in (found.keys, found.betas))
    pairs = zip(keys.reshape(-1, 8), betas.reshape(-1), strict=True)
    values = np.linalg.eigvalsh([recurrent.transition(key, beta) for key, beta in pairs])
    assert values.min() > low - 1e-6
    assert values.max() < 1 + 1e-6
    assert values.min() < low + 0.01
    np.testing.assert_allclose(values[:, 1:], 1, atol=1e-6)


def inverse_silu(values: np.ndarray) -> np.ndarray:
    """x > -1.27 with x sigmoid(x) = value, by bisection."""
    low, high = np.full(values.shape, -1.27), np.full(values.shape, 10.0)
    for _ in range(100):
        middle = (low + high) / 2
        below = middle / (1 + np.exp(-middle)) < values
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return middle


def solver(
    query: np.ndarray,
    reflections: Sequence[Sequence[np.ndarray]],
    readout: Mapping[int, np.ndarray],
    steps: int,
    negative: bool = True,
) -> DeltaProduct:
    """A one-layer model whose tokens multiply a product P of reflections, and whose largest logit names P.

    Token t reflects at the unit vectors `reflections[t]`. With v = -c k, beta = 2 and an empty state at the
    start, S = c (P - I). `readout` has a direction of (P - I) q for each element of the group but one, where
    it is 0: that element's logit is a constant.
    """
    tokens, size = len(reflections), len(query)
    width = tokens + size
    model = DeltaProduct(
        tokens, num_layers=1, num_heads=1, width=width, householder_steps=steps,
        negative_eigenvalues=negative, rngs=nnx.Rngs(0),
    )  # fmt: skip
    # Embeddings are one-hot: a linear map after the norm has a row for each token.
    model.embedding.embedding[...] = jnp.eye(tokens, width)
    row = np.sqrt(1 / width + 1e-5)
    channels, betas = np.zeros((width, (1 + 2 * steps) * width)), np.full((width, steps), -30.0)
    channels[:tokens, :size] = inverse_silu(query / 10)
    for token, vectors in enumerate(reflections):
        for step, vector in enumerate(vectors):
            for number, scale in ((1 + step, 0.1), (1 + steps + step, -0.1)):
                channels[token, number * width : number * width + size] = inverse_silu(scale * vector)
            betas[token, step] = 30
    delta, block = model.layers[0].delta, model.layers[0]
    delta.query_key_value.kernel[...] = jnp.asarray(row * channels, "float32")
    delta.beta.kernel[...] = jnp.asarray(row * betas, "float32")
    delta.convolution.kernel[...] = jnp.zeros_like(delta.convolution.kernel[...]).at[-1].set(1.0)
    delta.output.kernel[...] = jnp.zeros((width, width)).at[:size, tokens:].set(jnp.eye(size))
    block.mlp_out.kernel[...] = jnp.zeros_like(block.mlp_out.kernel[...])
    # The embeddings' entries sum to 1: a constant. The normed output has length sqrt(width).
    table = np.zeros((width, tokens))
    for element in range(tokens):
        if element in readout:
            table[tokens:, element] = readout[element] / np.linalg.norm(readout[element])
        else:
            table[:tokens, element] = np.sqrt(width) / 2
    model.output.kernel[...] = jnp.asarray(table, "float32")
    return model


def answers(model: DeltaProduct, tokens: np.ndarray) -> list[np.ndarray]:
    """Elements that the largest logit names after each token: by chunks, and by steps."""
    graph, params = nnx.split(model)

    @jax.jit
    def both(params: Any, tokens: Any) -> Any:
        model = nnx.merge(graph, params)
        _, stepped = jax.lax.scan(model.step, model.initial_carry(len(tokens)), tokens.T)
        return model(tokens), jnp.swapaxes(stepped, 0, 1)

    return [np.argmax(each, axis=-1) for each in both(params, tokens)]


def test_parity_at_length_1000_needs_negative_eigenvalues() -> None:
    tokens = np.random.default_rng(0).integers(0, 2, (3, LENGTH), np.int32)
    right = np.cumsum(tokens, axis=1) % 2
    one = np.ones(1)
    for negative in (True, False):
        model = solver(one, [[], [one]], {1: -one}, 1, negative)
        for found in answers(model, tokens):
            if negative:
                np.testing.assert_array_equal(found, right)
            else:
                # I - k k^T forgets: after the first 1 it is 1 for ever.
                np.testing.assert_array_equal(found, np.cumsum(tokens, axis=1) > 0)


def test_s3_at_length_1000_with_two_reflections() -> None:
    """Permutation matrices of 3 entries: a transposition is one reflection, a rotation two."""
    elements = [np.eye(3)[list(order)] for order in itertools.permutations(range(3))]
    query = np.array([1.0, 2.0, 4.0])

    def unit(i: int, j: int) -> np.ndarray:
        return (np.eye(3)[i] - np.eye(3)[j]) / np.sqrt(2)

    def number(matrix: np.ndarray) -> int:
        return next(n for n, each in enumerate(elements) if np.allclose(each, matrix))

    pairs = [unit(0, 1), unit(1, 2), unit(0, 2)]
    words: dict[int, list[np.ndarray]] = {number(np.eye(3)): []}
    for vectors in [[a] for a in pairs] + [[a, b] for a in pairs for b in pairs if a is not b]:
        words[number(np.linalg.multi_dot([np.eye(3), *(recurrent.transition(v, 2) for v in vectors)]))] = (
            vectors
        )
    assert len(words) == 6
    readout = {n: each @ query - query for n, each in enumerate(elements) if n != number(np.eye(3))}
    model = solver(query, [words[n] for n in range(6)], readout, 2)
    tokens = np.random.default_rng(1).integers(0, 6, (2, LENGTH), np.int32)
    right = np.empty(tokens.shape, int)
    for row, word in enumerate(tokens):
        product = np.eye(3)
        for place, token in enumerate(word):
            product = product @ elements[token]
            right[row, place] = number(product)
    for found in answers(model, tokens):
        np.testing.assert_array_equal(found, right)


def test_deltanet_is_deltaproduct_with_one_step() -> None:
    sizes: dict[str, Any] = {"width": 8, "num_heads": 2, "init_std": 0.5}
    tokens = np.random.default_rng(0).integers(0, 5, (2, 9))
    for negative in (False, True):
        one = DeltaNet(5, **sizes, negative_eigenvalues=negative, rngs=nnx.Rngs(0))
        other = DeltaProduct(5, **sizes, negative_eigenvalues=negative, householder_steps=1, rngs=nnx.Rngs(0))
        np.testing.assert_array_equal(one(tokens), other(tokens))


def test_initial_parameters_have_their_sizes_and_standard_deviations() -> None:
    model = DeltaProduct(50, num_layers=3, num_heads=2, width=48, init_std=0.1, rngs=nnx.Rngs(0))
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    assert len(leaves) == 2 + 1 + 3 * 10
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path)
        if "scale" in name:
            np.testing.assert_array_equal(leaf, np.ones(leaf.shape))
            continue
        std = 0.1
        if "convolution" in name:
            # Uniform within 1/2, of 4 inputs.
            std = 0.5 / np.sqrt(3)
            assert np.abs(leaf).max() < 0.5
        elif "mlp_out" in name or "['delta']['output']" in name:
            std = 0.1 / np.sqrt(6)
        # Four standard errors of an estimated standard deviation.
        assert np.std(leaf) == pytest.approx(std, rel=4 / np.sqrt(2 * leaf.size)), name
        assert abs(np.mean(leaf)) < 4 * std / np.sqrt(leaf.size)
    block = model.layers[0]
    # 2/3 of 4 times 48 hidden units; a query and 2 keys and values.
    assert block.mlp_in.kernel.shape == block.mlp_gate.kernel.shape == (48, 128)
    assert block.delta.query_key_value.kernel.shape == (48, 5 * 48)
    assert block.delta.beta.kernel.shape == (48, 4)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"width": 30}, "model.module.width: 30 is not a multiple of model.module.num_heads = 4"),
        ({"householder_steps": 0}, "model.module.householder_steps: 0 is not an integer >= 1"),
        ({"kernel_size": -1}, "model.module.kernel_size: -1 is not an integer >= 0"),
        ({"chunk_size": 1.5}, "model.module.chunk_size: 1.5 is not an integer >= 1"),
        ({"negative_eigenvalues": 1}, "model.module.negative_eigenvalues: 1 is not true or false"),
        ({"init_std": 0.0}, "model.module.init_std: 0.0 is not a positive number"),
        ({"num_layers": True}, "model.module.num_layers: True is not an integer >= 1"),
    ],
)
def test_a_bad_setting_is_one_line(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="model") as refused:
        DeltaProduct(5, **fields, rngs=nnx.Rngs(0))
    assert str(refused.value) == line
