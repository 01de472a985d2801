"""Particle filtering and beam search against enumeration of all their states."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.key_reuse._core import check_key_reuse
from oracles import selection, trees
from oracles.decoded import problem, responses, run_on
from oracles.selection import as_arrays
from oracles.trees import TreeTask

from decoding import BeamSearch, ParticleFilter, TaskPolicy, TaskValues, exact_particles
from decoding.exact import beam_leaf, target_law, total_variation
from decoding.exact_particles import particle_law
from decoding.explore import Tree
from decoding.particle_filter import effective_size, multinomial, systematic

# Trees on which the laws of the two schemes, and pi*, are far apart.
TASK = TreeTask(depth=3, symbols=2, ends=True, seed=28, guide_seed=128, graded=True, reward_rate=0.8)
EVEN = TreeTask(depth=3, symbols=2, ends=False, seed=18, guide_seed=118, graded=True, reward_rate=0.8)
WIDE = TreeTask(depth=4, symbols=4, ends=True, seed=11)
CHAINS = 4000
LEVEL = 1e-3


def draws(decoder: Any, task: TreeTask) -> tuple[list[trees.Node], Any]:
    decoded = run_on(task, decoder, CHAINS, seed=0)
    return responses(decoded), decoded


@pytest.mark.long
@pytest.mark.parametrize(
    ("particles", "scheme", "threshold"),
    [
        (2, "multinomial", None),
        (3, "systematic", 0.9),
        pytest.param(1, "multinomial", None, marks=pytest.mark.slow),
        pytest.param(3, "multinomial", 0.9, marks=pytest.mark.slow),
        pytest.param(3, "systematic", None, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("task", [TASK, EVEN], ids=["ends", "even"])
def test_particle_filter(task: TreeTask, particles: int, scheme: Any, threshold: float | None) -> None:
    tree = trees.Tree(task)
    drawn, decoded = draws(ParticleFilter(particles=particles, scheme=scheme, threshold=threshold), task)
    law = selection.particles(tree, particles, scheme == "systematic", threshold)
    assert trees.fit_p(drawn, law) > LEVEL
    assert trees.fit_p(drawn, {(): 0.0} | tree.tilted()) < 1e-6
    if particles > 1 and task is EVEN:
        other = selection.particles(tree, particles, scheme != "systematic", threshold)
        assert trees.fit_p(drawn, other) < 1e-3
    np.testing.assert_allclose(decoded.reward, [tree.tau[node] if node else 0 for node in drawn], rtol=1e-6)
    assert np.all(decoded.queries <= particles * task.depth)
    if task is EVEN:
        alive = np.array([bool(node) for node in drawn])
        np.testing.assert_array_equal(decoded.queries[alive], particles * task.depth)
        assert np.all(decoded.tokens[alive] >= particles * task.depth)


@pytest.mark.parametrize("scheme", ["multinomial", "systematic"])
@pytest.mark.parametrize("threshold", [None, 0.7])
def test_the_exact_law_is_the_oracles(scheme: Any, threshold: float | None) -> None:
    tree = trees.Tree(EVEN)
    law = particle_law(as_arrays(EVEN), 2, scheme, threshold)
    oracle = selection.particles(tree, 2, scheme == "systematic", threshold)
    np.testing.assert_allclose(law, [oracle.get(leaf, 0.0) for leaf in tree.leaves], atol=1e-12)
    assert law.sum() == pytest.approx(1 - oracle.get((), 0.0))


def test_states_of_independent_particles_differ_by_more_than_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise there are N! times as many."""
    seen: list[tuple[int, exact_particles.State]] = []
    grown = exact_particles._grown

    def counted(tree: Any, h: int, state: exact_particles.State) -> Any:
        seen.append((h, tuple(sorted(state))))
        return grown(tree, h, state)

    monkeypatch.setattr(exact_particles, "_grown", counted)
    particle_law(as_arrays(EVEN), 3, "multinomial")
    assert len(seen) == len(set(seen)) > 3


def test_more_particles_are_nearer_to_the_target() -> None:
    """In the mean over trees; on a single one the third particle may also do harm."""
    errors = []
    for seed in range(6):
        tree = as_arrays(TreeTask(depth=2, symbols=2, ends=False, seed=seed, guide_seed=seed, graded=True))
        errors.append([total_variation(particle_law(tree, n), target_law(tree)) for n in (1, 2, 4)])
    means = np.mean(errors, axis=0)
    assert means[0] > 1.2 * means[1] > 1.2 * means[2] > 1e-3


