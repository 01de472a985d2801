"""Tasks whose pi_D is a base model tilted by a reward: pi*(y|x) = pi_ref(y|x) tau(x, y) / V(x)."""

from __future__ import annotations

import abc
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tasks.base import PAD, Enumeration, Example, Task
from tasks.drawing import categorical

ENUMERATION_LIMIT = 64
"""Largest number of enumerated leaves, as models score every enumerated response of every prompt."""


class TiltedLatent(NamedTuple):
    """Index of the prompt."""

    prompt: Int[Array, ""]


class TiltedTask(Task):
    """Tree of responses with an exact base model pi_ref and a verifier tau in [0, 1] at the leaves.

        pi_D(y|x) = pi*(y|x) = pi_ref(y|x) tau(x, y) / V(x),    V(x) = E_{y ~ pi_ref(.|x)}[tau(x, y)]

    A subclass defines `symbols`, `response_length`, `reference_log_probs`, `value` and `reward`, which is
    tau; `value` at full length must equal `reward`. Sampling draws token a with probability
    pi_ref(a|x, y_1:h) V(x, y_1:h a)/V(x, y_1:h), which telescopes to pi* exactly. Tokens: 0 padding, 1..A the
    symbols, then one token per prompt.

    Source: Taming Imperfect Process Verifiers, arXiv 2510.03149, section 2.
    """

    @property
    @abc.abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """Texts of the response tokens 1..A, in order."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """Texts of the prompts, equally probable unless `draw_prompt` is overridden."""
        return ("=",)

    @property
    def vocab_size(self) -> int:
        """Padding (0), the symbols, the prompts."""
        return 1 + len(self.symbols) + len(self.prompts)

    @property
    def prompt_length(self) -> int:
        """One token."""
        return 1

    @property
    def response_tokens(self) -> tuple[int, ...]:
        """The symbols."""
        return tuple(range(1, 1 + len(self.symbols)))

    @property
    def groups(self) -> tuple[str, ...]:
        """A single class."""
        return ("all",)

    @property
    def group_probs(self) -> tuple[float, ...]:
        """Probability 1."""
        return (1.0,)

    @property
    def num_enumerated(self) -> int:
        """Number of leaves if at most `ENUMERATION_LIMIT`, else 0."""
        leaves = len(self.symbols) ** self.response_length
        return leaves if leaves <= ENUMERATION_LIMIT else 0

    def legal(
        self, prefix: Int[Array, " response"], length: Int[Array, ""] | int | None = None
    ) -> Bool[Array, ""]:
        """True if the first `length` tokens (all tokens if None) are symbols."""
        inside = (prefix > PAD) & (prefix <= len(self.symbols))
        if length is None:
            return jnp.all(inside)
        return jnp.all(inside | (jnp.arange(self.response_length) >= length))

    def draw_prompt(self, key: PRNGKeyArray, group: Int[Array, ""]) -> Int[Array, ""]:
        """Draw the index of the prompt for an example of a class."""
        return jax.random.randint(key, (), 0, len(self.prompts))

    def sample_group(self, key: PRNGKeyArray, group: Int[Array, ""]) -> Example:
        """Draw a prompt, then a response from pi*, token by token, guided by the exact values."""
        prompt_key, response_key = jax.random.split(key)
        latent = TiltedLatent(self.draw_prompt(prompt_key, group))
        tokens = jnp.asarray(self.response_tokens)

        def step(response: Array, h: Array) -> tuple[Array, None]:
            children = jnp.where(jnp.arange(self.response_length) == h, tokens[:, None], response)
            values = jax.vmap(self.value, (None, 0, None))(latent, children, h + 1)
            weights = self.reference_log_probs(latent, response, h)[tokens] + jnp.log(values)
            drawn = tokens[categorical(jax.random.fold_in(response_key, h), weights)]
            return response.at[h].set(drawn), None

        start = jnp.full((self.response_length,), PAD)
        response, _ = jax.lax.scan(step, start, jnp.arange(self.response_length))
        return Example(
            prompt=(1 + len(self.symbols) + latent.prompt)[None],
            prompt_mask=jnp.ones((1,), bool),
            response=response,
            response_mask=jnp.ones((self.response_length,), bool),
            log_prob=self.log_prob(latent, response),
            group=group.astype(jnp.int32),
            latent=latent,
        )

    def reference_log_prob(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """ln pi_ref(y|x) in nats; -inf for a response with a token that is not a symbol."""
        lengths = jnp.arange(self.response_length)
        tables = jax.vmap(self.reference_log_probs, (None, None, 0))(latent, response, lengths)
        return jnp.sum(jnp.take_along_axis(tables, response[:, None], axis=1))

    def log_prob(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """ln pi*(y|x) = ln pi_ref(y|x) + ln tau(x, y) - ln V(x), in nats; -inf off the support."""
        root = self.value(latent, jnp.zeros_like(response), jnp.asarray(0))
        return (
            self.reference_log_prob(latent, response) + jnp.log(self.reward(latent, response)) - jnp.log(root)
        )

    def validity(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 if tau(x, y) > 0, else 0."""
        return (self.legal(response) & (self.reward(latent, response) > 0)).astype(jnp.float32)

    def enumerate(self, latent: Any) -> Enumeration:
        """All leaves in lexicographic order; the mask excludes leaves with tau = 0.

        Raises:
            ValueError: the tree has more than `ENUMERATION_LIMIT` leaves.
        """
        if not self.num_enumerated:
            return super().enumerate(latent)
        responses = jnp.asarray(_leaves(self.response_tokens, self.response_length))
        return Enumeration(responses, jax.vmap(self.validity, (None, 0))(latent, responses) > 0)

    def encode(self, text: str) -> list[int]:
        """Tokens of words that are symbols or prompts, such as `0 1 1`.

        Raises:
            ValueError: for any other word.
        """
        words = (*self.symbols, *self.prompts)
        tokens = {word: token for token, word in enumerate(words, start=1)}
        for word in text.split():
            if word not in tokens:
                raise ValueError(f"text: {word!r} is none of {' '.join(words)}")
        return [tokens[word] for word in text.split()]

    def decode(self, tokens: Any) -> str:
        """Words of a prompt or response; padding is skipped."""
        words = ("", *self.symbols, *self.prompts)
        return " ".join(words[int(token)] for token in np.asarray(tokens) if int(token) != PAD)


@functools.cache
def _leaves(tokens: tuple[int, ...], length: int) -> Int[np.ndarray, "leaves response"]:
    """All sequences in lexicographic order."""
    grid = np.meshgrid(*[np.asarray(tokens, np.int32)] * length, indexing="ij")
    return np.stack(grid, axis=-1).reshape(-1, length)


def uniform_log_probs(vocab_size: int, tokens: tuple[int, ...]) -> Float[Array, " vocab"]:
    """ln of the uniform distribution on `tokens`, -inf elsewhere."""
    table = np.full(vocab_size, -np.inf, np.float32)
    table[list(tokens)] = -np.log(len(tokens))
    return jnp.asarray(table)
