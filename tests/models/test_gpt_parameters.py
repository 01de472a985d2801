"""Initialisation, sizes and settings of the transformer, and the derivative it writes out itself."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from omegaconf import OmegaConf
from oracles import gpt2

from models import GPT
from models.gradients import standardise

SIZES = {"vocab_size": 50, "prompt_length": 20, "response_length": 5}
MODEL = GPT(**SIZES, num_layers=3, num_heads=4, width=64)


def named_leaves(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.long
def test_initialisation_is_gpt2s() -> None:
    leaves = named_leaves(MODEL.init(jax.random.key(0)))
    residual = 0.02 / math.sqrt(2 * 3)
    for name, leaf in leaves.items():
        if name.endswith("['bias']"):
            assert np.all(leaf == 0)
        elif name.endswith("['scale']"):
            assert np.all(leaf == 1)
        else:
            std = residual if "_out" in name else 0.02
            # Four standard errors of an estimated standard deviation.
            assert np.std(leaf) == pytest.approx(std, rel=4 / math.sqrt(2 * leaf.size)), name
            assert abs(np.mean(leaf)) < 4 * std / math.sqrt(leaf.size)
    kernels = [np.asarray(leaf).reshape(-1)[:50] for leaf in leaves.values() if np.std(leaf) > 0]
    assert len({tuple(kernel.tolist()) for kernel in kernels}) == len(kernels), (
        "two leaves share their random numbers"
    )


@pytest.mark.long
@pytest.mark.parametrize("vocab_size", [50, 5000])
def test_arrays_drawn_together_are_those_of_their_keys(vocab_size: int) -> None:
    """With 5,000 tokens the table is so large that arrays of each size are drawn on their own."""
    model = dataclasses.replace(MODEL, vocab_size=vocab_size, tie_embeddings=False)
    found, residual = jax.jit(model.init)(jax.random.key(4)), 0.02 / math.sqrt(2 * 3)
    blocks = found["blocks"]
    parts = [("query_key_value", 0.02), ("attention_out", residual), ("mlp_in", 0.02), ("mlp_out", residual)]
    arrays = [(found["token"], 0.02), (found["position"], 0.02)]
    arrays += [(block[name]["kernel"], std) for block in blocks for name, std in parts]
    arrays.append((found["output"], 0.02))
    for key, (array, std) in zip(jax.random.split(jax.random.key(4), 15), arrays, strict=True):
        np.testing.assert_allclose(array, std * jax.random.normal(key, array.shape), rtol=1e-6)


@pytest.mark.long
def test_tied_embeddings_have_no_output_table() -> None:
    assert "output" not in MODEL.init(jax.random.key(0))
    untied = GPT(**SIZES, num_layers=1, num_heads=1, width=8, tie_embeddings=False).init(jax.random.key(0))
    assert untied["output"].shape == (50, 8)
    assert not np.array_equal(untied["output"], untied["token"])


def test_the_papers_model_has_10_6_million_parameters_without_embeddings() -> None:
    """12 d^2 + 13 d a block and 2 d for the last norm, d = 384, six blocks."""
    settings = OmegaConf.load(Path(__file__).parents[2] / "conf" / "model" / "gpt_paper.yaml")
    model = GPT(**SIZES, **{key: value for key, value in settings.items() if key != "defaults"})
    leaves = named_leaves(jax.eval_shape(model.init, jax.random.key(0)))
    embeddings = {"['token']": 50 * 384, "['position']": 24 * 384}
    assert {name: leaves[name].size for name in embeddings} == embeddings
    others = sum(leaf.size for name, leaf in leaves.items() if name not in embeddings)
    assert others == 6 * (12 * 384**2 + 13 * 384) + 2 * 384 == 10_647_552


@pytest.mark.long
def test_the_layer_norms_own_gradient_is_the_derivative() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(1, 2, (3, 8)).astype("f"), rng.normal(0, 1, (3, 8)).astype("f")

    def plain(v: Any) -> Any:
        centred = v - jnp.mean(v, axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)

    np.testing.assert_allclose(standardise(x), plain(x), rtol=1e-5, atol=1e-6)
    ours = jax.grad(lambda v: jnp.sum(weight * standardise(v)))(x)
    np.testing.assert_allclose(ours, jax.grad(lambda v: jnp.sum(weight * plain(v)))(x), rtol=1e-4, atol=1e-5)
    unit = {"scale": np.ones(8), "bias": np.zeros(8)}
    exact, small = x.astype(np.float64), 1e-6
    for row, column in ((0, 0), (1, 5), (2, 7)):
        moved = exact.copy()
        moved[row, column] += small
        change = np.sum(weight * (gpt2.norm(unit, moved) - gpt2.norm(unit, exact))) / small
        assert ours[row, column] == pytest.approx(change, rel=1e-3, abs=1e-5)


def test_the_layer_norm_of_a_constant_is_zero_with_a_finite_gradient() -> None:
    x = np.full((1, 8), 3.0, "f")
    np.testing.assert_allclose(standardise(x), 0, atol=1e-4)
    gradient = jax.grad(lambda v: jnp.sum(standardise(v) * jnp.arange(8.0)[None]))(x)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"width": 30}, "model.width: 30 is not a multiple of model.num_heads = 4"),
        ({"num_layers": 0}, "model.num_layers: 0 is not an integer >= 1"),
        ({"num_heads": 2.0}, "model.num_heads: 2.0 is not an integer >= 1"),
        ({"vocab_size": True}, "model.vocab_size: True is not an integer >= 1"),
        ({"dtype": "float16"}, "model.dtype: 'float16' is not one of float32, bfloat16"),
        ({"init_std": 0.0}, "model.init_std: 0.0 is not a positive number"),
        ({"init_std": float("nan")}, "model.init_std: nan is not a positive number"),
    ],
)
def test_bad_settings_are_refused_in_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="model") as refused:
        GPT(**(SIZES | options))
    assert str(refused.value) == line
