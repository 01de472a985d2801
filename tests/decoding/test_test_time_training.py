"""Test-time training: the law sums to 1, samples follow it, and gradients are as documented."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.trees import TreeTask

from covlab.testing.statistics import chi_square_p
from decoding import ModelPolicy, Problem, TaskPolicy, TestTimeTraining, decode, ttt_log_probs
from models import GPT, Linear, TeacherlessGPT
from tasks.autoregressive_linear import AutoregressiveLinear

TASK = TreeTask(depth=3, symbols=3, ends=False, seed=0)
ENDING = TreeTask(depth=3, symbols=3, ends=True, seed=0)
SIZES = {"vocab_size": 4, "prompt_length": 3, "response_length": 3}
MODEL = GPT(**SIZES, num_layers=1, num_heads=2, width=8, init_std=0.25, tie_embeddings=False)
SEQUENCES = np.array(list(itertools.product((1, 2, 3), repeat=3)), np.int32)
PROMPTS = np.array([[1, 2, 3], [0, 0, 3]], np.int32)
PROBLEM = Problem(jnp.asarray(PROMPTS), jnp.asarray(PROMPTS > 0), (), jnp.full((2,), 3))
LAST = TestTimeTraining(learning_rate=0.15)
ALL = TestTimeTraining(learning_rate=0.03, parameters="all")
RULES = [LAST, pytest.param(ALL, marks=pytest.mark.slow)]
CHAINS = 3000


@functools.cache
def policy(model: GPT = MODEL, temperature: float = 1.0) -> ModelPolicy:
    return ModelPolicy(model, model.init(jax.random.key(2)), TASK.response_tokens, temperature)


@functools.partial(jax.jit, static_argnums=0)
def score(rule: TestTimeTraining, base: ModelPolicy, problem: Problem, responses: Any, mask: Any) -> Any:
    return ttt_log_probs(rule, base, problem, responses, mask)


def law(rule: TestTimeTraining, base: ModelPolicy | None = None) -> np.ndarray:
    """pi_TTT of all 27 sequences after each prompt."""
    every = jnp.broadcast_to(jnp.asarray(SEQUENCES), (2, 27, 3))
    tokens = score(rule, base or policy(), PROBLEM, every, jnp.ones(every.shape, bool))
    return np.exp(np.asarray(tokens, np.float64).sum(-1))


@functools.partial(jax.jit, static_argnums=0)
def forced(model: GPT, params: Any, every: Any) -> Any:
    return model.logits(params, PROBLEM.prompt, PROBLEM.prompt_mask, every)


def plain(base: ModelPolicy) -> np.ndarray:
    """The base model's own probabilities on the response tokens."""
    every = jnp.broadcast_to(jnp.asarray(SEQUENCES), (2, 27, 3))
    logits = np.asarray(forced(base.model, base.params, every), np.float64)
    logits = logits[..., 1:] / base.temperature
    tokens = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    found = np.exp(np.take_along_axis(tokens, SEQUENCES[None, ..., None] - 1, -1).sum((-1, -2)))
    np.testing.assert_allclose(found.sum(1), 1)
    return found / found.sum(1, keepdims=True)


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(
    model: GPT, params: Any, prompt: Any, sequence: Any, place: Any, temperature: Any
) -> Any:
    def own(params: Any) -> Any:
        logits = model.logits(params, prompt[None], prompt[None] > 0, sequence[None, None])[0, 0, place]
        return jax.nn.log_softmax(logits[1:] / temperature)[sequence[place] - 1]

    return jax.value_and_grad(own)(params)


def by_hand(rule: TestTimeTraining, base: ModelPolicy, prompt: Any, sequence: Any) -> list[float]:
    """Token log-probabilities, one gradient of the whole network after the other."""
    params, scores = base.params, []
    for place in range(3):
        value, slope = value_and_gradient(
            base.model, params, prompt, sequence, place, jnp.float32(base.temperature)
        )
        scores.append(float(value))
        if rule.parameters == "last":
            params = params | {"output": params["output"] + rule.learning_rate * slope["output"]}
            moving: Any = params["output"]
        else:
            params = moving = jax.tree.map(lambda a, b: a + rule.learning_rate * b, params, slope)
        if rule.radius is not None:
            norm = float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(moving))))
            shrunk = jax.tree.map(lambda a, norm=norm: a * min(1.0, rule.radius / norm), moving)
            params = params | {"output": shrunk} if rule.parameters == "last" else shrunk
    return scores


