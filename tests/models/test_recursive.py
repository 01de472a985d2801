"""The recursive transformer against a plain NumPy loop over tokens, and its limits as a GPT."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import gpt2

from models import GPT, Recursive, check_model
from models.recursive import Route, balancing_loss

pytestmark = pytest.mark.long

SIZES: dict[str, Any] = {
    "vocab_size": 17, "prompt_length": 6, "response_length": 4, "num_heads": 2, "width": 16,
}  # fmt: skip
REAL = (6, 3, 1)
PLAIN = Recursive(**SIZES, num_layers=2, num_recursions=3)
OUTER = Recursive(**SIZES, num_layers=1, num_recursions=2, outer_layers=1, input_injection=False)
ROUTED = Recursive(**SIZES, num_layers=1, num_recursions=3, outer_layers=1, routing="token")
BARE = Recursive(
    **SIZES, num_layers=2, num_recursions=2, routing="token", input_injection=False, tie_embeddings=False
)
MODELS = {"plain": PLAIN, "routed": ROUTED, "bare": BARE}


logits_of = jax.jit(lambda model, *args: model.logits(*args), static_argnums=0)


def loud(model: Recursive, seed: int = 1) -> Any:
    """Parameters far from zero, so that nothing is left out unnoticed and tokens differ in their choice."""
    leaves, structure = jax.tree.flatten(jax.jit(model.init)(jax.random.key(0)))
    rng = np.random.default_rng(seed)
    moved = [leaf + rng.normal(0, 0.3, leaf.shape).astype("f") for leaf in leaves]
    return jax.tree.unflatten(structure, moved)


def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prompts (padded by REAL) and three responses each, all tokens of a sequence distinct."""
    rng = np.random.default_rng(2)
    tokens = np.stack([rng.permutation(np.arange(1, 17))[:10] for _ in REAL]).astype(np.int32)
    prompt, response = tokens[:, :6], tokens[:, 6:]
    mask = np.arange(6) >= 6 - np.array(REAL)[:, None]
    responses = np.stack([response, response[:, ::-1], (response + 3) % 17], axis=1)
    return np.where(mask, prompt, 0), mask, responses


def by_hand(model: Recursive, params: Any, tokens: list[int]) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Logits after each token, the tokens' numbers of recursions, and the router's probabilities: token by
    token, in float64, each token attending to the earlier ones that take part in the same use of a block."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    heads, size = model.num_heads, model.width // model.num_heads
    kept: dict[tuple[Any, ...], list[tuple[np.ndarray, np.ndarray]]] = {}
    logits, depths, laws = [], [], []

    def use(name: tuple[Any, ...], block: Any, x: np.ndarray) -> np.ndarray:
        normed = gpt2.norm(block["attention_norm"], x)
        query, key, value = np.split(gpt2.linear(block["query_key_value"], normed), 3)
        kept.setdefault(name, []).append((key, value))
        mixed = np.zeros_like(x)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = np.array([k[part] @ query[part] / math.sqrt(size) for k, _ in kept[name]])
            weights = np.exp(scores - scores.max())
            mixed[part] = weights / weights.sum() @ np.array([v[part] for _, v in kept[name]])
        x = x + gpt2.linear(block["attention_out"], mixed)
        hidden = gpt2.linear(block["mlp_in"], gpt2.norm(block["mlp_norm"], x))
        return x + gpt2.linear(block["mlp_out"], gpt2.gelu(hidden))

    for position, token in enumerate(tokens):
        x = params["token"][token] + params["position"][position]
        for i, block in enumerate(params.get("entry", [])):
            x = use(("entry", i), block, x)
        entered, depth = x, model.num_recursions
        if model.routing == "token":
            z = gpt2.norm(params["router"]["norm"], x) @ params["router"]["kernel"]
            law = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            depth = int(np.argmax(law)) + 1
            laws.append(law)
        for recursion in range(depth):
            if model.input_injection and recursion > 0:
                x = x + entered
            for i, block in enumerate(params["blocks"]):
                x = use((recursion, i), block, x)
        if model.routing == "token":
            x = entered + law[depth - 1] * x
        for i, block in enumerate(params.get("exit", [])):
            x = use(("exit", i), block, x)
        depths.append(depth)
        logits.append(gpt2.norm(params["final_norm"], x) @ params.get("output", params["token"]).T)
    return np.array(logits), depths, np.array(laws)


