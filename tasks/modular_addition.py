"""Addition modulo p with held-out pairs: the set-up of grokking (Power et al., arXiv 2201.02177)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tasks.base import PAD, Enumeration, Example, Task
from tasks.checks import flag, real, whole
from tasks.streams import check_seed

_LARGEST_MODULUS = 2000
"""A table of 4 million pairs."""


class AdditionLatent(NamedTuple):
    """Token of the sum."""

    answer: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class ModularAddition(Task):
    """Prompt `a + b =`, response (a + b) mod p, with a and b from 0..p-1.

    Attributes:
        modulus: p.
        fraction: share of the pairs (a, b) that are trained on, rounded to a whole number of pairs.
        split_seed: seed of the split, not of the examples.
        commuted: keep (a, b) and (b, a) on one side of the split, so that a held-out pair is not a training
            pair with its numbers exchanged. The share is then of the unordered pairs.

    Two classes split the p^2 pairs: `train` with probability 1 and its complement `held_out` with
    probability 0; pairs are uniform in each. Training draws from class `train` alone, whatever the seed and
    `dataset_size`. Held-out sets have examples of both classes: metrics of class `train` are of pairs that
    are trained on, metrics of class `held_out` of pairs that never are.

    pi_D(.|x) is a point mass, so that Cov_N = P[pi_hat(y|x) <= 1/N].

    Raises:
        ValueError: in one line, for a field out of range or a fraction that leaves a class empty.
    """

    modulus: int = 97
    fraction: float = 0.5
    split_seed: int = 0
    commuted: bool = False

    def __post_init__(self) -> None:
        whole("task.modulus", self.modulus, 2, _LARGEST_MODULUS)
        real("task.fraction", self.fraction, above=0, below=1)
        check_seed("task.split_seed", self.split_seed)
        flag("task.commuted", self.commuted)
        if not 0 < self._trained_units < self._units:
            raise ValueError(
                f"task.fraction: {self.fraction} of {self._units} pairs leaves a class empty; valid: at "
                f"least one pair for each of train, held_out"
            )

    @property
    def _units(self) -> int:
        """Number of pairs, or of unordered pairs."""
        return self.modulus * (self.modulus + 1) // 2 if self.commuted else self.modulus**2

    @property
    def _trained_units(self) -> int:
        return round(self.fraction * self._units)

    @functools.cached_property
    def trained(self) -> Bool[np.ndarray, "modulus modulus"]:
        """True for the pairs (a, b) of class `train`."""
        order = np.random.default_rng(self.split_seed).permutation(self._units)
        chosen = np.zeros(self._units, bool)
        chosen[order[: self._trained_units]] = True
        if not self.commuted:
            return chosen.reshape(self.modulus, self.modulus)
        table = np.zeros((self.modulus, self.modulus), bool)
        table[np.triu_indices(self.modulus)] = chosen
        return table | table.T

    @functools.cached_property
    def _pairs(self) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " classes"]]:
        """Numbers a p + b of all pairs, those of class `train` first, and the sizes of the classes."""
        flat = self.trained.reshape(-1)
        ordered = np.concatenate([np.flatnonzero(flat), np.flatnonzero(~flat)])
        return ordered.astype(np.int32), np.array([flat.sum(), (~flat).sum()], np.int32)

    @property
    def vocab_size(self) -> int:
        """Padding (0), the numbers 0..p-1 as 1..p, `+` as p + 1 and `=` as p + 2."""
        return self.modulus + 3

    @property
    def prompt_length(self) -> int:
        """`a + b =`."""
        return 4

    @property
    def response_length(self) -> int:
        """One number."""
        return 1

    @property
    def response_tokens(self) -> tuple[int, ...]:
        """The numbers."""
        return tuple(range(1, self.modulus + 1))

    @property
    def groups(self) -> tuple[str, ...]:
        """Pairs that are trained on, and the others."""
        return ("train", "held_out")

    @property
    def group_probs(self) -> tuple[float, ...]:
        """All mass on the training pairs."""
        return (1.0, 0.0)

    @property
    def num_enumerated(self) -> int:
        """The sum."""
        return 1

    def sample_group(self, key: PRNGKeyArray, group: Int[Array, ""]) -> Example:
        """Draw a uniform pair of the class."""
        ordered, counts = self._pairs
        first = jnp.asarray([0, counts[0]])[group]
        place = first + jax.random.randint(key, (), 0, jnp.asarray(counts)[group])
        a, b = jnp.divmod(jnp.asarray(ordered)[place], self.modulus)
        latent = AdditionLatent(1 + (a + b) % self.modulus)
        plus, equals = self.modulus + 1, self.modulus + 2
        response = latent.answer[None]
        return Example(
            prompt=jnp.stack([1 + a, jnp.full_like(a, plus), 1 + b, jnp.full_like(a, equals)]),
            prompt_mask=jnp.ones((4,), bool),
            response=response,
            response_mask=jnp.ones((1,), bool),
            log_prob=self.log_prob(latent, response),
            group=jnp.asarray(group, jnp.int32),
            latent=latent,
        )

    def log_prob(self, latent: AdditionLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """0 for the sum, else -inf, in nats."""
        return jnp.where(response[0] == latent.answer, 0.0, -jnp.inf)

    def reward(self, latent: AdditionLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 for the sum, else 0."""
        return (response[0] == latent.answer).astype(jnp.float32)

    def validity(self, latent: AdditionLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """The reward."""
        return self.reward(latent, response)

    def enumerate(self, latent: AdditionLatent) -> Enumeration:
        """The sum."""
        return Enumeration(latent.answer[None, None], jnp.ones((1,), bool))

    def facts(self) -> list[tuple[str, Any]]:
        """Sizes of the classes, for display."""
        train, held_out = self._pairs[1].tolist()
        return [("pairs of class train", train), ("pairs of class held_out", held_out)]

    def encode(self, text: str) -> list[int]:
        """Tokens of `a + b =` or of a number.

        Raises:
            ValueError: for a word that is neither a number in 0..p-1 nor one of `+`, `=`.
        """
        tokens = {str(number): 1 + number for number in range(self.modulus)}
        tokens |= {"+": self.modulus + 1, "=": self.modulus + 2}
        for word in text.split():
            if word not in tokens:
                raise ValueError(f"text: {word!r} is neither a number in 0..{self.modulus - 1} nor + or =")
        return [tokens[word] for word in text.split()]

    def decode(self, tokens: Any) -> str:
        """Text of a prompt or response; padding is skipped."""
        words = ("", *map(str, range(self.modulus)), "+", "=")
        return " ".join(words[int(token)] for token in np.asarray(tokens) if int(token) != PAD)
