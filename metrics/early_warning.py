"""Statistics of an early warning, "cross-entropy improves, coverage gets worse", without pi_D.

A rule uses only held-out responses y_i ~ pi_D(.|x_i) and log-probabilities l_t(i) = ln pi_t(y_i|x_i), in
nats, under the checkpoints t = 0, 1, ... A `Statistic` compares the current checkpoint t with every earlier
checkpoint s. `strongest` is the largest value over earlier checkpoints of higher mean cross-entropy,
-mean l_s > -mean l_t. A value above a threshold is an alarm: by cross-entropy t is better than s, but by the
statistic t has lost responses that s covered.

Let X = ln(pi_D/pi), so that ln(pi_s/pi_t) = X_t - X_s. Checkpoint t has lost a response at N if
X_s < ln N <= X_t, and in expectation over pi_D
Cov_N(t) - Cov_N(s) = P[X_s < ln N <= X_t] - P[X_t < ln N <= X_s].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.coverage import RATIO_TOLERANCE, log_density_ratio
from tasks import numpy_stream
from tasks.checks import real

Earlier = Float[np.ndarray, "earlier examples"]
Now = Float[np.ndarray, " examples"]
Weights = Float[np.ndarray, " examples"]
Values = Float[np.ndarray, " earlier"]


def upper_quantile(
    values: Float[np.ndarray, "*batch examples"], weights: Weights, level: float
) -> Float[np.ndarray, "*batch"]:
    """Smallest value v with P[V <= v] >= level under the weights, along the last axis.

    Raises:
        ValueError: a level outside (0, 1].
    """
    if not 0 < level <= 1:
        raise ValueError(f"level: {level}; valid: a number in (0, 1]")
    order = np.argsort(values, axis=-1)
    below = np.cumsum(weights[order], axis=-1)
    # With the tolerance, a sum of equal weights that rounds below the level does not skip a value.
    index = np.argmax(below >= level * below[..., -1:] * (1 - 1e-12), axis=-1)
    return np.take_along_axis(values, np.take_along_axis(order, index[..., None], -1), -1)[..., 0]


def tail_mean(
    values: Float[np.ndarray, "*batch examples"], weights: Weights, share: float
) -> Float[np.ndarray, "*batch"]:
    """Mean of the largest values with total weight `share`; the last value counts in part.

    Raises:
        ValueError: a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: {share}; valid: a number in (0, 1]")
    order = np.argsort(-values, axis=-1)
    weight = weights[order] / weights.sum()
    before = np.cumsum(weight, axis=-1) - weight
    taken = np.clip(share - before, 0.0, weight)
    # 0 times an infinite value would be NaN.
    inside = np.where(taken > 0, np.take_along_axis(values, order, -1), 0.0)
    return np.sum(inside * taken, axis=-1) / share


def _mean(values: np.ndarray, weights: Weights) -> np.ndarray:
    return np.asarray(values @ weights / weights.sum())


def _lost(earlier: np.ndarray, now: np.ndarray, weights: Weights, n: float) -> Values:
    return _mean(log_density_ratio(earlier, now) >= math.log(n) - RATIO_TOLERANCE, weights)


def tournament(earlier: Earlier, now: Now, weights: Weights, n: float) -> Values:
    """Cov^_N(pi_s || pi_t) = P[pi_s/pi_t >= N]: the tournament entry of challenger s against t.

    Source: Coverage Principle, arXiv 2510.15020, the simple tournament.
    """
    return _lost(earlier, now, weights, n)


def net_tournament(earlier: Earlier, now: Now, weights: Weights, n: float) -> Values:
    """P[pi_s/pi_t >= N] - P[pi_t/pi_s >= N]: share of responses lost minus share won by the factor N."""
    return _lost(earlier, now, weights, n) - _lost(now[None], earlier, weights, n)


def envelope_tournament(earlier: Earlier, now: Now, weights: Weights, n: float) -> Values:
    """P[e/pi_t >= N] - P[e/pi_s >= N], e(y|x) = max over u <= t of pi_u(y|x).

    The difference of two coverage profiles with the envelope e in place of pi_D; for e = pi_D it is
    Cov_N(t) - Cov_N(s).
    """
    best = np.maximum(earlier.max(axis=0), now)
    return _lost(best[None], now, weights, n) - _lost(best[None], earlier, weights, n)


