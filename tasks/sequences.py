"""Tasks on strings of symbols with one right answer, and classes by length for length generalisation."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tasks.base import PAD, Enumeration, Example, Task
from tasks.checks import whole


class SequenceLatent(NamedTuple):
    """The right answer to a prompt, padded on the right."""

    answer: Int[Array, " response"]


@dataclasses.dataclass(frozen=True)
class SequenceTask(Task):
    """Prompts `s1 ... sn =` of uniform symbols, with a deterministic answer that a subclass computes.

    Attributes:
        min_length, length: the length n of a prompt is uniform on min_length..length, in training and in the
            mixture.
        longer: upper ends of further ranges of lengths, which are evaluated and never trained on: with
            length 40 and longer (64, 256), lengths 41..64 and 65..256. n is uniform on each range.

    The classes are the ranges: `length_3_40` with probability 1, then `length_41_64`, `length_65_256` with
    probability 0. Training draws from the first class alone. Held-out sets have examples of every class, so
    that all metrics are measured on each range. The mixture's metrics are those of the first class.

    Token 0 is padding, 1..A the symbols, A + 1 is `=`. Prompts and responses are padded to the longest range.

    A subclass checks its own fields in `_check`.

    Raises:
        ValueError: in one line, for a field out of range.
    """

    min_length: int = 3
    length: int = 20
    longer: Sequence[int] = (40,)

    def __post_init__(self) -> None:
        whole("task.min_length", self.min_length, 1)
        whole("task.length", self.length, self.min_length)
        listed = isinstance(self.longer, Sequence) and not isinstance(self.longer, str)
        ends: list[Any] = [self.length, *self.longer] if listed else []
        numbers = all(isinstance(end, Integral) and not isinstance(end, bool) for end in ends)
        if not listed or not numbers or sorted(set(ends)) != ends:
            shown = list(self.longer) if listed else self.longer
            raise ValueError(
                f"task.longer: {shown!r} is not a list of increasing integers > task.length = {self.length}"
            )
        object.__setattr__(self, "longer", tuple(int(end) for end in self.longer))
        self._check()

    def _check(self) -> None:
        """Check the fields of a subclass."""

    @property
    @abc.abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """Text of the symbols; symbol a is token 1 + a."""

    @abc.abstractmethod
    def _answer(self, symbols: Int[Array, " longest"], length: Int[Array, ""]) -> Int[Array, " response"]:
        """Tokens of the answer to the first `length` of `symbols` (from 0), padded on the right."""

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """(least, largest) length of each class."""
        ends = (self.length, *self.longer)
        return tuple(zip((self.min_length, *(end + 1 for end in ends)), ends, strict=False))

    @property
    def longest(self) -> int:
        """Largest number of symbols of a prompt."""
        return self.ranges[-1][1]

    @property
    def groups(self) -> tuple[str, ...]:
        """One class for each range of lengths."""
        return tuple(f"length_{low}_{high}" for low, high in self.ranges)

    @property
    def group_probs(self) -> tuple[float, ...]:
        """All mass on the range that is trained on."""
        return (1.0, *(0.0 for _ in self.longer))

    @property
    def vocab_size(self) -> int:
        """Padding, the symbols and `=`."""
        return len(self.symbols) + 2

    @property
    def prompt_length(self) -> int:
        """The longest string and `=`."""
        return self.longest + 1

    @property
    def response_tokens(self) -> tuple[int, ...]:
        """The symbols."""
        return tuple(range(1, len(self.symbols) + 1))

    @property
    def num_enumerated(self) -> int:
        """The answer alone."""
        return 1

    def max_tokens(self, latent: SequenceLatent) -> Int[Array, ""]:
        """Number of tokens of the answer."""
        return jnp.sum(latent.answer != PAD)

    def _draw_symbols(self, key: PRNGKeyArray) -> Int[Array, " longest"]:
        """Independent uniform symbols, from 0."""
        return jax.random.randint(key, (self.longest,), 0, len(self.symbols))

    def _draw_response(self, key: PRNGKeyArray, latent: SequenceLatent) -> Int[Array, " response"]:
        """A draw from pi_D(.|x)."""
        return latent.answer

    def sample_group(self, key: PRNGKeyArray, group: Int[Array, ""]) -> Example:
        """Draw a length of the class, then the symbols."""
        length_key, symbol_key, response_key = jax.random.split(key, 3)
        low, high = jnp.asarray(np.array(self.ranges).T, jnp.int32)
        length = jax.random.randint(length_key, (), low[group], high[group] + 1)
        symbols = self._draw_symbols(symbol_key)
        latent = SequenceLatent(self._answer(symbols, length).astype(jnp.int32))
        place = jnp.arange(self.longest) - (self.longest - length)
        left = jnp.where(place >= 0, 1 + symbols[place], PAD)
        prompt = jnp.append(left, len(self.symbols) + 1).astype(jnp.int32)
        response = self._draw_response(response_key, latent)
        return Example(
            prompt=prompt,
            prompt_mask=prompt != PAD,
            response=response,
            response_mask=response != PAD,
            log_prob=self.log_prob(latent, response),
            group=jnp.asarray(group, jnp.int32),
            latent=latent,
        )

    def _right(self, latent: SequenceLatent, response: Int[Array, " response"]) -> Bool[Array, ""]:
        return jnp.all(latent.answer == response)

    def log_prob(self, latent: SequenceLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """0 for the answer, else -inf, in nats."""
        return jnp.where(self._right(latent, response), 0.0, -jnp.inf)

    def reward(self, latent: SequenceLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 for a response of positive probability, else 0."""
        return (self.log_prob(latent, response) > -jnp.inf).astype(jnp.float32)

    def validity(self, latent: SequenceLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """The reward."""
        return self.reward(latent, response)

    def enumerate(self, latent: SequenceLatent) -> Enumeration:
        """The answer.

        Raises:
            ValueError: if this task does not enumerate its responses (`num_enumerated` is 0).
        """
        if not self.num_enumerated:
            return super().enumerate(latent)
        return Enumeration(latent.answer[None], jnp.ones((1,), bool))

    def _tokens(self) -> Mapping[str, int]:
        words = {symbol: 1 + i for i, symbol in enumerate(self.symbols)}
        return words | {"=": len(self.symbols) + 1}

    def encode(self, text: str) -> list[int]:
        """Tokens of `s1 ... sn =` or of a response.

        Raises:
            ValueError: for a word that is neither a symbol nor `=`.
        """
        tokens = self._tokens()
        for word in text.split():
            if word not in tokens:
                shown = ", ".join(self.symbols[:6]) + (", ..." if len(self.symbols) > 6 else "")
                raise ValueError(f"text: {word!r} is neither a symbol ({shown}) nor =")
        return [tokens[word] for word in text.split()]

    def decode(self, tokens: Any) -> str:
        """Text of a prompt or response; padding is skipped."""
        words = ("", *self.symbols, "=")
        return " ".join(words[int(token)] for token in np.asarray(tokens) if int(token) != PAD)
