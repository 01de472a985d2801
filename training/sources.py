"""Where the responses of a training batch come from: pi_D itself, rollouts of a base model, or of the model
in training."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from decoding.responses import base_responses
from models import Model, Params
from tasks import Example, Task, stream
from tasks.checks import flag, whole
from training.old_scores import OldScores
from training.processes import from_leader


class Policy(NamedTuple):
    """The model in training with its present parameters."""

    model: Model
    params: Params


class TrainingBatch(NamedTuple):
    """Prompts, and responses of each, as an objective sees them.

    `rewards` is tau(x, y) of every response, None where the source does not judge them; `bonus` is added to
    it for the objective alone. `old` is what other parameters than the present ones say of the responses,
    `teacher` ln pi_D(a|x, y_<t) in nats of every token a, where the objective asks for it.
    """

    prompt: Int[Array, "batch prompt"]
    prompt_mask: Bool[Array, "batch prompt"]
    responses: Int[Array, "batch samples response"]
    response_mask: Bool[Array, "batch samples response"]
    group: Int[Array, " batch"]
    rewards: Float[Array, "batch samples"] | None
    bonus: Float[Array, "batch samples"] | None = None
    old: OldScores = OldScores()
    teacher: Float[Array, "batch samples response vocab"] | None = None


class Source(abc.ABC):
    """Answers a batch of the task's prompts with the responses that are trained on.

    It is called inside the compiled program of a phase. Prompts, and pi_D's own responses to them, are drawn
    before: fresh ones, or those of a fixed set. Parameters come as an argument and never as a field: one
    compiled program serves all seeds, each with its own.
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

    @property
    def on_policy(self) -> bool:
        """Whether the parameters in training draw the responses."""
        return False

    @property
    def updates(self) -> int:
        """Updates of the parameters on each batch."""
        return 1

    @abc.abstractmethod
    def __call__(
        self,
        task: Task,
        examples: Example,
        keys: PRNGKeyArray,
        params: Params,
        policy: Policy | None = None,
    ) -> TrainingBatch:
        """The batch.

        Args:
            task: where the prompts come from.
            examples: a batch of prompts with pi_D's responses.
            keys: a random key of each example: shares of a batch are the same whoever makes them.
            params: of `model`; () if there is none.
            policy: what is trained, for a source that is `on_policy`.
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

    def __call__(
        self,
        task: Task,
        examples: Example,
        keys: PRNGKeyArray,
        params: Params,
        policy: Policy | None = None,
    ) -> TrainingBatch:
        """`demonstrations`, whatever the key."""
        return demonstrations(examples)


@dataclasses.dataclass(frozen=True)
class Judged(Source):
    """A source that draws `per_prompt` responses of each prompt from a model and judges them; `base` is the
    model with fixed parameters, if there is one."""

    base: Model | None = None
    per_prompt: int = 1

    @property
    def model(self) -> Model | None:
        """`base`."""
        return self.base

    @property
    def samples(self) -> int:
        """`per_prompt`."""
        return self.per_prompt

    @property
    def judges(self) -> bool:
        """Every response has its reward."""
        return True


@dataclasses.dataclass(frozen=True)
class Rollouts(Judged):
    """Responses drawn from a base model with fixed parameters, y ~ pi_ref(.|x), each with its reward
    tau(x, y): what a value function is regressed on (VGB, arXiv 2510.03149, section 5).

    Attributes:
        base: the base model; its parameters are the program's operand. None takes the task's own exact base
            model (`Task.reference_log_probs`), if it has one.
        per_prompt: rollouts of each prompt of a batch; they share the prompt's part of every computation.
        repeat: an example of a fixed set of prompts (`dataset_size`) has the same rollouts whenever it comes:
            dataset_size x per_prompt labels in all. False draws new ones at every step.
    """

    repeat: bool = False

    def __post_init__(self) -> None:
        whole("source.per_prompt", self.per_prompt, 1)
        flag("source.repeat", self.repeat)

    def __call__(
        self,
        task: Task,
        examples: Example,
        keys: PRNGKeyArray,
        params: Params,
        policy: Policy | None = None,
    ) -> TrainingBatch:
        """`per_prompt` rollouts of each prompt."""
        if self.repeat:
            keys = jax.vmap(_key_of)(examples)
        drawn = base_responses(task, examples, keys, self.base, params, self.per_prompt)
        return _judged(task, examples, *drawn)


class Bonus(abc.ABC):
    """What a response earns beside its reward, for exploration. Implementations are frozen dataclasses."""

    @abc.abstractmethod
    def __call__(self, policy: Policy, batch: TrainingBatch) -> Float[Array, "batch samples"]:
        """The bonus of each response, beside `batch.rewards`; called inside the compiled program, before the
        first update on the batch. No gradient flows through it."""


@dataclasses.dataclass(frozen=True)
class OnPolicy(Judged):
    """Responses that the model in training draws itself, y ~ pi(.|x), each with its reward tau(x, y):
    reinforcement learning with verifiable rewards.

    Every token of the vocabulary may be drawn, so that the law of a response is the one that is scored and
    evaluated; tokens after the response's end are padding.

    Attributes:
        base: the reference model of an objective that keeps near one, with fixed parameters, the program's
            operand. None takes the parameters that the phase began with.
        per_prompt: responses of each prompt; they share the prompt's part of every computation, and an
            objective compares them with each other.
        updates_per_batch: updates of the parameters on each batch of responses, every one on all of it.
        bonus: added to the rewards that the objective sees; None adds nothing.
    """

    per_prompt: int = 8
    updates_per_batch: int = 1
    bonus: Bonus | None = None

    def __post_init__(self) -> None:
        whole("source.per_prompt", self.per_prompt, 2)
        whole("source.updates_per_batch", self.updates_per_batch, 1)

    @property
    def on_policy(self) -> bool:
        """That is what it is for."""
        return True

    @property
    def updates(self) -> int:
        """`updates_per_batch`."""
        return self.updates_per_batch

    def __call__(
        self,
        task: Task,
        examples: Example,
        keys: PRNGKeyArray,
        params: Params,
        policy: Policy | None = None,
    ) -> TrainingBatch:
        """`per_prompt` responses of each prompt.

        Raises:
            ValueError: without a policy.
        """
        if policy is None:
            raise ValueError("policy: none; responses on policy need the model in training")
        model, own = policy.model, jax.lax.stop_gradient(policy.params)
        drawn = base_responses(task, examples, keys, model, own, self.per_prompt, restricted=False)
        batch = _judged(task, examples, *drawn)
        if self.bonus is None:
            return batch
        return batch._replace(bonus=jax.lax.stop_gradient(self.bonus(Policy(model, own), batch)))


def _judged(
    task: Task,
    examples: Example,
    responses: Int[Array, "batch samples response"],
    mask: Bool[Array, "batch samples response"],
) -> TrainingBatch:
    """Responses with their rewards."""
    rewards = jax.vmap(jax.vmap(task.reward, (None, 0)))(examples.latent, responses)
    return TrainingBatch(examples.prompt, examples.prompt_mask, responses, mask, examples.group, rewards)


def _key_of(example: Example) -> PRNGKeyArray:
    """A key that is a function of the example's tokens, pi_D's response among them: in a data set it stands
    for the example's number."""
    tokens = jnp.concatenate([example.prompt, example.response])
    return jax.lax.scan(
        lambda key, token: (jax.random.fold_in(key, token), None), stream(0, "repeated rollouts"), tokens
    )[0]
