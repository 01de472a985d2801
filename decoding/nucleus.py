"""Sampling of tokens with a temperature and a truncated tail."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from decoding.explore import Chains, Explorer, Flags, Keys, Tree, at_leaf
from tasks import categorical
from tasks.checks import real


@dataclasses.dataclass(frozen=True)
class Nucleus(Explorer):
    """Ancestral sampling from the tempered and truncated base model.

        p(a) prop. to pi_ref(a|x, y_1:h)^(1/temperature), on the smallest set of likeliest tokens with
        p-mass >= top_p, renormalised

    The temperature comes first, as in most libraries. Ties at the edge of the set go to the smaller token.
    Temperature 1 and top_p 1 are the base model. The law is a product over tokens and not the tempered law of
    whole responses. Law: `nucleus_law`. Cost: no query, one token per depth.

    Attributes:
        temperature: positive; small values approach greedy decoding.
        top_p: in (0, 1].

    Source: Holtzman et al. 2020, arXiv 1904.09751.

    Raises:
        ValueError: a field out of range.
    """

    needs_values: ClassVar[bool] = False

    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        real("temperature", self.temperature, above=0)
        real("top_p", self.top_p, above=0, most=1)

    def act(self, tree: Tree, state: Chains, own: Any, which: Flags, keys: Keys) -> tuple[Chains, Any]:
        """Draw a token, or stop at a leaf."""
        leaf = which & at_leaf(tree, state)
        weights = nucleus(state.at(state.log_probs), self.temperature, self.top_p)
        state = state.descend(categorical(keys[0], weights), which & ~leaf)
        return state.stop(leaf, leaf), own


def nucleus(
    log_probs: Float[Array, "*batch vocab"], temperature: float, top_p: float
) -> Float[Array, "*batch vocab"]:
    """ln p of the tempered law, -inf outside its nucleus; not renormalised.

    Example:
        >>> nucleus(jnp.log(jnp.array([0.1, 0.6, 0.3])), 1.0, 0.7) > -jnp.inf
        Array([False,  True,  True], dtype=bool)
    """
    scaled = jax.nn.log_softmax(log_probs / temperature, axis=-1)
    if top_p >= 1:
        return scaled
    order = jnp.argsort(scaled, axis=-1, descending=True, stable=True)
    probs = jnp.exp(jnp.take_along_axis(scaled, order, axis=-1))
    # A token is kept if the likelier ones have less than the mass.
    kept = jnp.cumsum(probs, axis=-1) - probs < top_p
    return jnp.where(jnp.take_along_axis(kept, jnp.argsort(order, axis=-1), axis=-1), scaled, -jnp.inf)
