"""Corrupted values and rollout estimates of values, both fixed functions of the node."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt32

from decoding.base import Cache, Problem, Walk
from decoding.paths import empty_paths, ends, prefix_of, put, rewards, token_before, walk
from tasks import Task, categorical, check_seed, stream
from tasks.checks import choice, real, whole
from tasks.streams import IMPLEMENTATION

_DRAWS = 2**32 - 1
"""Folded into the key of a node for draws below it; not a token, as tokens make the keys of children."""

Keys = UInt32[Array, "batch chains depths key"]
NodeKeys = UInt32[Array, "batch chains key"]


def _per_chain(function: Callable[..., Array], keys: NodeKeys, *arguments: Array) -> Array:
    """`function(key, ...)` of every chain."""

    def one(data: Array, *rest: Array) -> Array:
        return function(jax.random.wrap_key_data(data, impl=IMPLEMENTATION), *rest)

    return jax.vmap(jax.vmap(one))(keys, *arguments)


def _fold(keys: NodeKeys, numbers: Shaped[Array, "batch chains"]) -> NodeKeys:
    """Keys of the chains with one number per chain folded in."""
    return _per_chain(lambda key, number: jax.random.key_data(jax.random.fold_in(key, number)), keys, numbers)


def _root_keys(problem: Problem, seed: int, task: Task, chains: int) -> Keys:
    """Keys of the nodes on every chain's path, filled at the root.

    The key of the root is a function of the seed and of the prompt's tokens without padding.
    """

    def of_prompt(prompt: Array, mask: Array) -> Array:
        def fold(data: Array, place: tuple[Array, Array]) -> tuple[Array, None]:
            token, real = place
            folded = jax.random.fold_in(jax.random.wrap_key_data(data, impl=IMPLEMENTATION), token)
            return jnp.where(real, jax.random.key_data(folded), data), None

        return jax.lax.scan(fold, jax.random.key_data(stream(seed)), (prompt, mask))[0]

    root = jax.vmap(of_prompt)(problem.prompt, problem.prompt_mask)[:, None, None]
    return jnp.broadcast_to(root, (root.shape[0], chains, task.response_length, root.shape[-1]))


def _descend(
    keys: Keys, tokens: Int[Array, "batch chains"], depth: Int[Array, "batch chains"]
) -> tuple[NodeKeys, Keys]:
    """(key of every chain's node, keys along the path); a key folds the last token into the parent's key."""
    parent = jnp.take_along_axis(keys, jnp.maximum(depth - 1, 0)[..., None, None], axis=2)[:, :, 0]
    key = jnp.where((depth == 0)[..., None], keys[:, :, 0], _fold(parent, tokens))
    here = jnp.arange(keys.shape[2]) == depth[..., None]
    return key, jnp.where(here[..., None], key[:, :, None], keys)


class _CorruptedCache(NamedTuple):
    inner: Cache
    keys: UInt32[Array, "batch chains depths key"]


@walk(data_fields=["values", "error"], meta_fields=["task", "seed", "kind", "action"])
@dataclasses.dataclass(frozen=True)
class Corrupted(Walk):
    """Values with a multiplicative error at every node: V^ = V exp(u), |u| <= ln(1 + error).

    The error is a function of (seed, prompt, node) and does not depend on the chain or the batch. Decoders
    query the verifier at leaves, which has no error.

    Attributes:
        values: the values before corruption.
        task: the task of the responses.
        error: eps >= 0; the guarantees of VGB are in 1 + eps (arXiv 2510.03149, assumption 4.1).
        seed: seed of the errors.
        kind: `uniform`: u is uniform on [-ln(1+eps), ln(1+eps)]; `two_valued`: u is either end with
            probability 1/2; `action`: u = ln(1+eps) at nodes whose last token is `action`, else 0 (the
            paper's example 3.1: perturbation).
        action: a token, for `action` only.
    """

    values: Walk
    task: Task
    error: float
    seed: int = 0
    kind: Literal["uniform", "two_valued", "action"] = "uniform"
    action: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.error, int | float):
            real("error", self.error, least=0)
        choice("kind", self.kind, ("uniform", "two_valued", "action"))
        if (self.kind == "action") != (self.action is not None):
            raise ValueError(f"action: {self.action!r}; valid: a token with kind action, None without")
        check_seed("seed", self.seed)

    def start(self, problem: Problem, chains: int) -> _CorruptedCache:
        """Cache of the values, and node keys by depth."""
        keys = _root_keys(problem, self.seed, self.task, chains)
        return _CorruptedCache(self.values.start(problem, chains), keys)

    def step(
        self,
        problem: Problem,
        cache: _CorruptedCache,
        tokens: Int[Array, "batch chains"],
        depth: Int[Array, "batch chains"],
    ) -> tuple[Float[Array, "batch chains vocab"], _CorruptedCache]:
        """ln V^ of every child."""
        exact, inner = self.values.step(problem, cache.inner, tokens, depth)
        key, keys = _descend(cache.keys, tokens, depth)
        children = jnp.arange(exact.shape[-1])
        size = jnp.log1p(jnp.asarray(self.error, exact.dtype))
        if self.kind == "action":
            shift = jnp.broadcast_to(jnp.where(children == self.action, size, 0.0), exact.shape)
        else:
            unit = _per_chain(lambda k: jax.random.uniform(k, children.shape, exact.dtype), key)
            shift = size * (jnp.where(unit < 0.5, -1.0, 1.0) if self.kind == "two_valued" else 2 * unit - 1)
        return exact + shift, _CorruptedCache(inner, keys)


class _RolloutsCache(NamedTuple):
    policy: Cache
    keys: UInt32[Array, "batch chains depths key"]
    path: Int[Array, "batch chains response"]


@walk(data_fields=["policy"], meta_fields=["task", "num", "seed"])
@dataclasses.dataclass(frozen=True)
class Rollouts(Walk):
    """V^ = mean reward of `num` responses drawn from the base model below every child, unbiased for V.

    The draws are a function of (seed, prompt, node), so the estimate of a node is fixed. The estimate of a
    leaf is the reward.

    A step draws `num` responses below the child of every response token: len(response_tokens) x num x (steps
    to the end) steps of the policy for all chains together, at most `tokens_per_step` per chain. These tokens
    do not count in a decoder's `tokens`.

    Attributes:
        policy: the base model.
        task: the task whose reward is averaged.
        num: number of responses per child.
        seed: seed of the draws.
    """

    policy: Walk
    task: Task
    num: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        whole("num", self.num, 1)
        check_seed("seed", self.seed)

    def tokens_per_step(self, depth: int, horizon: int) -> int:
        """Tokens that the policy processes for all children of one node at `depth`, without early ends.

        `horizon` is the number of tokens of a response.
        """
        return len(self.task.response_tokens) * self.num * max(horizon - depth - 1, 0) + 1

    def start(self, problem: Problem, chains: int) -> _RolloutsCache:
        """Cache of the policy, node keys by depth, and empty paths."""
        return _RolloutsCache(
            self.policy.start(problem, chains),
            _root_keys(problem, self.seed, self.task, chains),
            empty_paths(self.task, problem, chains),
        )

    def step(
        self,
        problem: Problem,
        cache: _RolloutsCache,
        tokens: Int[Array, "batch chains"],
        depth: Int[Array, "batch chains"],
    ) -> tuple[Float[Array, "batch chains vocab"], _RolloutsCache]:
        """ln of the mean reward below every child; -inf where all rewards are 0."""
        path = put(cache.path, depth - 1, tokens)
        key, keys = _descend(cache.keys, tokens, depth)
        drawing = _fold(key, jnp.full(depth.shape, _DRAWS, jnp.uint32))
        _, policy = self.policy.step(problem, cache.policy, tokens, depth)
        allowed = jnp.asarray(self.task.response_tokens)

        def of_draw(pair: tuple[Array, Array]) -> Array:
            child, draw = pair
            first = jnp.broadcast_to(child, depth.shape)
            own = _fold(_fold(drawing, first), jnp.broadcast_to(draw, depth.shape))
            below = put(prefix_of(path, depth), depth, first)
            return self._reward(problem, policy, below, depth + 1, own)

        pairs = jnp.repeat(allowed, self.num), jnp.tile(jnp.arange(self.num), len(allowed))
        drawn = jax.lax.map(of_draw, pairs).reshape(len(allowed), self.num, *depth.shape)
        mean = jnp.moveaxis(jnp.mean(drawn, axis=1), 0, -1)
        empty = jnp.full((*depth.shape, self.task.vocab_size), -jnp.inf, mean.dtype)
        return empty.at[..., allowed].set(jnp.log(mean)), _RolloutsCache(policy, keys, path)

    def _reward(self, problem: Problem, cache: Cache, path: Array, depth: Array, key: Array) -> Array:
        """Reward tau of one response drawn below every chain's node."""

        def walking(carry: tuple[Cache, Array, Array]) -> Bool[Array, ""]:
            _, path, depth = carry
            return ~jnp.all(ends(self.task, problem, path, depth))

        def further(carry: tuple[Cache, Array, Array]) -> tuple[Cache, Array, Array]:
            cache, path, depth = carry
            done = ends(self.task, problem, path, depth)
            # A finished chain repeats its last token and ignores the result.
            at = jnp.minimum(depth, self.task.response_length - 1)
            last = token_before(path, at)
            log_probs, cache = self.policy.step(problem, cache, last, at)
            drawn = _per_chain(categorical, _fold(key, depth), log_probs)
            path = jnp.where(done[..., None], path, put(path, depth, drawn.astype(path.dtype)))
            return cache, path, jnp.where(done, depth, depth + 1)

        _, path, depth = jax.lax.while_loop(walking, further, (cache, path, depth))
        return rewards(self.task, problem, path, depth)
