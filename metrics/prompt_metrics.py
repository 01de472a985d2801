"""Metrics of the probability p of a right response to a prompt, and of the right responses' likelihoods.

p is the model's total probability of right responses to a prompt. `metrics.counts`, `metrics.cover_at_tau`
and `metrics.coverage_ratio` estimate the same quantities from counts of sampled responses.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from metrics.coverage import RATIO_TOLERANCE, check_values
from metrics.coverage_ratio import coverage_ratio
from metrics.pass_rates import pass_all_n, pass_at_n
from tasks.checks import real, whole

SHARE_TOLERANCE = 1e-9
"""Tolerance of shares of examples, for rounding of sums of weights in float64."""


def covered_at(
    log_prob_correct: Float[np.ndarray, "*shape"], taus: Sequence[float]
) -> Float[np.ndarray, "*shape tau"]:
    """1 where p >= tau and 0 elsewhere, from ln p in nats; Cover@tau is the mean over prompts.

    p counts if ln p >= ln tau - 1e-5, for the rounding of float32 log-probabilities. The mean of Pass@N is
    the mean of Cover@tau over tau from the Beta(1, N) law.

    Source: Cover@tau, arXiv 2510.08325.

    Raises:
        ValueError: a tau that is not in (0, 1].

    >>> covered_at(np.log([0.2, 0.5]), (0.5,)).tolist()
    [[0.0], [1.0]]
    """
    log_prob = np.asarray(log_prob_correct, np.float64)
    thresholds = [math.log(real("tau", tau, above=0, most=1)) - RATIO_TOLERANCE for tau in taus]
    return np.stack([(log_prob >= threshold).astype(np.float64) for threshold in thresholds], axis=-1)


def likelihood_quantile(
    log_prob: Float[np.ndarray, "*batch examples"],
    eps: Sequence[float],
    weights: Float[np.ndarray, " examples"] | None = None,
) -> Float[np.ndarray, "*batch eps"]:
    """ln Q(eps) in nats, Q(eps) = sup{a: P[pi_hat(y|x) < a] <= eps}, over right responses y.

    A share of at most eps of the examples has a likelihood below Q(eps), and Q(0) is the least likelihood.
    It is the supremum, because every a below Q(eps) fulfils the condition too. Likelihoods are compared as
    logarithms: those of long responses are below the least positive float. -inf where a share above eps has
    likelihood 0.

    Source: base-model barrier, arXiv 2603.06957.

    Raises:
        ValueError: an eps that is not in [0, 1), a NaN, bad weights (see `check_values`).

    >>> np.exp(likelihood_quantile(np.log([0.5, 0.1, 0.2, 0.4]), (0, 0.25, 0.6))).round(3).tolist()
    [0.1, 0.2, 0.4]
    """
    shares = [real("eps", each, least=0, below=1) for each in eps]
    values, weight = check_values(log_prob, weights, name="log_prob")
    order = np.argsort(values, axis=-1)
    reached = np.cumsum(weight[order], axis=-1) / weight.sum()
    # The last example exceeds every share; rounding must not hide it.
    reached[..., -1] = 1.0
    # A share of exactly eps may lie below Q(eps).
    first = [np.argmax(reached > min(share + SHARE_TOLERANCE, 1 - 1e-12), axis=-1) for share in shares]
    ordered = np.take_along_axis(values, order, axis=-1)
    return np.stack([np.take_along_axis(ordered, at[..., None], axis=-1)[..., 0] for at in first], axis=-1)


@dataclasses.dataclass(frozen=True)
class PromptMetrics:
    """Numbers N, tau, eps and K of the metrics of p; an empty list measures none.

    Attributes:
        pass_all_ns: the N of pass^N = E[p^N], that N responses are all right.
        taus: the tau of Cover@tau, the share of prompts with p >= tau.
        eps: the eps of the likelihood quantile ln Q(eps) of the right responses that pi_D draws.
        ratio_ns: the K of the coverage ratio rho_K against the start of the phase.

    Names: `pass_all/<N>`, `cover/<tau>`, `likelihood/<eps>`, `coverage_ratio/<K>`. All but the likelihood
    need enumerated responses. rho_K is infinite where coverage was lost and none was gained, and is left out
    where neither happened.

    Raises:
        ValueError: in one line, for a number out of range.
    """

    pass_all_ns: Sequence[int] = ()
    taus: Sequence[float] = ()
    eps: Sequence[float] = ()
    ratio_ns: Sequence[int] = ()

    def __post_init__(self) -> None:
        checks: dict[str, tuple[Callable[[str, Any], float], str]] = {
            "pass_all_ns": (lambda field, n: whole(field, n, 1), "whole numbers N >= 1"),
            "taus": (lambda field, tau: real(field, tau, above=0, most=1), "numbers in (0, 1]"),
            "eps": (lambda field, share: real(field, share, least=0, below=1), "numbers in [0, 1)"),
            "ratio_ns": (lambda field, n: whole(field, n, 1), "whole numbers K >= 1"),
        }
        for field, (check, valid) in checks.items():
            given = getattr(self, field)
            values = tuple(given) if isinstance(given, list | tuple) else (given,)
            try:
                object.__setattr__(self, field, tuple(check(field, value) for value in values))
            except ValueError:
                raise ValueError(f"evaluation.{field}: {list(values)}; valid: {valid}, or none") from None

    def by_prompt(
        self, log_prob_correct: Float[np.ndarray, " prompts"]
    ) -> Iterator[tuple[str, Float[np.ndarray, " prompts"]]]:
        """(name, one value per prompt) of pass^N and Cover@tau, whose means over prompts are the metrics."""
        if self.pass_all_ns:
            every = pass_all_n(log_prob_correct, self.pass_all_ns)
            yield from ((f"pass_all/{n}", every[:, i]) for i, n in enumerate(self.pass_all_ns))
        if self.taus:
            covered = covered_at(log_prob_correct, self.taus)
            yield from ((f"cover/{_name(tau)}", covered[:, i]) for i, tau in enumerate(self.taus))

    def likelihoods(
        self,
        log_prob: Float[np.ndarray, "prompts candidates"],
        right_weight: Float[np.ndarray, "prompts candidates"],
    ) -> Iterator[tuple[str, float]]:
        """(name, ln Q(eps)) over right responses with these weights; NaN if there are none."""
        if self.eps:
            weights, values = right_weight.reshape(-1), np.asarray(log_prob, np.float64).reshape(-1)
            found = [math.nan] * len(self.eps)
            if weights.any():
                found = likelihood_quantile(values, self.eps, weights).tolist()
            yield from zip((f"likelihood/{_name(share)}" for share in self.eps), found, strict=True)

    def ratios(
        self,
        start: Float[np.ndarray, " prompts"],
        log_prob_correct: Float[np.ndarray, " prompts"],
        weights: Float[np.ndarray, " prompts"],
    ) -> Iterator[tuple[str, float]]:
        """(name, rho_K) from ln p at the start of the phase and now; NaN where it is undefined."""
        if self.ratio_ns:
            before, now = (pass_at_n(each, self.ratio_ns) for each in (start, log_prob_correct))
            for i, n in enumerate(self.ratio_ns):
                ratio = coverage_ratio(before[:, i], now[:, i], weights).ratio.estimate
                yield f"coverage_ratio/{n}", ratio


def _name(number: float) -> str:
    """A number in the name of a metric: "0.05", "1"."""
    return str(np.format_float_positional(number, trim="-"))
