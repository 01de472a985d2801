"""Whole responses from the base model: unconditionally, by acceptance of the verifier, or several in turn."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from decoding.explore import Chains, Explorer, Flags, Keys, Tree, at_leaf, verify
from decoding.paths import Paths, PerChain
from tasks import categorical
from tasks.checks import whole
from tasks.drawing import bernoulli


@dataclasses.dataclass(frozen=True)
class Ancestral(Explorer):
    """One response drawn from the base model, y ~ pi_ref(.|x), unguided.

    Law: pi_ref. Cost: no query (the reported reward does not affect the draw), one token per depth.
    `metrics.best_of_n` estimates Best-of-N and Pass@N from the samples.
    """

    needs_values: ClassVar[bool] = False

    def act(self, tree: Tree, state: Chains, own: Any, which: Flags, keys: Keys) -> tuple[Chains, Any]:
        """Draw a token, or stop at a leaf."""
        leaf = which & at_leaf(tree, state)
        return draw(state, which & ~leaf, keys[0]).stop(leaf, leaf), own


@dataclasses.dataclass(frozen=True)
class OutcomeRejection(Explorer):
    """Outcome-level rejection sampling: draw y ~ pi_ref(.|x) until acceptance, of probability tau(x, y).

    Law: exactly pi*, prop. to pi_ref tau, where the budget suffices. Cost: one query per draw, 1/E[tau]
    queries in expectation. A response is unfinished if the verifier accepts none of `budget` draws.

    Source: arXiv 2510.03149, section 2 (OutcomeLevelRS); tau in [0, 1].
    """

    needs_values: ClassVar[bool] = False

    @property
    def num_keys(self) -> int:
        """Two keys: for the token and for the acceptance."""
        return 2

    def act(self, tree: Tree, state: Chains, own: Any, which: Flags, keys: Keys) -> tuple[Chains, Any]:
        """Draw a token; at a leaf query the verifier, and restart after a rejection."""
        leaf = which & at_leaf(tree, state)
        state = draw(state, which & ~leaf, keys[0])
        state, asked = self.pay(state, leaf, 1)
        accepted = asked & bernoulli(keys[1], verify(tree, state, asked))
        state = state._replace(depth=jnp.where(asked & ~accepted, 0, state.depth))
        return state.stop(accepted, accepted), own


@dataclasses.dataclass(frozen=True)
class WholeResponses(Explorer):
    """Whole responses y ~ pi_ref(.|x) in sequence, of which a rule returns one.

    Attributes:
        budget: largest number of queries of a chain.
        candidates: N.

    Raises:
        ValueError: a field out of range, or a budget below the queries that one response can require.
    """

    candidates: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("candidates", self.candidates, 1)
        if self.budget < self.most_queries:
            raise ValueError(
                f"budget: {self.budget} queries; valid: at least {self.most_queries} for "
                f"candidates = {self.candidates}"
            )

    @property
    def most_queries(self) -> int:
        """Largest number of queries per returned response."""
        return self.candidates

    @property
    def num_keys(self) -> int:
        """One key for the token and one for the choice of a response."""
        return 2


def draw(state: Chains, which: Flags, key: PRNGKeyArray) -> Chains:
    """Move the chains of `which` to a child drawn from the base model."""
    return state.descend(categorical(key, state.at(state.log_probs)), which)


class Leader(NamedTuple):
    """Number of candidates `drawn` so far, path of `depth` tokens to the best one, and ln of its score."""

    drawn: PerChain
    path: Paths
    depth: PerChain
    log_score: Float[Array, "batch chains"]

    @classmethod
    def none(cls, state: Chains) -> Leader:
        """Before the first draw, with all chains at the root."""
        return cls(state.depth, state.path, state.depth, jnp.full(state.depth.shape, -jnp.inf))

    def after(self, state: Chains, seen: Flags, better: Flags, log_score: Array) -> Leader:
        """After the candidates at the leaves of `seen`, of which those of `better` take the lead."""
        return Leader(
            jnp.where(seen, self.drawn + 1, self.drawn),
            jnp.where(better[..., None], state.path, self.path),
            jnp.where(better, state.depth, self.depth),
            jnp.where(better, log_score, self.log_score),
        )


def restart(state: Chains, which: Flags) -> Chains:
    """Move the chains of `which` to the root."""
    return state._replace(depth=jnp.where(which, 0, state.depth))
