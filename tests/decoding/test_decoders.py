"""Law and cost of every decoder against enumeration of the whole tree."""

import functools
import importlib.resources
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hydra.utils import instantiate
from jax.experimental.key_reuse._core import check_key_reuse  # no other name, up to JAX 0.12
from oracles import trees
from oracles.decoded import problem, responses, run_on
from oracles.trees import Node, TreeTask

from covlab.launch.schema import schema
from decoding import (
    VGB,
    ActionRejection,
    Ancestral,
    BacktrackingRejection,
    BlockBestOfN,
    BlockRejection,
    Decoded,
    OutcomeRejection,
    TaskPolicy,
    TaskValues,
    decode,
)
from decoding.explore import Explorer, Tree, with_rewards

TASK = TreeTask(depth=3, symbols=3, ends=True, seed=34, reward_rate=0.6, guide_seed=35)
TREE = trees.Tree(TASK)
# Values are exact here, and 0 where no leaf below is rewarded.
EXACT = TreeTask(depth=3, symbols=3, ends=True, seed=34, reward_rate=0.6)
GRADED = TreeTask(depth=3, symbols=3, ends=False, seed=7, guide_seed=2, graded=True)
CHAINS = 3000
LEVEL = 1e-3


def run(decoder: Explorer, task: TreeTask = TASK, chains: int = CHAINS) -> Decoded:
    return run_on(task, decoder, chains, seed=0)


def check_law(
    decoder: Explorer, law: trees.Law, task: TreeTask = TASK, wrong: trees.Law | None = None
) -> Decoded:
    """The law fits, a wrong law does not, and rewards are correct."""
    decoded = run(decoder, task)
    drawn = responses(decoded)
    assert trees.fit_p(drawn, law) > LEVEL
    if wrong is not None:
        assert trees.fit_p(drawn, wrong) < 1e-6
    tree = trees.Tree(task)
    expected = [tree.tau[node] if node else 0.0 for node in drawn]
    np.testing.assert_allclose(decoded.reward, expected, rtol=1e-6)
    return decoded


@pytest.mark.long
def test_ancestral_sampling_draws_from_the_base_model() -> None:
    law = {leaf: TREE.mass[leaf] for leaf in TREE.leaves if TREE.mass[leaf] > 0}
    decoded = check_law(Ancestral(), law, wrong=TREE.tilted())
    np.testing.assert_array_equal(decoded.queries, 0)
    np.testing.assert_array_equal(decoded.tokens, [len(node) for node in responses(decoded)])


@pytest.mark.long
@pytest.mark.parametrize(
    "task", [pytest.param(TASK, marks=pytest.mark.slow), GRADED], ids=["binary", "graded"]
)
def test_outcome_rejection_draws_from_the_tilted_law(task: TreeTask) -> None:
    tree = trees.Tree(task)
    base = {leaf: tree.mass[leaf] for leaf in tree.leaves if tree.mass[leaf] > 0}
    decoded = check_law(OutcomeRejection(), tree.tilted(), task, wrong=base)
    chance = sum(tree.mass[leaf] * tree.tau[leaf] for leaf in tree.leaves)
    geometric = {k: chance * (1 - chance) ** (k - 1) for k in range(1, 200)}
    geometric[200] = 1 - sum(geometric.values())
    assert trees.fit_p(np.minimum(decoded.queries, 200).tolist(), geometric) > LEVEL


def test_action_rejection_follows_the_products_of_its_weights() -> None:
    decoded = check_law(ActionRejection(), trees.action_rejection(TREE), wrong=TREE.tilted())
    for node, queries, tokens in zip(responses(decoded), decoded.queries, decoded.tokens, strict=True):
        if node:
            assert queries == sum(len(TREE.children(node[:h])) for h in range(len(node)))
            assert tokens == len(node)


@pytest.mark.slow
def test_action_rejection_with_exact_values_is_the_tilted_law() -> None:
    tree = trees.Tree(EXACT)
    exact, tilted = trees.action_rejection(tree), tree.tilted()
    assert max(abs(exact[node] - tilted[node]) for node in tilted) < 1e-12
    check_law(ActionRejection(), tilted, EXACT)


