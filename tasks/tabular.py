"""Random trees, small enough to tabulate, on which decoders are tested exactly."""

from __future__ import annotations

import dataclasses
import functools
import string
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tasks.checks import choice, real, whole
from tasks.streams import check_seed
from tasks.tilted import TiltedTask

_MOST_LEAVES = 2**16


class Tables(NamedTuple):
    """Tables of all trees; nodes are numbered level by level, in lexicographic order.

    The node y_1:h has the number (A^h - 1)/(A - 1) + sum_i (y_i - 1) A^(h - i).
    """

    reference: Float[np.ndarray, "prompts inner symbols"]
    value: Float[np.ndarray, "prompts nodes"]


@dataclasses.dataclass(frozen=True)
class Tabular(TiltedTask):
    """One random tree per prompt.

    pi_ref(.|y_1:h) is drawn from a Dirichlet distribution at every node and tau at every leaf; values are
    sums from the leaves up.

    Attributes:
        length: the horizon H.
        num_symbols: number A of actions; a tree has A^H leaves.
        num_prompts: number of trees.
        seed: seed of the tables (not of the examples).
        concentration: parameter of the symmetric Dirichlet distribution; small is far from uniform.
        rewards: "binary": tau is 0 or 1; "graded": positive tau is uniform on (0, 1].
        density: probability that a leaf has tau > 0. Every tree has at least one such leaf.

    Raises:
        ValueError: a field out of range, or more than 65536 leaves.
    """

    length: int = 3
    num_symbols: int = 2
    num_prompts: int = 4
    seed: int = 0
    concentration: float = 1.0
    rewards: str = "binary"
    density: float = 0.5

    def __post_init__(self) -> None:
        lowest = {"length": 1, "num_symbols": 2, "num_prompts": 1}
        for field, low in lowest.items():
            whole(f"task.{field}", getattr(self, field), low)
        check_seed("task.seed", self.seed)
        if self.num_symbols > len(string.ascii_lowercase):
            raise ValueError(f"task.num_symbols: {self.num_symbols}; valid: at most 26, the letters")
        if self.num_symbols**self.length > _MOST_LEAVES:
            raise ValueError(
                f"task.length: {self.length} gives {self.num_symbols}^{self.length} leaves; valid: at most "
                f"{_MOST_LEAVES}"
            )
        choice("task.rewards", self.rewards, ("binary", "graded"))
        for field, high in (("concentration", 1e6), ("density", 1.0)):
            real(f"task.{field}", getattr(self, field), above=0, most=high)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Letters."""
        return tuple(string.ascii_lowercase[: self.num_symbols])

    @property
    def prompts(self) -> tuple[str, ...]:
        """Names of the trees: `tree0`, `tree1`, ..."""
        return tuple(f"tree{i}" for i in range(self.num_prompts))

    @property
    def response_length(self) -> int:
        """Horizon H."""
        return self.length

    def tables(self) -> Tables:
        """pi_ref at every inner node and V at every node, float64, on the host."""
        return _tables(self)

    def reference_log_probs(
        self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]
    ) -> Float[Array, " vocab"]:
        """ln pi_ref(a | x, y_1:h) from the table."""
        table = jnp.asarray(self.tables().reference, jnp.float32)
        row = table[latent.prompt, jnp.minimum(self._number(prefix, length), table.shape[1] - 1)]
        return jnp.full((self.vocab_size,), -jnp.inf).at[jnp.asarray(self.response_tokens)].set(jnp.log(row))

    def value(self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]) -> Float[Array, ""]:
        """V(x, y_1:h) from the table."""
        table = jnp.asarray(self.tables().value, jnp.float32)
        return jnp.where(self.legal(prefix, length), table[latent.prompt, self._number(prefix, length)], 0.0)

    def reward(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """tau(x, y), the value of a leaf."""
        return self.value(latent, response, jnp.asarray(self.length))

    def _number(self, prefix: Int[Array, " response"], length: Int[Array, ""]) -> Int[Array, ""]:
        """Number of the node in the tables; 0 if the prefix is not a node."""
        number = jnp.asarray(0)
        for position in range(self.length):
            # The children of node n are A n + 1, ..., A n + A in this numbering.
            number = jnp.where(position < length, number * self.num_symbols + prefix[position], number)
        return jnp.where(self.legal(prefix, length), number, 0)


@functools.lru_cache(maxsize=64)
def _tables(task: Tabular) -> Tables:
    rng = np.random.default_rng([task.seed, task.length, task.num_symbols])
    size, prompts = task.num_symbols, task.num_prompts
    inner = (size**task.length - 1) // (size - 1)
    reference = rng.dirichlet(np.full(size, task.concentration), (prompts, inner))
    shape = (prompts, size**task.length)
    tau = (rng.random(shape) < task.density).astype(np.float64)
    tau[np.arange(prompts), rng.integers(shape[1], size=prompts)] = 1.0
    if task.rewards == "graded":
        tau *= 1 - rng.random(shape)
    levels = [tau]
    for h in reversed(range(task.length)):
        first = (size**h - 1) // (size - 1)
        below = levels[0].reshape(prompts, size**h, size)
        levels.insert(0, np.sum(reference[:, first : first + size**h] * below, axis=2))
    return Tables(reference, np.concatenate(levels, axis=1))