def ratio_quantile(earlier: Earlier, now: Now, weights: Weights, level: float) -> Values:
    """Upper quantile of ln(pi_s/pi_t) at `level`, in nats."""
    return upper_quantile(log_density_ratio(earlier, now), weights, level)


def ratio_tail_mean(earlier: Earlier, now: Now, weights: Weights, share: float) -> Values:
    """Mean of the largest `share` of ln(pi_s/pi_t), in nats."""
    return tail_mean(log_density_ratio(earlier, now), weights, share)


def nll_quantile_rise(earlier: Earlier, now: Now, weights: Weights, level: float) -> Values:
    """Q(-l_t) - Q(-l_s) in nats, Q the upper quantile of the negative log-likelihood at `level`.

    The largest value over s is the rise above the lowest Q among earlier checkpoints of higher cross-entropy.
    """
    return upper_quantile(-now, weights, level) - upper_quantile(-earlier, weights, level)


def nll_tail_rise(earlier: Earlier, now: Now, weights: Weights, n: float) -> Values:
    """P[pi_t(y|x) <= 1/N] - P[pi_s(y|x) <= 1/N], which is Cov_N(t) - Cov_N(s) if pi_D is deterministic."""
    zero = np.zeros_like(now)
    return _lost(zero[None], now, weights, n) - _lost(zero[None], earlier, weights, n)


def nll_spread_rise(earlier: Earlier, now: Now, weights: Weights, _: float) -> Values:
    """sd(l_t) - sd(l_s) in nats: the rise in standard deviation of the log-likelihood."""

    def spread(values: np.ndarray) -> np.ndarray:
        mean = _mean(values, weights)
        return np.sqrt(_mean((values - mean[..., None]) ** 2, weights))

    return spread(now) - spread(earlier)


def ratio_spread(earlier: Earlier, now: Now, weights: Weights, _: float) -> Values:
    """sd(ln(pi_s/pi_t)), in nats."""
    ratio = log_density_ratio(earlier, now)
    return np.sqrt(_mean((ratio - _mean(ratio, weights)[:, None]) ** 2, weights))


def cross_entropy_rise(earlier: Earlier, now: Now, weights: Weights, _: float) -> Values:
    """-mean l_t + mean l_s in nats: the usual monitor of training, applied to all earlier checkpoints."""
    return _mean(earlier, weights) - _mean(now, weights)


Comparison = Callable[[Earlier, Now, Weights, float], Values]
KINDS: Mapping[str, Comparison] = {
    each.__name__: each
    for each in (
        tournament,
        net_tournament,
        envelope_tournament,
        ratio_quantile,
        ratio_tail_mean,
        nll_quantile_rise,
        nll_tail_rise,
        nll_spread_rise,
        ratio_spread,
        cross_entropy_rise,
    )
}
PARAMETERS: Mapping[str, str] = {
    "tournament": "n",
    "net_tournament": "n",
    "envelope_tournament": "n",
    "nll_tail_rise": "n",
    "ratio_quantile": "level",
    "nll_quantile_rise": "level",
    "ratio_tail_mean": "share",
}
"""Kinds with a parameter: N > 1, or a level or a share in (0, 1)."""
BASELINE = "cross_entropy_rise"
Z = 2.0
"""Number of standard errors by which the cross-entropy must improve."""


@dataclass(frozen=True)
class Strongest:
    """Largest value of a statistic over the earlier checkpoints of the comparison.

    Attributes:
        value: largest value; -inf without any earlier checkpoint.
        earlier: first index that attains `value`; -1 without any earlier checkpoint.
    """

    value: float
    earlier: int


