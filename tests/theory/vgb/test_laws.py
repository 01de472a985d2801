"""Measured laws of the VGB claims, compared with brute force and with deliberately wrong laws."""

import dataclasses
import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from oracles.chains import stationary_law
from scipy import stats

from decoding import VGB, ActionRejection, Decoded, TaskPolicy
from decoding.analytic_values import Delayed
from decoding.exact import (
    Tree,
    action_level_law,
    chain_law,
    enumerate_tree,
    first_leaf_law,
    target_law,
    total_variation,
)
from decoding.walks import Constant
from tasks import numpy_stream, stream
from tasks.delay import Delay
from theory.vgb import laws
from theory.vgb.laws import ChainSettings, chi_square, expected_queries, laws_of, log_slope, upper_end
from theory.vgb.typed_trees import action_level_moves, first_leaf_steps, parity_tree, perturbation_tree
from tracking import Progress

CHAIN = ChainSettings(steps=3, longest=8, delta=0.01, seeds=(1, 2, 3, 4), leaves=64)


def perturbation(length: int, epsilon: float) -> Tree:
    """The tree of two letters, enumerated; c is left out, which changes no law."""
    values = [np.ones(1)]
    for h in range(1, length):
        values.append((2 / 3) ** (length - h) * np.tile([1 + epsilon, 1.0], 2 ** (h - 1)))
    reference = tuple(np.full((2**h, 2), 1 / 3) for h in range(length))
    return Tree(reference, (*values, np.ones(2**length)))


def test_the_chains_error_estimated_on_leaves_is_the_exact_one() -> None:
    tree = perturbation(5, 0.8)
    laws = laws_of(perturbation_tree(5, 0.8), 1.8, CHAIN)
    ended = chain_law(tree, 75)[-1]
    exact = total_variation(ended / ended.sum(), target_law(tree))
    assert laws.steps == 75
    assert exact == pytest.approx(0.01295, abs=1e-5)
    # Over the 32 leaves |f/E f - 1|/2 has the standard deviation .0071: .00045 for the mean of 256 draws.
    assert laws.chain.mean() == pytest.approx(exact, abs=4 * 0.00045)
    assert laws.leaf_probability == pytest.approx(ended.sum(), rel=1e-6)
    law = ended / ended.sum()
    divergence = float(law @ np.log(law * 32))
    assert laws.divergence.mean() == pytest.approx(divergence, rel=0.3)


def test_the_steps_to_mix_are_where_the_exact_error_crosses_delta() -> None:
    tree = perturbation(4, 0.8)
    laws = laws_of(perturbation_tree(4, 0.8), 1.8, CHAIN)
    crossing = next(
        t
        for t in range(4, 128)
        if total_variation((law := chain_law(tree, t)[-1]) / law.sum(), target_law(tree)) <= 0.01
    )
    assert abs(laws.mixing_steps.mean() - crossing) <= 4
    unmixed = laws_of(perturbation_tree(4, 0.8), 1.8, ChainSettings(1, 1, 1e-6, (1, 2), 8))
    assert np.isnan(unmixed.mixing_steps).all()
    # A number that does not exist passes no check.
    assert not np.isfinite(log_slope(np.array([4.0, 8.0]), np.full((2, 2), np.nan)).estimate)
    assert upper_end(log_slope(np.array([4.0, 8.0]), np.full((2, 2), np.nan))) == np.inf


