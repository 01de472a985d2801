"""Class on which every step size of SGD is too large for some prompts or too small for others, and the linear
model on it by counts of tokens.

Three tokens, -1, 0 and 1, independent given the prompt, in two dimensions. A prompt is either a number, a
step size e >= 8/(HB), or one of the two letters `PLUS` and `MINUS`. On numbers the gradient of a sequence is
of order HB, and the step size must be at most of order 1/(HB). On letters, where features are shorter and the
start is nearly right, order H such steps are necessary.

By counts of tokens a sequence of any length costs the same: gradient, log-probability, KL and coverage of a
sequence are functions of how often each token occurs in it. Tokens are told apart as the prompt's likeliest
one and two others, and features enter as differences to the likeliest token's. What remains of a gradient
near theta*, of size exp(-B) on the number-prompts, is then not a difference of large numbers, and its sign is
right. Everything is made of scalars, on one run. Under `vmap` the runs are then the only axis of every array,
which a CPU computes about ten times as fast as arrays whose last axis is one of two coordinates or three
tokens.

Source: Coverage Principle, arXiv 2510.15020, Proposition 5.1 (lower bound), Lemmas I.6 and I.7. Vectors,
prompts, theta* and starts are the paper's. The B of the letters, B' <= B, is derived from the algebra: the
lemma's rate requires B = B'^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.checks import real, whole

PLUS, MINUS = 0.0, -1.0
"""Prompts of the letters + and -; prompts of numbers are positive."""

LEFT_OUT = 1e-12
"""Largest probability of sequences that exact sums may leave out."""

DEFICITS = 5
"""Number of values of sum_h (1 - y_h) that distinguish the responses to the letters."""

Scalar = Float[Array, ""]
Parameters = tuple[Scalar, Scalar]
"""Coordinates of theta."""
Counts = tuple[Scalar, Scalar, Scalar]
"""Numbers of occurrences of the prompt's likeliest token and of the two others."""


@dataclass(frozen=True)
class SGDFamily:
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


class Prompt(NamedTuple):
    """A prompt with its law.

    Attributes:
        weight: mu(x).
        differences: phi(x, a) - phi(x, likeliest token) of the two other tokens a.
        log_star: ln pi*(a|x) of each token in nats, the likeliest first.
        sequences: representatives of the responses, the likeliest first.
        probs: probabilities of `sequences` under pi*(.|x); less than `LEFT_OUT` is left out.
    """

    weight: Scalar
    differences: tuple[Parameters, Parameters]
    log_star: tuple[Scalar, Scalar, Scalar]
    sequences: tuple[Counts, ...]
    probs: tuple[Scalar, ...]


class Instance(NamedTuple):
    """A distribution of the class with a start, theta^0, as a pytree of float64 scalars."""

    prompts: tuple[Prompt, ...]
    start: Parameters


def check_family(family: SGDFamily, plus: float, n: float, deficits: int = DEFICITS) -> None:
    """Refuse a class whose instances cannot be summed exactly or break a lemma's premise; makes no array.

    Args:
        plus, n, deficits: as in `letters_instance`.

    Raises:
        ValueError: mu(+) is not in (0, 1), more than `LEFT_OUT` is left out, or as `letters_start`.
    """
    real("plus", plus, above=0, below=1)
    letters_start(family, n)
    # 1 - a(e) is least, 3/7, at the least number.
    other = 2 * family.length * math.exp(-family.numbers * 3 / 7)
    left = max(other, 1 - float(deficit_law(family, deficits).sum()))
    if left > LEFT_OUT:
        raise ValueError(
            f"letters: B' = {family.letters:g}, B = {family.numbers:g} leave probability {left:.2g} to rare "
            f"tokens at H = {family.length}; valid: larger, so that it is at most {LEFT_OUT:g}"
        )


def number_instance(family: SGDFamily, numbers: Float[np.ndarray, "*lanes"]) -> Instance:
    """The large-step instances: mu on the prompt e, theta* = (1, 0), theta^0 = v(e, 1), for each number e.

    With e = eta >= 8/(HB) the iterates of SGD with step size eta alternate between v(e, 1) and v(e, -1)
    forever. A response other than 0 ... 0 has probability 2H exp(-B(1 - a(e))), which `check_family` keeps
    negligible.

    Raises:
        ValueError: a number below 8/(HB).
    """
    every = np.asarray(numbers, np.float64)
    if not (every >= family.least_number * (1 - 1e-12)).all():
        raise ValueError(f"numbers: {every.min():g}; valid: at least 8/(HB) = {family.least_number:g}")
    tokens = _tokens(family, every)
    certain = np.array([[family.length, 0, 0]])
    prompt = _prompt(1.0, tokens[..., [1, 0, 2], :], NUMBER_TRUTH, certain, np.ones(1))
    start = tuple(np.moveaxis(tokens[..., 2, :] / family.numbers, -1, 0))
    return _float64((prompt,), start, every.shape)


