"""Tokens of bracket strings and their text."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from tasks.base import PAD
from tasks.bracket_law import CLOSE, END, OPEN, Law

PAIRS = ("()", "[]", "{}", "<>")
"""Text of the first four types; type i > 4 is `(i` and `)i`."""

START_TEXT, END_TEXT = "^", "$"


@dataclasses.dataclass(frozen=True)
class BracketText:
    """The vocabulary: padding 0, open brackets 1..k, close brackets k+1..2k, END if there is one, START.

    Attributes:
        num_types: k, number of bracket types.
        has_end: True if there is an END token.
    """

    num_types: int
    has_end: bool

    @property
    def end(self) -> int | None:
        """The END token."""
        return 2 * self.num_types + 1 if self.has_end else None

    @property
    def start(self) -> int:
        """The START token, the last one."""
        return 2 * self.num_types + 1 + self.has_end

    @property
    def vocab_size(self) -> int:
        """Number of tokens, padding included."""
        return self.start + 1

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """Text of the tokens from 1 on."""
        numbers = range(len(PAIRS) + 1, self.num_types + 1)
        opens = [pair[0] for pair in PAIRS] + [f"({i}" for i in numbers]
        closes = [pair[1] for pair in PAIRS] + [f"){i}" for i in numbers]
        end = [END_TEXT] if self.has_end else []
        return (*opens[: self.num_types], *closes[: self.num_types], *end, START_TEXT)

    def kinds(
        self, tokens: Int[Array, "*shape"]
    ) -> tuple[Bool[Array, "*shape"], Bool[Array, "*shape"], Int[Array, "*shape"]]:
        """(opens, closes, type 0..k-1) of every token; the type is meaningless where there is no bracket."""
        is_open = (tokens > PAD) & (tokens <= self.num_types)
        is_close = (tokens > self.num_types) & (tokens <= 2 * self.num_types)
        return is_open, is_close, (tokens - 1) % self.num_types

    def close_token(self, types: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
        """The close bracket of types 0..k-1."""
        return types + self.num_types + 1

    def tokens(
        self, actions: Int[Array, "*shape"], types: Int[Array, "*shape"], top: Int[Array, "*shape"]
    ) -> Int[Array, "*shape"]:
        """Tokens of actions: open brackets of `types`, close brackets of type `top`, padding if negative."""
        opens = jnp.where(actions == OPEN, types + 1, PAD)
        closes = jnp.where(actions == CLOSE, self.close_token(top), opens)
        return jnp.where(actions == END, PAD if self.end is None else self.end, closes).astype(jnp.int32)

    def encode(self, text: str) -> list[int]:
        """Tokens of words separated by blanks; words of one character need no blanks: `( [ (` or `([(`.

        Raises:
            ValueError: for a word that is not a token.
        """
        known = {word: token for token, word in enumerate(self.words, 1)}
        found = []
        for word in text.split():
            parts = [word] if word in known or not set(word) <= set(known) else list(word)
            if parts[0] not in known:
                raise ValueError(f"text: {word!r} is no token; valid are {' '.join(self.words)}")
            found += [known[part] for part in parts]
        return found

    def decode(self, tokens: Any) -> str:
        """Text of tokens; padding is skipped."""
        return " ".join(self.words[int(token) - 1] for token in np.asarray(tokens) if int(token) != PAD)

    def stack_of(self, prefix: str) -> tuple[int, list[int], str]:
        """(brackets, depths after 0, 1, ... brackets, error) of a prefix as text; the error is "" if none.

        Raises:
            ValueError: for a word that is not a token.
        """
        stack: list[int] = []
        depths = [0]
        tokens = self.encode(prefix)
        for place, token in enumerate(tokens, 1):
            word = self.words[token - 1]
            if token > 2 * self.num_types:
                return place - 1, depths, f"{word} at position {place} is no bracket"
            if token <= self.num_types:
                stack.append(token)
            elif not stack:
                return place - 1, depths, f"{word} at position {place} closes what is not open"
            elif stack[-1] + self.num_types != token:
                opened = self.words[stack[-1] - 1]
                return place - 1, depths, f"{word} at position {place} does not close the open {opened}"
            else:
                stack.pop()
            depths.append(len(stack))
        return len(tokens), depths, ""

    def check_prefix(self, prefix: str, max_depth: int, law: Law) -> None:
        """Refuse a prefix that no string of the law begins with.

        Raises:
            ValueError: in one line, if there is no such string.
        """
        if not isinstance(prefix, str):
            raise ValueError(f"task.prefix: {prefix!r} is not text such as '( [ ('")
        try:
            brackets, depths, wrong = self.stack_of(prefix)
        except ValueError as error:
            raise ValueError(f"task.prefix: {str(error).removeprefix('text: ')}") from None
        if wrong:
            raise ValueError(f"task.prefix: {prefix!r}: {wrong}")
        if max(depths) > max_depth:
            raise ValueError(
                f"task.prefix: {prefix!r} is {max(depths)} deep, deeper than task.max_depth = {max_depth}"
            )
        most = law.total if law.has_end else law.total - 1
        if brackets > most:
            raise ValueError(f"task.prefix: {prefix!r} has {brackets} brackets; need <= {most}")
        if depths[-1] > law.total - brackets or not law.supported[brackets, depths[-1]]:
            raise ValueError(
                f"task.prefix: {prefix!r} leaves {depths[-1]} brackets open after {brackets} of at most "
                f"{law.total}; no accepted string begins so"
            )

    def all_strings(self, lengths: Sequence[int], size: int) -> np.ndarray:
        """All balanced strings of `lengths` brackets, with END if there is one, padded to `size` tokens."""
        k = self.num_types

        @functools.cache
        def balanced(length: int) -> tuple[tuple[int, ...], ...]:
            # The first bracket encloses one balanced string, another one follows.
            if not length:
                return ((),)
            return tuple(
                (kind, *inner, kind + k, *rest)
                for cut in range(0, length, 2)
                for kind, inner, rest in itertools.product(
                    range(1, k + 1), balanced(cut), balanced(length - 2 - cut)
                )
            )

        end = () if self.end is None else (self.end,)
        rows = [(*string, *end) for length in lengths for string in balanced(length)]
        return np.array([row + (PAD,) * (size - len(row)) for row in rows], np.int32)
