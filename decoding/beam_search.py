"""Beam search: the likeliest response among those that a limited number of prefixes leads to."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from decoding.coupled import Coupled
from decoding.explore import Chains, Flags, Keys, Tree, at_leaf
from decoding.paths import put
from tasks.checks import whole


class Scored(NamedTuple):
    """ln pi_ref(y_1:h|x) of each beam; -inf for a place without a beam."""

    score: Float[Array, "batch chains"]


@dataclasses.dataclass(frozen=True)
class BeamSearch(Coupled):
    """The `width` likeliest prefixes are extended by all tokens, and the `width` likeliest results kept.

    Whole responses stay among the kept ones and are not extended. The search returns the likeliest kept
    prefix as soon as it is a whole response, because probabilities only fall. Ties go to the beam of higher
    rank and then to the smaller token. The law is a point mass, so all chains of a prompt return one
    response. Width 1 is greedy decoding.

    Cost: no query, up to `width` tokens per depth, and the tokens that a beam reads again where another one
    takes its place.

    Attributes:
        width: number of kept prefixes.

    Raises:
        ValueError: a field that is not an integer >= 1.
    """

    needs_values: ClassVar[bool] = False

    width: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("width", self.width, 1)

    @property
    def size(self) -> int:
        """`width`."""
        return self.width

    def own_state(self, tree: Tree, state: Chains) -> Scored:
        """One beam at the root; the other places are empty."""
        place = jnp.arange(state.depth.shape[1]) % self.width
        return Scored(jnp.broadcast_to(jnp.where(place == 0, 0.0, -jnp.inf), state.depth.shape))

    def act(self, tree: Tree, state: Chains, own: Scored, which: Flags, keys: Keys) -> tuple[Chains, Scored]:
        """Extend the beams of the groups of `which`, or return the best one if it is a leaf."""
        leaf = at_leaf(tree, state)
        over = which & self.for_all(self.grouped(leaf)[:, :, 0])
        state = state.stop(over, over)
        which &= ~over
        log_probs = state.at(state.log_probs)
        # In the last place a whole response continues as it is.
        keeps = jnp.where(leaf, own.score, -jnp.inf)[..., None]
        grows = jnp.where(leaf[..., None], -jnp.inf, own.score[..., None] + log_probs)
        places = log_probs.shape[-1] + 1
        scores = self.grouped(jnp.append(grows, keeps, axis=-1))
        best, index = jax.lax.top_k(scores.reshape(*scores.shape[:2], -1), self.width)
        path, depth = self._extended(state, index // places, index % places, places - 1)
        # A place without a beam waits at the root, which costs no token.
        score = self.flat(best)
        depth = jnp.where(score > -jnp.inf, depth, 0)
        return state.move(path, depth, which), Scored(jnp.where(which, score, own.score))

    def _extended(self, state: Chains, beam: Array, token: Array, none: int) -> tuple[Array, Array]:
        """Paths and depths of the beams at `beam`, each with its token unless that is `none`."""
        path, depth = self.nodes_of(state, beam)
        token = self.flat(token).astype(path.dtype)
        grown = token < none
        return jnp.where(grown[..., None], put(path, depth, token), path), depth + grown.astype(depth.dtype)
