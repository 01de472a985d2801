"""Exact KL and coverage of responses whose tokens are independent bits, in NumPy and float64.

A bit is described by its log-odds: P[y_h = 1] = sigma(u) = 1/(1 + e^-u).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

LOG_TOLERANCE = 1e-9
"""Nats within which a log ratio counts as ln N: rounding must not decide a tie."""


def softplus(log_odds: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
    """ln(1 + e^u)."""
    return np.logaddexp(0.0, log_odds)


def sigmoid(log_odds: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
    """1/(1 + e^-u)."""
    from scipy import special

    return special.expit(log_odds)


def bit_kl(
    star: Float[np.ndarray, "*batch"], fitted: Float[np.ndarray, "*batch"]
) -> Float[np.ndarray, "*batch"]:
    """KL(Ber(sigma(u*)) || Ber(sigma(u))) = sigma(u*) (u* - u) - ln(1 + e^u*) + ln(1 + e^u), in nats."""
    return sigmoid(star) * (star - fitted) - softplus(star) + softplus(fitted)


def shared_coverage(
    star: Float[np.ndarray, "*batch"],
    fitted: Float[np.ndarray, "*batch"],
    horizon: int,
    log_n: Float[np.ndarray, " n"],
) -> Float[np.ndarray, "*batch n"]:
    """P[X >= ln N], N >= 1, for H independent bits of log-odds u*, modelled as bits of log-odds u.

    X = c (u* - u) - H (ln(1 + e^u*) - ln(1 + e^u)) with c ~ Binomial(H, sigma(u*)) the number of ones, so
    the coverage is a tail of a binomial law.
    """
    from scipy import special

    star, fitted = np.broadcast_arrays(np.asarray(star, np.float64), np.asarray(fitted, np.float64))
    slope = (star - fitted)[..., None]
    need = (
        np.asarray(log_n, np.float64)
        - LOG_TOLERANCE
        + horizon * (softplus(star) - softplus(fitted))[..., None]
    )
    p = np.broadcast_to(sigmoid(star)[..., None], need.shape)
    ones = np.divide(need, slope, out=np.zeros_like(need), where=slope != 0)
    # With a positive slope some one is needed, since N >= 1.
    upper = special.bdtrc(np.clip(np.ceil(ones) - 1, 0, horizon), horizon, p)
    lower = np.where(ones >= 0, special.bdtr(np.clip(np.floor(ones), 0, horizon), horizon, p), 0.0)
    return np.where(slope > 0, upper, np.where(slope < 0, lower, (need <= 0).astype(np.float64)))


def grouped_coverage(
    rng: np.random.Generator,
    star: float,
    fitted: Float[np.ndarray, "draws groups"],
    sizes: Int[np.ndarray, "draws groups"],
    responses: int,
    log_n: float,
) -> Float[np.ndarray, " draws"]:
    """Unbiased estimate of P[X >= ln N] from sampled responses of independent bits with log-odds `star`.

    In draw i, `sizes[i, g]` of the bits are modelled with log-odds `fitted[i, g]`. X is a function of the
    number of ones per group, so only those numbers are drawn.
    """
    ones = rng.binomial(sizes, float(sigmoid(np.asarray(star))), (responses, *sizes.shape))
    constant = np.sum(sizes * (softplus(np.asarray(star)) - softplus(fitted)), axis=1)
    log_ratio = np.einsum("rdg,dg->rd", ones, star - fitted) - constant
    return np.mean(log_ratio >= log_n - LOG_TOLERANCE, axis=0)
