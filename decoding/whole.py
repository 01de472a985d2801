"""Whole responses from the base model: taken as they come, or accepted by the verifier."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from decoding.explore import Chains, Explorer, Flags, Keys, Tree, at_leaf, verify
from tasks import categorical
from tasks.drawing import bernoulli


@dataclasses.dataclass(frozen=True)
class Ancestral(Explorer):
    """One response drawn from the base model, y ~ pi_ref(.|x), unguided.

    Law: pi_ref. Cost: no query (the reward that is reported decides nothing), a token a depth. Best-of-N and
    Pass@N from its samples: `metrics.best_of_n`.
    """

    needs_values: ClassVar[bool] = False

    def act(self, tree: Tree, state: Chains, own: Any, which: Flags, keys: Keys) -> tuple[Chains, Any]:
        """Draw a token, or stop at a leaf."""
        leaf = which & at_leaf(tree, state)
        return draw(state, which & ~leaf, keys[0]).stop(leaf, leaf), own


@dataclasses.dataclass(frozen=True)
class OutcomeRejection(Explorer):
    """Outcome-level rejection sampling: draw y ~ pi_ref(.|x) and accept it with probability tau(x, y), until
    one is accepted.

    Law: exactly pi*, prop. to pi_ref tau, where the budget suffices; a query a response, so 1/E[tau] expected
    queries. A response is unfinished if the verifier accepts none of `budget` responses.

    Source: arXiv 2510.03149, section 2 (OutcomeLevelRS); tau in [0, 1].
    """

    needs_values: ClassVar[bool] = False

    @property
    def num_keys(self) -> int:
        """One key for the token and one for the verifier's answer."""
        return 2

    def act(self, tree: Tree, state: Chains, own: Any, which: Flags, keys: Keys) -> tuple[Chains, Any]:
        """Draw a token; at a leaf ask the verifier, and begin again if it refuses."""
        leaf = which & at_leaf(tree, state)
        state = draw(state, which & ~leaf, keys[0])
        state, asked = self.pay(state, leaf, 1)
        accepted = asked & bernoulli(keys[1], verify(tree, state, asked))
        state = state._replace(depth=jnp.where(asked & ~accepted, 0, state.depth))
        return state.stop(accepted, accepted), own


def draw(state: Chains, which: Flags, key: PRNGKeyArray) -> Chains:
    """Those of `which` move to a child drawn from the base model."""
    return state.descend(categorical(key, state.at(state.log_probs)), which)
