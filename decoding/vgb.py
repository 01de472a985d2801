"""Value-guided sampling with stochastic backtracking (VGB)."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from decoding.explore import Chains, Explorer, Flags, Keys, Tree, at_leaf
from decoding.paths import PerChain
from tasks import categorical
from tasks.checks import real, whole
from tasks.drawing import unit


class Walking(NamedTuple):
    """What VGB remembers of each chain.

    Attributes:
        run: index of the present run.
        steps: steps that are left of it.
        fresh: whether the run is about to begin.
        down: the direction, for momentum.
    """

    run: PerChain
    steps: PerChain
    fresh: Flags
    down: Flags


@dataclasses.dataclass(frozen=True)
class VGB(Explorer):
    """A lazy random walk on the tree of partial responses that may go back.

    A step at node v = y_1:h: with probability `laziness` stay; else go to the parent with weight V^(v)
    (h > 0) or to child a with weight pi_ref(a|v) V^(v a) (v no leaf), normalised; V^ = tau at leaves.

    The walk is reversible with edge weights pi_ref(v) V^(v), so its stationary law restricted to the leaves
    is pi* for any positive internal V^; with exact values the leaves carry 1/(2H) of it.

    Attributes:
        budget: largest number of queries of a chain.
        steps: of a run, lazy ones included. To mix takes about H^2 (1 + eps)^4 ln(1/delta) of them.
        stop: `fixed`: a run takes all its steps and returns its last node if that is a leaf (law: pi*, up to
            mixing); `first_leaf`: it returns the first leaf that it reaches (cheaper, biased where V^ is
            wrong).
        runs: a run that returns no leaf is followed by another from the root, this many at most.
        children: `all` enumerates the children: a query each when a node is expanded, none when the walk
            comes back to it while the cache holds it. A number K draws K children from pi_ref afresh for
            every step at a node, each with forward weight V^(child), against the backward weight K V^(v): K
            queries a step, for large vocabularies. If at the root all K have value 0, the walk stays there.
        momentum: None: the walk above. chi in [0, 1]: the lifted walk with a direction. With F the summed
            weight of the children and B the parent's, a chain on its way down goes to a child with its weight
            or turns round with weight max(B - chi min(F, B), 0); on its way up it goes to the parent with
            weight B or turns round with weight max(F - chi min(F, B), 0). A turn is a step. Its stationary
            law on the leaves is pi* as well. With chi = 1 and exact values it never turns inside the tree.
        laziness: 1/2 in the paper. Lazy steps cost nothing: how many of them come before a move is drawn at
            once. `first_leaf` may do without (0), `fixed` may not: without them the walk is at even depths
            after an even number of steps.

    A chain at the root all of whose children have weight 0 gives up; anywhere else the way back is open.

    Source: arXiv 2510.03149, algorithms 1 and 3 and, for momentum, appendix E.1, after Hayes and Sinclair,
    Liftings of tree-structured Markov chains (RANDOM 2010); the form with chi interpolates between a
    direction drawn afresh (0) and the lifting (1).

    Raises:
        ValueError: a field out of range.
    """

    steps: int = 256
    stop: Literal["fixed", "first_leaf"] = "fixed"
    runs: int = 64
    children: int | Literal["all"] = "all"
    momentum: float | None = None
    laziness: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("steps", self.steps, 1)
        whole("runs", self.runs, 1)
        if self.stop not in ("fixed", "first_leaf"):
            raise ValueError(f"stop: {self.stop!r} is not one of fixed, first_leaf")
        if self.children != "all":
            whole("children", self.children, 1, other="all")
        if self.momentum is not None:
            real("momentum", self.momentum, least=0, most=1, other="null")
        real("laziness", self.laziness, least=0, below=1)
        if self.laziness == 0 and self.stop == "fixed":
            raise ValueError("laziness: 0 with stop = fixed never mixes; valid: a number in (0, 1)")

    @property
    def num_keys(self) -> int:
        """One key each for the lazy steps, the move and the children drawn."""
        return 3

    def own_state(self, tree: Tree, state: Chains) -> Walking:
        """The first run is about to begin."""
        zero = jnp.zeros_like(state.depth)
        return Walking(zero, zero + self.steps, zero == 0, zero == 0)

    def act(
        self, tree: Tree, state: Chains, own: Walking, which: Flags, keys: Keys
    ) -> tuple[Chains, Walking]:
        """A move and the lazy steps after it (before the first move, those alone), and what ends a run."""
        state, own = self._move(tree, state, own, which & ~own.fresh, keys[1:])
        which &= ~state.done
        leaf = at_leaf(tree, state)
        if self.stop == "first_leaf":
            state = state.stop(which & leaf, which & leaf)
            which &= ~leaf
        lazy = self._lazy_steps(unit(keys[0], which.shape))
        over = which & (own.steps <= lazy)
        state = state.stop(over & leaf, over & leaf)
        # Another run, from the root, whose children are known.
        over &= ~leaf
        last = own.run + 1 >= self.runs
        state = state.stop(over & last, jnp.zeros_like(over))
        return state._replace(depth=jnp.where(over & ~last, 0, state.depth)), Walking(
            run=jnp.where(over, own.run + 1, own.run),
            steps=jnp.where(over, self.steps, jnp.where(which, own.steps - lazy - 1, own.steps)),
            fresh=jnp.where(which, over, own.fresh),
            down=own.down | over,
        )

    def _lazy_steps(self, uniform: Float[Array, "batch chains"]) -> PerChain:
        """Lazy steps before a move, k of them with probability (1 - laziness) laziness^k; `steps` or more are
        `steps`."""
        if self.laziness == 0:
            return jnp.zeros(uniform.shape, jnp.int32)
        drawn = jnp.floor(jnp.log(uniform) / math.log(self.laziness))
        return jnp.minimum(drawn, self.steps).astype(jnp.int32)

    def pay_for_children(self, state: Chains, which: Flags, number: PerChain) -> Chains:
        """A query a child, if they are enumerated."""
        return self.pay(state, which, number)[0] if self.children == "all" else state

    def _move(
        self, tree: Tree, state: Chains, own: Walking, moving: Flags, keys: Keys
    ) -> tuple[Chains, Walking]:
        """One step of the walk of those of `moving`."""
        leaf = at_leaf(tree, state)
        tokens, forward, backward = self._weights(state, leaf, keys[1])
        if self.children != "all":
            state, paid = self.pay(state, moving & ~leaf, self.children)
            moving = paid | (moving & leaf)
        if self.momentum is None:
            weights = jnp.append(forward, backward[..., None], axis=-1)
        else:
            weights = self._lifted(forward, backward, own.down)
        possible = jnp.max(weights, axis=-1) > -jnp.inf
        choice = categorical(keys[0], weights)
        num = forward.shape[-1]
        chosen = jnp.take_along_axis(tokens, jnp.minimum(choice, num - 1)[..., None], axis=-1)[..., 0]
        step = moving & possible
        up = step & (choice == num)
        state = state.descend(chosen, step & (choice < num))
        state = state._replace(depth=jnp.where(up, state.depth - 1, state.depth))
        if self.children == "all":
            state = state.stop(moving & ~possible, jnp.zeros_like(moving))
        down = own.down ^ (step & (choice == num + 1))
        return state, own._replace(down=down)

    def _weights(
        self, state: Chains, leaf: Flags, key: PRNGKeyArray
    ) -> tuple[
        Int[Array, "batch chains children"],
        Float[Array, "batch chains children"],
        Float[Array, "batch chains"],
    ]:
        """Children and ln of their weights, and of the parent's."""
        log_probs, values = state.at(state.log_probs), state.at(state.values)
        backward = state.own_value()
        if self.children == "all":
            tokens = jnp.broadcast_to(jnp.arange(values.shape[-1], dtype=jnp.int32), values.shape)
            forward = log_probs + values
        else:
            tokens = jnp.moveaxis(categorical(key, log_probs, (self.children,)), 0, -1)
            forward = jnp.take_along_axis(values, tokens, axis=-1)
            backward += math.log(self.children)
        return tokens, jnp.where(leaf[..., None], -jnp.inf, forward), backward

    def _lifted(
        self,
        forward: Float[Array, "batch chains children"],
        backward: Float[Array, "batch chains"],
        down: Flags,
    ) -> Float[Array, "batch chains choices"]:
        """ln of the weights of the children, the parent, and of turning round, in the present direction."""
        assert self.momentum is not None
        total = jax.nn.logsumexp(forward, axis=-1)
        ahead, behind = jnp.where(down, total, backward), jnp.where(down, backward, total)
        # ln(behind - chi min(ahead, behind)).
        ratio = jnp.where(behind > -jnp.inf, jnp.exp(jnp.minimum(ahead - behind, 0.0)), 0.0)
        turn = behind + jnp.log1p(-self.momentum * ratio)
        turn = jnp.where(behind > -jnp.inf, turn, -jnp.inf)
        ways = jnp.stack([jnp.where(down, -jnp.inf, backward), turn], axis=-1)
        return jnp.append(jnp.where(down[..., None], forward, -jnp.inf), ways, axis=-1)
