"""Exploration by representations: expectations by enumeration, pools, checks, and the command, small."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from oracles.reports import assert_rectangular

from covlab.claims.claim import Plan
from covlab.claims.settings import field_checks, read
from covlab.launch.build import build
from covlab.report.plotting import save_all
from covlab.report.verdict import Verdict
from experiments.exploration import checks as exploration_checks
from experiments.exploration import figures, measure, pools, rules
from experiments.exploration.measure import Arm, Measurements, Settings, TestTime
from experiments.exploration.pools import (
    REPRESENTATION,
    Pool,
    PoolSettings,
    draw_pool,
    held_out_prompts,
    prompt_weights,
)
from models import GPT
from tasks import FixedDyck, LayeredGraph

POOLS = [
    ([0, 0, 0, 3, 4, 4], [0, 0, 0, 1, 0, 0]),
    ([0, 0, 2, 2, 4, 5], [1, 1, 0, 0, 0, 1]),
    ([0, 1, 2, 3, 4, 5], [0, 1, 0, 0, 1, 0]),
    ([0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]),
    ([0, 0, 0, 3, 3, 3], [0, 0, 0, 0, 0, 0]),
]
"""(`alike`, rewards): copies of wrong and of right responses, none, only one response, none correct."""


def enumerated(choices: Any) -> np.ndarray:
    """Mean of rows of 0 and 1, each the success of one equally likely choice."""
    return np.mean(np.array(list(choices), float), axis=0)


@pytest.mark.parametrize(("alike", "reward"), POOLS)
def test_expectations_are_those_of_all_choices(alike: list[int], reward: list[int]) -> None:
    kinds, rewarded, size = np.array(alike), np.array(reward) > 0, len(alike)
    first = sorted(set(alike))
    for k in range(1, size + 1):
        subsets = ([any(reward[i] for i in chosen)] for chosen in itertools.combinations(range(size), k))
        assert rules.random_curve(rewarded)[k - 1] == pytest.approx(enumerated(subsets)[0])
        taken = min(k, len(first))
        subsets = ([any(reward[i] for i in chosen)] for chosen in itertools.combinations(first, taken))
        assert rules.distinct_curve(rewarded, kinds)[k - 1] == pytest.approx(enumerated(subsets)[0])
    permutations = list(itertools.permutations(range(size)))

    def appearing(order: tuple[int, ...]) -> list[bool]:
        seen: list[int] = []
        for index in order:
            if alike[index] not in [alike[other] for other in seen]:
                seen.append(index)
        return [any(reward[i] for i in seen[:k]) for k in range(1, size + 1)]

    expected = enumerated(appearing(order) for order in permutations)
    np.testing.assert_allclose(rules.appearance_curve(rewarded, kinds), expected, atol=1e-12)
    for draws in (1, 3, 6):
        subsets = (
            [len({alike[i] for i in chosen if reward[i]})]
            for chosen in itertools.combinations(range(size), draws)
        )
        assert rules.distinct_correct(rewarded, kinds, draws) == pytest.approx(enumerated(subsets)[0])
    if any(reward):
        calls = enumerated(
            [1 + next(place for place, i in enumerate(order) if reward[i])] for order in permutations
        )
        assert rules.calls_to_correct(rules.random_curve(rewarded)) == pytest.approx(calls[0])


def test_the_quadrature_stays_exact_for_a_whole_pool() -> None:
    rng = np.random.default_rng(0)
    copies = rng.integers(1, 9, size=30)
    alike = np.repeat(np.concatenate([[0], np.cumsum(copies)[:-1]]), copies)
    reward = np.isin(alike, np.unique(alike)[[3, 17]])
    found = rules.appearance_curve(reward, alike)
    seen = []
    for _ in range(4000):
        order = rng.permutation(alike)
        kinds = order[np.sort(np.unique(order, return_index=True)[1])]
        seen.append(np.cumsum(np.isin(kinds, alike[reward])) > 0)
    np.testing.assert_allclose(found[:30], np.mean(seen, axis=0), atol=4 * 0.5 / math.sqrt(4000))
    assert found[-1] == 1


def test_orders_and_levels() -> None:
    tokens = np.array([[1, 2], [3, 4], [1, 2], [3, 5], [3, 4]])
    assert pools.first_alike(tokens).tolist() == [0, 1, 0, 3, 1]
    log_prob = np.array([-3.0, -1.0, -3.0, -2.0, -1.0])
    assert rules.likeliest_first(log_prob, pools.first_alike(tokens)).tolist()[:3] == [1, 3, 0]
    curve = np.array([0.2, 0.2, 0.6, 1.0])
    assert rules.calls_to_reach(curve, 0.4) == pytest.approx(2.5)
    assert rules.calls_to_reach(curve, 0.1) == pytest.approx(0.5)
    assert math.isnan(rules.calls_to_reach(curve * 0.5, 0.6))
    one = np.array([True, False, True, False])
    assert rules.order_auc(np.array([0.0, 1, 2, 3]), one) == pytest.approx(0.75)
    assert rules.order_auc(np.zeros(4), one) == pytest.approx(0.5)
    assert math.isnan(rules.order_auc(np.zeros(4), ~np.zeros(4, bool)))


@pytest.mark.long
def test_weights_of_one_class_leave_the_others_out() -> None:
    task = LayeredGraph(depth=2, width=2, branching=1, num_ids=8, mixture={"G1": 0.5, "G2": 0.2, "G3": 0.3})
    held_out = held_out_prompts(task, PoolSettings(responses=4, prompts=2, ridge=0.01, group=2), 0)
    assert held_out.groups.tolist() == [0, 0, 1, 1, 2, 2]
    whole = prompt_weights(held_out, None)
    assert whole == pytest.approx([0.25, 0.25, 0.1, 0.1, 0.15, 0.15])
    assert prompt_weights(held_out, "G2") == pytest.approx([0, 0, 0.5, 0.5, 0, 0])
    calls = np.array([1.0, 2.0, 3.0, 5.0, 8.0, 13.0])
    kept = np.array([True, True, False, True, True, True])
    assert rules.mean_where(calls, kept, prompt_weights(held_out, "G2")) == 5
    assert math.isnan(rules.mean_where(calls, kept & (calls != 5), prompt_weights(held_out, "G2")))


@pytest.mark.long
def test_a_pool_is_judged_picked_and_explained() -> None:
    task = FixedDyck(length=4, max_depth=2)
    shape = {"vocab_size": task.vocab_size, "prompt_length": task.prompt_length}
    model = GPT(**shape, response_length=task.response_length, num_layers=1, num_heads=2, width=16)
    settings = PoolSettings(responses=16, prompts=3, ridge=0.01, group=4)
    held_out = held_out_prompts(task, settings, 0)
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)
    pool = draw_pool(held_out, model, params, settings, jax.random.key(2))
    assert pool.reward.shape == pool.alike.shape == pool.log_prob.shape == pool.bonus.shape == (3, 16)
    assert np.all(pool.log_prob < 0)
    for index in range(3):
        order = pool.orders[REPRESENTATION][index]
        assert sorted(order.tolist()) == list(range(16))
        kinds = len(set(pool.alike[index]))
        assert 1 < kinds < 16
        for start in range(0, 16, 4):
            alike, bonus = pool.alike[index, start : start + 4], pool.bonus[index, start : start + 4]
            for kind in set(alike):
                np.testing.assert_allclose(bonus[alike == kind], bonus[alike == kind][0], atol=1e-3)
                assert np.ptp(pool.log_prob[index][pool.alike[index] == kind]) < 1e-4
        curves = rules.prompt_curves(pool, index)
        assert set(curves) == set(rules.RULES)
        assert all(each[-1] == pool.reward[index].any() for each in curves.values())
        facts = rules.prompt_facts(pool, index, 4)
        assert set(facts) == set(rules.FACTS)
        assert facts[rules.DUPLICATES] == pytest.approx(1 - kinds / 16)
        assert 0 <= facts["bonus: mean distance from 1/m - 1/S"] < 0.5


def test_facts_of_a_pool_made_by_hand() -> None:
    alike = np.array([[0, 0, 2, 0, 4, 0, 6, 0]])
    reward = np.array([[0, 0, 1, 0, 0, 0, 0, 0]]) > 0
    log_prob = np.array([[-1.0, -1, -2, -1, -3, -1, -4, -1]])
    order = np.array([[6, 4, 2, 0, 1, 3, 5, 7]])
    pool = Pool(reward, reward, alike, log_prob, {REPRESENTATION: order}, np.zeros((1, 8)))
    facts = rules.prompt_facts(pool, 0, 4)
    assert facts[rules.DUPLICATES] == 0.5
    assert facts[rules.FEATURES_AUC] == pytest.approx(1 / 3)
    assert facts[rules.LIKELY_AUC] == pytest.approx(2 / 3)
    assert facts["rank correlation of picking early with being unlikely"] == pytest.approx(1)
    curves = rules.prompt_curves(pool, 0)
    assert curves[REPRESENTATION].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert curves[rules.LIKELIEST].tolist() == [0, 1, 1, 1, 1, 1, 1, 1]
    assert curves[rules.DISTINCT][0] == pytest.approx(1 / 4)
    assert curves[rules.RANDOM][0] == pytest.approx(1 / 8)


# The claim, on measurements that are made.


def made(gains: tuple[float, float], bonus: float) -> Measurements:
    """Two tasks alike: representations need `gains` times fewer calls than random choice on the weakest and
    the strongest checkpoint; with the bonus Pass@64 is `bonus` higher at the end."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.002, (4, 2))
    base = np.array([[40.0, 10.0]] * 4)
    calls = {rule: base * np.exp(noise) for rule in rules.RULES}
    calls[REPRESENTATION] = base / np.array(gains)
    heights = 1 - np.exp(-np.arange(1, 17) / 8.0)
    curves = {rule: np.broadcast_to(heights, (4, 2, 16)) + noise[..., None] for rule in rules.RULES}
    facts = {name: np.full((4, 2), 0.5) for name in rules.FACTS}
    half = np.full((4, 2), 0.5)
    own = TestTime((1, 2, 3, 4), (10, 20), curves, calls, half, half, half, facts, 64.0, "G2")

    def arm(extra: float) -> Arm:
        change = noise + np.array([0.0, extra])
        passes = {1: half + noise, 64: 0.7 + change}
        return Arm((0, 8), passes, 3 + change, half, half, 64)

    arms = {"grpo": arm(0.0), "representation": arm(bonus), "counts": arm(bonus / 2)}
    return Measurements({"graph": own, "dyck": own}, {"graph": arms, "dyck": arms}, (1, 2, 3, 4))


