"""Policy gradients against enumeration and plain NumPy: advantages, ratios, clipping, divergences."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import policy_gradient as oracle
from oracles.toy import TabularModel, ToyTask, class_blind_params

from covlab.testing.statistics import chi_square_p
from metrics.evaluators import Batch
from training import (
    Bonus,
    CrossEntropy,
    EvaluationSchedule,
    Grid,
    Layout,
    OnPolicy,
    Phase,
    Policy,
    PolicyGradient,
    Program,
    Rollouts,
    Scores,
    make_program,
)
from training.batch_loss import batch_loss
from training.feed import responses_of_step
from training.old_scores import OldScores, divergence
from training.optimizers import sgd
from training.policy_gradient import advantages, k3
from training.sources import TrainingBatch

GRPO = PolicyGradient()
RLOO = PolicyGradient("leave_one_out", "none", "sequence", "sum", kl="reward")
REINFORCE = dataclasses.replace(RLOO, baseline="mean")
OBJECTIVES = {
    "grpo": GRPO,
    "grpo, k3": dataclasses.replace(GRPO, kl_weight=0.3, clip=0.05),
    "grpo, exact": dataclasses.replace(GRPO, kl_weight=0.3, kl="exact", length="sum"),
    "rloo, in the reward": dataclasses.replace(RLOO, kl_weight=0.3, clip=None),
}
TASK, MODEL = ToyTask(), TabularModel()
SOURCE = OnPolicy(per_prompt=4, updates_per_batch=3)
DESCENT = sgd(steps=40, learning_rate=1.0)
PHASE = Phase("p", TASK, GRPO, DESCENT, 40, 8, None, EvaluationSchedule(), 5, source=SOURCE)
PHASE_OF = {name: dataclasses.replace(PHASE, objective=own) for name, own in OBJECTIVES.items()}


def settings(objective: PolicyGradient) -> dict[str, Any]:
    return {
        "leave_one_out": objective.baseline == "leave_one_out",
        "by_std": objective.normalise == "std",
        "by_token": objective.ratio == "token",
        "by_length": objective.length == "mean",
        "clip": objective.clip,
        "kl_weight": objective.kl_weight,
        "kl": objective.kl,
    }


@pytest.mark.long
@pytest.mark.parametrize("leave_one_out", [True, False])
@pytest.mark.parametrize("by_std", [True, False])
def test_advantages_are_the_papers(leave_one_out: bool, by_std: bool) -> None:
    rewards = np.random.default_rng(0).random((5, 4))
    rewards[0] = [1, 0, 0, 1]
    mine = advantages(jnp.asarray(rewards, jnp.float32), "leave_one_out" if leave_one_out else "mean", by_std)
    theirs = [oracle.group_advantages(row.tolist(), leave_one_out, by_std) for row in rewards]
    np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=1e-6)


@pytest.mark.long
def test_the_sample_deviation_is_what_other_libraries_divide_by() -> None:
    """sqrt((S - 1)/S) times the population's advantages, as torch.std has it."""
    rewards = np.random.default_rng(0).random((5, 4)).astype(np.float32)
    found = advantages(jnp.asarray(rewards), ddof=1)
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    expected = centred / (rewards.std(axis=1, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    tokens, mask = jnp.log(jnp.full((5, 4, 2), 0.5)), jnp.ones((5, 4, 2), bool)
    scores = Scores(tokens, mask, rewards=jnp.asarray(rewards))
    np.testing.assert_allclose(
        PolicyGradient(normalise="sample_std")(scores), -expected, rtol=1e-4, atol=1e-6
    )
    assert np.abs(np.asarray(GRPO(scores)) + expected).max() > 0.1


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1 / 3])
def test_a_group_of_equal_rewards_has_no_gradient(reward: float) -> None:
    for baseline, by_std in itertools.product(("mean", "leave_one_out"), (True, False)):
        found = advantages(jnp.full((3, 7), reward, jnp.float32), baseline, by_std)  # type: ignore[arg-type]
        assert not np.any(np.asarray(found)), (baseline, by_std)


# Two positions, three tokens: nine responses, 729 groups of three, whose average is the expectation.

SMALL = TabularModel(vocab_size=3)
RESPONSES = np.array(list(itertools.product(range(3), repeat=2)))
GROUPS = np.array(list(itertools.product(range(9), repeat=3)))
REWARDS = np.random.default_rng(3).random(9).astype(np.float32)
TABLE, REFERENCE = (
    0.7 * np.random.default_rng(seed).normal(size=(3, 2, 3)).astype(np.float32) for seed in (1, 2)
)


