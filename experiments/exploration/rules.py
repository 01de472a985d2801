"""Rules that say which of a pool's responses go to the verifier first, their Pass@k without noise of the
choice, and why they gain or lose.

A curve holds Pass@k for k = 1..N verifier calls on a pool of N responses, a number for each prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.exploration.pools import REPRESENTATION, WHITENED, Pool
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
RULES = (FIRST, RANDOM, DISTINCT, APPEARANCE, LIKELIEST, REPRESENTATION, WHITENED)
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


def ordered_curve(reward: Bool[np.ndarray, " responses"], order: Int[np.ndarray, " responses"]) -> np.ndarray:
    """Pass@k of the first k responses of `order`."""
    return np.maximum.accumulate(reward[order]).astype(np.float64)


def random_curve(reward: Bool[np.ndarray, " responses"]) -> Float[np.ndarray, " responses"]:
    """Pass@k = 1 - C(N-c, k)/C(N, k) of k responses chosen uniformly without replacement, c of the N
    correct."""
    size = reward.size
    return pass_at_n_unbiased(size, np.array(int(reward.sum())), range(1, size + 1))


def distinct_curve(
    reward: Bool[np.ndarray, " responses"], alike: Int[np.ndarray, " responses"]
) -> Float[np.ndarray, " responses"]:
    """Pass@k of k responses chosen uniformly among the different ones, whatever their number of copies; once
    all are chosen it stays.

    Args:
        alike: of `pools.first_alike`.
    """
    distinct = random_curve(reward[np.unique(alike)])
    return np.concatenate([distinct, np.full(reward.size - distinct.size, distinct[-1])])


def appearance_curve(
    reward: Bool[np.ndarray, " responses"], alike: Int[np.ndarray, " responses"]
) -> Float[np.ndarray, " responses"]:
    """Pass@k of going through the pool in random order and skipping what was seen before, exactly.

    With an independent exponential clock of rate 1 on each response, the different ones appear in the order
    of first rings, at rates m_j, their numbers of copies. With c correct responses in all and s = e^-T at the
    first correct ring, s has density c s^(c-1) on (0, 1), and wrong response j has appeared with probability
    1 - s^m_j, independently: Pass@k is the mean over s of P[fewer than k have]. That is a polynomial in s of
    degree below N, which Gauss and Legendre's rule with N/2 nodes integrates exactly.
    """
    size, correct = reward.size, int(reward.sum())
    if not correct:
        return np.zeros(size)
    nodes, weights = np.polynomial.legendre.leggauss((size + 1) // 2)
    s, weights = (nodes + 1) / 2, weights / 2
    copies = np.bincount(alike, minlength=size)
    wrong = copies[(copies > 0) & ~reward]
    law = np.zeros((s.size, wrong.size + 1))
    law[:, 0] = 1.0
    for index, number in enumerate(wrong, start=1):
        stays = (s**number)[:, None]
        law[:, 1 : index + 1] = law[:, 1 : index + 1] * stays + law[:, :index] * (1 - stays)
        law[:, :1] *= stays
    density = weights * correct * s ** (correct - 1)
    passes = np.cumsum(density @ law)
    return np.concatenate([passes, np.ones(size)])[:size]


def likeliest_first(
    log_prob: Float[np.ndarray, " responses"], alike: Int[np.ndarray, " responses"]
) -> Int[np.ndarray, " responses"]:
    """The different responses by falling probability under the model, then the copies."""
    copy = alike != np.arange(alike.size)
    return np.lexsort((-log_prob, copy))


def calls_to_correct(curve: Float[np.ndarray, "*prompts responses"]) -> Float[np.ndarray, "*prompts"]:
    """Expected number of verifier calls up to the first correct response, sum over k = 0..N-1 of 1 - Pass@k,
    for pools with a correct response."""
    return 1.0 + np.sum(1.0 - curve[..., :-1], axis=-1)


def calls_to_reach(curve: Float[np.ndarray, " responses"], level: float) -> float:
    """Least number of verifier calls, interpolated between whole ones, at which Pass@k is `level`; NaN if it
    never is. Pass@0 is 0."""
    heights = np.concatenate([[0.0], np.maximum.accumulate(curve)])
    reached = np.flatnonzero(heights >= level - 1e-12)
    if not reached.size:
        return math.nan
    place = int(reached[0])
    if place == 0:
        return 0.0
    low, high = heights[place - 1], heights[place]
    return place - 1 + float((level - low) / (high - low)) if high > low else float(place)


def distinct_correct(
    reward: Bool[np.ndarray, " responses"], alike: Int[np.ndarray, " responses"], draws: int
) -> float:
    """Expected number of different correct responses among `draws` of the pool, drawn uniformly without
    replacement: the sum over them of 1 - C(N-m, draws)/C(N, draws), m their copies."""
    copies = np.bincount(alike[reward], minlength=1)
    copies = copies[copies > 0]
    if not copies.size:
        return 0.0
    return float(pass_at_n_unbiased(reward.size, copies, [draws]).sum())


def order_auc(places: Float[np.ndarray, " items"], correct: Bool[np.ndarray, " items"]) -> float:
    """Probability that a correct item stands before a wrong one (equal places count half); NaN where there
    are none of either kind."""
    one, other = places[correct], places[~correct]
    if not one.size or not other.size:
        return math.nan
    before = one[:, None] < other[None, :]
    return float(np.mean(before + 0.5 * (one[:, None] == other[None, :])))


def calls_to_match(
    curves: Float[np.ndarray, "seeds responses"],
    levels: Float[np.ndarray, "seeds responses"],
    ks: Sequence[int],
) -> Float[np.ndarray, "seeds ks"]:
    """Calls in which `curves` reach the Pass@k that `levels` have in k, by seed; NaN if they never do."""
    return np.array(
        [
            [calls_to_reach(curve, float(level[k - 1])) for k in ks]
            for curve, level in zip(curves, levels, strict=True)
        ]
    )


def doubling(size: int) -> Int[np.ndarray, " ks"]:
    """1, 2, 4, ... up to half of the pool."""
    return 2 ** np.arange(int(math.log2(max(size // 2, 1))) + 1)


def prompt_curves(pool: Pool, index: int) -> dict[str, Float[np.ndarray, " responses"]]:
    """Rule -> Pass@k on one prompt's pool, k = 1..N."""
    reward, alike = pool.reward[index], pool.alike[index]
    likeliest = likeliest_first(pool.log_prob[index], alike)
    made = {
        FIRST: ordered_curve(reward, np.arange(reward.size)),
        RANDOM: random_curve(reward),
        DISTINCT: distinct_curve(reward, alike),
        APPEARANCE: appearance_curve(reward, alike),
        LIKELIEST: ordered_curve(reward, likeliest),
    }
    return made | {name: ordered_curve(reward, order[index]) for name, order in pool.orders.items()}


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
        FEATURES_AUC: order_auc(places[kinds], correct),
        LIKELY_AUC: order_auc(-log_prob, correct),
        UNLIKELIHOOD: float(unlikely),
        VALID_FIRST: float(pool.valid[index][order[:FIRST_PICKS]].mean()),
        VALID_POOL: float(pool.valid[index].mean()),
        BONUS_GAP: float(np.abs(bonus - (1 / copies - 1 / group)).mean()),
        BONUS_SPREAD: float(bonus.std(axis=-1).mean()),
    }


def mean_where(
    values: Float[np.ndarray, " prompts"],
    kept: Bool[np.ndarray, " prompts"],
    weights: Float[np.ndarray, " prompts"],
) -> float:
    """Mean by the prompts' weights over those that are kept; NaN if there are none."""
    weights = np.where(kept, weights, 0.0)
    if not weights.sum():
        return math.nan
    return float(np.sum(weights * np.where(kept, values, 0.0)) / weights.sum())


def pool_measures(pool: Pool, held_out: HeldOut, ks: Sequence[int]) -> Float[np.ndarray, " measures"]:
    """Pass@k for every k, then the expected number of different correct responses among the largest k."""
    size = pool.reward.shape[1]
    passes = weighted_mean(pass_at_n_unbiased(size, pool.reward.sum(axis=1), ks).T, held_out.weights)
    distinct = [
        distinct_correct(reward, alike, max(ks))
        for reward, alike in zip(pool.reward, pool.alike, strict=True)
    ]
    return np.append(passes, held_out.weights @ np.array(distinct))