@dataclass(frozen=True)
class Statistic:
    """One of `KINDS` with a parameter.

    Attributes:
        kind: name of the comparison.
        parameter: N, level or share (`PARAMETERS`); None for kinds without a parameter.

    Raises:
        ValueError: an unknown kind, or a parameter that is not valid for the kind.

    >>> import numpy as np
    >>> earlier = np.log(np.full((1, 40), 0.5))
    >>> now = np.log([0.9] * 36 + [0.1] * 4)
    >>> Statistic("tournament", 4).strongest(earlier, now, np.ones(40))
    Strongest(value=0.1, earlier=0)
    """

    kind: str
    parameter: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: {self.kind!r}; valid: one of {', '.join(KINDS)}")
        name, value = PARAMETERS.get(self.kind), self.parameter
        if name is None:
            if value is not None:
                raise ValueError(f"parameter: {value!r}; valid for {self.kind}: none")
            return
        if name == "n":
            real("parameter", value, above=1)
        else:
            real("parameter", value, above=0, below=1)

    def __str__(self) -> str:
        name = PARAMETERS.get(self.kind)
        if name is None:
            return self.kind
        return f"{self.kind}({'N' if name == 'n' else name} = {self.parameter:g})"

    def compare(self, earlier: Earlier, now: Now, weights: Weights) -> Values:
        """Statistic of `now` against every earlier checkpoint."""
        return KINDS[self.kind](earlier, now, weights, 0.0 if self.parameter is None else self.parameter)

    def strongest(self, earlier: Earlier, now: Now, weights: Weights) -> Strongest:
        """Largest value over earlier checkpoints of higher cross-entropy (`improved`); baseline: over all.

        Args:
            earlier: l_s of the earlier checkpoints, in order of training; may be empty.
            now: l_t.
            weights: positive weights of the examples; only proportions matter.
        """
        if not len(earlier):
            return Strongest(-math.inf, -1)
        values = self.compare(earlier, now, weights)
        if self.kind != BASELINE:
            values = np.where(improved(earlier, now, weights), values, -np.inf)
        best = int(np.argmax(values))
        return Strongest(-math.inf, -1) if values[best] == -np.inf else Strongest(float(values[best]), best)


def improved(earlier: Earlier, now: Now, weights: Weights, z: float = Z) -> Bool[np.ndarray, " earlier"]:
    """True for earlier checkpoints of higher cross-entropy by more than z standard errors,

        d_i = l_t(i) - l_s(i),   sum_i w_i d_i > z sqrt(sum_i w_i^2 (d_i - d)^2),   d = sum_i w_i d_i,

    paired over the examples, with weights w of sum 1. Improvements by chance are thus not compared.
    """
    share = weights / weights.sum()
    difference = log_density_ratio(now, earlier)
    with np.errstate(invalid="ignore"):
        mean = difference @ share
        error = np.sqrt(((difference - mean[:, None]) ** 2) @ share**2)
        return np.asarray((mean > z * error) & (mean > 0))


def strongest_values(
    statistic: Statistic, log_probs: Float[np.ndarray, "checkpoints examples"], weights: Weights
) -> Float[np.ndarray, " checkpoints"]:
    """`Statistic.strongest` of every checkpoint against the earlier ones; -inf without any.

    Raises:
        ValueError: log-probabilities that are NaN, or weights that are not one positive number per example.
    """
    array, weight = _checked(log_probs, weights)
    return np.array([statistic.strongest(array[:t], array[t], weight).value for t in range(len(array))])


def _checked(log_probs: np.ndarray, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    array, weight = np.asarray(log_probs, np.float64), np.asarray(weights, np.float64)
    if array.ndim != 2 or not array.size or np.isnan(array).any():
        raise ValueError(f"log_probs: shape {array.shape}; valid: checkpoints x examples, no NaN")
    if weight.shape != array.shape[1:] or not (np.isfinite(weight) & (weight > 0)).all():
        raise ValueError(f"weights: shape {weight.shape}; valid: a positive number an example")
    return array, weight


def drawn_candidates(
    candidate_weight: Float[np.ndarray, "prompts candidates"],
) -> Int[np.ndarray, " prompts"]:
    """One held-out response per prompt, drawn from the enumerated responses with pi_D's weights.

    The draw is fixed for given prompts. Random stream: (0, "evaluation", "early warning").
    """
    cumulative = np.cumsum(np.asarray(candidate_weight, np.float64), axis=1)
    uniform = numpy_stream(0, "evaluation", "early warning").random(len(cumulative))
    index = np.sum(uniform[:, None] * cumulative[:, -1:] >= cumulative, axis=1)
    return np.asarray(index)


def candidates(
    ns: Iterable[float], levels: Iterable[float], shares: Iterable[float]
) -> tuple[Statistic, ...]:
    """Statistics of every kind at every value of the parameter."""
    values: dict[str | None, list[float | None]] = {
        "n": [*ns], "level": [*levels], "share": [*shares], None: [None]
    }  # fmt: skip
    return tuple(Statistic(kind, value) for kind in KINDS for value in values[PARAMETERS.get(kind)])
