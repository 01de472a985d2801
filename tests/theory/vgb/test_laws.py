"""Measured laws of the VGB claims, compared with brute force and with deliberately wrong laws."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from decoding import VGB, Decoded, TaskPolicy
from decoding.exact import Tree, chain_law, target_law, total_variation
from decoding.walks import Constant
from tasks import stream
from tasks.delay import Delay
from theory.vgb import laws
from theory.vgb.laws import ChainSettings, chi_square, expected_queries, laws_of, log_slope, upper_end
from theory.vgb.typed_trees import action_level_moves, parity_tree, perturbation_tree

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
