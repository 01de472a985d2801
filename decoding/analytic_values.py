"""Value functions with a known error: delayed, or overrating one action."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from decoding.base import Cache, Problem, Walk
from decoding.paths import empty_paths, prefix_of, put, walk
from decoding.walks import TaskValues
from tasks import Task
from tasks.checks import real, whole


@walk(data_fields=[], meta_fields=["task", "delay"])
@dataclasses.dataclass(frozen=True)
class Delayed(Walk):
    """V^(x, y_1:h) = V(x, y_1:h-d), the exact value d tokens earlier; V(x) for h <= d.

    Siblings have equal values. Decoders query the verifier at leaves, where there is no delay.

    Attributes:
        task: a task with exact values.
        delay: d >= 1.

    Source: Taming Imperfect Process Verifiers, arXiv 2510.03149, Example 3.2 (d = 1).

    Raises:
        ValueError: a delay < 1.
    """

    task: Task
    delay: int = 1

    def __post_init__(self) -> None:
        whole("delay", self.delay, 1)

    def start(self, problem: Problem, chains: int) -> Cache:
        """Empty paths."""
        return empty_paths(self.task, problem, chains)

    def step(
        self,
        problem: Problem,
        cache: Cache,
        tokens: Int[Array, "batch chains"],
        depth: Int[Array, "batch chains"],
    ) -> tuple[Float[Array, "batch chains vocab"], Cache]:
        """ln V of the ancestor d tokens above the children, equal for all children."""
        path = put(cache, depth - 1, tokens)
        seen = jnp.maximum(depth + 1 - self.delay, 0)
        one = jax.vmap(self.task.value, in_axes=(None, 0, 0))
        values = jnp.log(jax.vmap(one)(problem.latent, prefix_of(path, seen), seen))
        table = jnp.full((*depth.shape, self.task.vocab_size), -jnp.inf, values.dtype)
        return table.at[..., jnp.asarray(self.task.response_tokens)].set(values[..., None]), path


@walk(data_fields=["epsilon"], meta_fields=["task", "token"])
@dataclasses.dataclass(frozen=True)
class Overrated(Walk):
    """V^(x, y_1:h) = (1 + epsilon 1{y_h = token}) V(x, y_1:h).

    Attributes:
        task: a task with exact values.
        token: the overrated action.
        epsilon: relative error > -1.

    Source: Taming Imperfect Process Verifiers, arXiv 2510.03149, Example 3.1.

    Raises:
        ValueError: a token that is not a response token, an epsilon <= -1.
    """

    task: Task
    token: int = 1
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        if self.token not in self.task.response_tokens:
            raise ValueError(f"token: {self.token!r}; valid: one of {self.task.response_tokens}")
        if isinstance(self.epsilon, int | float):
            real("epsilon", self.epsilon, above=-1)

    def start(self, problem: Problem, chains: int) -> Cache:
        """Cache of the exact values."""
        return TaskValues(self.task).start(problem, chains)

    def step(
        self,
        problem: Problem,
        cache: Cache,
        tokens: Int[Array, "batch chains"],
        depth: Int[Array, "batch chains"],
    ) -> tuple[Float[Array, "batch chains vocab"], Cache]:
        """ln of the exact values, with ln(1 + epsilon) added at the token."""
        values, cache = TaskValues(self.task).step(problem, cache, tokens, depth)
        return values.at[..., self.token].add(jnp.log1p(self.epsilon)), cache
