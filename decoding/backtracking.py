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
    """What the method remembers of each chain: how often it may still go back, and how many tokens it is to
    take greedily."""

    quota: PerChain
    greedy: PerChain


@dataclasses.dataclass(frozen=True)
class BacktrackingRejection(Explorer):
    """Draw a token from the base model and ask the process verifier whether the prefix can still become a
    correct response; if not, erase the last `stride` tokens and take the base model's likeliest token for as
    many positions; `quota` times at most, then go on unchecked.

    A prefix passes if V^ >= threshold (tau at leaves). Tokens taken greedily are not checked, save a leaf.
    Cost: a query a token that is checked. A response is finished when a leaf is reached and was accepted, or
    reached after the quota was used up: its reward says which.

    With `stride` 1 and without `greedy` it is tokenwise rejection sampling: a token is redrawn until it
    passes, and the law is pi_ref restricted at each token to the children that pass, as long as the quota
    lasts.

    Attributes:
        budget: largest number of queries of a chain.
        quota: largest number of times that a chain goes back.
        stride: tokens that are erased; at the root's side as many as there are.
        threshold: on V^, in (0, 1].
        greedy: take the likeliest token at the positions erased, as the paper does; else draw them again, and
            check them.

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
        """The whole quota; the root is not checked."""
        zero = jnp.zeros_like(state.depth)
        return Checking(zero + self.quota, zero)

    def act(
        self, tree: Tree, state: Chains, own: Checking, which: Flags, keys: Keys
    ) -> tuple[Chains, Checking]:
        """Take a token, check where it leads, and go back if that is refused."""
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
