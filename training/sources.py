"""Where the responses of a training batch come from: pi_D itself, or rollouts of a base model."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from decoding.responses import base_responses
from models import Model, Params
from tasks import Example, Task, stream
from training.processes import from_leader


class TrainingBatch(NamedTuple):
    """Prompts, and responses of each, as an objective sees them.

    `rewards` is tau(x, y) of every response, None where the source does not judge them.
    """

    prompt: Int[Array, "batch prompt"]
    prompt_mask: Bool[Array, "batch prompt"]
    responses: Int[Array, "batch samples response"]
    response_mask: Bool[Array, "batch samples response"]
    group: Int[Array, " batch"]
    rewards: Float[Array, "batch samples"] | None


class Source(abc.ABC):
    """Answers a batch of the task's prompts with the responses that are trained on.

    It is called inside the compiled program of a phase. Prompts, and pi_D's own responses to them, are drawn
    before: fresh ones, or those of a fixed set. Parameters come as an argument and never as a field: one
    compiled program serves all seeds, each with its own. A source that answers with the parameters in
    training (several responses a prompt, for objectives that compare them within a prompt's group) would take
    the state's parameters at this very place.
    """

    @property
    def model(self) -> Model | None:
        """The model whose fixed parameters the source is called with; None if it needs none."""
        return None

    @property
    def samples(self) -> int:
        """Responses of each prompt."""
        return 1

    @property
    def judges(self) -> bool:
        """Whether its batches carry rewards."""
        return False

    @abc.abstractmethod
    def __call__(self, task: Task, examples: Example, keys: PRNGKeyArray, params: Params) -> TrainingBatch:
        """The batch.

        Args:
            task: where the prompts come from.
            examples: a batch of prompts with pi_D's responses.
            keys: a random key of each example: shares of a batch are the same whoever makes them.
            params: of `model`; () if there is none.
        """


def base_of(sources: Sequence[Source]) -> Model | None:
    """The base model of a run whose phases have these sources."""
    return next((source.model for source in sources if source.model is not None), None)


def of_base(base: Model, seeds: Sequence[int], given: Params | None) -> Params:
    """The base model's parameters on the host of every process; the first one alone gives them."""
    like = jax.eval_shape(
        jax.vmap(lambda seed: base.init(stream(seed, "init"))), np.asarray(seeds, np.uint32)
    )
    return jax.tree.map(np.asarray, from_leader(given, like))


def demonstrations(examples: Example) -> TrainingBatch:
    """pi_D's own responses, one of each prompt."""
    return TrainingBatch(
        examples.prompt,
        examples.prompt_mask,
        examples.response[:, None],
        examples.response_mask[:, None],
        examples.group,
        None,
    )


@dataclasses.dataclass(frozen=True)
class Demonstrations(Source):
    """Responses that pi_D gives: supervised learning."""

    def __call__(self, task: Task, examples: Example, keys: PRNGKeyArray, params: Params) -> TrainingBatch:
        """`demonstrations`, whatever the key."""
        return demonstrations(examples)


@dataclasses.dataclass(frozen=True)
class Rollouts(Source):
    """Responses drawn from a base model with fixed parameters, y ~ pi_ref(.|x), each with its reward
    tau(x, y): what a value function is regressed on (VGB, arXiv 2510.03149, section 5).

    Attributes:
        base: the base model; its parameters are the program's operand. None takes the task's own exact base
            model (`Task.reference_log_probs`), if it has one.
        per_prompt: rollouts of each prompt of a batch; they share the prompt's part of every computation.
    """

    base: Model | None = None
    per_prompt: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.per_prompt, int) or isinstance(self.per_prompt, bool) or self.per_prompt < 1:
            raise ValueError(f"source.per_prompt: {self.per_prompt!r} is not an integer >= 1")

    @property
    def model(self) -> Model | None:
        """The base model."""
        return self.base

    @property
    def samples(self) -> int:
        """`per_prompt`."""
        return self.per_prompt

    @property
    def judges(self) -> bool:
        """Every rollout has its reward."""
        return True

    def __call__(self, task: Task, examples: Example, keys: PRNGKeyArray, params: Params) -> TrainingBatch:
        """`per_prompt` rollouts of each prompt."""
        responses, mask = base_responses(task, examples, keys, self.base, params, self.per_prompt)
        rewards = jax.vmap(jax.vmap(task.reward, (None, 0)))(examples.latent, responses)
        return TrainingBatch(examples.prompt, examples.prompt_mask, responses, mask, examples.group, rewards)
