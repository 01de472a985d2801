"""What exploration by representations gains: test-time selection on checkpoints, and runs with a bonus."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from covlab.claims.matrices import run_matrices
from covlab.launch.base_model import of_seed, seed_rows
from covlab.launch.trained import TrainedRun, open_run
from experiments.exploration import rules
from experiments.exploration.pools import (
    CENTRED,
    REPRESENTATION,
    Pool,
    PoolSettings,
    draw_pool,
    held_out_prompts,
    pool_key,
)
from metrics import pass_at_n_unbiased, weighted_mean
from metrics.evaluators import HeldOut
from metrics.rank_correlation import spearman

FIRST, RANDOM, DISTINCT, APPEARANCE, LIKELIEST = (
    "first k",
    "random k",
    "distinct, random k",
    "distinct, as they appear",
    "distinct, likeliest first",
)
RULES = (FIRST, RANDOM, DISTINCT, APPEARANCE, LIKELIEST, REPRESENTATION, CENTRED)
DUPLICATES, FEATURES_AUC, LIKELY_AUC, UNLIKELIHOOD, VALID_FIRST, VALID_POOL, BONUS_GAP, BONUS_SPREAD = (
    "share of copies in the pool",
    "a correct response is picked before a wrong one (representation)",
    "a correct response is likelier than a wrong one",
    "rank correlation of picking early with being unlikely",
    "valid responses among the first 8 picked (representation)",
    "valid responses in the pool",
    "bonus: mean distance from 1/m - 1/S",
    "bonus: standard deviation within a group",
)
FACTS = (
    *(DUPLICATES, FEATURES_AUC, LIKELY_AUC, UNLIKELIHOOD, VALID_FIRST, VALID_POOL),
    *(BONUS_GAP, BONUS_SPREAD),
)
"""Why a rule gains or loses; AUCs and correlations are among the different responses of a prompt."""
FIRST_PICKS = 8


@dataclasses.dataclass(frozen=True)
class TestTime:
    """Selection from pools of N responses, on the checkpoints of one base run.

    Attributes:
        seeds: of training.
        steps: of the checkpoints, from the weakest to the strongest.
        curves: rule -> Pass@k for k = 1..N, means over the prompts by their classes' probabilities.
        calls: rule -> mean verifier calls up to the first correct response, over pools that have one.
        solvable: share of the pools with a correct response.
        coverage: Cov_N of the checkpoints, N = `coverage_n`.
        cross_entropy: nats.
        facts: by name of `FACTS`.
        coverage_n: see `coverage`.
    """

    __test__ = False

    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    curves: Mapping[str, Float[np.ndarray, "seeds checkpoints responses"]]
    calls: Mapping[str, Float[np.ndarray, "seeds checkpoints"]]
    solvable: Float[np.ndarray, "seeds checkpoints"]
    coverage: Float[np.ndarray, "seeds checkpoints"]
    cross_entropy: Float[np.ndarray, "seeds checkpoints"]
    facts: Mapping[str, Float[np.ndarray, "seeds checkpoints"]]
    coverage_n: float

    @property
    def size(self) -> int:
        """N."""
        return int(self.curves[RANDOM].shape[-1])

    def efficiency(self, rule: str, over: str = RANDOM) -> Float[np.ndarray, "seeds checkpoints"]:
        """ln of the verifier calls up to a correct response by `over`, less those by `rule`: above 0 the rule
        needs fewer."""
        return np.log(self.calls[over]) - np.log(self.calls[rule])


@dataclasses.dataclass(frozen=True)
class Arm:
    """One run of reinforcement learning.

    Attributes:
        steps: batches of rollouts at the points measured; the first is the start.
        passes: k -> Pass@k, unbiased from pools.
        distinct: expected number of different correct responses among `draws` of a prompt.
        coverage: Cov_N, N = `TestTime.coverage_n`.
        kl: KL(pi_D || pi), nats.
        draws: the largest k.
    """

    steps: tuple[int, ...]
    passes: Mapping[int, Float[np.ndarray, "seeds points"]]
    distinct: Float[np.ndarray, "seeds points"]
    coverage: Float[np.ndarray, "seeds points"]
    kl: Float[np.ndarray, "seeds points"]
    draws: int


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that checks, figures and tables are made of: by task, and by arm; the first arm has no
    bonus, the second is the judged one."""

    test_time: Mapping[str, TestTime]
    arms: Mapping[str, Mapping[str, Arm]]
    seeds: tuple[int, ...]


