"""Uniform race, majority vote and nucleus sampling: samples and exact laws against enumeration."""

import functools
import math
from typing import Any

import numpy as np
import pytest
from oracles import selection, trees
from oracles.decoded import responses, run_on
from oracles.selection import as_arrays
from oracles.trees import TreeTask
from scipy import integrate

from decoding import MajorityVote, Nucleus, UniformRace
from decoding.exact import nucleus_law, reference_law
from decoding.exact_selection import majority_law, race_law, rejection_law, resampling_law

TASK = TreeTask(depth=2, symbols=3, ends=True, seed=7, graded=True, reward_rate=0.7)
TREE = trees.Tree(TASK)
LEAVES = [leaf for leaf in TREE.leaves if TREE.mass[leaf] > 0]
REFERENCE = np.array([TREE.mass[leaf] for leaf in LEAVES])
TAU = np.array([TREE.tau[leaf] for leaf in LEAVES])
DEEP = TreeTask(depth=3, symbols=3, ends=True, seed=34)
CHAINS = 4000
LEVEL = 1e-3


def as_law(masses: np.ndarray) -> trees.Law:
    law = dict(zip(LEAVES, masses.tolist(), strict=True)) | {(): 1 - float(masses.sum())}
    return {leaf: mass for leaf, mass in law.items() if mass > 1e-12}


@pytest.mark.long
@pytest.mark.parametrize("clock", ["uniform", "exponential"])
@pytest.mark.parametrize("beta", [None, pytest.param(0.3, marks=pytest.mark.slow)])
def test_race(clock: Any, beta: float | None) -> None:
    decoded = run_on(TASK, UniformRace(candidates=3, clock=clock, beta=beta), CHAINS, 0)
    drawn = responses(decoded)
    weights = TAU if beta is None else np.exp(TAU / beta)
    laws = {"uniform": race_law, "exponential": resampling_law}
    own, other = laws.pop(clock), next(iter(laws.values()))
    assert trees.fit_p(drawn, as_law(own(REFERENCE, weights, 3))) > LEVEL
    if beta is not None:
        assert trees.fit_p(drawn, as_law(other(REFERENCE, weights, 3))) < LEVEL
    # Another weight, and another number of candidates.
    assert trees.fit_p(drawn, as_law(own(REFERENCE, weights**3, 3))) < 1e-6
    assert trees.fit_p(drawn, as_law(own(REFERENCE, weights, 1))) < 1e-6
    np.testing.assert_array_equal(decoded.queries, 3)
    np.testing.assert_allclose(decoded.reward, [TREE.tau[leaf] if leaf else 0.0 for leaf in drawn], rtol=1e-6)


@pytest.mark.parametrize("candidates", [1, 2, 4])
def test_exact_laws_of_races(candidates: int) -> None:
    weight = TREE.tau.__getitem__
    for law, exponential in ((race_law, False), (resampling_law, True)):
        oracle = selection.race(TREE, candidates, weight, exponential)
        found = law(REFERENCE, TAU, candidates)
        np.testing.assert_allclose(found, [oracle.get(leaf, 0.0) for leaf in LEAVES], atol=1e-9)
        assert found.sum() == pytest.approx(1 - (REFERENCE @ (TAU == 0)) ** candidates)


def test_laws_at_many_candidates_and_unequal_weights() -> None:
    rng = np.random.default_rng(0)
    reference, weights = rng.dirichlet(np.ones(30)), np.exp(rng.normal(0, 2, 30))
    weights[:3] = 0.0
    target = reference * weights / (reference @ weights)
    for law in (race_law, resampling_law):
        for count in (1, 7, 200):
            assert law(reference, weights, count).sum() == pytest.approx(
                1 - reference[:3].sum() ** count, abs=1e-10
            )
        np.testing.assert_allclose(law(reference, weights, 10**5), target, atol=2e-3)
    index = 11

    def density(t: float) -> float:
        return weights[index] * (reference @ np.clip(1 - weights * t, 0, None)) ** 6

    exact = integrate.quad(density, 0, 1 / weights[index], points=np.sort(1 / weights[3:]), limit=200)[0]
    assert race_law(reference, weights, 7)[index] == pytest.approx(7 * reference[index] * exact, rel=1e-9)


