"""Bracket strings in plain Python: the samplers' trees written out, probabilities as fractions.

A string is a tuple of words, `(`, `)`, `[`, `]`, and `$` at the end where strings have an END token. Nothing
here knows tables of depths, and conditioning is a sum over all strings.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction

OPENS, CLOSES = "([{<", ")]}>"
HALF = Fraction(1, 2)

String = tuple[str, ...]


def words_of(tokens: Sequence[int], num_types: int, end: bool) -> String:
    """Words of response tokens, `_` for padding, `?` for START."""
    table = ["_", *OPENS[:num_types], *CLOSES[:num_types], *(["$"] if end else []), "?"]
    return tuple(table[token] for token in tokens)


def stack_of(string: Sequence[str]) -> list[str] | None:
    """The open brackets, or None if a close bracket does not fit or a word is no bracket."""
    stack: list[str] = []
    for word in string:
        if word in OPENS:
            stack.append(word)
        elif word in CLOSES and stack and OPENS.index(stack[-1]) == CLOSES.index(word):
            stack.pop()
        else:
            return None
    return stack


def deepest(string: Sequence[str]) -> int:
    return max((len(stack_of(string[:i]) or []) for i in range(len(string) + 1)), default=0)


def closing(stack: Sequence[str]) -> str:
    return CLOSES[OPENS.index(stack[-1])]


def dyck_tree(num_types: int, cap: int, tokens: int) -> Iterator[tuple[String, Fraction]]:
    """Every string of the standard sampler with at most `tokens` tokens, END counted, and its probability."""

    def grow(string: String, p: Fraction) -> Iterator[tuple[String, Fraction]]:
        stack = stack_of(string) or []
        if len(string) + 1 + len(stack) > tokens:
            return
        opening = HALF if len(stack) < cap else Fraction(0)
        if not stack:
            yield (*string, "$"), p * HALF
        else:
            yield from grow((*string, closing(stack)), p * (1 - opening))
        if opening:
            for word in OPENS[:num_types]:
                yield from grow((*string, word), p * opening / num_types)

    return grow((), Fraction(1))


def fixed_tree(type_probs: Sequence[Fraction], cap: int, length: int) -> Iterator[tuple[String, Fraction]]:
    """Every string of the fixed-length sampler and its probability."""

    def grow(string: String, p: Fraction) -> Iterator[tuple[String, Fraction]]:
        stack = stack_of(string) or []
        remaining = length - len(string)
        if not remaining:
            yield string, p
            return
        if not stack:
            pop = Fraction(0)
        elif remaining == len(stack) or len(stack) == cap:
            pop = Fraction(1)
        else:
            pop = HALF
        if pop:
            yield from grow((*string, closing(stack)), p * pop)
        if pop < 1:
            for word, q in zip(OPENS, type_probs, strict=False):
                yield from grow((*string, word), p * (1 - pop) * q)

    return grow((), Fraction(1))


@functools.cache
def dyck_law(num_types: int, cap: int, low: int, high: int) -> dict[String, Fraction]:
    """The standard sampler given that the length, END counted, is between `low` and `high`."""
    kept = {string: p for string, p in dyck_tree(num_types, cap, high) if len(string) >= low}
    total = sum(kept.values())
    return {string: p / total for string, p in kept.items()}


@functools.cache
def fixed_law(type_probs: tuple[Fraction, ...], cap: int, length: int) -> dict[String, Fraction]:
    """The fixed-length sampler."""
    return dict(fixed_tree(type_probs, cap, length))


def given_prefix(law: dict[String, Fraction], prefix: String) -> dict[String, Fraction]:
    """The law of what follows `prefix` in a string that begins with it."""
    rest = {string[len(prefix) :]: p for string, p in law.items() if string[: len(prefix)] == prefix}
    total = sum(rest.values())
    return {string: p / total for string, p in rest.items()}


def balanced(num_types: int, lengths: Sequence[int]) -> list[String]:
    """All balanced strings of the given numbers of brackets, of any depth, by trying all sequences."""
    words = OPENS[:num_types] + CLOSES[:num_types]
    return [
        string
        for length in lengths
        for string in itertools.product(words, repeat=length)
        if stack_of(string) == []
    ]


def next_words(law: dict[String, Fraction], prefix: String) -> dict[str, Fraction]:
    """pi_D's next word in the state of a prefix: its length and its stack, whatever led there; empty where no
    string of positive probability passes, or it ends."""
    stack = stack_of(prefix)
    found: dict[str, Fraction] = {}
    if stack is None:
        return found
    size = len(prefix)
    for string, p in law.items():
        if len(string) > size and stack_of(string[:size]) == stack:
            found[string[size]] = found.get(string[size], Fraction()) + p
    total = sum(found.values())
    return {word: p / total for word, p in found.items()}


class NoisyModel:
    """The base model that draws uniformly with probability `noise`, and its values, by walking its tree."""

    def __init__(
        self, law: dict[String, Fraction], words: str, noise: Fraction, tokens: int, rewarded: set[String]
    ) -> None:
        self.law, self.words, self.noise, self.tokens = law, words, noise, tokens
        self.rewarded = rewarded
        self._reference = functools.cache(self._next)
        self._values = functools.cache(self._value)

    def reference(self, prefix: String) -> dict[str, Fraction]:
        return self._reference(prefix)

    def value(self, prefix: String) -> Fraction:
        return self._values(prefix)

    def _next(self, prefix: String) -> dict[str, Fraction]:
        own = next_words(self.law, prefix)
        noise = self.noise if own else Fraction(1)
        return {
            word: (1 - noise) * own.get(word, Fraction()) + noise / len(self.words) for word in self.words
        }

    def _value(self, prefix: String) -> Fraction:
        if prefix in self.rewarded:
            return Fraction(1)
        if len(prefix) == self.tokens or "$" in prefix:
            return Fraction()
        return sum(
            (p * self._values((*prefix, word)) for word, p in self._reference(prefix).items()), Fraction()
        )
