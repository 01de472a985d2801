"""Reward of Best-of-N by enumeration, in plain Python: all N-tuples of draws, all sets of responses."""

import itertools
import math
from collections.abc import Sequence


def reward_of_best(model: Sequence[float], reward: Sequence[float], n: int) -> float:
    """E[max reward of n draws], summed over every ordered n-tuple; what `model` leaves out earns 0."""
    laws = [*model, 1 - sum(model)]
    rewards = [*reward, 0.0]
    return sum(
        math.prod(laws[y] for y in draws) * max(rewards[y] for y in draws)
        for draws in itertools.product(range(len(laws)), repeat=n)
    )


def loss_of(target: Sequence[float], model: Sequence[float], chosen: Sequence[int], n: int) -> float:
    """pi_T(R) minus the chance that one of n draws is in R."""
    return sum(target[y] for y in chosen) - (1 - (1 - sum(model[y] for y in chosen)) ** n)


def worst_set_loss(target: Sequence[float], model: Sequence[float], n: int) -> float:
    """The largest `loss_of` over all 2^K sets."""
    size = len(target)
    sets = itertools.chain.from_iterable(itertools.combinations(range(size), k) for k in range(size + 1))
    return max(loss_of(target, model, chosen, n) for chosen in sets)
