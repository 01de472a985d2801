"""Blockwise decoding: the values choose one of several candidate blocks from the base model."""

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
    """State of a chain in a block method.

    Attributes:
        root: depth of the node where the block begins.
        drawn: number of candidates of this block that were drawn and valued so far.
        kept: path to the kept candidate, `kept_depth` tokens long.
        weight: ln of the largest value or of the sum of values of the `drawn` candidates.
    """

    root: PerChain
    drawn: PerChain
    kept: Paths
    kept_depth: PerChain
    weight: PerChainFloat


@dataclasses.dataclass(frozen=True)
class BlockDecoder(Explorer):
    """Draw `candidates` blocks of `block_length` tokens from the base model, keep one by value, repeat.

    A block ends early at a leaf. The value of a block is V^ at the last node, tau at a leaf. Cost: one query
    per candidate. Candidates are drawn in sequence from the cache of the node, and the part of the kept block
    that the cache no longer holds is recomputed, so a block costs up to
    1 + (candidates + 1)(block_length - 1) tokens. A chain stops unfinished if all candidates have value 0.

    Attributes:
        budget: largest number of queries of a chain.
        block_length: tokens of a block; with at least the tokens of a response, the verifier alone chooses
            among whole responses.
        candidates: number of blocks drawn.

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
        """(True if a new candidate of ln V^ `value` replaces the kept one, new `weight`)."""

    @property
    def num_keys(self) -> int:
        """One key for the token and one for the choice of a block."""
        return 2

    def own_state(self, tree: Tree, state: Chains) -> Blocks:
        """The first block begins at the root."""
        zero = jnp.zeros_like(state.depth)
        return Blocks(zero, zero, state.path, zero, jnp.full(zero.shape, -jnp.inf, jnp.float32))

    def act(self, tree: Tree, state: Chains, own: Blocks, which: Flags, keys: Keys) -> tuple[Chains, Blocks]:
        """Draw a token, value the block at the end, and continue from the kept block after the last one."""
        # At a leaf between blocks the response is complete.
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
        """Move the chains of `which` to the end of the kept block."""
        state = state.move(own.kept, own.kept_depth, which)
        return state, own._replace(
            root=jnp.where(which, own.kept_depth, own.root),
            drawn=jnp.where(which, 0, own.drawn),
            weight=jnp.where(which, -jnp.inf, own.weight),
        )


@dataclasses.dataclass(frozen=True)
class BlockBestOfN(BlockDecoder):
    """Keep the candidate with the largest V^, or the first drawn of these.

    A block has the law of the best of `candidates` draws from the base model. One block per response is
    Best-of-N by the verifier.

    Source: arXiv 2510.03149, section 5.2, after Botta et al., arXiv 2502.12123, appendix B.
    """

    def keep(
        self, weight: PerChainFloat, value: PerChainFloat, key: PRNGKeyArray
    ) -> tuple[Flags, PerChainFloat]:
        """Keep a candidate of larger value."""
        return value > weight, jnp.maximum(weight, value)


@dataclasses.dataclass(frozen=True)
class BlockRejection(BlockDecoder):
    """Keep a candidate with probability prop. to V^.

    A block has the law of self-normalised importance sampling, which tends to pi_ref V^ / sum as `candidates`
    grows.

    Source: arXiv 2510.03149, section 5.2.
    """

    def keep(
        self, weight: PerChainFloat, value: PerChainFloat, key: PRNGKeyArray
    ) -> tuple[Flags, PerChainFloat]:
        """Keep a candidate with probability V^ / (sum of V^ so far, this candidate included)."""
        new = categorical(key, jnp.stack([weight, value], axis=-1)) == 1
        return new, jnp.logaddexp(weight, value)
