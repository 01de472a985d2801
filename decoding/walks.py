"""Base models and value functions as `Walk`s: networks, exact ones of a task, and constant values."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from decoding.base import Cache, Problem, Walk
from decoding.paths import empty_paths, prefix_of, put, walk
from models import Model, Params
from tasks import Task
from tasks.checks import real


def _fed(
    problem: Problem, tokens: Int[Array, "batch chains"], depth: Int[Array, "batch chains"]
) -> Int[Array, "batch chains"]:
    """Input token of a model at `depth`: the prompt's last token at the root, else the node's last token."""
    return jnp.where(depth == 0, problem.prompt[:, -1:], tokens)


@walk(data_fields=["params", "temperature"], meta_fields=["model", "tokens"])
@dataclasses.dataclass(frozen=True)
class ModelPolicy(Walk):
    """Network as base model: pi_ref(a | x, y_1:h) prop. to exp(logit_a / temperature) on `tokens`, else 0.

    Attributes:
        model, params: the network.
        tokens: tokens that a response can consist of (`Task.response_tokens`).
        temperature: positive; 1 is the model's law on `tokens`.
    """

    model: Model
    params: Params
    tokens: tuple[int, ...]
    temperature: float = 1.0

    def __post_init__(self) -> None:
        # A compiled program passes an array, which cannot be checked.
        if isinstance(self.temperature, int | float):
            real("temperature", self.temperature, above=0)
        outside = [token for token in self.tokens if not 0 <= token < self.model.vocab_size]
        if not self.tokens or outside:
            raise ValueError(
                f"tokens: {outside or self.tokens!r}; valid: at least one of 0..{self.model.vocab_size - 1}"
            )

    def start(self, problem: Problem, chains: int) -> Cache:
        """The prompt's cache, with room for every chain's response."""
        return self.model.start(self.params, problem.prompt, problem.prompt_mask, chains)

    def step(
        self,
        problem: Problem,
        cache: Cache,
        tokens: Int[Array, "batch chains"],
        depth: Int[Array, "batch chains"],
    ) -> tuple[Float[Array, "batch chains vocab"], Cache]:
        """One step of the model per chain; depths may differ."""
        logits, cache = self.model.step(self.params, cache, _fed(problem, tokens, depth), depth)
        return jax.nn.log_softmax(_only(self.tokens, logits / self.temperature)), cache


@walk(data_fields=["params", "temperature"], meta_fields=["model"])
@dataclasses.dataclass(frozen=True)
class ModelValues(Walk):
    """Network as value function: ln V^(x, y_1:h a) = ln sigmoid(logit_a / temperature).

    One network step values all children of a node.

    Attributes:
        model, params: the network.
        temperature: positive; divides the logit of V^, not ln V^. At 1 the values are the network's; below 1
            they are nearer to 0 or 1, above 1 nearer to 1/2, and small values are about V^^(1/temperature).
            Decoders replace values at leaves by the verifier's tau, at any temperature.
    """

    model: Model
    params: Params
    temperature: float = 1.0

    def __post_init__(self) -> None:
        # A compiled program passes an array, which cannot be checked.
        if isinstance(self.temperature, int | float):
            real("temperature", self.temperature, above=0)

    def start(self, problem: Problem, chains: int) -> Cache:
        """The prompt's cache, with room for every chain's response."""
        return self.model.start(self.params, problem.prompt, problem.prompt_mask, chains)

    def step(
        self,
        problem: Problem,
        cache: Cache,
        tokens: Int[Array, "batch chains"],
        depth: Int[Array, "batch chains"],
    ) -> tuple[Float[Array, "batch chains vocab"], Cache]:
        """One step of the network per chain; depths may differ."""
        logits, cache = self.model.step(self.params, cache, _fed(problem, tokens, depth), depth)
        return jax.nn.log_sigmoid(logits / self.temperature), cache


@walk(data_fields=[], meta_fields=["task"])
@dataclasses.dataclass(frozen=True)
class TaskPolicy(Walk):
    """Exact base model of a task (`Task.reference_log_probs`); the cache is the path."""

    task: Task

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
        """ln pi_ref of every child."""
        path = put(cache, depth - 1, tokens)
        one = jax.vmap(self.task.reference_log_probs, in_axes=(None, 0, 0))
        return jax.vmap(one)(problem.latent, prefix_of(path, depth), depth), path


@walk(data_fields=[], meta_fields=["task"])
@dataclasses.dataclass(frozen=True)
class TaskValues(Walk):
    """Exact values of a task (`Task.value`); the cache is the path."""

    task: Task

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
        """ln V of the children at response tokens, -inf for other tokens."""
        path = put(cache, depth - 1, tokens)
        allowed = jnp.asarray(self.task.response_tokens)

        def of_child(token: Array) -> Array:
            child = put(prefix_of(path, depth), depth, jnp.broadcast_to(token, depth.shape))
            one = jax.vmap(self.task.value, in_axes=(None, 0, 0))
            return jax.vmap(one)(problem.latent, child, depth + 1)

        values = jnp.moveaxis(jax.vmap(of_child)(allowed), 0, -1)
        empty = jnp.full((*depth.shape, self.task.vocab_size), -jnp.inf, values.dtype)
        return empty.at[..., allowed].set(jnp.log(values)), path


@walk(data_fields=["log_value"], meta_fields=["task"])
@dataclasses.dataclass(frozen=True)
class Constant(Walk):
    """Constant values without information: ln V^ = `log_value` at every node."""

    task: Task
    log_value: float = math.log(0.5)

    def start(self, problem: Problem, chains: int) -> Cache:
        """Empty cache."""
        return ()

    def step(
        self,
        problem: Problem,
        cache: Cache,
        tokens: Int[Array, "batch chains"],
        depth: Int[Array, "batch chains"],
    ) -> tuple[Float[Array, "batch chains vocab"], Cache]:
        """`log_value` for every child."""
        return jnp.full((*depth.shape, self.task.vocab_size), self.log_value, jnp.float32), cache


def _only(tokens: tuple[int, ...], logits: Float[Array, "*shape vocab"]) -> Float[Array, "*shape vocab"]:
    """`logits` on `tokens`, -inf elsewhere."""
    allowed = jnp.zeros((logits.shape[-1],), bool).at[jnp.asarray(tokens)].set(True)
    return jnp.where(allowed, logits, -jnp.inf)