def law(table: Any) -> Any:
    """pi(y) of the nine responses to the prompt that reads row 1."""
    tokens = jax.nn.log_softmax(table[1])
    return jnp.exp(tokens[0, RESPONSES[:, 0]] + tokens[1, RESPONSES[:, 1]])


def expected_gradient(objective: PolicyGradient) -> np.ndarray:
    """The mean over all groups, by their probabilities, of the gradient that a group gives."""
    responses = jnp.asarray(RESPONSES)[GROUPS]
    prompt = jnp.ones((len(GROUPS), 3), int)
    mask = jnp.ones(responses.shape, bool)
    reference = jax.nn.log_softmax(jnp.asarray(REFERENCE)[1])
    theirs = jnp.stack([reference[0, responses[..., 0]], reference[1, responses[..., 1]]], axis=-1)
    everywhere = jnp.broadcast_to(reference, (*responses.shape, 3))
    old = OldScores(None, theirs, everywhere if objective.reference == "distributions" else None)
    # A batch's mean, with each group as often as it is drawn.
    weights = (np.prod(np.asarray(law(jnp.asarray(TABLE)))[GROUPS], axis=1) * len(GROUPS)).tolist()

    def loss(table: Any) -> Any:
        params = {"table": table, "fuse": jnp.zeros(()), "rate": jnp.zeros(())}
        numbered = jnp.arange(len(GROUPS))
        rewards = jnp.asarray(REWARDS)[GROUPS]
        batch = TrainingBatch(prompt, prompt > 0, responses, mask, numbered, rewards, old=old)
        return batch_loss(SMALL, objective, params, batch, weights)

    return np.asarray(jax.jit(jax.grad(loss))(jnp.asarray(TABLE)))


def exact_gradient(value: Any) -> np.ndarray:
    """Gradient of minus an expectation under the policy."""
    return -np.asarray(jax.jit(jax.grad(value))(jnp.asarray(TABLE)))


def expected_reward(table: Any) -> Any:
    return jnp.sum(law(table) * REWARDS)


@pytest.mark.long
def test_rloos_gradient_is_that_of_the_expected_reward() -> None:
    exact = exact_gradient(expected_reward)
    np.testing.assert_allclose(expected_gradient(RLOO), exact, atol=1e-6)
    assert np.abs(exact).max() > 0.02
    np.testing.assert_allclose(expected_gradient(REINFORCE), exact * 2 / 3, atol=1e-6)
    by_tokens = dataclasses.replace(RLOO, ratio="token")
    np.testing.assert_allclose(expected_gradient(by_tokens), exact, atol=1e-6)
    assert np.abs(expected_gradient(GRPO) - exact).max() > 0.01, "GRPO divides by std: another gradient"


def test_a_divergence_in_the_reward_is_the_whole_responses() -> None:
    def objective(table: Any) -> Any:
        p, q = law(table), law(jnp.asarray(REFERENCE))
        return expected_reward(table) - 0.4 * jnp.sum(p * jnp.log(p / q))

    found = expected_gradient(dataclasses.replace(RLOO, kl_weight=0.4))
    np.testing.assert_allclose(found, exact_gradient(objective), atol=2e-6)


def test_k3_is_kl_in_expectation_and_its_gradient_the_reverse_ones() -> None:
    logits, reference = jnp.array([0.0, 1.0, -1.0]), jax.nn.log_softmax(jnp.array([1.5, -0.5, 0.0]))
    own = jax.nn.log_softmax(logits)

    def kl(one: Any, other: Any) -> Any:
        return jnp.sum(jnp.exp(one) * (one - other))

    def drawn(logits: Any) -> Any:
        return jnp.sum(jnp.exp(own) * k3(jax.nn.log_softmax(logits), reference))

    @jax.jit
    def found() -> Any:
        reverse = jax.grad(lambda logits: kl(reference, jax.nn.log_softmax(logits)))(logits)
        forward = jax.grad(lambda logits: kl(jax.nn.log_softmax(logits), reference))(logits)
        mine = jax.grad(drawn)(logits), jax.grad(lambda x: divergence(x, reference))(logits)
        values = kl(own, reference), drawn(logits), divergence(logits, reference)
        return values, k3(own, reference), k3(own, own), reverse, forward, *mine

    (value, *estimates), each, same, reverse, forward, by_k3, by_divergence = found()
    np.testing.assert_allclose(estimates, value, rtol=1e-5)
    assert float(jnp.min(each)) >= 0
    assert not np.any(same)
    np.testing.assert_allclose(by_k3, reverse, atol=1e-6)
    np.testing.assert_allclose(by_divergence, forward, atol=1e-6)
    assert np.abs(np.asarray(forward - reverse)).max() > 0.05


