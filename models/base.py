"""The `Model` seam: a sequence model as pure functions of a parameter pytree."""

from __future__ import annotations

import abc
from typing import Any

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tasks import Task

Params = Any
Cache = Any

_NO_TABLE = "model: the last layer of {} is no matrix of its own; valid: a GPT, or all parameters"


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

    def for_task(self, task: Task) -> Model:
        """This model for `task`; one that needs more of a task than its sizes takes it here.

        Raises:
            ValueError: one line, if the task does not have it or has another one than the model was made for.
        """
        return self

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

    def features(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> Float[Array, "batch candidates response width"]:
        """What `output_table` is applied to: logits = features @ output_table^T, shapes as in `logits`.

        Raises:
            ValueError: if this model's last layer is no matrix.
        """
        raise ValueError(_NO_TABLE.format(type(self).__name__))

    def step_features(
        self,
        params: Params,
        cache: Cache,
        tokens: Int[Array, "batch samples"],
        position: Int[Array, "*batch_samples"],
    ) -> tuple[Float[Array, "batch samples width"], Cache]:
        """`step` with features in place of logits; ValueError as `features`."""
        raise ValueError(_NO_TABLE.format(type(self).__name__))

    def output_table(self, params: Params) -> Float[Array, "vocab width"]:
        """The last matrix; ValueError as `features`."""
        raise ValueError(_NO_TABLE.format(type(self).__name__))
