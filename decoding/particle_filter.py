"""Particle filtering (sequential Monte Carlo) with a value function."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from decoding.coupled import Coupled
from decoding.explore import Chains, Flags, Keys, Tree, at_leaf
from decoding.whole import draw
from tasks import categorical
from tasks.checks import choice, real, whole
from tasks.drawing import unit

Weights = Float[Array, "batch groups particles"]
Ancestors = Int[Array, "batch groups particles"]

SCHEMES = ("multinomial", "systematic")


class Weighted(NamedTuple):
    """ln of the weight of each particle since it was last resampled."""

    log_weight: Float[Array, "batch chains"]


@dataclasses.dataclass(frozen=True)
class ParticleFilter(Coupled):
    """Sequential Monte Carlo: N particles grow by one token of the base model and are resampled by value.

    A step, from equal weights at the root:

        grow      y_h+1 ~ pi_ref(.|x, y_1:h) for each particle that is not at a leaf
        weigh     w <- w V^(y_1:h+1)/V^(y_1:h), with V^(root) = 1 and V^ = tau at leaves
        resample  N draws in proportion to w, after which all w are equal

    When all particles are at leaves, one is returned with probability w_i / sum w. Particles at leaves keep
    their weight and take part in resampling. As N grows the law tends to pi*, for any positive internal V^.
    With one particle it is the base model, given tau > 0. Exact law at small N: `particle_law`.

    A group stops unfinished if all weights are 0. A particle of weight 0 stays at weight 0 until it is
    resampled.

    Cost: N queries and at least N tokens per depth. A resampled particle reads the tokens again in which it
    differs from the particle whose place it takes.

    Attributes:
        budget: largest number of queries of a group of N particles.
        particles: N.
        scheme: "multinomial": N independent draws. "systematic": particle i gets floor(N w_i) or one more
            offspring, by one uniform number u and the points (j + u)/N on the particles in the order of
            rising weight. Expected numbers of offspring are equal.
        threshold: null resamples after each step. A number c in (0, 1] resamples when the effective sample
            size (sum w)^2 / sum w^2 is below c N.

    Source: Golowich et al., Reject, resample, repeat, arXiv 2603.07887; Gordon, Salmond and Smith 1993.

    Raises:
        ValueError: a field out of range.
    """

    particles: int = 16
    scheme: Literal["multinomial", "systematic"] = "multinomial"
    threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("particles", self.particles, 1)
        choice("scheme", self.scheme, SCHEMES)
        if self.threshold is not None:
            real("threshold", self.threshold, above=0, most=1, other="null")

    @property
    def size(self) -> int:
        """N."""
        return self.particles

    @property
    def num_keys(self) -> int:
        """Three keys: for the tokens, the resampling and the returned particle."""
        return 3

    def own_state(self, tree: Tree, state: Chains) -> Weighted:
        """Equal weights."""
        return Weighted(jnp.zeros(state.depth.shape, jnp.float32))

    def act(
        self, tree: Tree, state: Chains, own: Weighted, which: Flags, keys: Keys
    ) -> tuple[Chains, Weighted]:
        """One step of the groups of `which`, or the return of a particle of the groups that are at leaves."""
        growing = which & ~at_leaf(tree, state)
        over = which & self.for_all(~jnp.any(self.grouped(growing), axis=-1))
        chosen = categorical(keys[2], self.grouped(own.log_weight))[..., None]
        state = self.take_over(state, jnp.broadcast_to(chosen, self.grouped(state.depth).shape), over)
        state = state.stop(over, over)
        state, growing = self.pay_together(state, growing)
        before = jnp.where(state.depth == 0, 0.0, state.own_value())
        state = draw(state, growing, keys[0])
        gained = jnp.where(growing & (own.log_weight > -jnp.inf), state.own_value() - before, 0.0)
        log_weight = own.log_weight + gained
        weights = self.grouped(log_weight)
        dead = self.for_all(jnp.max(weights, axis=-1) == -jnp.inf)
        state = state.stop(which & dead, jnp.zeros_like(which))
        # Resampling before the choice among leaves would not change the choice's law.
        needed = ~jnp.all(self.grouped(at_leaf(tree, state)), axis=-1)
        if self.threshold is not None:
            needed &= effective_size(weights) < self.threshold * self.particles
        needed = which & ~state.done & self.for_all(needed)
        ancestors = (multinomial if self.scheme == "multinomial" else systematic)(keys[1], weights)
        state = self.take_over(state, ancestors, needed)
        return state, Weighted(jnp.where(needed, 0.0, log_weight))


def effective_size(log_weights: Weights) -> Float[Array, "batch groups"]:
    """(sum w)^2 / sum w^2, between 1 and N; NaN where all weights are 0."""
    total = jax.nn.logsumexp(log_weights, axis=-1)
    return jnp.exp(2 * total - jax.nn.logsumexp(2 * log_weights, axis=-1))


def multinomial(key: PRNGKeyArray, log_weights: Weights) -> Ancestors:
    """N independent draws in proportion to the weights."""
    return jnp.moveaxis(categorical(key, log_weights, (log_weights.shape[-1],)), 0, -1)


def systematic(key: PRNGKeyArray, log_weights: Weights) -> Ancestors:
    """The particles that the points (j + u)/N, j = 0..N - 1, meet on the unit interval.

    The particles cover the interval in the order of rising weight. Sums of float32 then keep the relative
    precision of small weights, and a small weight lies near 0, where u has its full 64 bits.
    """
    size = log_weights.shape[-1]
    order = jnp.argsort(log_weights, axis=-1, stable=True)
    shares = jnp.take_along_axis(jax.nn.softmax(log_weights, axis=-1), order, axis=-1)
    ends = jnp.cumsum(shares, axis=-1)
    points = (jnp.arange(size, dtype=jnp.float32) + unit(key, log_weights.shape[:-1])[..., None]) / size
    # A point beyond the rounded sum of all shares meets the particle of the largest weight.
    met = jnp.sum(points[..., None] >= ends[..., None, :], axis=-1, dtype=jnp.int32)
    return jnp.take_along_axis(order, jnp.minimum(met, size - 1), axis=-1).astype(jnp.int32)