def failing(results: Measurements) -> list[str]:
    return [check.name for check in exploration_checks.checks(results) if not check.passed]


def test_pools_without_a_correct_response_pass_no_check(tmp_path: Path) -> None:
    found = made((1.0, 1.6), 0.1)
    calls = {rule: np.full((4, 2), np.nan) for rule in rules.RULES}
    own = found.test_time["graph"]
    none = TestTime(
        own.seeds,
        own.steps,
        own.curves,
        calls,
        own.solvable,
        own.coverage,
        own.cross_entropy,
        own.facts,
        64.0,
        "G2",
    )
    unsolved = Measurements({"graph": none}, {"graph": found.arms["graph"]}, found.seeds)
    assert len(failing(unsolved)) == 4
    assert len(save_all(tmp_path, figures.drawings(unsolved))) == 3


def test_notes_say_what_is_judged_and_how_the_gain_grows() -> None:
    """No spread: twice as many calls by random choice on the weakest checkpoint, three times on the
    strongest, which is 1.5 times as much."""
    found = made((2.0, 3.0), 0.1)
    own = found.test_time["graph"]
    calls = dict(own.calls) | {rules.RANDOM: np.array([[40.0, 10.0]] * 4)}
    own = dataclasses.replace(own, calls=calls)
    every = dataclasses.replace(own, repeats=None)
    written = exploration_checks.notes(dataclasses.replace(found, test_time={"graph": own, "dyck": every}))
    assert written[0].startswith("graph, prompts of G2: verifier calls")
    assert written[2].startswith("dyck, all prompts, not judged: verifier calls")
    grown = "2 [2, 2] on the weakest checkpoint, 1.5 [1.5, 1.5] times that on the strongest."
    assert written[0].endswith(f"Efficiency over random choice: {grown}")