@pytest.mark.long
@pytest.mark.parametrize(
    "length", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_block_best_of_n(length: int) -> None:
    law = trees.blocks(TREE, length, 3, best=True)
    decoded = check_law(
        BlockBestOfN(block_length=length, candidates=3), law, wrong=trees.blocks(TREE, length, 1, best=True)
    )
    for node, queries in zip(responses(decoded), decoded.queries, strict=True):
        assert not node or queries == 3 * -(-len(node) // length)


@pytest.mark.long
def test_a_later_block_is_as_long_as_the_first() -> None:
    task = TreeTask(depth=4, symbols=2, ends=False, seed=3, guide_seed=5, graded=True, reward_rate=1.0)
    law = trees.blocks(trees.Tree(task), 2, 2, best=True)
    decoded = check_law(BlockBestOfN(block_length=2, candidates=2), law, task)
    np.testing.assert_array_equal(decoded.queries, 4)


@pytest.mark.slow
def test_block_rejection() -> None:
    law = trees.blocks(TREE, 2, 3, best=False)
    decoded = check_law(
        BlockRejection(block_length=2, candidates=3), law, wrong=trees.blocks(TREE, 2, 3, best=True)
    )
    for node, queries in zip(responses(decoded), decoded.queries, strict=True):
        assert not node or queries == 3 * -(-len(node) // 2)


@pytest.mark.long
@pytest.mark.parametrize(
    ("quota", "stride", "greedy"),
    [(2, 2, True), pytest.param(3, 1, False, marks=pytest.mark.slow)],
    ids=["greedy", "redrawn"],
)
def test_rejection_with_backtracking(quota: int, stride: int, greedy: bool) -> None:
    decoder = BacktrackingRejection(quota=quota, stride=stride, greedy=greedy, threshold=0.5)
    law = trees.backtracking(TREE, quota, stride, 0.5, greedy)
    decoded = run(decoder)
    drawn = list(zip(responses(decoded), decoded.queries.tolist(), strict=True))
    assert trees.fit_p(drawn, law) > LEVEL
    assert trees.fit_p(drawn, trees.backtracking(TREE, quota, stride, 0.5, not greedy)) < 1e-6


def test_backtracking_erases_stride_tokens_and_not_the_whole_response() -> None:
    # One path of two tokens; its first token passes, its leaf never does.
    task = TreeTask(depth=2, symbols=1, ends=False, seed=0, reward_rate=0.0, guide_seed=0)
    decoder = BacktrackingRejection(quota=2, stride=1, greedy=False, threshold=0.1)
    # Both tokens are checked, the last once more, and after two refusals it is not.
    np.testing.assert_array_equal(run(decoder, task, chains=2).queries, 3)


@pytest.mark.parametrize(
    "decoder",
    [VGB(), VGB(children=2), BlockBestOfN(block_length=2), BacktrackingRejection(quota=2, stride=1)],
    ids=["vgb", "vgb-2", "block", "backtracking"],
)
def test_no_two_draws_of_an_act_share_a_key(decoder: Explorer) -> None:
    tree = Tree(TASK, TaskPolicy(TASK), TaskValues(TASK), problem(TASK))

    def act(keys: Any) -> Any:
        state, memory, _ = decoder.begin(tree, 2)
        return decoder.act(tree, state, memory, ~state.done, keys)

    check_key_reuse(act, jax.random.split(jax.random.key(0), decoder.num_keys))


def test_the_verifier_values_leaves_and_the_values_inner_nodes() -> None:
    """Children of the nodes (), (2,) and (2, 3), whatever V^ says of them."""
    tree = Tree(TASK, TaskPolicy(TASK), TaskValues(TASK), problem(TASK))
    path = jnp.broadcast_to(jnp.asarray([2, 3, 0]), (1, 3, 3))
    values = jnp.full((1, 3, TASK.vocab_size), 5.0)
    log_values = jax.jit(lambda: with_rewards(tree, path, jnp.arange(3)[None], values))()
    for node, row in zip(((), (2,), (2, 3)), np.exp(log_values[0]), strict=True):
        children = [(*node, token) for token in range(1, 4)]
        assert row[1:] == pytest.approx([TREE.tau.get(child, math.exp(5)) for child in children])


def trace(decoder: Explorer, chains: int = 40) -> tuple[list[list[Node]], Any]:
    """Nodes visited by every chain, from running the decoder turn by turn, and the last state."""
    tree = Tree(TASK, TaskPolicy(TASK), TaskValues(TASK) if decoder.needs_values else None, problem(TASK))
    expand = jax.jit(lambda state: decoder.expand(tree, state))
    turn = jax.jit(lambda *carry: decoder.turn(tree, *carry, jax.random.key(0)))
    carry: Any = jax.jit(lambda: decoder.begin(tree, chains))()
    stood: list[list[Node]] = [[] for _ in range(chains)]
    while not np.all(carry[0].done):
        carry = (expand(carry[0]), *carry[1:])
        while np.any(ready := np.asarray(decoder.ready(tree, carry[0]))[0]):
            path, depth = np.asarray(carry[0].path)[0], np.asarray(carry[0].depth)[0]
            for chain in np.flatnonzero(ready):
                stood[chain].append(tuple(path[chain, : depth[chain]].tolist()))
            carry = turn(*carry)
    return stood, jax.tree.map(lambda a: np.asarray(a)[0], carry[0])


@pytest.mark.long
@pytest.mark.parametrize(
    ("decoder", "enumerated"),
    [
        (VGB(steps=12), True),
        pytest.param(OutcomeRejection(), False, marks=pytest.mark.slow),
        pytest.param(BlockRejection(block_length=2, candidates=3), False, marks=pytest.mark.slow),
        pytest.param(BacktrackingRejection(quota=3, stride=2), False, marks=pytest.mark.slow),
    ],
    ids=["vgb", "outcome", "block", "backtracking"],
)
def test_costs_are_those_of_the_replayed_path(decoder: Explorer, enumerated: bool) -> None:
    stood, state = trace(decoder)
    assert max(len(visited) for visited in stood) > 5
    for chain, visited in enumerate(stood):
        queries, tokens = trees.costs(TREE, visited, enumerated)
        assert state.tokens[chain] == tokens
        assert not enumerated or state.queries[chain] == queries


@pytest.mark.slow
def test_going_back_saves_most_of_the_steps() -> None:
    stood, state = trace(VGB(steps=30))
    assert np.sum(state.tokens) < 0.7 * sum(len(visited) for visited in stood)


NEVER = TreeTask(depth=3, symbols=2, ends=True, seed=0, reward_rate=0.0, guide_seed=3)


@pytest.mark.long
@pytest.mark.parametrize(
    "decoder",
    [
        OutcomeRejection(budget=20),
        VGB(budget=20, steps=8),
        *(
            pytest.param(decoder, marks=pytest.mark.slow)
            for decoder in (
                ActionRejection(budget=20),
                BlockBestOfN(budget=20, block_length=2),
                BlockRejection(budget=20, block_length=2),
                VGB(budget=20, stop="first_leaf"),
                VGB(budget=20, children=2),
                VGB(budget=20, momentum=1.0),
            )
        ),
    ],
    ids=lambda decoder: type(decoder).__name__,
)
def test_a_reward_that_is_never_1_ends_and_is_reported(decoder: Explorer) -> None:
    decoded = run(decoder, NEVER, chains=50)
    assert not np.any(decoded.finished)
    assert np.all(decoded.reward == 0)
    assert np.all(decoded.queries <= 20)


@pytest.mark.slow
def test_a_budget_is_never_exceeded_and_cuts_what_would() -> None:
    free = run(VGB(steps=12), chains=200)
    tight = run(VGB(steps=12, budget=12), chains=200)
    assert np.all(tight.queries <= 12)
    assert np.any(free.queries > 12)
    # The same chains, as long as the budget lasts.
    same = np.asarray(free.queries) <= 12
    np.testing.assert_array_equal(np.asarray(tight.finished), same)
    np.testing.assert_array_equal(tight.responses[same], free.responses[same])


@pytest.mark.slow
def test_walking_for_ever_costs_no_query_and_still_ends() -> None:
    # One path only, known after its first visit, with a leaf that is refused: going back is free for ever.
    task = TreeTask(depth=2, symbols=1, ends=False, seed=0, reward_rate=0.0, guide_seed=0)
    decoded = run(VGB(steps=50, runs=3), task, chains=4)
    assert not np.any(decoded.finished)
    np.testing.assert_array_equal(decoded.queries, 2)


@pytest.mark.slow
def test_a_prompt_of_no_tokens_is_answered_at_once() -> None:
    empty = problem(TASK)._replace(depth=jnp.zeros(1, jnp.int32))
    done = decode(Ancestral(), TASK, TaskPolicy(TASK), TaskValues(TASK), empty, jax.random.key(0), CHAINS)
    assert np.all(done.finished)
    assert not np.any(done.tokens)
    assert not np.any(done.responses)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (functools.partial(Ancestral, budget=0), "budget: 0"),
        (functools.partial(VGB, steps=0), "steps: 0"),
        (functools.partial(VGB, runs=True), "runs: True"),
        (functools.partial(VGB, stop="last"), "stop: 'last'"),
        (functools.partial(VGB, children=0), "children: 0"),
        (functools.partial(VGB, momentum=1.5), "momentum: 1.5"),
        (functools.partial(VGB, laziness=1.0), "laziness: 1.0"),
        (functools.partial(VGB, laziness=0), "laziness: 0 with stop = fixed"),
        (functools.partial(BlockBestOfN, block_length=0), "block_length: 0"),
        (functools.partial(BlockRejection, candidates=0.5), "candidates: 0.5"),
        (functools.partial(BacktrackingRejection, quota=-1), "quota: -1"),
        (functools.partial(BacktrackingRejection, stride=0), "stride: 0"),
        (functools.partial(BacktrackingRejection, threshold=0.0), "threshold: 0.0"),
    ],
)
def test_bad_settings_are_one_clear_line(make: Any, field: str) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_every_configuration_names_a_decoder() -> None:
    files = Path(str(importlib.resources.files("conf"))) / "decoding"
    found = set()
    for file in sorted(files.glob("*.yaml")):
        name = file.read_text().split("/schema/")[1].split("@")[0]
        found.add(type(instantiate(schema(name))).__name__)
    assert {"VGB", "Ancestral", "OutcomeRejection", "ActionRejection", "BlockBestOfN"} <= found
    assert {"BeamSearch", "MajorityVote", "Nucleus", "ParticleFilter", "UniformRace"} <= found