@pytest.mark.long
@pytest.mark.parametrize("rule", RULES, ids=["last", "all"])
def test_the_law_sums_to_1_and_is_far_from_the_base_models(rule: TestTimeTraining) -> None:
    found = law(rule)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert np.abs(found - plain(policy())).sum(1).min() > 0.02


@pytest.mark.long
@pytest.mark.parametrize(
    ("rule", "temperature"),
    [
        pytest.param(LAST, 1.0, marks=pytest.mark.slow),
        pytest.param(ALL, 1.0, marks=pytest.mark.slow),
        (TestTimeTraining(learning_rate=0.4, radius=1.5), 1.7),
        (TestTimeTraining(learning_rate=0.1, parameters="all", radius=3.0), 1.7),
    ],
    ids=["last", "all", "last, ball", "all, ball"],
)
def test_scores_follow_jax_grad_one_token_after_the_other(rule: TestTimeTraining, temperature: float) -> None:
    base = policy(temperature=temperature)
    if rule.radius is not None:
        moving = base.params["output"] if rule.parameters == "last" else base.params
        norm = np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(moving)))
        assert norm > rule.radius, "the projection must do something"
    few = SEQUENCES[[0, 5, 13, 22]]
    every = jnp.broadcast_to(jnp.asarray(few), (2, 4, 3))
    found = np.asarray(score(rule, base, PROBLEM, every, jnp.ones(every.shape, bool)))
    for row, prompt in enumerate(PROMPTS):
        for column, sequence in enumerate(few):
            np.testing.assert_allclose(found[row, column], by_hand(rule, base, prompt, sequence), atol=2e-5)


@pytest.mark.parametrize("parameters", ["last", pytest.param("all", marks=pytest.mark.slow)])
def test_learning_rate_0_is_the_base_model(parameters: Any) -> None:
    base = policy(temperature=1.7)
    rule = TestTimeTraining(learning_rate=0.0, parameters=parameters)
    np.testing.assert_allclose(law(rule, base), plain(base), rtol=2e-5)


@pytest.mark.long
@pytest.mark.parametrize("rule", RULES, ids=["last", "all"])
def test_samples_have_the_scored_law(rule: TestTimeTraining) -> None:
    base, found = policy(), law(rule)
    chains = CHAINS if rule is LAST else 3 * CHAINS  # rarest cell: 9e-4
    drawn = decode(rule, TASK, base, TaskPolicy(TASK), PROBLEM, jax.random.key(0), chains)
    assert np.all(drawn.finished)
    np.testing.assert_array_equal(drawn.tokens, 3)
    np.testing.assert_array_equal(drawn.queries, 0)
    for row in range(2):
        observed = ((np.asarray(drawn.responses[row]) - 1) @ np.array([9, 3, 1])).tolist()
        exact = found[row] / found[row].sum()
        assert chi_square_p(observed, dict(enumerate(exact))) > 1e-3
        assert chi_square_p(observed, dict(enumerate(plain(base)[row]))) < 1e-6


def test_tied_embeddings_move_as_logits_and_stay_as_inputs() -> None:
    untied = policy()
    tied = GPT(**SIZES, num_layers=1, num_heads=2, width=8, init_std=0.25)
    shared = {name: leaf for name, leaf in untied.params.items() if name != "output"}
    both = untied.params | {"output": untied.params["token"]}
    first = law(LAST, ModelPolicy(tied, shared, TASK.response_tokens))
    second = law(LAST, ModelPolicy(MODEL, both, TASK.response_tokens))
    np.testing.assert_allclose(first, second, rtol=1e-5)


@functools.partial(jax.jit, static_argnums=0)
def both_features(model: GPT, params: Any, every: Any) -> Any:
    """Features of all tokens at once, and token by token."""
    given = (params, PROBLEM.prompt, PROBLEM.prompt_mask)
    cache = model.start(*given, every.shape[1])
    last, rows = jnp.broadcast_to(PROBLEM.prompt[:, -1:], every.shape[:2]), []
    for position in range(3):
        row, cache = model.step_features(params, cache, last, jnp.asarray(position))
        rows.append(row)
        last = every[:, :, position]
    return model.features(*given, every), jnp.stack(rows, axis=2)