def test_an_impossible_token_leaves_the_exact_divergence_finite() -> None:
    logits = jnp.array([0.0, 1.0, -jnp.inf])
    reference = jax.nn.log_softmax(jnp.array([1.0, 0.0, -jnp.inf]))
    value, slope = jax.value_and_grad(divergence)(logits, reference)
    p = np.exp([0, 1]) / np.exp([0, 1]).sum()
    assert float(value) == pytest.approx((p * np.log(p / p[::-1])).sum(), rel=1e-5)
    assert np.isfinite(np.asarray(slope)).all()


def test_clipping_stops_the_gradient_on_one_side_only() -> None:
    """Ratios .5, 1 and 2 with advantages + and -: PPO's table of which terms still pull."""
    old = jnp.log(jnp.full((1, 3, 1), 0.2))
    mask = jnp.ones((1, 3, 1), bool)

    @jax.jit
    def pulls(tokens: Any, best: Any) -> Any:
        rewards = (jnp.arange(3) == best)[None].astype(jnp.float32)

        def loss(own: Any, objective: PolicyGradient) -> Any:
            return jnp.sum(objective(Scores(own, mask, rewards=rewards, behaviour=old)))

        by_token = dataclasses.replace(GRPO, normalise="none")
        return [jax.grad(loss)(tokens, objective)[0, :, 0] != 0 for objective in (by_token, REINFORCE)]

    tokens = jnp.log(jnp.array([[[0.1], [0.2], [0.4]]]))
    for best, moves in ((2, [False, True, False]), (0, [True, True, True])):
        # A bad response that has become rarer, and a good one that has become likelier, pull no more.
        assert [found.tolist() for found in pulls(tokens, best)] == [moves, moves]


# The program: what a step does to a table of logits, from the samples that it draws.


def start() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    table = class_blind_params(0.5, 0.3, MODEL)["table"]
    table = jnp.maximum(table, -2.0) + 0.1 * rng.normal(size=table.shape).astype(np.float32)
    return {"table": table, "fuse": jnp.zeros(()), "rate": jnp.zeros(())}


@functools.cache
def program(name: str, data: int = 1) -> Program:
    """Program of the named objective's phase, on `data` devices that share a batch."""
    held_out: Any = types.SimpleNamespace(batches=Batch((), (), np.arange(4)))  # type: ignore[arg-type]
    return make_program(MODEL, PHASE_OF[name], (), held_out, Grid(Layout(1, data), local=True))


def run(name: str, stops: tuple[int, ...], data: int = 1) -> Any:
    made, array = program(name, data), jnp.asarray((7,), jnp.uint32)
    stacked = jax.tree.map(lambda leaf: leaf[None], start())
    state, logs, done = made.begin(stacked, jnp.full(1, -1, jnp.int32)), [], 0
    for stop in stops:
        state, log = made.run(state, array, done, stop)
        logs.append(jax.tree.map(np.asarray, log))
        done = stop
    return jax.tree.map(np.asarray, state), logs


@jax.jit
def draw(step: Any, params: Any) -> Any:
    """Responses at a step of the policy with these parameters, independent of the objective."""
    return responses_of_step(PHASE, jnp.uint32(7), step, policy=Policy(MODEL, params))


def drawn(step: int, params: Any) -> Any:
    return jax.tree.map(np.asarray, draw(jnp.int32(step), params))


@pytest.mark.long
@pytest.mark.parametrize("name", OBJECTIVES)
def test_steps_of_the_program_are_the_oracles(name: str) -> None:
    """Two batches with three updates each, gradient descent with rate 1: ratios leave 1, and some clip."""
    objective = OBJECTIVES[name]
    state, (log,) = run(name, (2,))
    assert (state.reference == ()) == (objective.reference == "none")
    table = np.asarray(start()["table"], np.float64)
    first, losses, rewards = table.copy(), [], []
    for step in range(2):
        params = {**start(), "table": jnp.asarray(table, jnp.float32)}
        batch = drawn(step, params)
        old = table.copy()
        rewards.append(batch.rewards.mean())
        for _ in range(3):
            loss, slope = oracle.gradient(
                table, old, first, batch.prompt[:, -1], batch.responses, batch.rewards, **settings(objective)
            )
            losses.append(loss)
            table = table - slope
    np.testing.assert_allclose(state.params["table"][0], table, atol=2e-5)
    assert np.abs(table - first).max() > 0.05
    assert log.loss[0] == pytest.approx(np.mean(losses), abs=1e-5)
    assert log.reward[0] == pytest.approx(np.mean(rewards))