def test_the_notes_compare_each_arm_with_grpo_where_its_pass_at_1_was_the_same() -> None:
    """GRPO's Pass@1 rises from .5 to .7 as its Pass@64 falls from .9 to .7 and its different correct
    responses from 3 to 1: at a Pass@1 of .6 they are .8 and 2, at .5 those of the start."""

    def arm(small: float, large: float, distinct: float) -> Arm:
        passes = {1: np.array([[0.5, small]] * 4), 64: np.array([[0.9, large]] * 4)}
        flat = np.full((4, 2), 0.5)
        return Arm((0, 8), passes, np.array([[3.0, distinct]] * 4), flat, flat, 64)

    arms = {
        "grpo": arm(0.7, 0.7, 1.0),
        "representation": arm(0.6, 0.85, 2.5),
        "counts": arm(0.5, 0.97, 3.25),
    }
    results = dataclasses.replace(made((1.0, 1.6), 0.1), arms={"graph": arms})
    text = exploration_checks.notes(results)[-2]
    same = "at its end less grpo where its Pass@1 was the same: Pass@64"
    assert f"representation {same} 0.05 [0.05, 0.05], different correct 0.5 [0.5, 0.5]" in text
    assert f"counts {same} 0.07 [0.07, 0.07], different correct 0.25 [0.25, 0.25]" in text


