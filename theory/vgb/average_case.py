"""VGB with values that are wrong on average: exact quantities of enumerated trees, and a guarantee.

Let c(v) = pi_ref(v) V^(v) be the conductance of the edge above v, V the exact values, H the depth and pi* the
target. Derived, for any V^ that is exact at the leaves, and positive exactly where V is:

- *Leaf mass.* The conductances of level h sum to V(root) E_pi*[V^/V], so that the stationary
  probability of the leaves is m = 1/(2 sum_h E_pi*[V^_h/V_h]), h = 1..H.
- *Way back.* From a leaf y the walk takes t(y) steps on average to the root, lazy steps included, and
  M = E_{y ~ pi*} t(y) = 2 sum_h (1 + 2 sum_{k > h} E_pi*[(V_h/V^_h)(V^_k/V_k)]). Exact values give 2 H^2.
- *Guarantee.* The chain is reversible and lazy, so that its law after T steps from the root has P_T(y)/(m
  pi*(y)) = P_T(y, root)/mu(root) >= P_y[root within T steps]: the walk from y reaches the root, and a lazy
  reversible chain returns to it at any later time with at least its stationary probability mu(root). With
  pi_hat = P_T given a leaf and N = P_T(leaf)/m, Markov's inequality gives E_pi*[(1 - N pi_hat/pi*)^+] <= M/T
  and Cov_{2N}(pi* || pi_hat) <= 2 M/T.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from decoding.exact import Law, Levels, Tree, chain_law, target_law


def exact_values(tree: Tree) -> Levels:
    """V of every node: sums from the leaves up."""
    levels = [tree.values[-1]]
    for table in reversed(tree.reference):
        levels.insert(0, (table * levels[0].reshape(table.shape)).sum(axis=1))
    return tuple(levels)


def average_errors(
    tree: Tree, exact: Levels
) -> tuple[Float[np.ndarray, " levels"], Float[np.ndarray, " levels"]]:
    """(E_pi*[V^/V], E_pi*[V/V^]) of the levels 1..H, at nodes that pi* reaches."""
    target, over, under = target_law(tree), [], []
    for h in range(1, tree.depth + 1):
        reached = target.reshape(len(exact[h]), -1).sum(axis=1)
        kept = reached > 0
        ratio = tree.values[h][kept] / exact[h][kept]
        over.append(float(reached[kept] @ ratio))
        under.append(float(reached[kept] @ (1 / ratio)))
    return np.array(over), np.array(under)


def leaf_mass(tree: Tree) -> float:
    """m, the stationary probability of the leaves, from the conductances."""
    reached, total = np.ones(1), 0.0
    for h in range(tree.depth):
        edges = (reached[:, None] * tree.weights(h)).sum()
        total += float(edges)
        reached = (reached[:, None] * tree.reference[h]).ravel()
    return float(reached @ tree.values[-1]) / (2 * total)


def return_steps(tree: Tree) -> Float[np.ndarray, " leaves"]:
    """t(y), the mean number of steps from every leaf to the root, lazy steps included; infinite where an edge
    of the path has V^ = 0.

    From v to its parent there are 2 (c(v) + 2 C(v))/c(v) steps, C(v) the summed conductance below v.
    """
    below = np.zeros_like(tree.values[-1])
    steps: list[np.ndarray] = []
    for h in reversed(range(tree.depth)):
        value = tree.values[h + 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            steps.insert(0, np.where(value > 0, 2 * (1 + 2 * below / value), np.inf))
        # Relative to pi_ref(v), as V^ is.
        below = (tree.reference[h] * (value + below).reshape(tree.reference[h].shape)).sum(axis=1)
    total = np.zeros(1)
    for table, own in zip(tree.reference, steps, strict=True):
        total = np.repeat(total, table.shape[1]) + own
    return total


def mean_return_steps(tree: Tree) -> float:
    """M = E_{y ~ pi*} t(y)."""
    target = target_law(tree)
    return float(target[target > 0] @ return_steps(tree)[target > 0])


def first_leaf_steps(tree: Tree) -> float:
    """Mean number of steps, lazy steps included, from the root to the first leaf.

    Without lazy steps x is visited c(x) u(x) times, with c(x) the total conductance at x and u(x) the voltage
    when a unit current enters at the root and leaves are grounded.
    """
    conducted: list[np.ndarray] = [np.full(len(tree.values[-1]), np.inf)]
    for h in reversed(range(tree.depth)):
        child, value = conducted[0], tree.values[h + 1]
        passing = value if h == tree.depth - 1 else value * child / (value + child)
        conducted.insert(0, (tree.reference[h] * passing.reshape(tree.reference[h].shape)).sum(axis=1))
    reached, voltage, steps = np.ones(1), 1 / conducted[0], 0.0
    for h in range(tree.depth):
        own = tree.weights(h).sum(axis=1) + (tree.values[h] if h else 0.0)
        steps += 2 * float((reached * own) @ voltage)
        value = tree.values[h + 1]
        width = tree.reference[h].shape[1]
        if h < tree.depth - 1:
            voltage = np.repeat(voltage, width) * value / (value + conducted[h + 1])
        reached = (reached[:, None] * tree.reference[h]).ravel()
    return steps


def chain_laws(tree: Tree, times: Sequence[int]) -> Iterator[tuple[float, Law]]:
    """For each of the increasing times, P_T(leaf) and the law of the leaf, given a leaf, after T steps.

    Raises:
        ValueError: times that do not increase, or that are too short for a leaf to be reached.
    """
    law, done = None, 0
    for time in times:
        if time <= done or time < tree.depth:
            raise ValueError(f"times: {list(times)}; valid: increasing, from the depth {tree.depth} on")
        law, done = chain_law(tree, time - done, law), time
        mass = float(law[-1].sum())
        yield mass, law[-1] / mass


def few_children_law(tree: Tree, children: int) -> Law:
    """Stationary law on the leaves of the walk that draws `children` = K children of pi_ref for each step.

    With m_a of them equal to a, it moves to a with weight m_a V^(va) and to the parent with K V^(v). Averaged
    over the draws this is a walk between neighbours on a tree, hence reversible: mu(va)/mu(v) is the ratio of
    the probabilities of the move down and of the move up.

    Raises:
        ValueError: a tree of other than two symbols, or fewer than one child.
    """
    if children < 1 or any(table.shape[1] != 2 for table in tree.reference):
        raise ValueError(f"children: {children}; valid: at least 1, on a tree of two symbols")
    counts = np.arange(children + 1)
    choose = np.array([math.comb(children, int(m)) for m in counts], float)
    law = np.ones(1)
    ups = []
    downs = []
    for h in range(tree.depth):
        first = tree.reference[h][:, :1]
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = choose * first**counts * (1 - first) ** (children - counts)
        value = tree.values[h + 1].reshape(-1, 2)
        left, right = counts * value[:, :1], (children - counts) * value[:, 1:]
        back = children * tree.values[h][:, None] if h else np.zeros((1, 1))
        total = left + right + back
        # A lazy step has half of the probability of each move; the halves cancel in the ratios.
        downs.append(
            np.stack([(drawn * left / total).sum(axis=1), (drawn * right / total).sum(axis=1)], axis=1)
        )
        ups.append((drawn * back / total).sum(axis=1))
    ups.append(np.ones(len(tree.values[-1])))
    for down, up in zip(downs, ups[1:], strict=True):
        law = (law[:, None] * down / up.reshape(down.shape)).ravel()
    return law / law.sum()
