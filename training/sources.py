"""Sources of the responses in a training batch: pi_D, a base model, or the model in training."""

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
    """Model in training with its present parameters."""

    model: Model
    params: Params


class TrainingBatch(NamedTuple):
    """Prompts and several responses of each, as an objective sees them.

    Attributes:
        prompt, prompt_mask, responses, response_mask: tokens, and True at real tokens.
        group: class of each prompt.
        rewards: tau(x, y) of every response, None if the source does not judge.
        bonus: added to `rewards` for the objective alone.
        old: scores of the responses under parameters other than the present ones.
        teacher: ln pi_D(a|x, y_<t) in nats of every token a, if the objective needs it.
        log_pi: ln pi_D(y|x) in nats, if the source is one of `demonstrations`.
        kept: False for responses that the objective leaves out, if it selects.
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
    log_pi: Float[Array, "batch samples"] | None = None
    kept: Bool[Array, "batch samples"] | None = None


class Source(abc.ABC):
    """Rule that answers a batch of the task's prompts with the responses to train on.

    It is called inside the compiled program of a phase. Prompts and pi_D's responses are drawn before, fresh
    or from a fixed set. Parameters are an argument and never a field, because one compiled program serves all
    seeds, and every seed has parameters of its own.
    """

    @property
    def model(self) -> Model | None:
        """Model whose fixed parameters the source is called with; None if it needs no model."""
        return None

    @property
    def samples(self) -> int:
        """Number of responses of each prompt."""
        return 1

    @property
    def judges(self) -> bool:
        """True if batches carry rewards."""
        return False

    @property
    def demonstrates(self) -> bool:
        """True if the responses are drawn from pi_D and batches hold `log_pi`: then the training records hold
        KL and coverage of the batches."""
        return False

    @property
    def on_policy(self) -> bool:
        """True if the parameters in training draw the responses."""
        return False

    @property
    def updates(self) -> int:
        """Number of updates of the parameters on each batch."""
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
        """Batch with the responses.

        Args:
            task: task of the prompts.
            examples: a batch of prompts with pi_D's responses.
            keys: one random key per example, so that a share of a batch does not depend on which device makes
                it.
            params: parameters of `model`; () without a model.
            policy: the model in training, for a source that is `on_policy`.
        """


def base_of(sources: Sequence[Source]) -> Model | None:
    """Base model of a run whose phases have these sources."""
    return next((source.model for source in sources if source.model is not None), None)


def of_base(base: Model, seeds: Sequence[int], given: Params | None) -> Params:
    """Parameters of the base model on the host of every process, `given` by the first process alone."""
    like = jax.eval_shape(
        jax.vmap(lambda seed: base.init(stream(seed, "init"))), np.asarray(seeds, np.uint32)
    )
    return jax.tree.map(np.asarray, from_leader(given, like))


def demonstrations(examples: Example) -> TrainingBatch:
    """Batch of pi_D's responses, one of each prompt."""
    return TrainingBatch(
        examples.prompt,
        examples.prompt_mask,
        examples.response[:, None],
        examples.response_mask[:, None],
        examples.group,
        None,
        log_pi=examples.log_prob[:, None],
    )


@dataclasses.dataclass(frozen=True)
class Demonstrations(Source):
    """Responses that pi_D gives: supervised learning.

    Attributes:
        base: the model with fixed parameters that training starts from, for objectives that compare with a
            reference. None takes the parameters at the start of the phase.
    """

    base: Model | None = None

    @property
    def model(self) -> Model | None:
        """`base`."""
        return self.base

    @property
    def demonstrates(self) -> bool:
        """True."""
        return True

    def __call__(
        self,
        task: Task,
        examples: Example,
        keys: PRNGKeyArray,
        params: Params,
        policy: Policy | None = None,
    ) -> TrainingBatch:
        """`demonstrations` of the examples; keys are not used."""
        return demonstrations(examples)


@dataclasses.dataclass(frozen=True)
class Judged(Source):
    """A source that draws responses from a model and judges them.

    Attributes:
        base: the model with fixed parameters, if there is one.
        per_prompt: number of responses of each prompt.
    """

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
        """True: every response has a reward."""
        return True


@dataclasses.dataclass(frozen=True)
class Rollouts(Judged):
    """Responses drawn from a base model with fixed parameters, y ~ pi_ref(.|x), with their rewards tau(x, y).

    A value function is regressed on them (VGB, arXiv 2510.03149, section 5).

    Attributes:
        base: the base model, whose parameters are an operand of the program. None takes the task's exact base
            model (`Task.reference_log_probs`), if it has one.
        per_prompt: number of rollouts of each prompt in a batch; they share the prompt's part of every
            computation.
        repeat: True if an example of a fixed set of prompts (`dataset_size`) has the same rollouts whenever
            it is drawn, which gives dataset_size x per_prompt labels in total. False draws new rollouts at
            every step.
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
        """Batch with `per_prompt` rollouts of each prompt."""
        if self.repeat:
            keys = jax.vmap(_key_of)(examples)
        drawn = base_responses(task, examples, keys, self.base, params, self.per_prompt)
        return _judged(task, examples, *drawn)


class Bonus(abc.ABC):
    """Addition to the rewards, for exploration. Implementations are frozen dataclasses."""

    @abc.abstractmethod
    def __call__(self, policy: Policy, batch: TrainingBatch) -> Float[Array, "batch samples"]:
        """Bonus of each response, to be added to `batch.rewards`.

        It is called inside the compiled program, before the first update on the batch. No gradient flows
        through it.
        """


@dataclasses.dataclass(frozen=True)
class OnPolicy(Judged):
    """Responses drawn from the model in training, y ~ pi(.|x), with their rewards tau(x, y).

    This is reinforcement learning with verifiable rewards. Every token of the vocabulary may be drawn, so
    that responses are sampled from the law that is scored and evaluated. Tokens after the end of a response
    are padding.

    Attributes:
        base: the reference model, for an objective that keeps near one. The reference's fixed parameters are
            an operand of the program. None takes the parameters at the start of the phase.
        per_prompt: number of responses of each prompt. They share the prompt's part of every computation, and
            an objective compares them with each other.
        updates_per_batch: number of updates of the parameters on each batch, each on the whole batch.
        bonus: bonus that is added to the rewards for the objective; None adds nothing.
    """

    per_prompt: int = 8
    updates_per_batch: int = 1
    bonus: Bonus | None = None

    def __post_init__(self) -> None:
        whole("source.per_prompt", self.per_prompt, 2)
        whole("source.updates_per_batch", self.updates_per_batch, 1)

    @property
    def on_policy(self) -> bool:
        """True: the model in training draws the responses."""
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
        """Batch with `per_prompt` responses of each prompt.

        Raises:
            ValueError: `policy` is None.
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
    """Batch of responses with their rewards."""
    rewards = jax.vmap(jax.vmap(task.reward, (None, 0)))(examples.latent, responses)
    return TrainingBatch(examples.prompt, examples.prompt_mask, responses, mask, examples.group, rewards)


def _key_of(example: Example) -> PRNGKeyArray:
    """Random key that is a function of the example's tokens, with pi_D's response among them. In a data set
    it serves in place of the example's number."""
    tokens = jnp.concatenate([example.prompt, example.response])
    return jax.lax.scan(
        lambda key, token: (jax.random.fold_in(key, token), None), stream(0, "repeated rollouts"), tokens
    )[0]
