"""Bayesian linear regression whose predictions a judge selects: errors in closed form and by quadrature.

Inputs x ~ N(0, I) in R^d, answers y = w.x/sqrt(d) + noise of variance sigma^2, a teacher and a prior
w ~ N(0, gamma^2 I), n = alpha d examples. A prediction is a draw of the posterior predictive law, normal with
variance s^2 about an offset delta from the teacher's answer. The judge has an answer of its own, at an offset
rho from the teacher's, and rates a prediction y by -(y - rho)^2. The error is the mean square of the selected
prediction, with the teacher's answer at 0.

Source: Halder and Pehlevan, Demystifying LLM-as-a-judge, arXiv 2512.19905; closed forms derived.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special


class Predictive(NamedTuple):
    """Law of predictions as d grows at fixed n/d.

    Attributes:
        doubt: E delta^2, the posterior variance of the teacher's answer.
        spread: s^2 = sigma^2 + doubt.
    """

    doubt: float
    spread: float


def predictive(alpha: float, noise: float, prior: float) -> Predictive:
    """The deterministic equivalent: doubt c solves c = 1/(1/gamma^2 + alpha/(sigma^2 + c)).

    `noise` is sigma and `prior` gamma. Without examples c = gamma^2.
    """
    variance, scale = noise**2, prior**2
    # c^2 + c (sigma^2 - gamma^2 + alpha gamma^2) - gamma^2 sigma^2 = 0.
    half = (variance - scale + alpha * scale) / 2
    doubt = scale * variance / (half + math.sqrt(half**2 + scale * variance))
    return Predictive(doubt, variance + doubt)


def best_of_k(
    delta: Float[np.ndarray, " prompts"],
    rho: Float[np.ndarray, " prompts"],
    spread: float,
    ks: tuple[int, ...],
) -> Float[np.ndarray, "prompts ks"]:
    """Error of the best of k predictions by a judge without noise (temperature 0), for each prompt.

    With t the distance to the judge's answer, f the predictive density and G(t) its mass within t,

        k int_0^inf (1 - G)^(k-1) [(rho + t)^2 f(rho + t) + (rho - t)^2 f(rho - t)] dt

    as a sum of equal steps of ln t.
    """
    scale = math.sqrt(spread)
    step = 0.05
    reach = scale * (10 + np.abs(rho - delta).max() / scale)
    t = np.exp(np.arange(math.log(1e-7 * scale / max(ks)), math.log(reach), step))
    gap = (delta - rho)[:, None]
    ends = [(rho[:, None] + side * t, (side * t - gap) / scale) for side in (1, -1)]
    inner = sum(y**2 * np.exp(-(z**2) / 2) for y, z in ends) / math.sqrt(2 * math.pi * spread) * t
    # ln of the mass outside, from the two tails.
    log_outside = np.log(special.ndtr((-t - gap) / scale) + special.ndtr((gap - t) / scale) + 1e-300)
    return np.stack([k * step * (inner * np.exp((k - 1) * log_outside)).sum(axis=1) for k in ks], axis=1)


def softmax_error(
    delta: Float[np.ndarray, " prompts"],
    rho: Float[np.ndarray, " prompts"],
    spread: float,
    k: int,
    temperature: float,
) -> Float[np.ndarray, " prompts"]:
    """Error of one of k predictions, chosen with probability prop. to w = exp(-(y - rho)^2/T), per prompt.

        E[sum w y^2 / sum w] = k int_0^inf E[w y^2 e^(-u w)] E[e^(-u w)]^(k-1) du

    The expectations are sums over a grid of y, the integral one over equal steps of ln u.
    """
    scale, step, quiet = math.sqrt(spread), 0.2, 1e-10 ** (1 / max(k - 1, 1))
    z = np.linspace(-7, 7, 281)
    density = np.exp(-(z**2) / 2)
    density /= density.sum()
    found = []
    for offset, judged in zip(delta, rho, strict=True):
        y = offset + scale * z
        log_weight = -((y - judged) ** 2) / temperature
        log_weight -= log_weight.max()
        # A share `quiet` of the draws has smaller weights, and that all other draws have is negligible.
        order = np.argsort(log_weight)
        last = log_weight[order[np.searchsorted(np.cumsum(density[order]), quiet)]]
        log_u = np.arange(math.log(1e-12 / k), 4 - last, step)
        spent = np.exp(np.minimum(np.add.outer(log_u, log_weight), 50))
        decay = np.exp(-spent) * density
        terms = ((decay * spent) @ y**2) * decay.sum(axis=1) ** (k - 1)
        found.append(k * step * float(terms.sum()))
    return np.array(found)


def mean_over_prompts(
    law: Predictive, misfit: float, count: int = 48
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(delta, rho, weights): nodes of delta ~ N(0, doubt) and rho ~ N(0, misfit), independent.

    `misfit` is the mean square of the judge's offset, `count` the number of nodes of each. Without misfit rho
    is 0.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    weights = weights / weights.sum()
    delta = math.sqrt(law.doubt) * nodes
    if misfit == 0:
        return delta, np.zeros_like(delta), weights
    rho = math.sqrt(misfit) * nodes
    return np.repeat(delta, count), np.tile(rho, count), np.outer(weights, weights).ravel()


def teacher_errors(law: Predictive, ks: tuple[int, ...]) -> Float[np.ndarray, " ks"]:
    """Mean error over prompts of the best of k by the teacher, by a fine sum over delta.

    The error of a prompt grows as e^(delta^2/s^2), so that the sum extends beyond where the prompts lie.
    """
    z = np.linspace(-12, 12, 481)
    weight = np.exp(-(z**2) / 2)
    delta = math.sqrt(law.doubt) * z
    return (weight / weight.sum()) @ best_of_k(delta, np.zeros_like(delta), law.spread, ks)


def leading_coefficient(law: Predictive) -> float:
    """lim k^2 error for the teacher as judge: pi s^2 / sqrt(1 - 2 doubt/s^2); infinite if doubt >= sigma^2.

    The nearest of k draws of density f lies at a mean square distance 1/(2 k^2 f^2), and E 1/f^2 over prompts
    is 2 pi s^2 E e^(delta^2/s^2).
    """
    share = 1 - 2 * law.doubt / law.spread
    return math.pi * law.spread / math.sqrt(share) if share > 0 else math.inf


def teacher_exponent(law: Predictive) -> float:
    """Exponent of k in the mean error with the teacher as judge: -min(2, s^2/doubt), up to logarithms.

    Where |delta| exceeds s sqrt(2 ln k), none of k draws comes near the teacher. A share of order
    k^(-s^2/doubt) of the prompts is of this kind, and counts with an error of order 1.
    """
    return -min(2.0, law.spread / law.doubt)


def far_sampling_error(law: Predictive, misfit: float, temperature: float) -> float:
    """Error for many predictions at temperature T: the predictive law tilted by w is normal.

    With a = (2/T)/(1/s^2 + 2/T): s^2 (1 - a) + (1 - a)^2 doubt + a^2 misfit.
    """
    a = (2 / temperature) / (1 / law.spread + 2 / temperature)
    return law.spread * (1 - a) + (1 - a) ** 2 * law.doubt + a**2 * misfit


def best_temperature(law: Predictive, misfit: float) -> float:
    """The temperature of the least `far_sampling_error`: 0 unless misfit > s^2/2, else 2 s^2 (1 - a)/a.

    a = (s^2 + 2 doubt)/(2 (doubt + misfit)), where the derivative is 0.
    """
    a = (law.spread + 2 * law.doubt) / (2 * (law.doubt + misfit))
    return 0.0 if a >= 1 else 2 * law.spread * (1 - a) / a