def prompt_curves(pool: Pool, index: int) -> dict[str, Float[np.ndarray, " responses"]]:
    """Rule -> Pass@k on one prompt's pool, k = 1..N."""
    reward, alike = pool.reward[index], pool.alike[index]
    likeliest = rules.likeliest_first(pool.log_prob[index], alike)
    made = {
        FIRST: rules.ordered_curve(reward, np.arange(reward.size)),
        RANDOM: rules.random_curve(reward),
        DISTINCT: rules.distinct_curve(reward, alike),
        APPEARANCE: rules.appearance_curve(reward, alike),
        LIKELIEST: rules.ordered_curve(reward, likeliest),
    }
    return made | {name: rules.ordered_curve(reward, order[index]) for name, order in pool.orders.items()}


def prompt_facts(pool: Pool, index: int, group: int) -> dict[str, float]:
    """`FACTS` of one prompt's pool; NaN where one has no meaning."""
    alike, order = pool.alike[index], pool.orders[REPRESENTATION][index]
    size = alike.size
    kinds = np.unique(alike)
    places = np.full(size, float(size))
    np.minimum.at(places, alike[order], np.arange(size, dtype=float))
    correct, log_prob = pool.reward[index][kinds], pool.log_prob[index][kinds]
    unlikely = spearman(-places[kinds], -log_prob) if kinds.size > 1 else math.nan
    groups = alike.reshape(-1, group)
    copies = np.sum(groups[:, :, None] == groups[:, None, :], axis=-1)
    bonus = pool.bonus[index].reshape(-1, group)
    return {
        DUPLICATES: 1 - kinds.size / size,
        FEATURES_AUC: rules.order_auc(places[kinds], correct),
        LIKELY_AUC: rules.order_auc(-log_prob, correct),
        UNLIKELIHOOD: float(unlikely),
        VALID_FIRST: float(pool.valid[index][order[:FIRST_PICKS]].mean()),
        VALID_POOL: float(pool.valid[index].mean()),
        BONUS_GAP: float(np.abs(bonus - (1 / copies - 1 / group)).mean()),
        BONUS_SPREAD: float(bonus.std(axis=-1).mean()),
    }


def measure_test_time(
    run: TrainedRun,
    seeds: Sequence[int],
    steps: Sequence[int],
    settings: PoolSettings,
    evaluation_seed: int,
    task_name: str,
    coverage_n: float,
    report: Callable[[], None],
) -> TestTime:
    """Draw a pool for every seed and checkpoint of a base run, and apply every rule to it."""
    phase = run.setup.phases[-1]
    held_out = held_out_prompts(phase.task, settings, evaluation_seed)
    shape = (len(seeds), len(steps))
    curves = {rule: np.zeros((*shape, settings.responses)) for rule in RULES}
    calls = {rule: np.zeros(shape) for rule in RULES}
    facts = {name: np.zeros(shape) for name in FACTS}
    solvable = np.zeros(shape)
    for column, step in enumerate(steps):
        params = run.parameters(phase.name, step)
        for row, (seed, place) in enumerate(zip(seeds, seed_rows(run, seeds), strict=True)):
            key = pool_key(evaluation_seed, task_name, seed)
            pool = draw_pool(held_out, run.setup.model, of_seed(params, place), settings, key)
            count = range(len(pool.reward))
            made = [prompt_curves(pool, index) for index in count]
            known = [prompt_facts(pool, index, settings.group) for index in count]
            solved = np.any(pool.reward, axis=1)
            solvable[row, column] = np.sum(held_out.weights * solved)
            for rule in RULES:
                stacked = np.stack([each[rule] for each in made])
                curves[rule][row, column] = held_out.weights @ stacked
                own = rules.calls_to_correct(stacked)
                calls[rule][row, column] = _mean_where(own, solved, held_out)
            for name in FACTS:
                values = np.array([each[name] for each in known])
                facts[name][row, column] = _mean_where(values, np.isfinite(values), held_out)
            report()
    matrices = run_matrices(run.path)
    rows = [matrices.seeds.index(seed) for seed in seeds]
    columns = [matrices.steps.index(step) for step in steps]
    kl = matrices.kl()[rows][:, columns]
    entropy = -float(np.sum(matrices.weights * matrices.log_pi))
    return TestTime(
        tuple(seeds),
        tuple(steps),
        curves,
        calls,
        solvable,
        matrices.coverage((coverage_n,))[coverage_n][rows][:, columns],
        kl + entropy,
        facts,
        coverage_n,
    )


