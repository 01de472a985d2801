"""The seams of test-time compute: what walks the tree of partial responses, what guides it, what it costs."""

from __future__ import annotations

import abc
import functools
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tasks import Example, Task

Cache = Any


class Problem(NamedTuple):
    """A batch of prompts to be answered.

    The responses of prompt x are the leaves of a tree whose nodes are the prefixes y_1:h: those of `depth`
    tokens, and those that end in the task's `end_token`, if it has one.
    """

    prompt: Int[Array, "batch prompt"]
    prompt_mask: Bool[Array, "batch prompt"]
    latent: Any
    depth: Int[Array, " batch"]


class Decoded(NamedTuple):
    """Responses and what they cost.

    Attributes:
        responses: padded with `PAD` after the last token; where `finished` is False, whatever prefix was
            reached.
        finished: whether a leaf was returned before the budget ended (for the rejection methods: an accepted
            one).
        reward: the verifier's tau(x, y) of the returned leaf; 0 where not finished.
        queries: evaluations of the value function or of the verifier: one for each node whose value was asked
            for and not yet known. Known are the children of the nodes on the path last fed, also below a node
            that the chain has gone back to, until another way is fed.
        tokens: tokens that the base model was fed to produce this response.
    """

    responses: Int[Array, "batch chains response"]
    finished: Bool[Array, "batch chains"]
    reward: Float[Array, "batch chains"]
    queries: Int[Array, "batch chains"]
    tokens: Int[Array, "batch chains"]


class Walk(abc.ABC):
    """A number for every child of a node, for chains that move up and down their trees.

    A cache is indexed by depth: a chain that goes back to a node of smaller depth and on from there feeds the
    next token at that depth, and what lay below is overwritten. Nothing of the prefix is computed again.
    Implementations are frozen dataclasses registered as pytrees (parameters are leaves, the rest is static).
    """

    @abc.abstractmethod
    def start(self, problem: Problem, chains: int) -> Cache:
        """The cache of `chains` chains at the root of each prompt's tree."""

    @abc.abstractmethod
    def step(
        self,
        problem: Problem,
        cache: Cache,
        tokens: Int[Array, "batch chains"],
        depth: Int[Array, "batch chains"],
    ) -> tuple[Float[Array, "batch chains vocab"], Cache]:
        """Move each chain to the node of depth `depth` that its own path and `tokens` lead to, and return one
        number for each child of it.

        `tokens` is the last token of the node (anything at the root, depth 0). A policy returns
        ln pi_ref(a | x, y_1:h), values return ln V^(x, y_1:h a), both in nats, -inf for 0.
        """


class Decoder(abc.ABC):
    """A way to spend test-time compute: frozen dataclasses whose fields are the method's settings and its
    budget. Pure JAX: batched over prompts and chains, `jit` with the decoder, the task and `chains` static.

    Chains are independent. Every decoder ends: where its budget does not suffice, `finished` says so.
    """

    @abc.abstractmethod
    def __call__(
        self, task: Task, policy: Walk, values: Walk, problem: Problem, key: PRNGKeyArray, chains: int
    ) -> Decoded:
        """`chains` responses of each prompt. `task.reward` is the verifier tau, asked at leaves in place of
        `values`."""


def problem_of(task: Task, example: Example) -> Problem:
    """The prompts of a batch of examples, to be answered."""
    return Problem(
        example.prompt, example.prompt_mask, example.latent, jax.vmap(task.max_tokens)(example.latent)
    )


@functools.partial(jax.jit, static_argnames=("decoder", "task", "chains"))
def decode(
    decoder: Decoder, task: Task, policy: Walk, values: Walk, problem: Problem, key: PRNGKeyArray, chains: int
) -> Decoded:
    """`decoder(...)`, compiled: a program for each decoder, task, number of chains and shape of the rest."""
    return decoder(task, policy, values, problem, key, chains)
