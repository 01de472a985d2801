"""Class on which every step size of SGD is too large for some prompts or too small for others.

Three tokens, -1, 0 and 1, independent given the prompt, in two dimensions. A prompt is either a number, a
step size e >= 8/(HB), or one of the two letters `PLUS` and `MINUS`. On numbers the gradient of a sequence is
of order HB, and the step size must be at most of order 1/(HB). On letters, where features are shorter and the
start is nearly right, order H such steps are necessary.

Source: Coverage Principle, arXiv 2510.15020, Proposition 5.1 (lower bound), Lemmas I.6 and I.7. Vectors,
prompts, theta* and starts are the paper's. The B of the letters, B' <= B, is derived from the algebra: the
lemma's rate requires B = B'^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tasks.checks import real, whole
from tasks.linear import FeatureMap

PLUS, MINUS = 0.0, -1.0
"""Prompts of the letters + and -; prompts of numbers are positive."""


@dataclass(frozen=True)
class SGDFamily(FeatureMap):
    """phi(x, y_1:h) = B v(x, y_h) in R^2.

    A number e has v(e, 0) = (1, 0) and v(e, +-1) = (a, +-sqrt(1 - a^2)), a = eHB/(2(eHB - 1)). The letters
    have B v(+, y) = (B' y, 0) and B v(-, y) = (0, B' y). Features have the dtype of the prompt, a scalar.
    Token indices 0, 1, 2 are the tokens -1, 0, 1.

    Attributes:
        length: horizon H.
        letters: B', length of the features of letters.
        numbers: B, length of the features of numbers, and the bound; the lemma's rate is for B = B'^2.

    Raises:
        ValueError: a length below 1, or lengths of features other than 1 <= B' <= B.
    """

    length: int
    letters: float
    numbers: float

    def __post_init__(self) -> None:
        whole("task.length", self.length, 1)
        real("task.numbers", self.numbers, least=1)
        if not 1 <= self.letters <= self.numbers:
            raise ValueError(
                f"task.letters: {self.letters!r}; valid: 1 to task.numbers, which is {self.numbers!r}"
            )

    @property
    def horizon(self) -> int:
        return self.length

    @property
    def vocab(self) -> int:
        return 3

    @property
    def dimension(self) -> int:
        return 2

    @property
    def bound(self) -> float:
        return float(self.numbers)

    @property
    def least_number(self) -> float:
        """Smallest number 8/(HB) that is a prompt."""
        return 8 / (self.length * self.numbers)

    def tokens(self, prompt: Any) -> Float[Array, "vocab dimension"]:
        """Features of the three tokens after any prefix."""
        x = jnp.asarray(prompt)
        values = jnp.array([-1, 0, 1], x.dtype)
        zero = jnp.zeros_like(values)
        number = x > 0
        scaled = jnp.where(number, x, 1) * (self.length * self.numbers)
        a = scaled / (2 * (scaled - 1))
        of_number = self.numbers * jnp.stack(
            [jnp.where(values == 0, 1, a), values * jnp.sqrt(1 - jnp.square(a))], axis=-1
        )
        along = self.letters * values
        of_letter = jnp.where(x == PLUS, jnp.stack([along, zero], -1), jnp.stack([zero, along], -1))
        return jnp.where(number, of_number, of_letter)

    def children(
        self, prompt: Any, prefix: Int[Array, " horizon"], length: Int[Array, ""]
    ) -> Float[Array, "vocab dimension"]:
        del prefix, length
        return self.tokens(prompt)

    def path(self, prompt: Any, response: Int[Array, " horizon"]) -> Float[Array, "horizon vocab dimension"]:
        return jnp.broadcast_to(self.tokens(prompt), (*response.shape, 3, 2))


NUMBER_TRUTH = (1.0, 0.0)
"""theta* of the large-step instance."""

LETTERS_TRUTH = (0.5, 0.5)
"""theta* of the small-step instance."""


def letters_start(family: SGDFamily, n: float) -> tuple[float, float]:
    """theta^0 = (r - 1/B', 1/4), e^(rB') = H/(4 ln N), where `+` is not covered and has small gradients.

    Raises:
        ValueError: r is above 1/2 or not positive, or ln N > HB/8, where the lemma does not hold.
    """
    if not math.log(n) <= family.length * family.numbers / 8:
        raise ValueError(f"coverage_n: {n:g}; valid: at most exp(HB/8) with H = {family.length}")
    r = math.log(family.length / (4 * math.log(n))) / family.letters
    if not 0 < r <= 0.5:
        raise ValueError(
            f"letters: {family.letters:g} gives r = {r:.3g} at H = {family.length}; valid: 0 < r <= 1/2 in "
            f"exp(r B') = H/(4 ln N)"
        )
    return r - 1 / family.letters, 0.25


def letters_token_law(family: SGDFamily) -> Float[np.ndarray, " vocab"]:
    """pi*(a|x) of the tokens -1, 0, 1 for both letters: proportional to exp(B' a/2)."""
    odds = np.exp(family.letters / 2 * np.array([-2.0, -1.0, 0.0]))
    return odds / odds.sum()


def letters_variance(family: SGDFamily) -> float:
    """sigma*^2 = H B'^2 Var(a) of the small-step instance for every mu(+); at most 1 in the lemma."""
    law, values = letters_token_law(family), np.array([-1.0, 0.0, 1.0])
    # 1 - a instead of a, because the mean of a rounds to 1.
    missing = 1 - values
    return float(family.length * family.letters**2 * (law @ missing**2 - (law @ missing) ** 2))


def deficit_law(family: SGDFamily, size: int) -> Float[np.ndarray, " deficits"]:
    """P(D = 0), ..., P(D = size - 1) of D = sum_h (1 - y_h), y ~ pi*(.|letter).

    Features of letters are proportional to the token, so the log-probability of a sequence under every theta
    depends on D alone.
    """
    law, power, left = np.ones(1), letters_token_law(family)[::-1], family.length
    while left:
        if left & 1:
            law = np.convolve(law, power)[:size]
        power, left = np.convolve(power, power)[:size], left >> 1
    return np.append(law, np.zeros(size - len(law)))