def _mean_where(
    values: Float[np.ndarray, " prompts"], kept: Bool[np.ndarray, " prompts"], held_out: HeldOut
) -> float:
    """Mean by the prompts' weights over those that are kept; NaN if there are none."""
    weights = np.where(kept, held_out.weights, 0.0)
    if not weights.sum():
        return math.nan
    return float(np.sum(weights * np.where(kept, values, 0.0)) / weights.sum())


def measure_arms(
    paths: Mapping[str, Path],
    seeds: Sequence[int],
    settings: PoolSettings,
    evaluation_seed: int,
    task_name: str,
    ks: Sequence[int],
    coverage_n: float,
    report: Callable[[], None],
) -> dict[str, Arm]:
    """Pools along the runs of reinforcement learning; all start from one checkpoint, which is measured
    once."""
    arms: dict[str, Arm] = {}
    start: dict[int, Float[np.ndarray, " measures"]] = {}
    for name, path in paths.items():
        run = open_run(path)
        phase = run.setup.phases[-1]
        held_out = held_out_prompts(phase.task, settings, evaluation_seed)
        steps = tuple(step for own, step in run.checkpoints(["all"]) if own == phase.name)
        found = np.zeros((len(seeds), len(steps), len(ks) + 1))
        for column, step in enumerate(steps):
            params = run.parameters(phase.name, step)
            for row, (seed, place) in enumerate(zip(seeds, seed_rows(run, seeds), strict=True)):
                if step == 0 and seed in start:
                    found[row, column] = start[seed]
                    continue
                key = pool_key(evaluation_seed, task_name, seed)
                pool = draw_pool(held_out, run.setup.model, of_seed(params, place), settings, key, False)
                found[row, column] = _pool_measures(pool, held_out, ks)
                if step == 0:
                    start[seed] = found[row, column]
                report()
        matrices = run_matrices(path)
        rows = [matrices.seeds.index(seed) for seed in seeds]
        columns = [matrices.steps.index(step) for step in steps]
        arms[name] = Arm(
            steps,
            {k: found[..., i] for i, k in enumerate(ks)},
            found[..., -1],
            matrices.coverage((coverage_n,))[coverage_n][rows][:, columns],
            matrices.kl()[rows][:, columns],
            max(ks),
        )
    return arms


def _pool_measures(pool: Pool, held_out: HeldOut, ks: Sequence[int]) -> Float[np.ndarray, " measures"]:
    """Pass@k for every k, then the expected number of different correct responses among the largest k."""
    size = pool.reward.shape[1]
    passes = weighted_mean(pass_at_n_unbiased(size, pool.reward.sum(axis=1), ks).T, held_out.weights)
    each = [
        rules.distinct_correct(reward, alike, max(ks))
        for reward, alike in zip(pool.reward, pool.alike, strict=True)
    ]
    return np.append(passes, held_out.weights @ np.array(each))
