"""The `Task` seam: a data distribution with exactly known probabilities."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tasks.drawing import categorical, log_of
from tasks.linear import FeatureMap

PAD = 0
"""Token 0 is padding in every task; a padded position is masked out of every probability."""


class Example(NamedTuple):
    """One prompt with a response drawn from pi_D(.|prompt), as a pytree (batched by `vmap`).

    Prompts are padded on the left, so that the response starts at one static position; responses are
    padded on the right. `log_prob` is ln pi_D(response | prompt) in nats and `group` the index of the class
    in `Task.groups`. `latent` lets the task's methods work on the prompt inside `jit` without parsing tokens.
    """

    prompt: Int[Array, " prompt"]
    prompt_mask: Bool[Array, " prompt"]
    response: Int[Array, " response"]
    response_mask: Bool[Array, " response"]
    log_prob: Float[Array, ""]
    group: Int[Array, ""]
    latent: Any


class Enumeration(NamedTuple):
    """All valid responses of one prompt, padded to a static number; `mask` is False on the padding."""

    responses: Int[Array, "candidates response"]
    mask: Bool[Array, " candidates"]


class Task(abc.ABC):
    """A mixture of classes ("groups") of prompts with an exactly known conditional pi_D(y|x).

    Implementations are frozen dataclasses, hashable, so that a task can be a static argument of `jit`.
    Every method is pure JAX on ONE example and composes with `vmap`, `jit` and `scan`, except `encode` and
    `decode`, which translate between text and tokens on the host, and `facts`.
    """

    @property
    @abc.abstractmethod
    def vocab_size(self) -> int:
        """Number of tokens, padding included."""

    @property
    @abc.abstractmethod
    def prompt_length(self) -> int:
        """Static length P of a padded prompt."""

    @property
    @abc.abstractmethod
    def response_length(self) -> int:
        """Static length R of a padded response."""

    @property
    @abc.abstractmethod
    def groups(self) -> tuple[str, ...]:
        """Names of the mixture's classes."""

    @property
    @abc.abstractmethod
    def group_probs(self) -> tuple[float, ...]:
        """Probabilities of the classes; sum to 1. A class of probability 0 is evaluated, never trained on."""

    @property
    def least_prompts(self) -> int:
        """Lower bound on the number of about equally likely prompts; 1 where none is known.

        Where the bound is large, separate draws rarely coincide.
        """
        return 1

    @property
    def num_enumerated(self) -> int:
        """Static number of candidates of `enumerate`; 0 if the valid responses are not enumerated."""
        return 0

    @property
    def knows_next_tokens(self) -> bool:
        """True if the task has `next_log_probs`."""
        return False

    @property
    def end_token(self) -> int | None:
        """Token that ends a response early; None if all responses of a prompt have `max_tokens` tokens."""
        return None

    @property
    def response_tokens(self) -> tuple[int, ...]:
        """Tokens that a response can consist of, without padding."""
        return tuple(range(PAD + 1, self.vocab_size))

    @property
    def features(self) -> FeatureMap | None:
        """Feature map phi if pi_D is an autoregressive linear model, else None.

        Token a of `features` is response token 1 + a. Prompts of `features` are numbers: prompt x is the
        single token 1 + V + x.
        """
        return None

    def max_tokens(self, latent: Any) -> Int[Array, ""]:
        """Largest number of tokens in a response to this prompt, at most `response_length`."""
        return jnp.asarray(self.response_length)

    def trimmed(self, latent: Any, response: Int[Array, " response"]) -> Int[Array, " response"]:
        """The response up to `end_token` or `max_tokens` tokens, followed by padding."""
        place = jnp.arange(response.size)
        kept = place < self.max_tokens(latent)
        if self.end_token is not None:
            ends = (response == self.end_token).astype(jnp.int32)
            kept &= jnp.cumsum(ends) - ends == 0
        return jnp.where(kept, response, PAD)

    def next_log_probs(
        self, latent: Any, response: Int[Array, " response"]
    ) -> Float[Array, "response vocab"]:
        """ln pi_D(a | x, y_<h) of every token a at every position h of the response, in nats.

        At a prefix of probability 0 under pi_D, and after the end of the response, all values are -inf.

        Raises:
            ValueError: if this task has no next-token laws of its own (`knows_next_tokens` is False).
        """
        raise ValueError(f"task: {type(self).__name__} knows no next-token laws of pi_D")

    def reference_log_probs(
        self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]
    ) -> Float[Array, " vocab"]:
        """ln pi_ref(a | x, y_1:h) of every token a, in nats, for the task's exact base model pi_ref.

        y_1:h are the first h = `length` tokens of `prefix`.

        Raises:
            ValueError: if this task has no exact base model.
        """
        raise ValueError(f"task: {type(self).__name__} knows no base model exactly")

    def value(self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]) -> Float[Array, ""]:
        """Exact V(x, y_1:h) = E_{y ~ pi_ref(.|x, y_1:h)}[tau(x, y)]; tau is `reward`, h is `length`.

        Raises:
            ValueError: if this task has no exact base model.
        """
        raise ValueError(f"task: {type(self).__name__} knows no value function exactly")

    @abc.abstractmethod
    def sample_group(self, key: PRNGKeyArray, group: Int[Array, ""]) -> Example:
        """Draw one example of the class `group`."""

    @abc.abstractmethod
    def log_prob(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """Exact ln pi_D(response | prompt) in nats, classes marginalised; -inf off the support."""

    @abc.abstractmethod
    def reward(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 if the class of the example can emit the response, else 0."""

    @abc.abstractmethod
    def validity(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 if the response obeys the task's local rules (at any probability), else 0."""

    def enumerate(self, latent: Any) -> Enumeration:
        """All valid responses of the prompt, `num_enumerated` rows.

        Raises:
            ValueError: if this task does not enumerate its responses (`num_enumerated` is 0).
        """
        raise ValueError(f"task: {type(self).__name__} does not enumerate its valid responses")

    def facts(self) -> list[tuple[str, Any]]:
        """(name, value) pairs of further exact properties of pi_D, for display; computed on the host."""
        return []

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """Tokens of a prompt or response given as text, unpadded."""

    @abc.abstractmethod
    def decode(self, tokens: Any) -> str:
        """Text of a token sequence, padding skipped."""

    def sample(self, key: PRNGKeyArray, probs: Sequence[float] | None = None) -> Example:
        """Draw a class from `probs` (`group_probs` if None), then an example of that class.

        A method that replaces this one must give the same prompts of the same keys.
        """
        group_key, example_key = jax.random.split(key)
        group = categorical(group_key, log_of(self.group_probs if probs is None else probs))
        return self.sample_group(example_key, group)