def test_the_law_of_rejection() -> None:
    law = rejection_law(np.array([0.5, 0.3, 0.2]), np.array([1.0, 2.0, 0.0]), 2, 2.0)
    accept = np.array([0.25, 0.3, 0.0])
    np.testing.assert_allclose(law, accept * (1 + 0.45))
    last = rejection_law(np.array([0.5, 0.3, 0.2]), np.array([1.0, 2.0, 0.0]), 2, 2.0, "last")
    np.testing.assert_allclose(last, accept * 1.45 + 0.45 * np.array([0.25, 0.0, 0.2]))
    np.testing.assert_allclose(rejection_law(np.array([0.5, 0.5]), np.array([3.0, 4.0]), 5, 1.0), [0.5, 0.5])
    assert rejection_law(np.array([0.5, 0.5]), np.zeros(2), 5, 1.0).sum() == 0
    with pytest.raises(ValueError, match="threshold: 0 is not a positive number"):
        rejection_law(np.ones(1), np.ones(1), 1, 0)
    with pytest.raises(ValueError, match="weights: negative or not finite"):
        race_law(np.ones(1), -np.ones(1), 1)
    with pytest.raises(ValueError, match="candidates: 0"):
        race_law(np.ones(1), np.ones(1), 0)


def last_tokens(task: TreeTask, n: int | None) -> Any:
    def answer(leaf: trees.Node) -> trees.Node:
        if n is None:
            return leaf
        body = leaf[:-1] if task.ends and leaf[-1] == 1 else leaf
        return body[-n:]

    return answer


@pytest.mark.long
@pytest.mark.parametrize(
    ("length", "candidates"), [(None, 3), (1, 4), pytest.param(2, 4, marks=pytest.mark.slow)]
)
def test_majority_vote(length: int | None, candidates: int) -> None:
    decoded = run_on(TASK, MajorityVote(candidates=candidates, answer_length=length), CHAINS, 0)
    drawn = responses(decoded)
    answer = last_tokens(TASK, length)
    law = selection.majority(TREE, candidates, answer)
    assert trees.fit_p(drawn, law) > LEVEL
    assert trees.fit_p(drawn, dict(zip(LEAVES, REFERENCE.tolist(), strict=True))) < 1e-4
    names = {each: index for index, each in enumerate({answer(leaf) for leaf in LEAVES})}
    answers = np.array([names[answer(leaf)] for leaf in LEAVES])
    exact = majority_law(REFERENCE, answers, candidates)
    np.testing.assert_allclose(exact, [law.get(leaf, 0.0) for leaf in LEAVES], atol=1e-12)
    np.testing.assert_array_equal(decoded.queries, 0)


def test_majority_law_of_many_votes() -> None:
    """Two answers of .6 and .4 and an odd number of votes: a binomial tail."""
    law = majority_law(np.array([0.2, 0.4, 0.4]), np.array([5, 5, 2]), 21)
    tail = sum(math.comb(21, k) * 0.6**k * 0.4 ** (21 - k) for k in range(11, 22))
    np.testing.assert_allclose(law, [tail / 3, 2 * tail / 3, 1 - tail])


@pytest.mark.long
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.7), (0.5, 1.0), (2.0, 0.8)])
def test_nucleus(temperature: float, top_p: float) -> None:
    tree = trees.Tree(DEEP)
    decoded = run_on(DEEP, Nucleus(temperature=temperature, top_p=top_p), CHAINS, 0)
    drawn = responses(decoded)
    assert trees.fit_p(drawn, selection.nucleus(tree, temperature, top_p)) > LEVEL
    base = {leaf: tree.mass[leaf] for leaf in tree.leaves if tree.mass[leaf] > 0}
    assert trees.fit_p(drawn, base) < 1e-6
    np.testing.assert_array_equal(decoded.tokens, [len(node) for node in drawn])


def test_the_law_of_the_nucleus() -> None:
    task = TreeTask(depth=3, symbols=3, ends=False, seed=5)
    tree = trees.Tree(task)
    for temperature, top_p in ((1.0, 1.0), (0.7, 0.6), (3.0, 0.9)):
        oracle = selection.nucleus(tree, temperature, top_p)
        law = nucleus_law(as_arrays(task), temperature, top_p)
        np.testing.assert_allclose(law, [oracle.get(leaf, 0.0) for leaf in tree.leaves], atol=1e-12)
    np.testing.assert_allclose(nucleus_law(as_arrays(task), 1.0, 1.0), reference_law(as_arrays(task)))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (functools.partial(UniformRace, candidates=0), "candidates: 0 is not an integer >= 1"),
        (functools.partial(UniformRace, budget=3, candidates=4), "budget: 3 queries; valid: at least 4"),
        (functools.partial(UniformRace, clock="gaussian"), "clock: 'gaussian' is not one of uniform"),
        (functools.partial(UniformRace, beta=0), "beta: 0"),
        (functools.partial(MajorityVote, answer_length=0), "answer_length: 0"),
        (functools.partial(Nucleus, temperature=0), "temperature: 0"),
        (functools.partial(Nucleus, top_p=1.1), "top_p: 1.1"),
    ],
)
def test_bad_settings_are_one_clear_line(make: Any, field: str) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        make()
    assert "\n" not in str(caught.value)