def test_queries_of_a_sampler_that_never_goes_back() -> None:
    assert expected_queries(action_level_moves(perturbation_tree(5, 0.3)), 3) == pytest.approx(15)
    # Blocks of 2, H = 6: half of the attempts end at depth 2, whose children are asked for, half of the
    # rest at depth 4.
    moves = action_level_moves(parity_tree(6, 2))
    assert expected_queries(moves, 2) == pytest.approx(2 * (3 + 0.5 * 2 + 0.25))
    # The root has type 0, whose child of type 1 is a dead end at the last level.
    assert expected_queries(np.array([[[0.5, 0.25], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]), 3) == 3 * 1.75


def test_a_sample_asks_for_chains_of_the_prompt_and_counts_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    task, decoder = Delay(length=2, tilt=1.0), VGB()
    values, empty = Constant(task), np.zeros((1, 3))
    decoded = Decoded(empty, empty, empty, np.array([[2, 4, 9]]), empty)  # type: ignore[arg-type]

    def decode(*arguments: Any) -> Decoded:
        assert arguments[:5] == (decoder, task, TaskPolicy(task), values, "the prompt")
        assert (arguments[5] == stream(7, "decoder", "walk")).all()
        assert arguments[6] == 3
        return decoded

    monkeypatch.setattr(laws, "decode", decode)
    monkeypatch.setattr(laws, "problem_of_task", lambda task: "the prompt")
    assert laws.sample(task, values, decoder, 3, 7, "walk").queries.estimate == 5


def test_chi_square_accepts_the_law_and_refuses_another() -> None:
    law = np.array([0.5, 0.3, 0.199, 0.001, 0.0])
    counts = np.array([*np.random.default_rng(0).multinomial(1000, law[:-1]), 0])
    assert chi_square(counts, law) > 1e-3
    assert chi_square(counts, law[[1, 0, 2, 3, 4]]) < 1e-6
    assert chi_square(counts + np.array([0, 0, 0, 0, 1]), law) == 0
    expected = np.array([500.0, 300, 199, 1])
    kept = np.array([*counts[:3], counts[3]])
    assert chi_square(counts, law) == pytest.approx(
        stats.chisquare(kept, expected * kept.sum() / 1000).pvalue
    )


def every_leaf(depth: int) -> np.ndarray:
    return np.array(list(itertools.product(range(2), repeat=depth)))


def test_all_laws_of_a_tree_whose_leaves_are_all_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """pi* is uniform, so that one draw of every leaf makes the mean over leaves exact."""
    depth, asked = 3, []

    def drawn(moves: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        asked.append((moves is typed.target, count, rng.random()))
        return every_leaf(depth)

    monkeypatch.setattr(laws, "sample_types", drawn)
    typed, tree = perturbation_tree(depth, 0.8), perturbation(depth, 0.8)
    settings = ChainSettings(steps=2, longest=20, delta=0.01, seeds=(5, 6), leaves=17)
    found = laws_of(typed, 1.8, settings)
    assert asked == [(True, 17, numpy_stream(seed, "vgb", "leaves", 3).random()) for seed in (5, 6)]
    assert (found.depth, found.error, found.steps) == (3, 1.8, 18)
    ends = [law[-1] for law in (chain_law(tree, t) for t in range(181))]
    curve = [0.5 if t < 3 else total_variation(end / end.sum(), np.ones(8) / 8) for t, end in enumerate(ends)]
    np.testing.assert_allclose(found.chain, [curve[18]] * 2, atol=1e-8)
    assert found.times[[0, -1]].tolist() == [3, 180]
    assert (np.diff(found.times) > 0).all()
    assert len(found.times) > 60
    np.testing.assert_allclose(found.curve, np.array(curve)[found.times.astype(int)], atol=1e-8)
    settled = 1 + max(t for t, each in enumerate(curve) if each > 0.01)
    assert found.mixing_steps.tolist() == [settled] * 2
    # Before the first leaf nothing has settled, however large delta is.
    loose = laws_of(typed, 1.8, dataclasses.replace(settings, delta=0.49))
    assert loose.mixing_steps.tolist() == [3, 3]
    law = ends[18] / ends[18].sum()
    np.testing.assert_allclose(found.divergence, [law @ np.log(8 * law)] * 2, rtol=1e-6)
    assert found.leaf_probability == pytest.approx(ends[18].sum(), rel=1e-8)
    assert found.leaf_mass == pytest.approx(stationary_law(tree)[-1].sum())
    target = target_law(tree)
    assert found.action_level == pytest.approx(total_variation(action_level_law(tree), target), abs=1e-5)
    assert found.first_leaf == pytest.approx(total_variation(first_leaf_law(tree), target), abs=1e-5)
    assert found.first_leaf_steps == first_leaf_steps(typed)
    assert found.guarantee == pytest.approx(9 * 1.8**4)
    assert found.guaranteed_leaf_mass == pytest.approx(1 / (8 * 1.8 * 3))
    assert found.steps_per_response == pytest.approx(18 / ends[18].sum())


@pytest.mark.parametrize(
    ("curve", "settled"),
    [([0.5, 0.2, 0.05, 0.2, 0.1], 4), ([0.1, 0.0, 0.1], 0), ([0.2, 0.0], 1), ([0.0, 0.0, 0.2], np.nan)],
)
def test_a_curve_has_settled_one_step_after_its_last_error_above_delta(
    curve: list[float], settled: float
) -> None:
    np.testing.assert_equal(laws._settled(np.array(curve), 0.1), settled)


def test_cells_of_the_chi_square_test() -> None:
    def pearson(seen: list[float], wanted: list[float]) -> float:
        statistic = sum((s - w) ** 2 / w for s, w in zip(seen, wanted, strict=True))
        return float(stats.chi2.sf(statistic, len(seen) - 1))

    half = np.array([0.5, 0.5])
    # Five expected draws are enough, also by a law that is not normalised.
    assert chi_square(np.array([7, 3]), half) == pytest.approx(pearson([7, 3], [5, 5]))
    assert chi_square(np.array([7, 3]), 3 * half) == pytest.approx(pearson([7, 3], [5, 5]))
    # Fewer share a cell; one cell is no test.
    law = np.array([0.6, 0.3, 0.06, 0.04])
    assert chi_square(np.array([20, 14, 4, 2]), law) == pytest.approx(pearson([20, 14, 6], [24, 12, 4]))
    assert np.isnan(chi_square(np.array([5, 4]), half))
    assert np.isnan(chi_square(np.array([9]), np.ones(1)))
    assert chi_square(np.array([9, 1]), np.array([1.0, 0.0])) == 0


@pytest.mark.long
def test_responses_are_counted_by_leaf_and_compared_with_their_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    task, steps = Delay(length=3, tilt=1.0), 12
    values = Delayed(task)
    rng = np.random.default_rng(2)
    leaves, finished = rng.integers(0, 2, (3, 50, 3)), rng.random((3, 50)) < 0.7
    first = int(task.response_tokens[0])
    names = ("action level", "first leaf", "fixed steps")
    sampled: Any = {
        name: SimpleNamespace(
            decoded=SimpleNamespace(responses=first + leaves[i : i + 1], finished=finished[i : i + 1])
        )
        for i, name in enumerate(names)
    }
    compared: list[Any] = []
    monkeypatch.setattr(
        laws, "chi_square", lambda counts, law: compared.append((counts, law)) or float(len(compared))
    )
    tree = enumerate_tree(task, TaskPolicy(task), values, laws.problem_of_task(task))
    enumerated: list[Any] = []
    monkeypatch.setattr(laws, "enumerate_tree", lambda *arguments: enumerated.append(arguments) or tree)
    found = laws.goodness_of_fit(task, values, sampled, steps)
    assert enumerated[0][:3] == (task, TaskPolicy(task), values)
    end = chain_law(tree, steps)[-1]
    expected = (action_level_law(tree), first_leaf_law(tree), end / end.sum())
    assert found == {name: laws.Goodness(2.0 * i + 1, 2.0 * i + 2) for i, name in enumerate(names)}
    for i, law in enumerate(expected):
        plain = [(leaves[i][finished[i]] == leaf).all(axis=1).sum() for leaf in every_leaf(3)]
        for place, other in enumerate((law, target_law(tree))):
            counts, against = compared[2 * i + place]
            assert counts.tolist() == plain
            np.testing.assert_allclose(against, other)


def test_every_decoder_is_sampled_with_the_steps_of_its_law(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Delay(length=3, tilt=1.0)
    values: Any = "values"
    monkeypatch.setattr(laws, "sample", lambda *arguments: arguments)
    monkeypatch.setattr(laws, "goodness_of_fit", lambda *arguments: arguments)
    settings = ChainSettings(steps=2, longest=4, delta=0.1, seeds=(8, 9), leaves=8)
    found = laws.sample_all(task, values, settings, 31, Progress(show=False), "phase")
    decoders = {
        "action level": ActionRejection(budget=2**30),
        "first leaf": VGB(budget=2**30, stop="first_leaf", steps=2**30, runs=1, laziness=0.0),
        "fixed steps": VGB(budget=2**30, steps=18, runs=512),
    }
    assert found["sampled"] == {
        name: (task, values, decoder, 31, 8, name) for name, decoder in decoders.items()
    }
    assert found["goodness"] == (task, values, found["sampled"], 18)


def test_slopes_and_means_over_seeds() -> None:
    x = np.array([1.0, 2.0, 8.0])
    y = np.stack([3 * x**2, x, x**3])
    for found in (
        log_slope(x, y),
        laws.slope_in_log(x, np.log(y)),
        laws.over_seeds(np.array([2.0, 1.0, 3.0])),
    ):
        assert found.estimate == pytest.approx(2)
        # Student's quantile with two degrees of freedom.
        assert found.high - 2 == pytest.approx(4.302653 / math.sqrt(3))
        assert upper_end(found) == found.high
    holes = np.stack([x, [1.0, np.inf, 2.0]])
    for bad in (
        log_slope(x, np.stack([x, 0 * x])),
        log_slope(x, holes),
        laws.over_seeds(np.array([1.0, np.inf])),
    ):
        assert np.isnan([bad.estimate, bad.low, bad.high]).all()
        assert upper_end(bad) == math.inf
