"""Tokenwise rejection sampling with backtracking."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp

from decoding.explore import Chains, Explorer, Flags, Keys, Tree, at_leaf
from decoding.paths import PerChain
from tasks import categorical
from tasks.checks import flag, real, whole


class Checking(NamedTuple):
    """State of a chain: how often it may still backtrack, and the number of greedy tokens to come."""

    quota: PerChain
    greedy: PerChain


@dataclasses.dataclass(frozen=True)
class BacktrackingRejection(Explorer):
    """Draw tokens from the base model and backtrack where the process verifier rejects the prefix.

    A prefix passes if V^ >= threshold (tau at leaves). A rejection erases the last `stride` tokens and
    replaces them by the base model's most likely tokens. After `quota` rejections, tokens are not checked.
    Greedy tokens are not checked either, except at a leaf. Cost: one query per checked token. A response is
    finished when a leaf is accepted, or reached after the quota; the reward distinguishes the two.

    `stride` 1 without `greedy` is tokenwise rejection sampling: a token is redrawn until it passes. The law
    is then pi_ref restricted to the children that pass, within the quota.

    Attributes:
        budget: largest number of queries of a chain.
        quota: largest number of times that a chain backtracks.
        stride: number of erased tokens, or fewer near the root.
        threshold: least V^ that passes, in (0, 1].
        greedy: replace erased tokens by the most likely ones, as in the paper; else redraw and check them.

    Source: Botta et al., On the query complexity of verifier-assisted language generation, arXiv 2502.12123,
    algorithm 1.

    Raises:
        ValueError: a field out of range.
    """

    quota: int = 16
    stride: int = 4
    threshold: float = 0.5
    greedy: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("quota", self.quota)
        whole("stride", self.stride, 1)
        real("threshold", self.threshold, above=0, most=1)
        flag("greedy", self.greedy)

    def own_state(self, tree: Tree, state: Chains) -> Checking:
        """The full quota and no greedy tokens; the root is not checked."""
        zero = jnp.zeros_like(state.depth)
        return Checking(zero + self.quota, zero)

    def act(
        self, tree: Tree, state: Chains, own: Checking, which: Flags, keys: Keys
    ) -> tuple[Chains, Checking]:
        """Append a token, check the prefix, and backtrack if the prefix is rejected."""
        over = which & at_leaf(tree, state)
        state = state.stop(over, over)
        which &= ~over
        log_probs = state.at(state.log_probs)
        likeliest = jnp.argmax(log_probs, axis=-1).astype(jnp.int32)
        tokens = jnp.where(own.greedy > 0, likeliest, categorical(keys[0], log_probs))
        state = state.descend(tokens, which)
        checked = which & (own.quota > 0) & ((own.greedy <= 0) | at_leaf(tree, state))
        state, checked = self.pay(state, checked, 1)
        refused = checked & (state.own_value() < math.log(self.threshold))
        back = jnp.minimum(state.depth, self.stride)
        greedy = jnp.where(which, jnp.maximum(own.greedy - 1, 0), own.greedy)
        own = own._replace(
            quota=jnp.where(refused, own.quota - 1, own.quota),
            greedy=jnp.where(refused, back if self.greedy else 0, greedy),
        )
        return state._replace(depth=jnp.where(refused, state.depth - back, state.depth)), own
