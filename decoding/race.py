"""The uniform race: a choice among whole responses in proportion to their weight, without a threshold."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from decoding.explore import Chains, Flags, Keys, Tree, at_leaf, verify
from decoding.whole import Leader, WholeResponses, draw, restart
from tasks.checks import choice, real
from tasks.drawing import gumbel, unit

CLOCKS = ("uniform", "exponential")


@dataclasses.dataclass(frozen=True)
class UniformRace(WholeResponses):
    """Of N = `candidates` responses from the base model, the one with the largest w_i/U_i.

    The U_i are independent. Uniform on (0, 1), they make the uniform race: a rejection sampler with threshold
    M accepts candidates with w_i/U_i >= M, and the race returns the largest instead, so that it needs no M.
    Exponential of mean 1, they choose candidate i with probability w_i / sum w, which is self-normalised
    importance resampling. Both laws tend to pi_ref w / sum as N grows. Given a winning score above the
    largest weight, the winner of the uniform race has this limit law at every N. Exact laws: `race_law`,
    `resampling_law`.

    Cost: N queries and N responses. A response is unfinished if all weights are 0.

    Attributes:
        clock: "uniform" or "exponential".
        beta: null: w = tau(x, y); a number > 0: w = exp(tau(x, y)/beta), which is positive.

    Source: the uniform race of 2026, read second-hand.

    Raises:
        ValueError: a field out of range, or a budget below N.
    """

    needs_values: ClassVar[bool] = False

    clock: Literal["uniform", "exponential"] = "uniform"
    beta: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("clock", self.clock, CLOCKS)
        if self.beta is not None:
            real("beta", self.beta, above=0, other="null")

    def own_state(self, tree: Tree, state: Chains) -> Leader:
        """State before the first draw."""
        return Leader.none(state)

    def act(self, tree: Tree, state: Chains, own: Leader, which: Flags, keys: Keys) -> tuple[Chains, Leader]:
        """Draw a token; at a leaf query the verifier and restart, or return the leader."""
        leaf = which & at_leaf(tree, state)
        state = draw(state, which & ~leaf, keys[0])
        state, asked = self.pay(state, leaf, 1)
        reward = verify(tree, state, asked)
        log_weight = jnp.log(reward) if self.beta is None else reward / self.beta
        score = log_weight + self._log_speed(keys[1], log_weight)
        own = own.after(state, asked, asked & (score > own.log_score), score)
        over = asked & (own.drawn >= self.candidates)
        state = restart(state, asked & ~over).move(own.path, own.depth, over)
        return state.stop(over, over & (own.log_score > -jnp.inf)), own

    def _log_speed(self, key: Array, like: Float[Array, "batch chains"]) -> Float[Array, "batch chains"]:
        """-ln U for each chain."""
        return -jnp.log(unit(key, like.shape)) if self.clock == "uniform" else gumbel(key, like.shape)
