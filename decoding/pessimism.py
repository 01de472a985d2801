"""Selection of whole responses by a learned reward: Best-of-N and inference-time pessimism."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from decoding.explore import Chains, Flags, Keys, Tree, at_leaf
from decoding.paths import PerChain
from decoding.whole import Leader, WholeResponses, draw, restart
from tasks import categorical
from tasks.checks import flag, real
from tasks.drawing import unit

Samples = Float[Array, "batch chains candidates"]


def sample_weights(
    rewards: Float[Array, "*batch samples"], beta: float | Float[Array, ""]
) -> tuple[Float[Array, "*batch samples"], Float[Array, "*batch 1"]]:
    """Weights w = relu((r - lambda)/beta) of mean 1, and headroom = r_max - lambda > 0.

    If the k largest of N rewards are above lambda, lambda = (sum of these k rewards - beta N)/k. The solution
    is the largest k whose k-th reward is above lambda. `metrics.pessimism` is the float64 counterpart.

    Source: arXiv 2503.21878, Algorithm 1.
    """
    top = jnp.max(rewards, axis=-1, keepdims=True)
    below = jnp.sort(rewards - top, axis=-1, descending=True)
    sums = jnp.cumsum(below, axis=-1)
    place = jnp.arange(1, rewards.shape[-1] + 1, dtype=rewards.dtype)
    total = jnp.asarray(beta, rewards.dtype) * rewards.shape[-1]
    # The sum of differences to the k-th reward grows with k, so the feasible k come first.
    count = jnp.sum(sums - below * place < total, axis=-1, keepdims=True, dtype=jnp.int32)
    headroom = (total - jnp.take_along_axis(sums, count - 1, axis=-1)) / count.astype(rewards.dtype)
    return jnp.maximum(rewards - top + headroom, 0.0) / beta, headroom


class _Seen(NamedTuple):
    """Number of responses `drawn` so far, and rewards of the first `candidates` responses.

    Paths and lengths of the candidates are stored only if one of them is returned.
    """

    drawn: PerChain
    rewards: Samples
    paths: Array
    depths: Array


@dataclasses.dataclass(frozen=True)
class _LearnedReward(WholeResponses):
    """Whole responses scored by the learned reward r^ = V^(x, y), one query each.

    The verifier does not affect the choice and only gives the reported reward.
    """

    verifies: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class BestOfN(_LearnedReward):
    """The draw of the largest learned reward r^ = V^(x, y) among `candidates` draws from the base model.

    Ties go to the first draw. Law: `metrics.best_of_n_law`. Cost: N queries, and the tokens of N responses
    without the prefix shared with the previous response. `BlockBestOfN` with whole responses as blocks has
    the verifier as reward instead.
    """

    def own_state(self, tree: Tree, state: Chains) -> Leader:
        """State before the first draw."""
        return Leader.none(state)

    def act(self, tree: Tree, state: Chains, own: Leader, which: Flags, keys: Keys) -> tuple[Chains, Leader]:
        """Draw a token; at a leaf evaluate r^ and restart, or return the best candidate."""
        leaf = which & at_leaf(tree, state)
        state = draw(state, which & ~leaf, keys[0])
        state, valued = self.pay(state, leaf, 1)
        reward = state.own_value()
        better = valued & ((own.drawn == 0) | (reward > own.log_score))
        own = own.after(state, valued, better, reward)
        over = valued & (own.drawn >= self.candidates)
        state = restart(state, valued & ~over).move(own.path, own.depth, over)
        return state.stop(over, over), own


@dataclasses.dataclass(frozen=True)
class Pessimism(_LearnedReward):
    """Inference-time pessimism: N = `candidates` responses limit the trust in the learned reward r^.

    Solve (1/N) sum_i relu((r^_i - lambda)/beta) = 1 for lambda; w(y) = relu((r^(y) - lambda)/beta).

        fresh:      draw up to N fresh responses, accept one with probability min(w/M, 1),
                    M = (R_max - lambda)/beta; else return draw N + 1
        not fresh:  return response i of the N with probability w_i/N

    As N tends to infinity the law is pi_ref(y) relu((r^(y) - lambda)/beta), the maximiser of
    E_pi[r^] - (beta/2) E_pi[pi/pi_ref], which limits the mass on rare responses of large reward. Laws at
    finite N: `metrics.pessimism_laws`. For beta to infinity both variants are the base model. For beta to 0,
    not fresh is Best-of-N. Fresh, with R_max the maximum of the sample, returns the first fresh response at
    least as good as the best of the N, or else a draw from the base model, which without ties has probability
    1/2.

    Cost: N queries and N responses; fresh: up to 2N queries and 2N + 1 responses.

    Attributes:
        beta: > 0, in units of r^, a probability. In theory eps/sqrt(C), with eps^2 = E_ref[(r^ - r)^2] and C
            the coverage coefficient E_pi*[pi*/pi_ref] of the comparator policy.
        ceiling: R_max; null: the largest r^ of the N.
        fresh: True to accept or reject fresh responses.

    Source: arXiv 2503.21878, Algorithm 1; `fresh` = False is this project's variant.

    Raises:
        ValueError: a field out of range, or a budget below the queries that one response can require.
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
        """N, or 2N with fresh responses."""
        return 2 * self.candidates if self.fresh else self.candidates

    def own_state(self, tree: Tree, state: Chains) -> _Seen:
        """State before the first draw, with room for paths if a candidate is returned."""
        kept = 0 if self.fresh else self.candidates
        return _Seen(
            state.depth,
            jnp.zeros((*state.depth.shape, self.candidates)),
            jnp.zeros((*state.depth.shape, kept, state.path.shape[-1]), state.path.dtype),
            jnp.zeros((*state.depth.shape, kept), state.depth.dtype),
        )

    def act(self, tree: Tree, state: Chains, own: _Seen, which: Flags, keys: Keys) -> tuple[Chains, _Seen]:
        """Draw a token; at a leaf store the reward and restart, or accept or reject the response."""
        leaf = which & at_leaf(tree, state)
        state = draw(state, which & ~leaf, keys[0])
        # Fresh draw N + 1 is returned unconditionally.
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
        return restart(state, valued & ~accepted).stop(accepted | last, accepted | last), own

    def _choose(self, state: Chains, own: _Seen, valued: Flags, key: PRNGKeyArray) -> tuple[Chains, _Seen]:
        """Restart, or return a candidate by weight once all candidates are drawn."""
        over = valued & (own.drawn >= self.candidates)
        weights, _ = sample_weights(own.rewards, self.beta)
        chosen = categorical(key, jnp.log(weights))[..., None]
        path = jnp.take_along_axis(own.paths, chosen[..., None], axis=2)[:, :, 0]
        depth = jnp.take_along_axis(own.depths, chosen, axis=2)[..., 0]
        return restart(state, valued & ~over).move(path, depth, over).stop(over, over), own
