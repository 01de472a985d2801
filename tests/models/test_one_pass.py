"""Training's forward pass on accelerators: its layers by hand, and the whole against the one of a CPU."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import GPT, TeacherlessGPT, check_model, layers
from models.accelerated import attend_before, gelu, normalised, product
from models.layers import Memory
from models.target import traced_for

SIZES = {
    "vocab_size": 11,
    "prompt_length": 9,
    "response_length": 4,
    "num_layers": 2,
    "num_heads": 2,
    "width": 8,
}
RNG = np.random.default_rng(0)
MASK = np.arange(9) >= np.array([0, 5, 8])[:, None]
PROMPT = np.where(MASK, RNG.integers(1, 11, (3, 9)), 0)
RESPONSES = RNG.integers(1, 11, (3, 1, 4))


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype("f")


def values_and_gradients(function: Any, weights: np.ndarray, *arguments: Any) -> Any:
    """The function, and the gradient of its weighted sum in every argument."""

    def weighted(*given: Any) -> Any:
        value = function(*given)
        return jnp.sum(weights * value.astype(jnp.float32)), value

    every = tuple(range(len(arguments)))
    return jax.jit(jax.grad(weighted, every, has_aux=True))(*arguments)


def require_close(ours: Any, expected: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), ours, expected)


def test_a_norm_is_that_of_its_formula() -> None:
    x, scale, bias = 3 * normal(0, 4, 5, 8) + 2, normal(1, 8), normal(2, 8)

    def plain(x: Any, scale: Any, bias: Any) -> Any:
        return layers.standardise(x) * scale + bias

    weights = normal(3, 4, 5, 8)
    ours, expected = (values_and_gradients(f, weights, x, scale, bias) for f in (normalised, plain))
    require_close(ours, expected)
    centred = x - x.mean(axis=-1, keepdims=True)
    by_hand = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * scale + bias
    require_close(ours[1], by_hand)


def test_gelu_has_the_derived_gradient() -> None:
    x, weights = 3 * normal(0, 4, 50), normal(1, 4, 50)

    def plain(x: Any) -> Any:
        return jax.nn.gelu(x, approximate=True)

    ours, expected = (values_and_gradients(f, weights, x) for f in (gelu, plain))
    require_close(ours, expected)
    rounded = values_and_gradients(gelu, weights, jnp.asarray(x, jnp.bfloat16))
    assert rounded[0][0].dtype == rounded[1].dtype == jnp.bfloat16
    require_close(jax.tree.map(lambda leaf: leaf.astype("f"), rounded), expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("axes", "x", "kernel", "bias"),
    [
        ("btc,cn->btn", (2, 3, 4), (4, 5), (5,)),
        ("btc,chd->bhtd", (2, 3, 4), (4, 5, 6), (5, 6)),
        ("bhtd,hdc->btc", (2, 5, 3, 6), (5, 6, 4), (4,)),
    ],
)
def test_a_product_has_the_derived_gradient(axes: str, x: Any, kernel: Any, bias: Any) -> None:
    given = normal(0, *x), normal(1, *kernel), normal(2, *bias)
    result = axes.partition("->")[2]
    place = [bias[0] if axis in "nc" else 1 for axis in result] if len(bias) == 1 else [1, 5, 1, 6]

    def plain(x: Any, kernel: Any, bias: Any) -> Any:
        return jnp.einsum(axes, x, kernel) + bias.reshape(place)

    weights = normal(3, *jax.eval_shape(plain, *given).shape)
    ours = values_and_gradients(lambda *own: product(axes, *own), weights, *given)
    require_close(ours, values_and_gradients(plain, weights, *given))


@pytest.mark.long
@pytest.mark.parametrize("asked", [1, 4, 7])
def test_attention_is_that_of_the_plain_layers(asked: int) -> None:
    """The second row has two tokens of padding, whose queries are not asked or not read."""
    query, key, value = normal(0, 2, 3, asked, 4), normal(1, 2, 3, 7, 4), normal(2, 2, 3, 7, 4)
    mask = np.arange(7) >= np.array([0, 2])[:, None]
    rows = np.arange(7 - asked, 7)
    weights = normal(3, 2, 3, asked, 4) * mask[:, None, rows, None]
    visible = (rows[:, None] >= np.arange(7)) & mask[:, None, None, None, :]

    def plain(query: Any, key: Any, value: Any) -> Any:
        memory = Memory(key[:, :, None], value[:, :, None], visible)
        return layers.attend(query[:, :, None] / 2, (memory,))[:, :, 0]

    given = query, key, value
    ours = values_and_gradients(lambda *own: attend_before(*own, mask), weights, *given)
    expected = values_and_gradients(plain, weights, *given)
    require_close(ours[0], expected[0])
    read = mask[:, None, rows, None]
    require_close(np.where(read, ours[1], 0), np.where(read, expected[1], 0))


def test_parameters_of_bfloat16_products_have_float32_gradients_with_float32_sums() -> None:
    """A sum of 4096 ones would stop at 256 in bfloat16."""
    x, kernel, bias = jnp.ones((1, 4096, 2), jnp.bfloat16), normal(0, 2, 3), normal(1, 3)
    made, pull = jax.vjp(lambda *own: product("btc,cn->btn", x, *own), kernel, bias)
    assert made.dtype == jnp.bfloat16
    to_kernel, to_bias = pull(jnp.ones_like(made))
    assert to_kernel.dtype == to_bias.dtype == jnp.float32
    np.testing.assert_array_equal(to_kernel, np.full((2, 3), 4096.0))
    np.testing.assert_array_equal(to_bias, np.full(3, 4096.0))


def moved(model: GPT) -> Any:
    params = jax.jit(model.init)(jax.random.key(0))
    leaves, structure = jax.tree.flatten(params)
    return structure.unflatten(
        [np.asarray(leaf) + 0.3 * normal(index, *leaf.shape) for index, leaf in enumerate(leaves)]
    )


@pytest.mark.long
@pytest.mark.parametrize("platform", ["tpu", "gpu"])
@pytest.mark.parametrize("kind", [GPT, TeacherlessGPT])
def test_one_pass_is_the_pass_of_a_cpu(kind: type[GPT], platform: str) -> None:
    """Logits and all gradients, with padding on the left and a length that is not one of tiles."""
    model = kind(**SIZES)
    weights = normal(100, 3, 1, 4, 11)

    def logits(params: Any) -> Any:
        return model.logits(params, PROMPT, MASK, RESPONSES)

    params = moved(model)
    expected = values_and_gradients(logits, weights, params)
    with traced_for(platform):
        ours = values_and_gradients(logits, weights, params)
    require_close(ours, expected, rtol=1e-3, atol=1e-4)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(ours[0]))


def test_one_pass_has_half_the_products() -> None:
    """Not the way of a CPU: a row's prompt and response enter each product of a block together."""
    model = GPT(**SIZES)
    params = jax.eval_shape(model.init, jax.random.key(0))

    def products() -> int:
        traced = jax.jit(model.logits).trace(params, PROMPT, MASK, RESPONSES)
        return traced.lower().as_text().count("dot_general")

    plain = products()
    with traced_for("tpu"):
        assert products() < plain


