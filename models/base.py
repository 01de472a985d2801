"""The `Model` seam: a sequence model as pure functions of a parameter pytree."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, Literal, NamedTuple

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tasks import Task

Params = Any
Dtype = Literal["float32", "bfloat16"]
Cache = Any

_NEXT_ALONE = "model: {} predicts the next token alone; valid for objective.k > 1: a GPT"
_NO_TABLE = "model: the last layer of {} is no matrix of its own; valid: a GPT, or all parameters"


class Forward(NamedTuple):
    """Forward pass of `Model.training_pass`.

    Attributes:
        logits: as of `Model.logits`.
        ahead: by head d = 1, 2, ...: logits of y_d, ..., y_H-1 (counted from 0), those of y_t given the
            prompt and y_<t-d.
        penalty: loss of the model's own per response, added to the objective's; None if there is none.
    """

    logits: Float[Array, "batch candidates response vocab"]
    ahead: tuple[Float[Array, "batch candidates _ vocab"], ...] = ()
    penalty: Float[Array, "batch candidates"] | None = None


class Model(abc.ABC):
    """An autoregressive model of responses given prompts, pi(y|x) = prod_t pi(y_t | x, y_<t).

    Implementations are frozen, hashable dataclasses, so that a model can be a static argument of `jit`.
    Parameters are plain pytrees. All methods are batched over prompts; seeds are added by `vmap`.

    The prompt's part of a forward pass is computed once and shared by all responses of the prompt. `logits`
    scores one response per prompt in training, and all valid responses in evaluation. `start` and `step`
    extend N responses token by token in sampling.
    """

    vocab_size: int
    prompt_length: int
    response_length: int
    ahead: int = 0
    """Number of heads for tokens after the next one. Training alone reads them, by `training_pass`."""

    def for_task(self, task: Task) -> Model:
        """This model for `task`. A model that needs more of a task than its sizes takes it here.

        Raises:
            ValueError: one line, if the task lacks what the model needs or differs from what the model has.
        """
        return self

    def divided(self, prompt_length: int, response_length: int) -> Model:
        """This model with other lengths of prompt and response, together at most as long, for the same
        parameters."""
        changed: Model = dataclasses.replace(
            self,  # type: ignore[type-var]
            prompt_length=prompt_length,
            response_length=response_length,
        )
        return changed

    @property
    def label(self) -> str:
        """Name of the model in messages."""
        return type(self).__name__

    @property
    def init_in_turn(self) -> bool:
        """True if the parameters of several seeds must be drawn in turn, and not together under `vmap`."""
        return False

    @property
    def separate_paths(self) -> bool:
        """True if `logits` scores one candidate in another way than several; `check_model` then checks both
        ways."""
        return False

    @property
    def sequential(self) -> bool:
        """True if a pass takes a step for each token in turn, as many for a part of a batch as for all of it.
        Training then computes a batch at once on CPU too, where it else computes parts."""
        return False

    @property
    def recurrent(self) -> bool:
        """True if a pass goes along the tokens, one or a few at a time. The products of a step are then too
        small for a device to share between cores, and a second CPU device pays for shorter batches."""
        return False

    @property
    def tested(self) -> Model:
        """This model as it is evaluated, sampled and decoded, with the same parameters: itself, unless it can
        be given more or less compute after training."""
        return self

    def computing(self, dtype: Dtype) -> Model:
        """This model with activations and products in `dtype`, for the same parameters; itself, if it knows
        one dtype alone."""
        return self

    def with_ahead(self, heads: int) -> Model:
        """This model with `heads` heads for tokens after the next one, more than it has.

        `models.with_ahead` asks.

        Raises:
            ValueError: one line, if the model has no such heads.
        """
        raise ValueError(_NEXT_ALONE.format(self.label))

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
        """Logits of each response token given the prompt and the earlier tokens of the response (teacher
        forcing)."""

    def training_pass(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
        response_mask: Bool[Array, "batch candidates response"],
        heads: int = 0,
    ) -> Forward:
        """`logits` and what else training reads: the logits of `heads` heads for tokens after the next one,
        and a loss of the model's own.

        Raises:
            ValueError: one line, if the model has fewer heads.
        """
        if heads:
            raise ValueError(_NEXT_ALONE.format(self.label))
        return Forward(self.logits(params, prompt, prompt_mask, responses))

    @abc.abstractmethod
    def prompt_logits(
        self, params: Params, prompt: Int[Array, "batch prompt"], prompt_mask: Bool[Array, "batch prompt"]
    ) -> Float[Array, "batch prompt_1 vocab"]:
        """Logits of prompt tokens 1..P-1 given the tokens before, for training on the prompt too."""

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
        """Write input `position` of the response (0: the prompt's last token) and return the logits of the
        next token.

        `position` is one number for all samples, or one number per sample (batch, samples). A sample may step
        back: writing at position p invalidates the cache from p onwards and reuses everything before p. Every
        position below p must already be in the cache.
        """

    def features(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> Float[Array, "batch candidates response width"]:
        """Inputs of the last layer: logits = features @ output_table^T, with the shapes of `logits`.

        Raises:
            ValueError: the last layer of this model is not a matrix.
        """
        raise ValueError(_NO_TABLE.format(self.label))

    def step_features(
        self,
        params: Params,
        cache: Cache,
        tokens: Int[Array, "batch samples"],
        position: Int[Array, "*batch_samples"],
    ) -> tuple[Float[Array, "batch samples width"], Cache]:
        """`step` with features in place of logits; raises what `features` raises."""
        raise ValueError(_NO_TABLE.format(self.label))

    def output_table(self, params: Params) -> Float[Array, "vocab width"]:
        """Matrix of the last layer; raises what `features` raises."""
        raise ValueError(_NO_TABLE.format(self.label))
