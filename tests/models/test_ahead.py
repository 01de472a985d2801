"""The GPT's heads for tokens after the next one, and models that have none."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import gpt2
from oracles.toy import TabularModel

from models import GPT, Forward, MultiTokenGPT, Recursive, TeacherlessGPT, check_model, with_ahead

pytestmark = pytest.mark.long

SIZES: dict[str, Any] = {
    "vocab_size": 17, "prompt_length": 6, "response_length": 4, "num_layers": 2, "num_heads": 2, "width": 16,
}  # fmt: skip
PLAIN, MODEL = GPT(**SIZES), MultiTokenGPT(**SIZES, ahead=3)
REAL = (6, 3, 1)
passed_of = jax.jit(lambda model, heads, *args: model.training_pass(*args, heads), static_argnums=(0, 1))


def loud() -> Any:
    leaves, structure = jax.tree.flatten(jax.jit(MODEL.init)(jax.random.key(0)))
    rng = np.random.default_rng(1)
    moved = [leaf + rng.normal(0, 0.3, leaf.shape).astype("f") for leaf in leaves]
    return jax.tree.unflatten(structure, moved)


PARAMS = loud()


def batch() -> tuple[np.ndarray, ...]:
    """Prompts (padded by REAL), two responses each, and the mask of the responses."""
    rng = np.random.default_rng(2)
    tokens = np.stack([rng.permutation(np.arange(1, 17))[:10] for _ in REAL]).astype(np.int32)
    mask = np.arange(6) >= 6 - np.array(REAL)[:, None]
    responses = np.stack([tokens[:, 6:], (tokens[:, 6:] + 3) % 17], axis=1)
    return np.where(mask, tokens[:, :6], 0), mask, responses, np.ones(responses.shape, bool)


def test_a_head_is_gpt2_with_another_last_block() -> None:
    prompt, mask, responses, real = batch()
    logits, further, penalty = passed_of(MODEL, 3, PARAMS, prompt, mask, responses, real)
    assert penalty is None
    assert [one.shape for one in further] == [(3, 2, 4 - d, 17) for d in (1, 2, 3)]
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), PARAMS)
    trunk, last = exact["blocks"]
    for d, block in enumerate([last, *exact["ahead"]]):
        own = exact | {"blocks": [trunk, block]}
        found = logits if d == 0 else further[d - 1]
        for row, length in enumerate(REAL):
            for candidate in range(2):
                tokens = [*prompt[row][mask[row]].tolist(), *responses[row, candidate, :-1].tolist()]
                expected = gpt2.forward(own, tokens, 2)[length - 1 : length + 3 - d]
                np.testing.assert_allclose(found[row, candidate], expected, rtol=1e-4, atol=1e-4)


def test_heads_change_nothing_that_scores_or_samples() -> None:
    """Neither the initial parameters, nor any function of the model but `training_pass`."""
    fresh = [jax.jit(model.init)(jax.random.key(5)) for model in (PLAIN, MODEL)]
    assert set(fresh[1]) - set(fresh[0]) == {"ahead"}
    jax.tree.map(np.testing.assert_array_equal, fresh[0], {key: fresh[1][key] for key in fresh[0]})
    own = [np.asarray(block["mlp_in"]["kernel"]) for block in (*fresh[1]["blocks"], *fresh[1]["ahead"])]
    assert len({kernel.tobytes() for kernel in own}) == 5
    prompt, mask, responses, real = batch()
    expected = jax.jit(PLAIN.logits)(PARAMS, prompt, mask, responses)
    np.testing.assert_array_equal(jax.jit(MODEL.logits)(PARAMS, prompt, mask, responses), expected)
    for heads in (0, 3):
        logits = passed_of(MODEL, heads, PARAMS, prompt, mask, responses, real).logits
        np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-6)


def test_a_head_reads_no_token_that_it_predicts_or_that_lies_between() -> None:
    prompt, mask, responses, real = batch()
    original = passed_of(MODEL, 3, PARAMS, prompt, mask, responses, real).ahead
    for start in range(4):
        changed = np.where(np.arange(4) >= start, (responses + 5) % 17, responses)
        other = passed_of(MODEL, 3, PARAMS, prompt, mask, changed, real).ahead
        for one, two in zip(original, other, strict=True):
            # Index i of a head's logits has read the tokens before y_i.
            same = start + 1
            np.testing.assert_allclose(two[:, :, :same], one[:, :, :same], rtol=1e-5, atol=1e-5)
            assert one.shape[2] <= same or np.abs(two[:, :, same] - one[:, :, same]).max() > 1e-3


def test_gradients_reach_the_heads_that_are_asked_for_and_are_finite() -> None:
    """The third prompt has no token but its last: its prefix shows no key."""
    prompt, mask, responses, real = batch()

    def loss(params: Any) -> Any:
        further = MODEL.training_pass(params, prompt, mask, responses, real, 2).ahead
        return sum(jnp.sum(jnp.sin(one)) for one in further)

    slope = jax.jit(jax.grad(loss))(PARAMS)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    sizes = [np.abs(block["mlp_in"]["kernel"]).max() for block in slope["ahead"]]
    assert min(sizes[:2]) > 0
    assert sizes[2] == 0
    last = [np.abs(leaf).max() for leaf in jax.tree.leaves(slope["blocks"][1])]
    assert max(last) == 0, "the last block is the head of the next token"


def test_models_take_as_many_heads_as_are_asked_for_or_refuse() -> None:
    assert with_ahead(PLAIN, 0) is PLAIN
    assert with_ahead(PLAIN, 2) == MultiTokenGPT(**SIZES, ahead=2)
    assert with_ahead(MODEL, 2) is MODEL
    assert with_ahead(MODEL, 5) == MultiTokenGPT(**SIZES, ahead=5)
    with pytest.raises(ValueError, match=r"^model\.ahead: 3; the objective needs at least 4$"):
        MODEL.training_pass(PARAMS, *batch(), 4)
    with pytest.raises(ValueError, match=r"^model\.ahead: 0 is not an integer >= 1$"):
        MultiTokenGPT(**SIZES, ahead=0)
    for model in (TabularModel(), TeacherlessGPT(**SIZES), Recursive(**SIZES)):
        with pytest.raises(
            ValueError, match=r"^model: \w+ predicts the next token alone; valid for objective"
        ):
            with_ahead(model, 1)
        with pytest.raises(
            ValueError, match=r"^model: \w+ predicts the next token alone; valid for objective"
        ):
            model.training_pass(PARAMS, *batch(), 1)
        assert with_ahead(model, 0) is model


class Peeking(MultiTokenGPT):
    """Its only head ahead has read the token before the one that it predicts."""

    def training_pass(self, *given: Any) -> Forward:
        logits = self.logits(*given[:4])
        return Forward(logits, (logits[:, :, 1:],))


def test_a_head_that_reads_too_much_is_refused_before_training() -> None:
    prompt, mask, responses, _ = batch()
    params = jax.tree.map(np.asarray, PARAMS)
    check_model(MODEL, params, prompt, mask, responses[:, 0])
    with pytest.raises(
        ValueError, match=r"^model: Peeking's logits of response token 1 change with response"
    ) as no:
        check_model(Peeking(**SIZES, ahead=1), params, prompt, mask, responses[:, 0])
    assert "tokens from 0 on" in str(no.value)
