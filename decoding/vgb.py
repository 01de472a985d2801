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
from tasks.checks import choice, real, whole
from tasks.drawing import unit


class Walking(NamedTuple):
    """State of a chain in VGB.

    Attributes:
        run: index of the current run.
        steps: steps left in the run.
        fresh: True before the first step of the run.
        down: True if the direction is down, for momentum.
    """

    run: PerChain
    steps: PerChain
    fresh: Flags
    down: Flags


@dataclasses.dataclass(frozen=True)
class VGB(Explorer):
    """Lazy random walk with backtracking on the tree of partial responses.

    A step at node v = y_1:h: stay with probability `laziness`; else move to the parent with weight V^(v)
    (h > 0) or to child a with weight pi_ref(a|v) V^(v a) (unless v is a leaf), normalised; V^ = tau at
    leaves.

    The walk is reversible with edge weights pi_ref(v) V^(v), so the stationary law restricted to the leaves
    is pi* for any positive internal V^. With exact values the leaves have stationary mass 1/(2H).

    Attributes:
        budget: largest number of queries of a chain.
        steps: steps of a run, lazy steps included. Mixing takes about H^2 (1 + eps)^4 ln(1/delta) steps.
        stop: `fixed`: a run takes all steps and returns the last node if it is a leaf (law: pi*, up to
            mixing); `first_leaf`: a run returns the first leaf (cheaper, biased where V^ is wrong).
        runs: largest number of runs from the root until a run returns a leaf.
        children: `all` enumerates the children: one query per child when a node is expanded, none when the
            walk returns to a cached node. A number K draws K fresh children from pi_ref at every step, with
            forward weight V^(child) per child against the backward weight K V^(v): K queries per step, for
            large vocabularies. The walk stays at the root if all K children have value 0.
        momentum: None: the walk above. chi in [0, 1]: the lifted walk with a direction. Let F be the total
            weight of the children and B the weight of the parent. Downwards, a chain moves to a child by
            weight or turns with weight max(B - chi min(F, B), 0). Upwards, it moves to the parent with weight
            B or turns with weight max(F - chi min(F, B), 0). A turn is a step. The stationary law on the
            leaves is again pi*. With chi = 1 and exact values the chain never turns inside the tree.
        laziness: 1/2 in the paper. Lazy steps are free, because their number before a move is drawn at once.
            0 is valid for `first_leaf`, not for `fixed`, where the walk would be at even depths after an even
            number of steps.

    A chain stops unfinished at the root if all children have weight 0; elsewhere it can backtrack.

    Source: arXiv 2510.03149, algorithms 1 and 3 and, for momentum, appendix E.1, after Hayes and Sinclair,
    Liftings of tree-structured Markov chains (RANDOM 2010); chi interpolates between a redrawn direction (0)
    and the lifting (1).

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
        choice("stop", self.stop, ("fixed", "first_leaf"))
        if self.children != "all":
            whole("children", self.children, 1, other="all")
        if self.momentum is not None:
            real("momentum", self.momentum, least=0, most=1, other="null")
        real("laziness", self.laziness, least=0, below=1)
        if self.laziness == 0 and self.stop == "fixed":
            raise ValueError("laziness: 0 with stop = fixed never mixes; valid: a number in (0, 1)")

    @property
    def num_keys(self) -> int:
        """Three keys: for the lazy steps, the move and the drawn children."""
        return 3

    def own_state(self, tree: Tree, state: Chains) -> Walking:
        """State before the first run."""
        zero = jnp.zeros_like(state.depth)
        return Walking(zero, zero + self.steps, zero == 0, zero == 0)

    def act(
        self, tree: Tree, state: Chains, own: Walking, which: Flags, keys: Keys
    ) -> tuple[Chains, Walking]:
        """A move and the lazy steps after it, or the lazy steps before the first move; may end a run."""
        state, own = self._move(tree, state, own, which & ~own.fresh, keys[1:])
        which &= ~state.done
        leaf = at_leaf(tree, state)
        if self.stop == "first_leaf":
            state = state.stop(which & leaf, which & leaf)
            which &= ~leaf
        lazy = self._lazy_steps(unit(keys[0], which.shape))
        over = which & (own.steps <= lazy)
        state = state.stop(over & leaf, over & leaf)
        # The next run starts at the root, whose children are known.
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
        """Number k of lazy steps before a move, of probability (1 - laziness) laziness^k, at most `steps`."""
        if self.laziness == 0:
            return jnp.zeros(uniform.shape, jnp.int32)
        drawn = jnp.floor(jnp.log(uniform) / math.log(self.laziness))
        return jnp.minimum(drawn, self.steps).astype(jnp.int32)

    def pay_for_children(self, state: Chains, which: Flags, number: PerChain) -> Chains:
        """Charge one query per child, if children are enumerated."""
        return self.pay(state, which, number)[0] if self.children == "all" else state

    def _move(
        self, tree: Tree, state: Chains, own: Walking, moving: Flags, keys: Keys
    ) -> tuple[Chains, Walking]:
        """One step of the walk for the chains of `moving`."""
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
        """(children, ln of the weights of the children, ln of the weight of the parent)."""
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
        """ln of the weights of the children, the parent and a turn, in the current direction."""
        assert self.momentum is not None
        total = jax.nn.logsumexp(forward, axis=-1)
        ahead, behind = jnp.where(down, total, backward), jnp.where(down, backward, total)
        # ln(behind - chi min(ahead, behind)).
        ratio = jnp.where(behind > -jnp.inf, jnp.exp(jnp.minimum(ahead - behind, 0.0)), 0.0)
        turn = behind + jnp.log1p(-self.momentum * ratio)
        turn = jnp.where(behind > -jnp.inf, turn, -jnp.inf)
        ways = jnp.stack([jnp.where(down, -jnp.inf, backward), turn], axis=-1)
        return jnp.append(jnp.where(down[..., None], forward, -jnp.inf), ways, axis=-1)
