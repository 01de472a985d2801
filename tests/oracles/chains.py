"""VGB's chain on a tree that can be enumerated: stationary law by reversibility, transition matrix."""

import numpy as np
from jaxtyping import Float

from decoding.exact import Levels, Tree


def stationary_law(tree: Tree) -> Levels:
    """Stationary law of VGB on the nodes reachable from the root, level by level.

    By reversibility it is proportional to the total weight of the edges of a node,
    pi_ref(v) (V^(v) + sum_a pi_ref(a|v) V^(va)).
    """
    reached = np.ones(1)
    law = []
    for h in range(tree.depth + 1):
        law.append(reached * totals(tree, h))
        if h < tree.depth:
            edges = reached[:, None] * tree.reference[h]
            reached = (edges * (tree.weights(h) > 0)).ravel()
    mass = sum(float(level.sum()) for level in law)
    return tuple(level / mass for level in law)


def transition_matrix(tree: Tree) -> Float[np.ndarray, "nodes nodes"]:
    """Transition matrix of VGB, nodes numbered level by level, for small trees."""
    sizes = [len(level) for level in tree.values]
    first = np.concatenate([[0], np.cumsum(sizes)])
    matrix = np.zeros((first[-1], first[-1]))
    for h, size in enumerate(sizes):
        total = totals(tree, h)
        for i in range(size):
            node = first[h] + i
            matrix[node, node] = 0.5 if total[i] > 0 else 1.0
            if total[i] > 0 and h > 0:
                matrix[node, first[h - 1] + i // tree.reference[h - 1].shape[1]] = tree.values[h][i] / (
                    2 * total[i]
                )
            if total[i] > 0 and h < tree.depth:
                width = tree.reference[h].shape[1]
                children = first[h + 1] + width * i + np.arange(width)
                matrix[node, children] = tree.weights(h)[i] / (2 * total[i])
    return matrix


def totals(tree: Tree, h: int) -> Float[np.ndarray, " nodes"]:
    """Total weight of every node's moves, to the parent (none at the root) and to the children."""
    total = np.zeros_like(tree.values[h]) if h == 0 else tree.values[h].copy()
    return total if h == tree.depth else total + tree.weights(h).sum(axis=1)
