"""Exact loss of Best-of-N against a target policy under the worst reward, for enumerated laws.

Best-of-N draws N responses from pi_hat and returns one of the largest reward. Under the reward 1{y in R},
Best-of-N earns 1 - (1 - pi_hat(R))^N, pi_T earns pi_T(R), and the loss is the difference. No other reward in
[0, 1] is worse: r = int_0^1 1{r >= u} du, so the loss of r is the mean over u of the losses of the sets
{r >= u}.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from metrics.coverage import check_tolerance
from metrics.pass_rates import check_whole_ns
from tasks.checks import real


def _check_laws(
    target: Float[np.ndarray, "*batch responses"],
    model: Float[np.ndarray, "*batch responses"],
    names: tuple[str, str] = ("target", "model"),
) -> tuple[Float[np.ndarray, "*batch responses"], Float[np.ndarray, "*batch responses"]]:
    laws = np.asarray(target, np.float64), np.asarray(model, np.float64)
    for name, law in zip(names, laws, strict=True):
        if law.ndim == 0 or law.shape != laws[0].shape or not law.shape[-1]:
            raise ValueError(f"{name}: shape {law.shape}; valid: that of {names[0]}, at least one response")
        if not (np.isfinite(law).all() and (law >= 0).all() and (law.sum(axis=-1) <= 1 + 1e-9).all()):
            raise ValueError(f"{name}: not a law; valid: probabilities >= 0 that sum to at most 1")
    return laws


def _earned(mass: Float[np.ndarray, "*shape"], n: int) -> Float[np.ndarray, "*shape"]:
    # The total of a law may exceed 1 by rounding.
    with np.errstate(divide="ignore"):
        return -np.expm1(n * np.log1p(-np.minimum(mass, 1.0)))


def worst_loss(
    target: Float[np.ndarray, "*batch responses"],
    model: Float[np.ndarray, "*batch responses"],
    ns: Sequence[float],
) -> Float[np.ndarray, "*batch n"]:
    """max over sets R of pi_T(R) - (1 - (1 - pi_hat(R))^N), in [0, 1], for every prompt of the batch.

    `target` and `model` are pi_T(y|x) and pi_hat(y|x) over the same responses; responses of pi_T = 0 may be
    omitted. A reward may depend on the prompt, so the worst loss over prompts is the mean of the losses.

    Only sets {y: pi_T(y)/pi_hat(y) >= c} are candidates. Replace sets by weights w in [0, 1]^Y, and let
    t = sum w pi_T, h = sum w pi_hat. The loss t - 1 + (1 - h)^N is convex in w, so a maximum w* also
    maximises the linear sum_y w_y (pi_T - c pi_hat)(y), c = N (1 - h*)^(N-1). Hence w* is 1 where pi_T > c
    pi_hat and 0 where pi_T < c pi_hat. On the face of equality the sum is constant; the loss there is at
    least the tangent and at most the maximum, hence constant, so ties may be in or out.

    >>> worst_loss(np.array([1.0]), np.array([0.1]), (1, 2)).round(2).tolist()
    [0.9, 0.81]

    Source: the losses are those of the Coverage Principle, arXiv 2510.15020, Propositions D.6 and D.7; the
    maximum over rewards is this project's.

    Raises:
        ValueError: no laws over the same responses, an N that is not a whole number >= 1.
    """
    wanted, given = _check_laws(target, model)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(wanted > 0, wanted / given, -1.0)
    order = np.argsort(-ratio, axis=-1, kind="stable")
    masses = [np.cumsum(np.take_along_axis(law, order, axis=-1), axis=-1) for law in (wanted, given)]
    columns = [np.max(masses[0] - _earned(masses[1], n), axis=-1) for n in check_whole_ns(ns)]
    return np.maximum(np.stack(columns, axis=-1), 0.0)


def threshold_loss(
    target: Float[np.ndarray, "*batch responses"],
    model: Float[np.ndarray, "*batch responses"],
    ns: Sequence[float],
    factor: float = 2.0,
    tolerance: float = 0.0,
) -> Float[np.ndarray, "*batch n"]:
    """Loss under the reward 1{pi_T/pi_hat >= factor N}, at least (1 - 1/factor) Cov_{factor N}.

    N draws hit the rewarded responses with probability at most N pi_hat(R) <= pi_T(R)/factor. The paper's
    witness has factor 2. `tolerance` (nats) is as in `coverage_profile`.

    Source: Coverage Principle, arXiv 2510.15020, Proposition D.7; other factors are this project's.

    Raises:
        ValueError: as `worst_loss`, a factor that is not positive, a bad tolerance.
    """
    wanted, given = _check_laws(target, model)
    if not factor > 0:
        raise ValueError(f"factor: {factor}; valid: a positive number")
    slack = np.exp(-check_tolerance(tolerance))
    columns = []
    for n in check_whole_ns(ns):
        rewarded = (wanted > 0) & (wanted >= factor * n * slack * given)
        hit = np.sum(given * rewarded, axis=-1)
        columns.append(np.sum(wanted * rewarded, axis=-1) - _earned(hit, n))
    return np.stack(columns, axis=-1)


def hockey_stick_divergence(
    target: Float[np.ndarray, "*batch responses"],
    model: Float[np.ndarray, "*batch responses"],
    ns: Sequence[float],
) -> Float[np.ndarray, "*batch n"]:
    """E_N = max over R of pi_T(R) - N pi_hat(R) = sum_y max(pi_T - N pi_hat, 0).

    E_N is at most `worst_loss`, because 1 - (1 - h)^N <= N h, and at least (1 - 1/c) Cov_{cN} for every c >
    1, hence at least Cov_{2N}/2.

    Source: derived from the Coverage Principle, arXiv 2510.15020, Proposition D.7.

    Raises:
        ValueError: as `worst_loss`.
    """
    wanted, given = _check_laws(target, model)
    columns = [np.sum(np.maximum(wanted - n * given, 0.0), axis=-1) for n in check_whole_ns(ns)]
    return np.stack(columns, axis=-1)


def e_gamma_divergence(
    first: Float[np.ndarray, "*batch responses"],
    second: Float[np.ndarray, "*batch responses"],
    gammas: Sequence[float],
) -> Float[np.ndarray, "*batch gamma"]:
    """E_gamma = max of sum_y max(P - gamma Q, 0) and sum_y max(Q - gamma P, 0), any real gamma >= 1.

    Over events R it is the largest of P(R) - gamma Q(R) and Q(R) - gamma P(R), so P(R) <= gamma Q(R) +
    E_gamma both ways. It is 0 if and only if |ln P - ln Q| <= ln gamma everywhere. Over prompts, the mean of
    the rows. Both laws sum to 1: responses that either of them gives must not be omitted.

    Derived: Cov_{c gamma}(P || Q) <= c/(c - 1) E_gamma for c > 1, with equality if every P/Q is c gamma or at
    most gamma, and the first sum is the larger one. The paper prints the factor 1 at c = 2, where it is 2.

    >>> e_gamma_divergence(np.array([0.5, 0.5]), np.array([0.125, 0.875]), (1, 2)).tolist()
    [0.375, 0.25]

    Source: Coverage Principle, arXiv 2510.15020, Appendix J.2 (equations 98 to 100).

    Raises:
        ValueError: laws over different responses, laws that do not sum to 1, no gamma or one below 1.
    """
    names = ("first", "second")
    one, two = _check_laws(first, second, names)
    if not len(gammas):
        raise ValueError("gammas: (); valid: at least one gamma >= 1")
    for name, law in zip(names, (one, two), strict=True):
        if (np.abs(law.sum(axis=-1) - 1) > 1e-9).any():
            raise ValueError(f"{name}: not a law; valid: probabilities >= 0 that sum to 1")
    columns = [
        np.maximum(
            np.sum(np.maximum(one - gamma * two, 0.0), axis=-1),
            np.sum(np.maximum(two - gamma * one, 0.0), axis=-1),
        )
        for gamma in (real("gammas", gamma, least=1) for gamma in gammas)
    ]
    return np.stack(columns, axis=-1)


def samples_needed(
    target: Float[np.ndarray, " responses"],
    model: Float[np.ndarray, " responses"],
    loss: float,
    at_most: int = 1 << 24,
) -> int | None:
    """Least N at which Best-of-N loses at most `loss` under every reward; None if above `at_most`.

    Bisection applies, because the loss under every reward decreases in N.

    Raises:
        ValueError: as `worst_loss`, a loss outside (0, 1).
    """
    if not 0 < loss < 1:
        raise ValueError(f"loss: {loss}; valid: a number strictly between 0 and 1")

    def enough(n: int) -> bool:
        return bool(worst_loss(target, model, (n,))[..., 0] <= loss)

    high = 1
    while not enough(high):
        if high >= at_most:
            return None
        high = min(2 * high, at_most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