def test_responses_are_drawn_from_the_whole_vocabulary() -> None:
    """Responses have the law of the model, including padding, which has reward 0."""
    flat = {**start(), "table": jnp.zeros_like(start()["table"])}
    batches = [drawn(step, flat) for step in range(12)]
    tokens = np.concatenate([np.ravel(batch.responses) for batch in batches])
    assert chi_square_p(tokens.tolist(), dict.fromkeys(range(6), 1 / 6)) > 1e-3
    assert all(batch.response_mask.all() for batch in batches)
    wrong = np.concatenate([batch.rewards[np.any(batch.responses == 0, axis=-1)] for batch in batches])
    assert len(wrong) > 50
    assert not wrong.any()


def test_reward_rises_to_the_best_that_a_class_blind_model_can_earn() -> None:
    """The best policy always gives the answer of the easy class, of expected reward .9."""
    state, (first, last) = run("grpo", (5, 40))
    assert first.reward[0] < 0.6 < last.reward[0]
    probability = oracle.softmax(state.params["table"])[0, [1, 2], 1, [1, 2]]
    assert np.all(probability > 0.9)


@pytest.mark.long
def test_devices_and_chunks_change_nothing() -> None:
    whole, _ = run("grpo, k3", (6,))
    pieces, _ = run("grpo, k3", (1, 4, 6))
    jax.tree.map(np.testing.assert_array_equal, pieces, whole)
    spread, _ = run("grpo, k3", (6,), data=4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), spread, whole)


@dataclasses.dataclass(frozen=True)
class Prefer(Bonus):
    """1 for every response that begins with a token."""

    token: int

    def __call__(self, policy: Policy, batch: TrainingBatch) -> Any:
        assert policy.model == MODEL
        return (batch.responses[..., 0] == self.token).astype(jnp.float32)


@pytest.mark.long
def test_a_bonus_is_added_for_the_objective_alone() -> None:
    source = dataclasses.replace(SOURCE, bonus=Prefer(4))
    phase = dataclasses.replace(PHASE, source=source)

    @jax.jit
    def losses(params: Any) -> Any:
        batch = responses_of_step(phase, jnp.uint32(7), jnp.int32(0), policy=Policy(MODEL, params))
        added = batch._replace(rewards=batch.rewards + batch.bonus, bonus=None)
        plain = batch._replace(bonus=None)
        objective = dataclasses.replace(RLOO, kl_weight=0.0)
        tables = [
            jax.grad(lambda own, b=b: batch_loss(MODEL, objective, own, b))(params)["table"]
            for b in (batch, added, plain)
        ]
        return batch, tables

    flat = {**start(), "table": jnp.zeros_like(start()["table"])}
    batch, (with_bonus, added, plain) = losses(flat)
    np.testing.assert_array_equal(batch.bonus, batch.responses[..., 0] == 4)
    np.testing.assert_array_equal(batch.rewards, drawn(0, flat).rewards)
    np.testing.assert_array_equal(with_bonus, added)
    assert np.abs(np.asarray(with_bonus - plain)).max() > 0.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PolicyGradient(baseline="median"), "objective.baseline: 'median' is not one of mean, leave"),  # type: ignore[arg-type]
        (
            lambda: PolicyGradient(clip=1.0),
            "objective.clip: 1.0 is neither null nor a number strictly",
        ),
        (lambda: PolicyGradient(kl_weight=-1), "objective.kl_weight: -1 is not a number >= 0"),
        (lambda: PolicyGradient(kl="k2"), "objective.kl: 'k2' is not one of k3, exact, reward"),  # type: ignore[arg-type]
        (lambda: OnPolicy(per_prompt=1), "source.per_prompt: 1 is not an integer >= 2"),
        (lambda: OnPolicy(updates_per_batch=0), "source.updates_per_batch: 0 is not an integer >= 1"),
        (
            lambda: dataclasses.replace(PHASE, objective=GRPO, source=Rollouts(MODEL, per_prompt=4)),
            "phases.p.objective: PolicyGradient learns from responses of the model in training, which source "
            "Rollouts does not give; valid: source on_policy",
        ),
    ],
)
def test_what_cannot_work_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.long
def test_scores_that_lack_something_are_refused() -> None:
    tokens, mask = jnp.zeros((1, 2, 1)), jnp.ones((1, 2, 1), bool)
    with pytest.raises(ValueError, match="without rewards"):
        GRPO(Scores(tokens, mask))
    with pytest.raises(ValueError, match="without those of the reference"):
        dataclasses.replace(GRPO, kl_weight=1.0)(Scores(tokens, mask, rewards=jnp.ones((1, 2))))
    assert CrossEntropy().reference == "none"
