"""The `Walk` and `Decoder` seams of test-time compute on trees of partial responses."""

from __future__ import annotations

import abc
import functools
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tasks import Example, Task

Cache = Any


class Problem(NamedTuple):
    """A batch of prompts to decode.

    The responses to prompt x are the leaves of a tree whose nodes are the prefixes y_1:h. Leaves are prefixes
    of `depth` tokens and prefixes that end in the task's `end_token`, if there is one.
    """

    prompt: Int[Array, "batch prompt"]
    prompt_mask: Bool[Array, "batch prompt"]
    latent: Any
    depth: Int[Array, " batch"]


class Decoded(NamedTuple):
    """Responses and their cost.

    Attributes:
        responses: padded with `PAD` after the last token; an unfinished response is the prefix reached.
        finished: True if a leaf (for rejection methods: an accepted leaf) was returned within the budget.
        reward: verifier's tau(x, y) of the returned leaf; 0 where not finished.
        queries: number of nodes evaluated by the value function or the verifier. Cached values are free: the
            children of all nodes on the path last evaluated, including those below a node that the chain
            backtracked to, until another path overwrites them.
        tokens: number of tokens that the base model processed for this response.
    """

    responses: Int[Array, "batch chains response"]
    finished: Bool[Array, "batch chains"]
    reward: Float[Array, "batch chains"]
    queries: Int[Array, "batch chains"]
    tokens: Int[Array, "batch chains"]


class Walk(abc.ABC):
    """A number for every child of a node, for chains that move up and down a tree.

    Caches are indexed by depth. After a chain backtracks, the next token is written at the smaller depth and
    overwrites the entries below; nothing of the prefix is recomputed. Implementations are frozen dataclasses
    registered as pytrees (parameters are leaves, other fields are static).
    """

    @abc.abstractmethod
    def start(self, problem: Problem, chains: int) -> Cache:
        """Cache of `chains` chains at the root of the tree of every prompt."""

    @abc.abstractmethod
    def step(
        self,
        problem: Problem,
        cache: Cache,
        tokens: Int[Array, "batch chains"],
        depth: Int[Array, "batch chains"],
    ) -> tuple[Float[Array, "batch chains vocab"], Cache]:
        """Move every chain to the node at `depth` on the path extended by `tokens`; one number per child.

        `tokens` are the last tokens of the nodes (arbitrary at the root, depth 0). A policy returns
        ln pi_ref(a | x, y_1:h), values return ln V^(x, y_1:h a), both in nats, -inf for 0.
        """


class Decoder(abc.ABC):
    """Method of test-time compute, in pure JAX, batched over prompts and chains.

    Implementations are frozen dataclasses whose fields are the settings and the budget, so that the decoder,
    the task and `chains` are static arguments of `jit`. Chains are independent. Every decoder terminates;
    where the budget does not suffice, `finished` is False.
    """

    @abc.abstractmethod
    def __call__(
        self, task: Task, policy: Walk, values: Walk, problem: Problem, key: PRNGKeyArray, chains: int
    ) -> Decoded:
        """`chains` responses per prompt; the verifier tau = `task.reward` replaces `values` at leaves."""


def problem_of(task: Task, example: Example) -> Problem:
    """The prompts of a batch of examples as a `Problem`."""
    return Problem(
        example.prompt, example.prompt_mask, example.latent, jax.vmap(task.max_tokens)(example.latent)
    )


@functools.partial(jax.jit, static_argnames=("decoder", "task", "chains"))
def decode(
    decoder: Decoder, task: Task, policy: Walk, values: Walk, problem: Problem, key: PRNGKeyArray, chains: int
) -> Decoded:
    """`decoder(...)`, compiled per decoder, task, number of chains and shapes of the other arguments."""
    return decoder(task, policy, values, problem, key, chains)