def sequence(row: int, candidate: int) -> list[int]:
    prompt, mask, responses = batch()
    return [*prompt[row][mask[row]].tolist(), *responses[row, candidate, :-1].tolist()]


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_a_loop_over_tokens(name: str) -> None:
    model = MODELS[name]
    params = loud(model)
    logits = logits_of(model, params, *batch())
    prompt_logits = jax.jit(lambda *args: model.prompt_logits(*args))(params, *batch()[:2])
    seen = set()
    for row, real in enumerate(REAL):
        for candidate in range(3):
            expected, depths, _ = by_hand(model, params, sequence(row, candidate))
            seen |= set(depths)
            np.testing.assert_allclose(logits[row, candidate], expected[real - 1 :], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(prompt_logits[row, 6 - real :], expected[: real - 1], rtol=1e-4, atol=1e-4)
    # Every depth occurs, or the test would not see a mistake in it.
    every = range(1 if model.routing == "token" else model.num_recursions, model.num_recursions + 1)
    assert seen == {*every}


@pytest.mark.parametrize("name", MODELS)
def test_incremental_decoding_is_the_full_computation_also_after_a_step_back(name: str) -> None:
    model = MODELS[name]
    params, (prompt, mask, responses) = loud(model), batch()
    full = logits_of(model, params, prompt, mask, responses)
    step = jax.jit(lambda *args: model.step(*args))
    cache = model.start(params, prompt, mask, num_samples=3)
    inputs = np.concatenate([np.repeat(prompt[:, None, -1:], 3, axis=1), responses], axis=2)
    _, cache = step(params, cache, inputs[:, :, 0], np.int32(0))
    for position in (1, 2, 3):
        _, cache = step(params, cache, (inputs[:, :, position] + 5) % 17, np.int32(position))
    for position in (1, 2, 3):
        logits, cache = step(params, cache, inputs[:, :, position], np.full((3, 3), position, np.int32))
        np.testing.assert_allclose(logits, full[:, :, position], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_promises_of_a_model_hold(name: str) -> None:
    model = MODELS[name]
    prompt, mask, responses = batch()
    params = jax.tree.map(np.asarray, jax.jit(model.init)(jax.random.key(0)))
    check_model(model, params, prompt, mask, responses[:, 0], True)
    check_model(dataclasses.replace(model, dtype="bfloat16"), params, prompt, mask, responses[:, 0])


def test_uses_of_a_block_without_injection_are_layers_with_equal_weights() -> None:
    params = loud(OUTER)
    gpt = GPT(**SIZES, num_layers=4)
    layers = [*params["entry"], *params["blocks"] * 2, *params["exit"]]
    tied = {key: params[key] for key in ("token", "position", "final_norm")} | {"blocks": layers}
    np.testing.assert_allclose(
        logits_of(OUTER, params, *batch()), logits_of(gpt, tied, *batch()), rtol=1e-5, atol=1e-5
    )


def test_one_recursion_of_a_fresh_model_is_a_fresh_gpt() -> None:
    one = Recursive(**SIZES, num_layers=2, num_recursions=1)
    gpt, key = GPT(**SIZES, num_layers=2), jax.random.key(3)
    params = jax.jit(one.init)(key)
    assert jax.tree.structure(params) == jax.tree.structure(jax.jit(gpt.init)(key))
    np.testing.assert_array_equal(logits_of(one, params, *batch()), logits_of(gpt, params, *batch()))


def test_more_recursions_after_training_are_the_same_parameters_used_more_often() -> None:
    params, tested = loud(PLAIN), dataclasses.replace(PLAIN, test_recursions=5).tested
    assert PLAIN.tested is PLAIN
    assert (tested.num_recursions, tested.test_recursions) == (5, None)
    logits = logits_of(tested, params, *batch())
    expected, _, _ = by_hand(tested, params, sequence(0, 0))
    np.testing.assert_allclose(logits[0, 0], expected[5:], rtol=1e-4, atol=1e-4)
    assert np.abs(logits - logits_of(PLAIN, params, *batch())).max() > 0.1


def test_the_balancing_loss_of_a_plain_loop() -> None:
    params, (prompt, mask, responses) = loud(ROUTED), batch()
    real_tokens = np.arange(4) < np.array([4, 2, 1])[:, None]
    response_mask = np.broadcast_to(real_tokens[:, None], responses.shape)
    given = (params, prompt, mask, responses, response_mask)
    passed = jax.jit(lambda *args: ROUTED.training_pass(*args))(*given)
    np.testing.assert_array_equal(passed.logits, logits_of(ROUTED, params, prompt, mask, responses))
    assert passed.penalty is not None
    for row, length in enumerate((4, 2, 1)):
        for candidate in range(3):
            count = REAL[row] - 1 + length
            _, depths, laws = by_hand(ROUTED, params, sequence(row, candidate)[:count])
            shares = [depths.count(r) / count for r in (1, 2, 3)]
            expected = 0.1 * 3 * sum(f * p for f, p in zip(shares, laws.mean(axis=0), strict=True))
            assert passed.penalty[row, candidate] == pytest.approx(expected, rel=1e-4)
    plain = PLAIN.training_pass(loud(PLAIN), prompt, mask, responses, response_mask)
    assert plain.penalty is None


def test_the_balancing_loss_is_least_for_an_even_load() -> None:
    def of(probs: list[list[float]], depths: list[int]) -> float:
        route = Route(jnp.asarray(probs)[None, None], jnp.asarray(depths)[None, None])
        return float(balancing_loss((route, jnp.ones((1, 1, len(depths)), bool)))[0, 0])

    assert of([[0.5, 0.5], [0.5, 0.5]], [1, 2]) == pytest.approx(1)
    assert of([[1.0, 0.0], [1.0, 0.0]], [1, 1]) == pytest.approx(2)
    assert of([[0.75, 0.25], [0.75, 0.25]], [1, 1]) == pytest.approx(1.5)


def test_the_loss_teaches_the_router_through_the_gate() -> None:
    params, (prompt, mask, responses) = loud(ROUTED), batch()

    def loss(p: Any) -> Any:
        return jnp.sum(jnp.sin(ROUTED.logits(p, prompt, mask, responses)))

    slope = jax.jit(jax.grad(loss))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    router = params["router"]
    assert np.abs(slope["router"]["kernel"]).max() > 1e-4
    step = np.zeros_like(router["kernel"])
    step[3, 1] = 1e-2
    moved = [params | {"router": router | {"kernel": router["kernel"] + sign * step}} for sign in (1, -1)]
    ends = [float(jax.jit(loss)(each)) for each in moved]
    # A choice does not change within this step, so that the loss is smooth.
    assert slope["router"]["kernel"][3, 1] == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=0.02, abs=1e-3)


def test_a_choice_depends_on_no_later_token() -> None:
    params, (prompt, mask, responses) = loud(ROUTED), batch()
    routes = jax.jit(lambda *args: ROUTED.routes(*args))
    later = responses.copy()
    later[:, :, 2] = (later[:, :, 2] + 7) % 17
    (of_prompt, own), (same, other) = (routes(params, prompt, mask, each) for each in (responses, later))
    np.testing.assert_array_equal(of_prompt.probs, same.probs)
    np.testing.assert_array_equal(own.probs[:, :, :3], other.probs[:, :, :3])
    assert np.abs(own.probs[:, :, 3] - other.probs[:, :, 3]).max() > 1e-3


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"num_recursions": 0}, "model.num_recursions: 0 is not an integer >= 1"),
        ({"test_recursions": 0}, "model.test_recursions: 0 is neither null nor an integer >= 1"),
        ({"outer_layers": -1}, "model.outer_layers: -1 is not an integer >= 0"),
        ({"balance": -1}, "model.balance: -1 is not a number >= 0"),
        ({"routing": "expert"}, "model.routing: 'expert' is not one of none, token"),
        (
            {"routing": "token", "test_recursions": 2},
            "model.test_recursions: 2; valid with model.routing = token: null, because the router gives each "
            "token its number",
        ),
    ],
)
def test_bad_settings_are_refused_in_one_line(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="model") as refused:
        Recursive(**SIZES, **fields)
    assert str(refused.value) == line
    with pytest.raises(ValueError, match=r"^model\.routing: none; valid for the routes"):
        PLAIN.routes({}, *batch())
