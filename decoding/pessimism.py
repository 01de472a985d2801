"""Choosing among whole responses by a learned reward: Best-of-N, and inference-time pessimism."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from decoding.explore import Chains, Explorer, Flags, Keys, Tree, at_leaf
from decoding.paths import Paths, PerChain
from decoding.whole import draw
from tasks import categorical
from tasks.checks import flag, real, whole
from tasks.drawing import unit

Samples = Float[Array, "batch chains candidates"]


def sample_weights(
    rewards: Float[Array, "*batch samples"], beta: float | Float[Array, ""]
) -> tuple[Float[Array, "*batch samples"], Float[Array, "*batch 1"]]:
    """Weights w = relu((r - lambda)/beta) of mean 1, and headroom = r_max - lambda > 0.

    With the k largest of N rewards above lambda, lambda = (their sum - beta N)/k; the largest k whose k-th
    reward is still above is the one. `metrics.pessimism` is the same in float64.

    Source: arXiv 2503.21878, Algorithm 1.
    """
    top = jnp.max(rewards, axis=-1, keepdims=True)
    below = jnp.sort(rewards - top, axis=-1, descending=True)
    sums = jnp.cumsum(below, axis=-1)
    place = jnp.arange(1, rewards.shape[-1] + 1, dtype=rewards.dtype)
    total = jnp.asarray(beta, rewards.dtype) * rewards.shape[-1]
    # The differences to the k-th grow with k, so those that fit come first.
    count = jnp.sum(sums - below * place < total, axis=-1, keepdims=True, dtype=jnp.int32)
    headroom = (total - jnp.take_along_axis(sums, count - 1, axis=-1)) / count.astype(rewards.dtype)
    return jnp.maximum(rewards - top + headroom, 0.0) / beta, headroom


class _Best(NamedTuple):
    """`drawn` candidates so far; the path to the best, `depth` tokens long, and ln of its reward."""

    drawn: PerChain
    path: Paths
    depth: PerChain
    log_reward: Float[Array, "batch chains"]


class _Seen(NamedTuple):
    """`drawn` responses so far, rewards of the first `candidates`, and, where they are chosen from, their
    paths and lengths."""

    drawn: PerChain
    rewards: Samples
    paths: Array
    depths: Array


@dataclasses.dataclass(frozen=True)
class _WholeResponses(Explorer):
    """Whole responses y ~ pi_ref(.|x), one after the other, each judged by the values at its leaf: the
    learned reward r^ = V^(x, y). The verifier decides nothing, it is asked for the reward that is reported.

    Attributes:
        budget: largest number of queries, evaluations of r^, of a chain.
        candidates: N.
    """

    verifies: ClassVar[bool] = False

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
        """Evaluations of r^ that a response can take."""
        return self.candidates

    @property
    def num_keys(self) -> int:
        """One key for the token and one for the choice of a response."""
        return 2


@dataclasses.dataclass(frozen=True)
class BestOfN(_WholeResponses):
    """The response of the largest learned reward r^ = V^(x, y) among `candidates` draws from the base model,
    the first drawn of equals.

    Law: `metrics.best_of_n_law`. Cost: N queries, N responses' tokens less what they share with the one
    before. With the verifier as the reward: `BlockBestOfN` with whole responses as blocks.
    """

    def own_state(self, tree: Tree, state: Chains) -> _Best:
        """Nothing drawn."""
        return _Best(state.depth, state.path, state.depth, jnp.full(state.depth.shape, -jnp.inf))

    def act(self, tree: Tree, state: Chains, own: _Best, which: Flags, keys: Keys) -> tuple[Chains, _Best]:
        """Draw a token; at a leaf value it and begin again, or return the best."""
        leaf = which & at_leaf(tree, state)
        state = draw(state, which & ~leaf, keys[0])
        state, valued = self.pay(state, leaf, 1)
        reward = state.own_value()
        better = valued & ((own.drawn == 0) | (reward > own.log_reward))
        own = _Best(
            jnp.where(valued, own.drawn + 1, own.drawn),
            jnp.where(better[..., None], state.path, own.path),
            jnp.where(better, state.depth, own.depth),
            jnp.where(better, reward, own.log_reward),
        )
        over = valued & (own.drawn >= self.candidates)
        state = _again(state, valued & ~over).move(own.path, own.depth, over)
        return state.stop(over, over), own


@dataclasses.dataclass(frozen=True)
class Pessimism(_WholeResponses):
    """Inference-time pessimism: N = `candidates` responses say how far the learned reward r^ may be trusted.

    Find lambda with (1/N) sum_i relu((r^_i - lambda)/beta) = 1 and let w(y) = relu((r^(y) - lambda)/beta).

        fresh:      draw up to N fresh responses, accept one with probability min(w/M, 1),
                    M = (R_max - lambda)/beta; else return draw N + 1
        not fresh:  return response i of the N with probability w_i/N

    Law, for N to infinity: pi_ref(y) relu((r^(y) - lambda)/beta), the maximiser of
    E_pi[r^] - (beta/2) E_pi[pi/pi_ref], which a large reward of a rare response cannot win; at finite N
    `metrics.pessimism_laws`. For beta to infinity both are the base model. For beta to 0, not fresh is
    Best-of-N; fresh, with the sample's maximum as R_max, returns the first fresh response as good as the best
    of the N if there is one, else a draw from the base model, which without ties happens half of the time.

    Cost: N queries and as many responses, fresh up to 2N and 2N + 1.

    Attributes:
        beta: > 0, in units of r^, a probability; theory: eps/sqrt(C), eps^2 = E_ref[(r^ - r)^2], C the
            coverage coefficient E_pi*[pi*/pi_ref] of the policy that is to be matched.
        ceiling: R_max; null: the largest r^ of the N.
        fresh: see above.

    Source: arXiv 2503.21878, Algorithm 1; `fresh` = False is this project's.

    Raises:
        ValueError: a field out of range, or fewer queries in the budget than a response can take.
    """

    beta: float = 0.1
    ceiling: float | None = None
    fresh: bool = True

    def __post_init__(self) -> None:
        flag("fresh", self.fresh)
        super().__post_init__()
        real("beta", self.beta, above=0)
        if self.ceiling is not None:
            real("ceiling", self.ceiling, above=0, other="null")

    @property
    def most_queries(self) -> int:
        """Twice as many with fresh responses."""
        return 2 * self.candidates if self.fresh else self.candidates

    def own_state(self, tree: Tree, state: Chains) -> _Seen:
        """Nothing drawn; paths are kept where they are chosen from."""
        kept = 0 if self.fresh else self.candidates
        return _Seen(
            state.depth,
            jnp.zeros((*state.depth.shape, self.candidates)),
            jnp.zeros((*state.depth.shape, kept, state.path.shape[-1]), state.path.dtype),
            jnp.zeros((*state.depth.shape, kept), state.depth.dtype),
        )

    def act(self, tree: Tree, state: Chains, own: _Seen, which: Flags, keys: Keys) -> tuple[Chains, _Seen]:
        """Draw a token; at a leaf remember its reward, or decide on it, and begin again."""
        leaf = which & at_leaf(tree, state)
        state = draw(state, which & ~leaf, keys[0])
        # Draw N + 1 of the fresh ones is returned unseen.
        last = leaf & (own.drawn >= 2 * self.candidates)
        state, valued = self.pay(state, leaf & ~last, 1)
        reward = jnp.exp(state.own_value())
        here = (jnp.arange(self.candidates) == own.drawn[..., None]) & valued[..., None]
        own = own._replace(
            drawn=jnp.where(valued, own.drawn + 1, own.drawn),
            rewards=jnp.where(here, reward[..., None], own.rewards),
        )
        if not self.fresh:
            own = own._replace(
                paths=jnp.where(here[..., None], state.path[:, :, None], own.paths),
                depths=jnp.where(here, state.depth[..., None], own.depths),
            )
            return self._choose(state, own, valued, keys[1])
        top, headroom = jnp.max(own.rewards, axis=-1), sample_weights(own.rewards, self.beta)[1][..., 0]
        room = headroom
        if self.ceiling is not None:
            room = jnp.maximum(self.ceiling - top + headroom, jnp.finfo(room.dtype).tiny)
        excess = reward - top + headroom
        accepted = valued & (own.drawn > self.candidates) & (unit(keys[1], room.shape) * room < excess)
        return _again(state, valued & ~accepted).stop(accepted | last, accepted | last), own

    def _choose(self, state: Chains, own: _Seen, valued: Flags, key: PRNGKeyArray) -> tuple[Chains, _Seen]:
        """Begin again, or, with all candidates there, return one of them by its weight."""
        over = valued & (own.drawn >= self.candidates)
        weights, _ = sample_weights(own.rewards, self.beta)
        chosen = categorical(key, jnp.log(weights))[..., None]
        path = jnp.take_along_axis(own.paths, chosen[..., None], axis=2)[:, :, 0]
        depth = jnp.take_along_axis(own.depths, chosen, axis=2)[..., 0]
        return _again(state, valued & ~over).move(path, depth, over).stop(over, over), own


def _again(state: Chains, which: Flags) -> Chains:
    """Those of `which` go back to the root."""
    return state._replace(depth=jnp.where(which, 0, state.depth))
