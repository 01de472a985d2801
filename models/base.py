"""The `Model` seam: a sequence model as pure functions of a parameter pytree."""

from __future__ import annotations

import abc
from typing import Any

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

Params = Any
Cache = Any


class Model(abc.ABC):
    """An autoregressive model of responses given prompts, pi(y|x) = prod_t pi(y_t | x, y_<t).

    Implementations are frozen dataclasses, hashable, so that a model can be a static argument of `jit`; their
    parameters are plain pytrees. All methods are natively batched over prompts; seeds are added by `vmap`.

    The prompt's part of a forward pass is computed once and shared by all responses of the prompt: `logits`
    scores one response a prompt in training and all its valid ones in evaluation, `start` and `step` extend N
    of them token by token in sampling.
    """

    vocab_size: int
    prompt_length: int
    response_length: int

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray) -> Params:
        """Fresh parameters."""

    @abc.abstractmethod
    def logits(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> Float[Array, "batch candidates response vocab"]:
        """Logits of each response token given the prompt and the response's earlier tokens (teacher
        forcing)."""

    @abc.abstractmethod
    def prompt_logits(
        self, params: Params, prompt: Int[Array, "batch prompt"], prompt_mask: Bool[Array, "batch prompt"]
    ) -> Float[Array, "batch prompt_1 vocab"]:
        """Logits of prompt tokens 1..P-1 given the ones before (for training on the prompt's tokens too)."""

    @abc.abstractmethod
    def start(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        num_samples: int,
    ) -> Cache:
        """A decoding cache for `num_samples` responses of each prompt; the prompt's part is stored once."""

    @abc.abstractmethod
    def step(
        self,
        params: Params,
        cache: Cache,
        tokens: Int[Array, "batch samples"],
        position: Int[Array, "*batch_samples"],
    ) -> tuple[Float[Array, "batch samples vocab"], Cache]:
        """Feed input `position` of the response (0: the prompt's last token) and return the next token's
        logits.

        `position` is one number for all samples, or each sample's own (batch, samples). A sample may go back:
        what it fed at its position and beyond counts no more, what it fed before stays and is not computed
        again. So every position before its own must have been fed.
        """
