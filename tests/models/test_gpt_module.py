"""The transformer as a `flax.nnx` module, and the names under which its parameters are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from oracles import gpt2

from models import GPT, TeacherlessGPT

SIZES = {"vocab_size": 5, "prompt_length": 3, "response_length": 2, "num_heads": 2, "width": 4}
NAMES = Path(__file__).parent / "gpt_parameters.json"
"""Name of every parameter -> shape and last value, of the model below, before it became a Flax module (commit
5a56ac9). Checkpoints, files of parameters and recorded results are read by these names."""
STORED = GPT(**SIZES, num_layers=11, tie_embeddings=False)
"""More than ten blocks: Flax and JAX must not sort them as texts."""


def named(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.long
def test_parameters_have_the_names_the_order_and_the_numbers_that_they_are_stored_with() -> None:
    found, stored = named(STORED.init(jax.random.key(3))), json.loads(NAMES.read_text())
    assert list(found) == list(stored)
    for name, (shape, last) in stored.items():
        assert list(found[name].shape) == shape, name
        assert float(found[name].reshape(-1)[-1]) == pytest.approx(last, rel=1e-5), name


@pytest.mark.parametrize("kind", [GPT, TeacherlessGPT])
def test_parameters_are_plain_containers(kind: type[GPT]) -> None:
    params = kind(**SIZES, num_layers=2).init(jax.random.key(0))
    assert type(params) is dict
    assert type(params["blocks"]) is list
    assert {type(leaf) for leaf in jax.tree.leaves(params)} == {type(jnp.zeros(1))}
    assert len(jax.tree.leaves(params)) == 2 + 2 * 12 + 2


@pytest.mark.long
def test_the_module_has_the_parameters_and_gives_gpt2s_logits() -> None:
    """On sequences without padding, of every length."""
    model = GPT(**SIZES, num_layers=2, tie_embeddings=False)
    module, params = model.module(jax.random.key(0)), model.init(jax.random.key(0))
    kernel = params["blocks"][1]["mlp_in"]["kernel"]
    np.testing.assert_array_equal(module.blocks[1].mlp_in.kernel[...], kernel)
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    tokens = np.array([[1, 4, 2, 3], [2, 2, 0, 1]])
    for length in (1, 4):
        logits = module(tokens[:, :length])
        expected = [gpt2.forward(exact, row[:length].tolist(), model.num_heads) for row in tokens]
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)


def test_tabulate_shows_every_layer_with_its_parameters() -> None:
    model = GPT(**SIZES, num_layers=2)
    plain = {"width": 200, "force_terminal": False}
    shown = nnx.tabulate(model.module(jax.random.key(0)), jnp.zeros((1, 4), int), console_kwargs=plain)
    for text in ("Transformer", "blocks/1/query_key_value", "kernel: float32[4,12]", "final_norm"):
        assert text in shown
    count = sum(leaf.size for leaf in jax.tree.leaves(model.init(jax.random.key(0))))
    assert f"Total Parameters: {count:,}" in shown