@pytest.mark.long
def test_notes_tables_and_figures(tmp_path: Path) -> None:
    found = made((1.0, 1.6), 0.1)
    text = " ".join(exploration_checks.notes(found))
    assert "representation 6.25" in text
    assert "different correct among 64 3.0" in text
    made_tables = figures.tables(found)
    assert len(made_tables) == 2 * (4 + 2)
    assert_rectangular(made_tables)
    curves = found.test_time["graph"].curves
    reach = rules.calls_to_match(curves[rules.APPEARANCE][:, 0], curves[rules.RANDOM][:, 0], (1, 8))
    np.testing.assert_allclose(reach, np.broadcast_to([1, 8], (4, 2)), atol=1e-9)
    arms = found.arms["graph"]
    matched = exploration_checks.at_equal_small_k(
        arms["grpo"], arms["representation"], lambda arm: arm.passes[64]
    )
    assert matched.shape == (4,)
    drawn = save_all(tmp_path, figures.drawings(found))
    assert all(path.stat().st_size > 10_000 for _, path in drawn)


@pytest.mark.long
@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_every_scale_builds_its_base_runs(scale: str, compose_config: Callable[..., Any]) -> None:
    config = compose_config("exploration", f"scale={scale}")
    settings = read(Settings, config)
    assert next(iter(settings.arms)) == "grpo"
    plan = Plan(config, Path("runs/exploration/x"), frozenset({"scale", *field_checks(Settings)}))
    for name, run in measure.base_stage(settings, plan).items():
        setup = build(run.config)
        measure.check_run(settings, name, setup)
        task = setup.phases[-1].task
        assert type(task).__name__ == {"graph": "LayeredGraph", "dyck": "FixedDyck"}[name]
        assert task.group_probs == {"graph": (0.5, 0.2, 0.3), "dyck": (1.0,)}[name]


def test_the_tiny_run_trains_selects_and_judges(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("exploration")
    verdict = Verdict.read(path / "verdict.json")
    assert verdict.seeds == (3, 4)
    # Four on choosing, where a class repeats its wrong answer, and four a task on reinforcement learning.
    assert len(verdict.checks) == 4 + 2 * 4
    assert len([each for each in path.iterdir() if (each / "status.json").exists()]) == 2 + 6
    assert (path / "report.html").stat().st_size > 20_000