def letters_instance(family: SGDFamily, plus: float, n: float, deficits: int = DEFICITS) -> Instance:
    """The small-step instance: mu(+) = `plus`, else `-`; theta* = (1/2, 1/2), theta^0 as `letters_start`.

    The lemma's mu(+) shrinks with the number of steps; here it is one number for all.

    Args:
        deficits: number of values of sum_h (1 - y_h), from 0 on, that distinguish the responses.

    Raises:
        ValueError: as `check_family`.
    """
    check_family(family, plus, n, deficits)
    start = letters_start(family, n)
    deficit = np.arange(deficits)
    # A deficit d is d zeros, or fewer if there are fewer tokens; an impossible deficit has probability 0.
    lows = np.maximum(deficit - family.length, 0)
    zeros = deficit - 2 * lows
    sequences = np.stack([family.length - zeros - lows, zeros, lows], axis=-1)
    tokens = _tokens(family, np.array([PLUS, MINUS]))[:, [2, 1, 0]]
    law = deficit_law(family, deficits)
    prompts = tuple(
        _prompt(weight, features, LETTERS_TRUTH, sequences, law)
        for features, weight in zip(tokens, (plus, 1 - plus), strict=True)
    )
    return _float64(prompts, start, ())


def token_law(
    prompt: Prompt, theta: Parameters
) -> tuple[tuple[Scalar, Scalar, Scalar], tuple[Scalar, Scalar, Scalar]]:
    """pi_theta(a|x) of the tokens, the likeliest under pi* first, and their logarithms in nats."""
    first, second = (a * theta[0] + b * theta[1] for a, b in prompt.differences)
    top = jnp.maximum(jnp.maximum(first, second), 0)
    odds = jnp.exp(-top), jnp.exp(first - top), jnp.exp(second - top)
    # If one token is far likelier than the others, its odds are 1, and log1p keeps the digits of the rest.
    beyond = (odds[0] - 1) + odds[1] + odds[2]
    inverse, total = 1 / (1 + beyond), top + jnp.log1p(beyond)
    return (odds[0] * inverse, odds[1] * inverse, odds[2] * inverse), (-total, first - total, second - total)


def coverage(instance: Instance, theta: Parameters, log_n: float) -> Scalar:
    """Cov_N(pi* || pi_theta), exact up to the probability that `Prompt.probs` leaves out."""
    covered = jnp.zeros_like(theta[0])
    for prompt in instance.prompts:
        _, log_probs = token_law(prompt, theta)
        ratios = [a - b for a, b in zip(prompt.log_star, log_probs, strict=True)]
        for counts, prob in zip(prompt.sequences, prompt.probs, strict=True):
            log_ratio = sum(n * log_token for n, log_token in zip(counts, ratios, strict=True))
            covered += prompt.weight * jnp.where(log_ratio >= log_n, prob, 0)
    return covered


def divergence(instance: Instance, theta: Parameters) -> Scalar:
    """KL(pi* || pi_theta) of sequences in nats, H times the KL of a token."""
    total = jnp.zeros_like(theta[0])
    for prompt in instance.prompts:
        _, log_probs = token_law(prompt, theta)
        token = sum(jnp.exp(a) * (a - b) for a, b in zip(prompt.log_star, log_probs, strict=True))
        total += prompt.weight * sum(prompt.sequences[0]) * token
    return total


def gradient(instance: Instance, theta: Parameters, counts: Sequence[Counts]) -> Parameters:
    """Sum of grad_theta ln pi_theta(y|x) over sequences with `counts` of tokens per prompt in total.

    sum_a (n_a - n p_a) phi_a = sum_a (n_a - n p_a)(phi_a - phi_likeliest), since the weights add up to 0.
    """
    along = [jnp.zeros_like(coordinate) for coordinate in theta]
    for prompt, seen in zip(instance.prompts, counts, strict=True):
        probs, _ = token_law(prompt, theta)
        total = sum(seen)
        for n, prob, difference in zip(seen[1:], probs[1:], prompt.differences, strict=True):
            surplus = n - total * prob
            along = [g + surplus * d for g, d in zip(along, difference, strict=True)]
    return along[0], along[1]


def likeliest(instance: Instance) -> tuple[Counts, ...]:
    """The likeliest response of each prompt."""
    return tuple(prompt.sequences[0] for prompt in instance.prompts)


def _tokens(family: SGDFamily, prompts: Float[np.ndarray, "*lanes"]) -> Float[np.ndarray, "*lanes 3 2"]:
    with jax.enable_x64(True):
        every = jax.vmap(family.tokens)(jnp.asarray(prompts, jnp.float64).ravel())
        return np.asarray(every).reshape(*prompts.shape, 3, 2)


def _prompt(
    weight: float,
    tokens: Float[np.ndarray, "*lanes 3 2"],
    truth: Sequence[float],
    sequences: Float[np.ndarray, "sequences 3"],
    probs: Float[np.ndarray, " sequences"],
) -> Prompt:
    """A `Prompt` from the features of its likeliest token and of the two others."""
    differences = tokens[..., 1:, :] - tokens[..., :1, :]
    first, second = np.moveaxis(differences @ np.array(truth), -1, 0)
    rest = np.log1p(np.exp(first) + np.exp(second))
    fields: tuple[Any, ...] = (
        weight,
        tuple((differences[..., a, 0], differences[..., a, 1]) for a in range(2)),
        (-rest, first - rest, second - rest),
        tuple(map(tuple, sequences)),
        tuple(probs),
    )
    return Prompt(*fields)


def _float64(prompts: tuple[Prompt, ...], start: Any, lanes: tuple[int, ...]) -> Instance:
    """An `Instance` of float64 arrays, every leaf broadcast to the axes `lanes`."""
    with jax.enable_x64(True):
        return jax.tree.map(
            lambda leaf: jnp.asarray(np.broadcast_to(np.asarray(leaf, np.float64), lanes)),
            Instance(prompts, start),
        )