@pytest.mark.long
def test_resampling_has_the_expected_offspring() -> None:
    weights = jnp.log(jnp.array([[[0.5, 1e-7, 0.2, 0.3 - 1e-7]]]))
    keys = jax.random.split(jax.random.key(3), 4000)
    for rule in (multinomial, systematic):
        counts = np.stack(
            [np.asarray((jax.vmap(rule, (0, None))(keys, weights) == i).sum(axis=-1)) for i in range(4)], -1
        ).reshape(-1, 4)
        assert np.all(counts.sum(axis=1) == 4)
        np.testing.assert_allclose(counts.mean(axis=0), [2, 0, 0.8, 1.2], atol=0.06)
        if rule is systematic:
            assert np.all((counts >= [2, 0, 0, 1]) & (counts <= [2, 1, 1, 2]))
        else:
            assert counts[:, 0].max() == 4


@pytest.mark.long
def test_systematic_resampling_keeps_small_weights() -> None:
    """With N = 2 and a weight of 1e-4 the particle has an offspring with probability 2e-4."""
    weights = jnp.log(jnp.array([[[1 - 1e-4, 1e-4]]]))
    keys = jax.random.split(jax.random.key(5), 400_000)
    count = int((jax.vmap(systematic, (0, None))(keys, weights) == 1).sum())
    assert abs(count - 80) < 4 * 9


def test_effective_sizes() -> None:
    sizes = effective_size(jnp.log(jnp.array([[[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [3.0, 1.0, 0.0]]])))
    np.testing.assert_allclose(sizes, [[3, 1, 1.6]], rtol=1e-5)


@pytest.mark.long
def test_one_particle_is_the_base_model_and_a_budget_ends_a_group() -> None:
    tree = trees.Tree(EVEN)
    law = particle_law(as_arrays(EVEN), 1)
    base = np.array([tree.mass[leaf] * (tree.tau[leaf] > 0) for leaf in tree.leaves])
    np.testing.assert_allclose(law, base, atol=1e-15)
    decoded = run_on(EVEN, ParticleFilter(particles=4, budget=11), 50, 0)
    assert not np.any(decoded.finished)
    assert np.all(decoded.queries == 8)


@pytest.mark.long
@pytest.mark.parametrize("width", [1, 2, 3, pytest.param(40, marks=pytest.mark.slow)])
def test_beam_search(width: int) -> None:
    tree = trees.Tree(WIDE)
    decoded = run_on(WIDE, BeamSearch(width=width), 3, 0)
    assert responses(decoded) == [selection.beam(tree, width)] * 3
    np.testing.assert_array_equal(decoded.queries, 0)
    if width == 1:
        np.testing.assert_array_equal(decoded.tokens, len(selection.beam(tree, 1)))
    if width == 40:
        assert responses(decoded)[0] == max(tree.leaves, key=lambda leaf: tree.mass[leaf])


def test_wider_beams_find_other_responses_and_arrays_agree() -> None:
    tree = trees.Tree(WIDE)
    assert len({selection.beam(tree, width) for width in (1, 2, 3, 40)}) > 1
    for seed in range(5):
        task = TreeTask(depth=4, symbols=3, ends=False, seed=seed)
        tree = trees.Tree(task)
        for width in (1, 2, 5):
            assert tree.leaves[beam_leaf(as_arrays(task), width)] == selection.beam(tree, width)


@pytest.mark.parametrize("decoder", [ParticleFilter(particles=2), BeamSearch()], ids=["particles", "beam"])
def test_no_two_draws_of_an_act_share_a_key(decoder: Any) -> None:
    tree = Tree(TASK, TaskPolicy(TASK), TaskValues(TASK), problem(TASK))

    def act(keys: Any) -> Any:
        state, memory, _ = decoder.begin(tree, 2 * decoder.size)
        return decoder.act(tree, state, memory, ~state.done, keys)

    check_key_reuse(act, jax.random.split(jax.random.key(0), decoder.num_keys))


@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "field"),
    [
        (functools.partial(ParticleFilter, particles=0), "particles: 0 is not an integer >= 1"),
        (
            functools.partial(ParticleFilter, scheme="residual"),
            "scheme: 'residual' is not one of multinomial",
        ),
        (functools.partial(ParticleFilter, threshold=0.0), "threshold: 0.0"),
        (functools.partial(ParticleFilter, threshold=1.5), "threshold: 1.5"),
        (functools.partial(BeamSearch, width=0), "width: 0 is not an integer >= 1"),
    ],
)
def test_bad_settings_are_one_clear_line(make: Any, field: str) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        make()
    assert "\n" not in str(caught.value)
