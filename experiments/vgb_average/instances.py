"""The task "delay" as a tree, and values that are trained on rollouts of its base model."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from decoding.exact import Levels, Tree
from theory.vgb.average_case import exact_values


def zeros_of(horizon: int) -> tuple[Int[np.ndarray, " nodes"], ...]:
    """Number of zeros of every node, level by level; the first child adds a zero, the second a one."""
    levels = [np.zeros(1, np.int64)]
    for _ in range(horizon):
        levels.append(np.stack([levels[-1] + 1, levels[-1]], axis=1).ravel())
    return tuple(levels)


def exact_tree(horizon: int, tilt: float) -> Tree:
    """`tasks.Delay` with exact values: fair bits, tau = e^(-tilt zeros)."""
    reference = tuple(np.full((2**h, 2), 0.5) for h in range(horizon))
    leaves = np.exp(-tilt * zeros_of(horizon)[-1])
    blank = tuple(np.ones(2**h) for h in range(horizon))
    return Tree(reference, exact_values(Tree(reference, (*blank, leaves))))


def mean_reward(horizon: int, tilt: float) -> float:
    """V at the root, ((1 + e^-tilt)/2)^H: the share of responses that outcome-level rejection accepts."""
    return float(((1 + np.exp(-tilt)) / 2) ** horizon)


def trained_table(
    horizon: int, tilt: float, rollouts: int, rng: np.random.Generator
) -> Float[np.ndarray, "levels zeros"]:
    """V^ of the nodes with z zeros at level h < H, row h and column z.

    The regression of tau on indicators of (h, z), with one observation of the rollouts' mean reward added to
    each: (sum of tau over the rollouts that pass + mean tau)/(their number + 1). It is the class of functions
    that holds V, positive, and the mean reward where no rollout passes.
    """
    bits = rng.random((rollouts, horizon)) < 0.5
    counts = np.concatenate([np.zeros((rollouts, 1), np.int64), np.cumsum(bits, axis=1)], axis=1)
    rewards = np.exp(-tilt * counts[:, -1])
    table = np.empty((horizon, horizon + 1))
    for h in range(horizon):
        passed = np.bincount(counts[:, h], minlength=horizon + 1)
        earned = np.bincount(counts[:, h], rewards, minlength=horizon + 1)
        table[h] = (earned + rewards.mean()) / (passed + 1)
    return table


def with_table(tree: Tree, table: Float[np.ndarray, "levels zeros"]) -> Tree:
    """The tree with values of the table below the root and above the leaves, where they are tau."""
    zeros = zeros_of(tree.depth)
    inner: Levels = tuple(table[h][zeros[h]] for h in range(1, tree.depth))
    return Tree(tree.reference, (np.ones(1), *inner, tree.values[-1]))
