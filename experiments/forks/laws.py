"""Closed forms for models that know the rule of the paths and cannot see the hidden decisions. Nats."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from tasks.checks import real, whole


def decision_entropy(minority: float) -> float:
    """-m ln m - (1-m) ln(1-m), the entropy of one hidden decision, nats.

    >>> round(decision_entropy(0.5), 4)
    0.6931
    """
    m = real("minority", minority, least=0, most=1)
    return float(special.entr(m) + special.entr(1 - m))


def blind_pass(decisions: int, majority: float, minority: float, k: int) -> float:
    """Pass@k of a model that gives `majority` to the majority's side of each of d independent decisions.

    sum_j C(d, j) (1-m)^(d-j) m^j (1 - (1 - p^(d-j) (1-p)^j)^k), with m = `minority` and p = `majority`; j is
    the number of decisions that are the minority's. Derived. A calibrated model has p = 1 - m, a model that
    samples all paths uniformly has p = 1/2.

    Raises:
        ValueError: a number out of range.

    >>> blind_pass(0, 0.9, 0.1, 8), round(blind_pass(1, 0.9, 0.1, 8), 3), blind_pass(3, 0.5, 0.1, 1)
    (1.0, 0.957, 0.125)
    """
    d, n = whole("decisions", decisions), whole("k", k, 1)
    p, m = real("majority", majority, least=0, most=1), real("minority", minority, least=0, most=1)
    total = 0.0
    for j in range(d + 1):
        share = math.comb(d, j) * (1 - m) ** (d - j) * m**j
        right = p ** (d - j) * (1 - p) ** j
        total += share * (1.0 if right == 1 else -math.expm1(n * math.log1p(-right)))
    return total


def proportion(share: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope b of the line loss = b share through the origin, and its R^2, along the last axis.

    b = sum s l / sum s^2 and R^2 = 1 - sum (l - b s)^2 / sum (l - mean l)^2. The R^2 of losses that are all
    equal is 0.

    Raises:
        ValueError: shares that are all 0.

    >>> slope, explained = proportion(np.array([0.0, 0.2, 0.4]), np.array([[0.0, 0.1, 0.2]]))
    >>> slope.tolist(), explained.tolist()
    ([0.5], [1.0])
    """
    if not np.any(share):
        raise ValueError("share: all are 0; valid: at least one above 0")
    slope = loss @ share / (share @ share)
    rest = np.sum((loss - slope[..., None] * share) ** 2, axis=-1)
    spread = np.sum((loss - loss.mean(axis=-1, keepdims=True)) ** 2, axis=-1)
    return slope, np.where(spread > 0, 1 - rest / np.where(spread > 0, spread, 1.0), 0.0)