@pytest.mark.long
@pytest.mark.parametrize("kind", [GPT, pytest.param(TeacherlessGPT, marks=pytest.mark.slow)])
def test_features_times_table_are_logits(kind: type[GPT]) -> None:
    every = jnp.broadcast_to(jnp.asarray(SEQUENCES), (2, 27, 3))
    model = kind(**SIZES, num_layers=1, num_heads=2, width=8, init_std=0.25, tie_embeddings=kind is not GPT)
    params = model.init(jax.random.key(2))
    whole, stepwise = both_features(model, params, every)
    table = model.output_table(params)
    np.testing.assert_allclose(whole @ table.T, forced(model, params, every), atol=1e-5)
    np.testing.assert_allclose(stepwise, whole, atol=1e-5)


@pytest.mark.long
def test_the_end_token_and_the_largest_depth_end_a_response() -> None:
    # `ends`: a token of its own that may come at any depth; masked tokens neither count nor move anything.
    model = GPT(
        **SIZES | {"vocab_size": ENDING.vocab_size}, num_layers=1, num_heads=2, width=8, init_std=0.25
    )
    base = ModelPolicy(model, model.init(jax.random.key(2)), ENDING.response_tokens)
    shallow = PROBLEM._replace(depth=jnp.array([3, 2]))
    drawn = decode(LAST, ENDING, base, TaskPolicy(ENDING), shallow, jax.random.key(0), 200)
    responses = np.asarray(drawn.responses)
    ended = np.cumsum(responses == ENDING.end_token, axis=-1) - (responses == ENDING.end_token) > 0
    assert 0 < ended.any(-1).mean() < 1
    np.testing.assert_array_equal(responses == 0, ended | (np.arange(3) >= np.array([3, 2])[:, None, None]))
    np.testing.assert_array_equal(drawn.tokens, (responses > 0).sum(-1))
    masked = score(LAST, base, shallow, drawn.responses, drawn.responses > 0)
    assert np.all(np.asarray(masked)[responses == 0] == 0)
    changed = jnp.where(drawn.responses > 0, drawn.responses, 1)
    np.testing.assert_allclose(score(LAST, base, shallow, changed, drawn.responses > 0), masked, atol=1e-6)


@pytest.mark.long
def test_a_linear_model_moves_by_its_own_pass() -> None:
    from oracles.linear_models import token_pass

    task = AutoregressiveLinear(horizon=3, num_prompts=2, num_symbols=3, bound=2.0, dimension=4)
    model = Linear(task.vocab_size, task.prompt_length, task.response_length).for_task(task)
    theta = 0.5 * jnp.asarray(task.theta_star(), jnp.float32)
    base = ModelPolicy(model, {"theta": theta}, task.response_tokens)
    prompts = jnp.array([[4], [5]])
    problem = Problem(prompts, prompts > 0, (), jnp.full((2,), 3))
    every = jnp.broadcast_to(jnp.asarray(SEQUENCES), (2, 27, 3))
    rule = TestTimeTraining(learning_rate=0.1, parameters="all", radius=0.55)
    found = np.asarray(score(rule, base, problem, every, jnp.ones(every.shape, bool)))
    np.testing.assert_allclose(np.exp(found.sum(-1)).sum(1), 1, atol=1e-5)
    for prompt in range(2):
        for column in (0, 7, 26):
            response = jnp.asarray(SEQUENCES[column] - 1)
            running = token_pass(task.features, theta, jnp.asarray(prompt), response, 0.1, 0.55)
            np.testing.assert_allclose(found[prompt, column], running.log_probs(response), atol=1e-5)
    with pytest.raises(ValueError, match="last layer of Linear"):
        score(LAST, base, problem, every, jnp.ones(every.shape, bool))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rate": -1}, "decoding.learning_rate: -1"),
        ({"learning_rate": True}, "decoding.learning_rate: True"),
        ({"parameters": "first"}, "decoding.parameters: 'first'"),
        ({"radius": 0}, "decoding.radius: 0"),
    ],
)
def test_bad_settings_are_one_line(fields: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        TestTimeTraining(**fields)
    assert "\n" not in str(error.value)


def test_a_base_model_that_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="TaskPolicy has none"):
        decode(LAST, TASK, TaskPolicy(TASK), TaskPolicy(TASK), PROBLEM, jax.random.key(0), 2)
