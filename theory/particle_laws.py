"""Laws of particle filtering with multinomial resampling at any horizon, on trees of independent bits.

The base model draws fair bits, tau(y) = e^(-tilt * zeros), and pi* has independent bits with odds e^tilt
(`tasks.Delay`). With normalised weights the law of the returned response is

    p(y) = pi*(y) E[Z/Z^],

the mean over the filter whose one particle is held on the path y, with Z^ the product of the mean weights
(conditional sequential Monte Carlo; Andrieu, Doucet and Holenstein 2010). With exact values the steps are
independent, so that p is a product. With values that are one step late the other particles are a Markov chain
on the number of ones among their last bits (derived).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats


class Bits(NamedTuple):
    """Weights V(child)/V(node) of the bits 0 and 1, of mean 1 under fair bits, and P*[bit = 1]."""

    weights: tuple[float, float]
    target: float


def bits(tilt: float) -> Bits:
    """The bits of `tasks.Delay(tilt=tilt)`."""
    target = float(1 / (1 + np.exp(-tilt)))
    return Bits((2 * (1 - target), 2 * target), target)


def perfect_share(tilt: float, particles: int) -> float:
    """P[bit = 1] of each bit of the returned response with exact values; the bits are independent.

    A bit has the law of self-normalised resampling among N draws: pi*(1) E[N/(w_1 + sum of N - 1 weights)].
    """
    zero, one = bits(tilt).weights
    others = np.arange(particles)
    law = stats.binom.pmf(others, particles - 1, 0.5)
    total = one + others * one + (particles - 1 - others) * zero
    return float(bits(tilt).target * (law @ (particles / total)))


def product_error(length: int, share: float, target: float) -> float:
    """Total variation of two laws of independent bits: that of their numbers of ones, which is sufficient."""
    ones = np.arange(length + 1)
    return float(
        np.abs(stats.binom.pmf(ones, length, share) - stats.binom.pmf(ones, length, target)).sum() / 2
    )


def particles_needed(length: int, tilt: float, error: float) -> int:
    """The least number of particles with at most this total variation, exact values; it falls with N."""

    def enough(particles: int) -> bool:
        return product_error(length, perfect_share(tilt, particles), bits(tilt).target) <= error

    high = 1
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def late_ratios(
    responses: Int[np.ndarray, "responses length"], tilt: float, particles: int
) -> Float[np.ndarray, " responses"]:
    """p(y)/pi*(y) = E[Z/Z^] with values that are one step late, V^(y_1:h) = V(y_1:h-1), and tau at leaves.

    Step h weighs a particle by the bit before the last one. The first step has equal weights, and the last
    one has the weights of the last two bits. The chain runs over the number n of ones among the last bits of
    the other N - 1 particles.
    """
    length = responses.shape[1]
    if length < 2:
        raise ValueError(f"responses: {length} bits; valid: at least 2")
    others = np.arange(particles)
    tables = {(b, c): _step(tilt, particles, b, c) for b in (0, 1) for c in (0, 1)}
    first = stats.binom.pmf(others, particles - 1, 0.5)
    # Equal weights at the first step: others take the bit 1 with the share of ones.
    start = np.stack([first @ _picked((others + c) / particles, particles) for c in (0, 1)])
    state = start[responses[:, 0]]
    for h in range(1, length - 1):
        state = _apply(
            state, responses[:, h - 1], responses[:, h], {key: each[0] for key, each in tables.items()}
        )
    last = _apply(
        state, responses[:, -2], responses[:, -1], {key: each[1][:, None] for key, each in tables.items()}
    )
    return last[:, 0]


def _apply(
    state: np.ndarray, before: np.ndarray, after: np.ndarray, tables: dict[tuple[int, int], np.ndarray]
) -> np.ndarray:
    """Each row of `state` times the table of its pair of bits."""
    width = next(iter(tables.values())).shape[1]
    out = np.empty((len(state), width))
    for (b, c), table in tables.items():
        rows = (before == b) & (after == c)
        out[rows] = state[rows] @ table
    return out


def _step(tilt: float, particles: int, before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """(table n -> n' of an inner step with E[N/W], vector n -> E[N/W] of the last step).

    Of n others whose last bit is 1, i draw a 1, and of the m others whose last bit is 0, j do.
    """
    zero, one = bits(tilt).weights
    own = one if before else zero
    inner, last = np.zeros((particles, particles)), np.zeros(particles)
    for n in range(particles):
        m = particles - 1 - n
        i, j = np.arange(n + 1)[:, None], np.arange(m + 1)[None]
        chance = stats.binom.pmf(i, n, 0.5) * stats.binom.pmf(j, m, 0.5)
        total = n * one + m * zero + own
        share = (i * one + j * zero + after * own) / total
        inner[n] = particles / total * (chance.ravel() @ _picked(share.ravel(), particles))
        final = one * (one * i + zero * (n - i)) + zero * (one * j + zero * (m - j))
        last[n] = (chance * particles / (final + own * (one if after else zero))).sum()
    return inner, last


def _picked(share: Float[np.ndarray, " cases"], particles: int) -> Float[np.ndarray, "cases particles"]:
    """Law of the number of ones among N - 1 independent picks."""
    return stats.binom.pmf(np.arange(particles), particles - 1, np.clip(share, 0, 1)[:, None])
