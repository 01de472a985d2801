"""Whole responses from the base model: taken as they come, or accepted by the verifier."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from decoding.explore import Chains, Explorer, Flags, Tree, Uniforms, at_leaf, pick, verify


@dataclasses.dataclass(frozen=True)
class Ancestral(Explorer):
    """One response drawn from the base model, y ~ pi_ref(.|x), unguided.

    Law: pi_ref. Cost: no query (the reward that is reported decides nothing), a token a depth. Best-of-N and
    Pass@N from its samples: `metrics.best_of_n`.
    """

    needs_values: ClassVar[bool] = False

    def act(
        self, tree: Tree, state: Chains, own: Any, which: Flags, uniforms: Uniforms
    ) -> tuple[Chains, Any]:
        """Draw a token, or stop at a leaf."""
        leaf = which & at_leaf(tree, state)
        return draw(state, which & ~leaf, uniforms[0]).stop(leaf, leaf), own


@dataclasses.dataclass(frozen=True)
class OutcomeRejection(Explorer):
    """Outcome-level rejection sampling: draw y ~ pi_ref(.|x) and accept it with probability tau(x, y), until
    one is accepted.

    Law: exactly pi*, prop. to pi_ref tau, where the budget suffices; a query a response, so 1/E[tau] expected
    queries. A response is unfinished if the verifier accepts none of `budget` responses.

    Source: arXiv 2510.03149, section 2 (OutcomeLevelRS); tau in [0, 1].
    """

    needs_values: ClassVar[bool] = False

    def act(
        self, tree: Tree, state: Chains, own: Any, which: Flags, uniforms: Uniforms
    ) -> tuple[Chains, Any]:
        """Draw a token; at a leaf ask the verifier, and begin again if it refuses."""
        leaf = which & at_leaf(tree, state)
        state = draw(state, which & ~leaf, uniforms[0])
        state, asked = self.pay(state, leaf, 1)
        accepted = asked & (uniforms[0] < verify(tree, state, asked))
        state = state._replace(depth=jnp.where(asked & ~accepted, 0, state.depth))
        return state.stop(accepted, accepted), own


def draw(state: Chains, which: Flags, uniform: Float[Array, "batch chains"]) -> Chains:
    """Those of `which` move to a child drawn from the base model."""
    return state.descend(pick(state.at(state.log_probs), uniform), which)
