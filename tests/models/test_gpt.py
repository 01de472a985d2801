"""The transformer against a plain NumPy GPT-2, and what padding, caches and later tokens must not change."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import gpt2

from models import GPT, sequence_log_probs, token_log_probs

pytestmark = pytest.mark.long

SIZES = {
    "vocab_size": 17,
    "prompt_length": 6,
    "response_length": 4,
    "num_layers": 2,
    "num_heads": 2,
    "width": 16,
}
TIED, UNTIED = GPT(**SIZES), GPT(**SIZES, tie_embeddings=False)
BFLOAT16 = GPT(**SIZES, dtype="bfloat16")
REAL = (6, 3, 1)
"""Real tokens of the three prompts: no padding, some, nothing but the last token."""

logits_of = jax.jit(GPT.logits, static_argnums=0)
prompt_logits_of = jax.jit(GPT.prompt_logits, static_argnums=0)


def loud(model: GPT) -> Any:
    """Parameters with every leaf far from zero, so that no bias or gain is left out unnoticed."""
    leaves, structure = jax.tree.flatten(model.init(jax.random.key(0)))
    rng = np.random.default_rng(1)
    return jax.tree.unflatten(
        structure, [leaf + rng.normal(0, 0.3, leaf.shape).astype("f") for leaf in leaves]
    )


def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prompts (padded by REAL) and three responses each, all tokens of a sequence distinct."""
    rng = np.random.default_rng(2)
    tokens = np.stack([rng.permutation(np.arange(1, 17))[:10] for _ in REAL]).astype(np.int32)
    prompt, response = tokens[:, :6], tokens[:, 6:]
    mask = np.arange(6) >= 6 - np.array(REAL)[:, None]
    responses = np.stack([response, response[:, ::-1], (response + 3) % 17], axis=1)
    return np.where(mask, prompt, 0), mask, responses


def oracle_logits(model: GPT, params: Any, row: int, candidate: int) -> np.ndarray:
    prompt, mask, responses = batch()
    exact = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    tokens = [*prompt[row][mask[row]].tolist(), *responses[row, candidate, :-1].tolist()]
    return gpt2.forward(exact, tokens, model.num_heads)


@pytest.mark.parametrize("model", [TIED, UNTIED], ids=["tied", "untied"])
def test_logits_are_gpt2s(model: GPT) -> None:
    params = loud(model)
    logits = logits_of(model, params, *batch())
    assert logits.shape == (3, 3, 4, 17)
    for row, real in enumerate(REAL):
        for candidate in range(3):
            expected = oracle_logits(model, params, row, candidate)[real - 1 : real + 3]
            np.testing.assert_allclose(logits[row, candidate], expected, rtol=1e-5, atol=1e-5)


def test_a_prompt_of_one_token_is_read_with_the_response() -> None:
    model = TIED.divided(1, 4)
    params = loud(model)
    prompt, _, responses = batch()
    logits = logits_of(model, params, prompt[:, -1:], np.ones((3, 1), bool), responses)
    exact = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    for row in range(3):
        tokens = [int(prompt[row, -1]), *responses[row, 0, :-1].tolist()]
        expected = gpt2.forward(exact, tokens, model.num_heads)
        np.testing.assert_allclose(logits[row, 0], expected, rtol=1e-5, atol=1e-5)


def test_prompt_logits_are_gpt2s_where_a_real_token_precedes() -> None:
    params = loud(TIED)
    prompt, mask, _ = batch()
    logits = prompt_logits_of(TIED, params, prompt, mask)
    assert logits.shape == (3, 5, 17)
    for row, real in enumerate(REAL):
        expected = oracle_logits(TIED, params, row, 0)[: real - 1]
        np.testing.assert_allclose(logits[row, 6 - real :], expected, rtol=1e-5, atol=1e-5)


def test_candidates_share_the_prompt_without_touching_each_other() -> None:
    params = loud(TIED)
    prompt, mask, responses = batch()
    together = logits_of(TIED, params, prompt, mask, responses)
    for candidate in range(3):
        alone = logits_of(TIED, params, prompt, mask, responses[:, candidate : candidate + 1])
        np.testing.assert_allclose(together[:, candidate], alone[:, 0], rtol=1e-5, atol=1e-5)


def test_incremental_decoding_is_the_full_computation_at_every_position() -> None:
    params = loud(TIED)
    prompt, mask, responses = batch()
    full = logits_of(TIED, params, prompt, mask, responses)
    step = jax.jit(GPT.step, static_argnums=0)
    cache = TIED.start(params, prompt, mask, num_samples=3)
    inputs = np.concatenate([np.repeat(prompt[:, None, -1:], 3, axis=1), responses], axis=2)
    for position in range(4):
        logits, cache = step(TIED, params, cache, inputs[:, :, position], np.int32(position))
        np.testing.assert_allclose(logits, full[:, :, position], rtol=1e-5, atol=1e-5)


