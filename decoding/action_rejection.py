"""Action-level rejection sampling: guided by values at every token, without backtracking."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from decoding.explore import Chains, Explorer, Flags, Keys, Tree, at_leaf
from decoding.paths import PerChain
from tasks import categorical


@dataclasses.dataclass(frozen=True)
class ActionRejection(Explorer):
    """Draw child a with probability prop. to pi_ref(a|x, y_1:h) V^(x, y_1:h a) at every node, tau at leaves.

    Law: prod_h pi_ref V^(child) / sum_a pi_ref V^(child a), which is pi* if V^ is exact; otherwise errors
    multiply over the horizon. Cost: one query per child of positive base probability, one token per depth. A
    chain stops unfinished where all children have weight 0.

    Source: arXiv 2510.03149, section 2 (ActionLevelRS).
    """

    def act(self, tree: Tree, state: Chains, own: Any, which: Flags, keys: Keys) -> tuple[Chains, Any]:
        """Draw a child by weight; stop at a leaf or where all weights are 0."""
        leaf = which & at_leaf(tree, state)
        weights = state.at(state.log_probs) + state.at(state.values)
        stuck = which & ~leaf & (jnp.max(weights, axis=-1) == -jnp.inf)
        state = state.descend(categorical(keys[0], weights), which & ~leaf & ~stuck)
        return state.stop(leaf | stuck, leaf), own

    def pay_for_children(self, state: Chains, which: Flags, number: PerChain) -> Chains:
        """Charge one query per child."""
        return self.pay(state, which, number)[0]
