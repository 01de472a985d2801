"""Block by block: several candidate blocks from the base model, of which the values choose one."""

from __future__ import annotations

import abc
import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from decoding.explore import Chains, Explorer, Flags, Keys, Tree, at_leaf
from decoding.paths import Paths, PerChain
from decoding.whole import draw
from tasks import categorical
from tasks.checks import whole

PerChainFloat = Float[Array, "batch chains"]


class Blocks(NamedTuple):
    """What a block method remembers of each chain.

    Attributes:
        root: depth of the node where the block begins.
        drawn: candidates of this block that were drawn and valued so far.
        kept: the path to the one that is kept, `kept_depth` tokens long.
        weight: ln of what `drawn` candidates were kept by: the largest value, or the values' sum.
    """

    root: PerChain
    drawn: PerChain
    kept: Paths
    kept_depth: PerChain
    weight: PerChainFloat


@dataclasses.dataclass(frozen=True)
class BlockDecoder(Explorer):
    """At a node draw `candidates` blocks of `block_length` tokens from the base model, each cut short by a
    leaf, value the node that each ends at (tau at leaves), keep one, and go on from there.

    Cost: a query a candidate. The candidates of a block are drawn one after the other from the node's cache;
    the block that is kept is fed again as far as the cache no longer holds it, so a block costs up to
    1 + (candidates + 1)(block_length - 1) tokens. If all candidates have value 0 the chain gives up,
    unfinished.

    Attributes:
        budget: largest number of queries of a chain.
        block_length: tokens of a block; with at least as many as a response has, whole responses are chosen
            from by the verifier alone.
        candidates: blocks drawn.

    Raises:
        ValueError: a field that is not an integer >= 1.
    """

    block_length: int = 4
    candidates: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("block_length", self.block_length, 1)
        whole("candidates", self.candidates, 1)

    @abc.abstractmethod
    def keep(
        self, weight: PerChainFloat, value: PerChainFloat, key: PRNGKeyArray
    ) -> tuple[Flags, PerChainFloat]:
        """Whether a new candidate of ln V^ `value` takes the place of the one kept before, and the new
        `weight`."""

    @property
    def num_keys(self) -> int:
        """One key for the token and one for the choice of a block."""
        return 2

    def own_state(self, tree: Tree, state: Chains) -> Blocks:
        """The first block begins at the root."""
        zero = jnp.zeros_like(state.depth)
        return Blocks(zero, zero, state.path, zero, jnp.full(zero.shape, -jnp.inf, jnp.float32))

    def act(self, tree: Tree, state: Chains, own: Blocks, which: Flags, keys: Keys) -> tuple[Chains, Blocks]:
        """Draw a token; at the end of a block value it; after the last candidate go on with the one kept."""
        # Between blocks, a leaf is where the method ends.
        over = which & at_leaf(tree, state) & (state.depth == own.root)
        state = state.stop(over, over)
        state = draw(state, which & ~over, keys[0])
        ended = at_leaf(tree, state) | (state.depth - own.root >= self.block_length)
        state, valued = self.pay(state, which & ~over & ended, 1)
        better, weight = self.keep(own.weight, state.own_value(), keys[1])
        better &= valued
        own = own._replace(
            drawn=jnp.where(valued, own.drawn + 1, own.drawn),
            kept=jnp.where(better[..., None], state.path, own.kept),
            kept_depth=jnp.where(better, state.depth, own.kept_depth),
            weight=jnp.where(valued, weight, own.weight),
        )
        chosen = valued & (own.drawn >= self.candidates)
        state = state._replace(depth=jnp.where(valued, own.root, state.depth))
        none = chosen & (own.weight == -jnp.inf)
        return self._go_on(state.stop(none, jnp.zeros_like(none)), own, chosen & ~none)

    def _go_on(self, state: Chains, own: Blocks, which: Flags) -> tuple[Chains, Blocks]:
        """Those of `which` continue at the end of the block that was kept."""
        state = state.move(own.kept, own.kept_depth, which)
        return state, own._replace(
            root=jnp.where(which, own.kept_depth, own.root),
            drawn=jnp.where(which, 0, own.drawn),
            weight=jnp.where(which, -jnp.inf, own.weight),
        )


@dataclasses.dataclass(frozen=True)
class BlockBestOfN(BlockDecoder):
    """Keep the candidate with the largest V^, the first drawn of equals.

    Law of a block: that of the best of `candidates` draws from the base model. With one block a response it
    is Best-of-N by the verifier.

    Source: arXiv 2510.03149, section 5.2, after Botta et al., arXiv 2502.12123, appendix B.
    """

    def keep(
        self, weight: PerChainFloat, value: PerChainFloat, key: PRNGKeyArray
    ) -> tuple[Flags, PerChainFloat]:
        """If it is better."""
        return value > weight, jnp.maximum(weight, value)


@dataclasses.dataclass(frozen=True)
class BlockRejection(BlockDecoder):
    """Keep one of the candidates with probability prop. to its V^.

    Law of a block: self-normalised importance sampling; prop. to pi_ref V^ as `candidates` grows.

    Source: arXiv 2510.03149, section 5.2.
    """

    def keep(
        self, weight: PerChainFloat, value: PerChainFloat, key: PRNGKeyArray
    ) -> tuple[Flags, PerChainFloat]:
        """With probability V^ / (sum of V^ so far, its own included), which leaves each with V^ / (sum)."""
        new = categorical(key, jnp.stack([weight, value], axis=-1)) == 1
        return new, jnp.logaddexp(weight, value)