def test_logits_depend_on_every_earlier_token_and_on_no_later_one() -> None:
    """By gradients: with distinct tokens and no tied output, row v of the embedding is input v alone."""
    params = loud(UNTIED)
    prompt, mask, responses = batch()

    def at(token_table: Any) -> Any:
        out = UNTIED.logits(params | {"token": token_table}, prompt[:1], mask[:1], responses[:1, :1])
        return jnp.sum(jnp.sin(out[0, 0]), axis=-1)

    gradient = np.asarray(jax.jit(jax.jacrev(at))(params["token"]))
    sizes = np.abs(gradient).sum(axis=2)
    sequence = [*prompt[0], *responses[0, 0]]
    for position in range(4):
        seen = sequence[: 6 + position]
        assert sizes[position, seen].min() > 1e-4
        unseen = sorted(set(range(17)) - set(seen))
        assert np.all(sizes[position, unseen] == 0)


def test_padding_has_no_influence_whatever_its_tokens_and_its_amount() -> None:
    params = loud(TIED)
    prompt, mask, responses = batch()
    expected = logits_of(TIED, params, prompt, mask, responses)
    garbage = np.where(mask, prompt, np.random.default_rng(3).integers(0, 17, prompt.shape))
    np.testing.assert_array_equal(logits_of(TIED, params, garbage, mask, responses), expected)
    more = ((0, 0), (4, 0))
    longer = logits_of(TIED, params, np.pad(prompt, more, constant_values=5), np.pad(mask, more), responses)
    np.testing.assert_allclose(longer, expected, rtol=1e-5, atol=1e-5)


def test_gradients_through_padding_are_finite() -> None:
    """A prompt of one real token leaves an attention row without any key: zeros, not NaN."""
    prompt, mask, responses = batch()
    params = loud(TIED)
    every = np.ones(responses.shape, bool)

    def score(p: Any) -> Any:
        return jnp.sum(sequence_log_probs(TIED, p, prompt, mask, responses, every))

    gradient = jax.jit(jax.grad(score))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_bfloat16_stays_close_and_keeps_its_parameters_in_float32() -> None:
    params = BFLOAT16.init(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    jax.tree.map(np.testing.assert_array_equal, params, TIED.init(jax.random.key(0)))
    rough, fine = logits_of(BFLOAT16, loud(TIED), *batch()), logits_of(TIED, loud(TIED), *batch())
    assert rough.dtype == np.float32
    error = np.abs(rough - fine)
    assert 1e-6 < error.max() < 0.05 * np.abs(fine).max()


def test_sequence_log_probs_add_the_real_tokens_only() -> None:
    params = loud(TIED)
    prompt, mask, responses = batch()
    real = np.arange(4) < np.array([4, 2, 1])[:, None]
    score = jax.jit(sequence_log_probs, static_argnums=0)
    found = score(TIED, params, prompt, mask, responses, np.broadcast_to(real, responses.shape))
    for row in range(3):
        for candidate, length in enumerate((4, 2, 1)):
            table = gpt2.log_probs(oracle_logits(TIED, params, row, candidate)[REAL[row] - 1 :])
            expected = sum(table[t, responses[row, candidate, t]] for t in range(length))
            assert found[row, candidate] == pytest.approx(expected, abs=1e-5)


def test_token_log_probs_are_log_softmax_and_gather_with_the_same_gradient() -> None:
    rng = np.random.default_rng(4)
    logits, tokens = rng.normal(0, 5, (3, 4, 7)).astype("f"), rng.integers(0, 7, (3, 4))

    def plain(z: Any) -> Any:
        return jnp.take_along_axis(jax.nn.log_softmax(z), tokens[..., None], axis=-1)[..., 0]

    exact = gpt2.log_probs(logits.astype(np.float64))
    expected = np.take_along_axis(exact, tokens[..., None], -1)[..., 0]
    np.testing.assert_allclose(token_log_probs(logits, tokens), expected, rtol=1e-5, atol=1e-5)
    ours = jax.grad(lambda z: jnp.sum(token_log_probs(z, tokens) ** 2))(logits)
    np.testing.assert_allclose(ours, jax.grad(lambda z: jnp.sum(plain(z) ** 2))(logits), rtol=1e-4, atol=1e-4)