@pytest.mark.long
def test_padding_changes_no_probability() -> None:
    model, params = GPT(**SIZES), moved(GPT(**SIZES))
    with traced_for("tpu"):
        short = model.logits(params, PROMPT[2:, 8:], MASK[2:, 8:], RESPONSES[2:])
        long = model.logits(params, PROMPT[2:], MASK[2:], RESPONSES[2:])
    np.testing.assert_allclose(short, long, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_the_models_contract_holds_in_one_pass() -> None:
    """One candidate is scored as several are, no token is read that must be predicted."""
    model = GPT(**SIZES)
    with traced_for("gpu"):
        assert model.separate_paths
        check_model(model, moved(model), PROMPT, MASK, RESPONSES[:, 0])
    assert not model.separate_paths


@pytest.mark.long
def test_computing_in_bfloat16_is_close_and_keeps_parameters() -> None:
    model = GPT(**SIZES)
    rounded = model.computing("bfloat16")
    assert rounded.dtype == "bfloat16"
    assert rounded.computing("float32") is rounded
    params = moved(model)
    with traced_for("tpu"):
        exact, other = (jax.jit(own.logits)(params, PROMPT, MASK, RESPONSES) for own in (model, rounded))
    assert other.dtype == jnp.float32
    spread = float(jnp.std(exact))
    assert 0 < float(jnp.max(jnp.abs(exact - other))) < 0.1 * spread
