"""Strings of brackets with an exactly known law: tokens, sizes, probabilities."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tasks import bracket_law
from tasks.base import PAD, Task
from tasks.bracket_law import CLOSE, END, OPEN, Law
from tasks.bracket_state import BracketLatent, Parsed, parse
from tasks.bracket_text import BracketText
from tasks.checks import distribution, flag, real, whole

KINDS = ("drawn", "cap", "given")
"""Kinds of prompts: the classes of the mixture."""


@dataclasses.dataclass(frozen=True)
class BracketStrings(Task):
    """Balanced strings of brackets of k types; the prompt is a prefix of the string, the response the rest.

    Attributes:
        num_types: k, number of bracket types.
        max_depth: m, largest depth under pi_D.
        mixture: probability of every kind of prompt. "drawn": the first p brackets of a string of pi_D with
            at least p brackets, p uniform on `prefix_lengths`; "cap": `max_depth` open brackets, with types
            drawn as in pi_D; "given": `prefix`. A kind named with probability 0 is never drawn but counts for
            the lengths of prompt and response, so that one model fits all tasks that differ in these
            probabilities alone.
        prefix_lengths: fewest and most brackets of a drawn prefix.
        prefix: the given prefix, for example `( [ (`.
        reward_depth: True if the reward also requires depths of at most `max_depth`.
        noise: probability with which the exact base model draws a token uniformly over the response tokens
            instead of from pi_D. At 0.1 a third of the strings of 32 brackets are balanced: the base model
            fails often, yet rejection sampling still succeeds.
        max_enumerated: largest number of strings for which valid responses are enumerated.

    A prompt is a start token and the prefix. The types of open brackets are independent of each other and of
    all depths. pi_D(y|x) = pi_D(xy) / sum over y' of pi_D(xy') for every kind of prompt x.

    `reward` is 1 if the string is balanced, of an accepted length and, if `reward_depth`, within `max_depth`.
    `validity` is 1 if the string is balanced and of an accepted length, so that the valid responses can be
    enumerated. Both require padding after the end of the string.
    """

    num_types: int = 2
    max_depth: int = 3
    mixture: Any = (("drawn", 1.0),)
    prefix_lengths: Sequence[int] = (0, 0)
    prefix: str = ""
    reward_depth: bool = False
    noise: float = 0.1
    max_enumerated: int = 64

    def __post_init__(self) -> None:
        for field, low in {"num_types": 1, "max_depth": 1, "max_enumerated": 0}.items():
            whole(f"task.{field}", getattr(self, field), low)
        flag("task.reward_depth", self.reward_depth)
        real("task.noise", self.noise, least=0, below=1)
        object.__setattr__(self, "mixture", distribution("task.mixture", self.mixture, tuple(KINDS)))
        self._check_sizes()
        self._check_prefixes()

    def _check_sizes(self) -> None:
        """Refuse sizes that admit no string; must run before the first use of the law."""

    def _check_prefixes(self) -> None:
        bounds = self.prefix_lengths
        if not isinstance(bounds, Sequence) or len(bounds) != 2:
            raise ValueError(f"task.prefix_lengths: {bounds!r} is not [fewest, most]")
        first, last = (whole("task.prefix_lengths", bound, 0) for bound in bounds)
        object.__setattr__(self, "prefix_lengths", (first, last))
        most = self._num_tokens - 1
        if not first <= last <= most:
            raise ValueError(
                f"task.prefix_lengths: {list(self.prefix_lengths)}; valid: 0 <= fewest <= most <= {most}"
            )
        named = [name for name, _ in self.mixture]
        if "cap" in named and not self._law.supported[min(self.max_depth, self._law.total), self._cap_level]:
            raise ValueError(
                f"task.mixture.cap: {self.max_depth} open brackets (task.max_depth) cannot be closed within "
                f"{self._law.total} brackets"
            )
        if self.prefix and "given" not in named:
            raise ValueError("task.prefix: is used by class given alone, which task.mixture does not name")
        self.text.check_prefix(self.prefix, self.max_depth, self._law)

    @property
    def _cap_level(self) -> int:
        return min(self.max_depth, bracket_law.num_levels(self._law.total) - 1)

    @property
    @abc.abstractmethod
    def _law(self) -> Law:
        """The law of the string's depths."""

    def _prefix_steps(self, length: int) -> np.ndarray:
        """`Law.steps` given at least `length` brackets, from which a prefix of `length` brackets is drawn."""
        return self._law.steps

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """`_prefix_steps` for every length in `prefix_lengths`."""
        first, last = self.prefix_lengths
        return np.stack([self._prefix_steps(length) for length in range(first, last + 1)])

    @property
    def _type_probs(self) -> tuple[float, ...]:
        """Probabilities of the types of an open bracket."""
        return (1 / self.num_types,) * self.num_types

    @property
    def _num_tokens(self) -> int:
        """Tokens of the longest string, END counted."""
        return self._law.total + self._law.has_end

    @functools.cached_property
    def text(self) -> BracketText:
        """The vocabulary: padding (0), k open brackets, k close ones, END where strings have one, START."""
        return BracketText(self.num_types, self._law.has_end)

    @property
    def vocab_size(self) -> int:
        """2k + 3 with an END token, else 2k + 2."""
        return self.text.vocab_size

    @property
    def end_token(self) -> int | None:
        """END, or None if all strings have the same length."""
        return self.text.end

    @property
    def response_tokens(self) -> tuple[int, ...]:
        """The brackets, and END if there is one."""
        return tuple(range(1, self.text.start))

    @functools.cached_property
    def _given(self) -> np.ndarray:
        return np.array(self.text.encode(self.prefix), np.int32)

    @functools.cached_property
    def _prefix_range(self) -> tuple[int, int]:
        """Fewest and most brackets of a prefix of any kind that the mixture names."""
        sizes = {"drawn": self.prefix_lengths, "cap": (self.max_depth,), "given": (len(self._given),)}
        named = [size for name, _ in self.mixture for size in sizes[name]]
        return min(named), max(named)

    @property
    def prompt_length(self) -> int:
        """START and the longest prefix."""
        return 1 + self._prefix_range[1]

    @property
    def response_length(self) -> int:
        """Tokens of the longest string after the shortest prefix, END counted."""
        return self._num_tokens - self._prefix_range[0]

    @property
    def groups(self) -> tuple[str, ...]:
        """Kinds of prompts with positive probability."""
        return tuple(name for name, p in self.mixture if p > 0)

    @property
    def group_probs(self) -> tuple[float, ...]:
        """Positive probabilities of the kinds of prompts."""
        return tuple(p for _, p in self.mixture if p > 0)

    def max_tokens(self, latent: BracketLatent) -> Int[Array, ""]:
        """Tokens of the longest string after the prefix, END counted."""
        return self._num_tokens - latent.length

    @property
    def _max_stack(self) -> int:
        return max(1, min(self.max_depth, self._prefix_range[1]))

    @functools.cached_property
    def _log_steps(self) -> np.ndarray:
        """ln P(token class | state) with the type of an open bracket left out."""
        with np.errstate(divide="ignore"):
            return np.log(self._law.steps).astype(np.float32)

    def _level(self, depth: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
        """Column of the law's tables."""
        return jnp.clip(depth, 0, self._law.steps.shape[1] - 1)

    def _time(self, brackets: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
        """Row of the law's tables."""
        return jnp.minimum(brackets, self._law.total)

    def _parse(self, latent: BracketLatent, response: Int[Array, " response"]) -> Parsed:
        return parse(self.text, latent, response)

    def _judge(
        self, latent: BracketLatent, response: Int[Array, " response"]
    ) -> tuple[Parsed, Bool[Array, ""]]:
        """(parsed response, True if the string is balanced and of an accepted length)."""
        parsed = self._parse(latent, response)
        padded = jnp.cumsum((response != PAD)[::-1])[::-1] == 0
        padded = jnp.append(padded, True)
        brackets = latent.length + jnp.arange(parsed.depth.size)
        accepts = jnp.asarray(self._law.accepts)[self._time(brackets)] & (brackets <= self._law.total)
        balanced = parsed.legal & (parsed.depth == 0) & accepts
        if self.end_token is None:
            return parsed, jnp.any(balanced & padded)
        return parsed, jnp.any(balanced[:-1] & (response == self.end_token) & padded[1:])

    def _shallow(self, parsed: Parsed) -> Bool[Array, ""]:
        """True if the response stays within the depth that the reward allows."""
        return jnp.all(parsed.depth <= self.max_depth) if self.reward_depth else jnp.asarray(True)

    def log_prob(self, latent: BracketLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """Exact ln pi_D(y|x) in nats, -inf off the support.

        The sum of the conditioned process's log steps and of ln P(type) over the open brackets.
        """
        parsed, valid = self._judge(latent, response)
        is_open, is_close, types = self.text.kinds(response)
        action = jnp.where(is_open, OPEN, jnp.where(is_close, CLOSE, END))
        time = self._time(latent.length + jnp.arange(response.size))
        steps = jnp.asarray(self._log_steps)[time, self._level(parsed.depth[:-1]), action]
        kind = jnp.log(jnp.asarray(self._type_probs, dtype=jnp.float32))[types]
        terms = jnp.where(response == PAD, 0.0, steps) + jnp.where(is_open, kind, 0.0)
        return jnp.where(valid, jnp.sum(terms), -jnp.inf)

    def reward(self, latent: BracketLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 if the string is balanced, of an accepted length and, if `reward_depth`, within `max_depth`."""
        parsed, valid = self._judge(latent, response)
        return (valid & self._shallow(parsed)).astype(jnp.float32)

    def validity(self, latent: BracketLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 if the string is balanced and of an accepted length, at any depth, else 0."""
        return self._judge(latent, response)[1].astype(jnp.float32)

    def innermost(
        self, latent: BracketLatent, response: Int[Array, " response"]
    ) -> tuple[Int[Array, " response"], Int[Array, " response"]]:
        """(distance back to the innermost open bracket, token that closes it) at every token of a response.

        The bracket may be in the response or in the prompt. The distance is odd, because the string between
        is balanced. It is 0 where the stack is empty, after a bracket that does not fit, and on padding; the
        close token is meaningless there.
        """
        parsed = self._parse(latent, response)
        held = parsed.legal[:-1] & (parsed.opened[:-1] >= 0) & (response != PAD)
        place = latent.length + jnp.arange(response.size)
        distance = jnp.where(held, place - parsed.opened[:-1], 0)
        return distance, self.text.close_token(jnp.maximum(parsed.top[:-1], 0))

    def encode(self, text: str) -> list[int]:
        """Tokens of a prompt such as `^ ( [` or a response such as `] ) $`.

        Raises:
            ValueError: for a word that is not a token.
        """
        return self.text.encode(text)

    def decode(self, tokens: Any) -> str:
        """Text of a prompt or response; padding is skipped."""
        return self.text.decode(tokens)
