"""The lower-bound family of SGD: prompts that forbid a large step, and prompts that need many small steps.

d = 2, Theta is the unit ball, tokens are -1, 0, 1, and all positions of a response have one law:

- A spike e >= 8 (the prompt that is the number e/(H B)): phi = B v with v(0) = (1, 0) and
  v(+-1) = (a, +-sqrt(1 - a^2)), a = e/(2(e - 1)). mu is on the spike, theta* = (1, 0), the start is v(1). The
  response is 0 ... 0 up to a probability of e^(-B/4), so the instance is deterministic.
- Slopes + and -: phi = (B' y, 0) and (0, B' y). theta* = (1/2, 1/2), the start is (r - 1/B', 1/4) with
  e^(r B') = H/(4 ln N).

A step size serves the family if it serves every spike and the slopes, and needs as many sequences as the
worst instance. `measure_family` chooses the step sizes on one seed and counts the sequences on another.

Everything is float64 on the host. Axes: `rates` (step sizes) first, then `draws`. The features are those of
`theory.sgd.family.SGDFamily`.

Source: Coverage Principle, arXiv 2510.15020, Proposition 5.1, lower bound (Lemmas I.6 and I.7).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from theory.sgd.rare_prompts import binomial_cdf, generator, kept_tokens
from tracking import Progress

Method = Literal["sequence", "truncated", "token"]


class Family(NamedTuple):
    """Parameters of an instance.

    Attributes:
        horizon: H.
        n: N of Cov_N.
        inner: B' of the slopes; B = B'^2.
        plus: mu(+); mu(-) = 1 - mu(+).
        target: the target Cov_N.
    """

    horizon: int
    n: float = 16.0
    inner: float = 25.0
    plus: float = 0.25
    target: float = 1 / 16

    @property
    def bound(self) -> float:
        """B."""
        return self.inner**2

    @property
    def budget(self) -> float:
        """ln N."""
        return math.log(self.n)

    @property
    def start(self) -> tuple[float, float]:
        """theta^0 of the slopes."""
        return (math.log(self.horizon / (4 * self.budget)) - 1) / self.inner, 0.25


def ball(theta: Float[np.ndarray, "*batch two"]) -> Float[np.ndarray, "*batch two"]:
    """Projection on the unit ball."""
    return theta / np.maximum(np.linalg.norm(theta, axis=-1, keepdims=True), 1.0)


def spike_steps(
    family: Family, method: Method, rates: Float[np.ndarray, " rates"], spikes: int = 24, most: int = 64
) -> Float[np.ndarray, " rates"]:
    """Sequences until Cov_N stays <= target on the worst spike; infinite if not within `most`.

    The spikes are `spikes` numbers from 8 to 512, evenly spaced in the logarithm. If eta H B is a spike, it
    is added: there sequence-level SGD flips between v(1) and v(-1).
    """
    flip = np.maximum(rates * family.horizon * family.bound, 8.0)
    e = np.concatenate(
        [np.broadcast_to(np.geomspace(8, 512, spikes), (len(rates), spikes)), flip[:, None]], 1
    )
    a = e / (2 * (e - 1))
    high = np.sqrt(1 - a**2)
    points = np.stack([np.stack([a, -high], -1), np.stack([a**0, 0 * a], -1), np.stack([a, high], -1)], -2)
    theta = points[..., 2, :]
    last = np.full(e.shape, -1.0)

    def law(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = family.bound * np.einsum("rsad,rsd->rsa", points, theta)
        log_probs = logits - special.logsumexp(logits, axis=-1, keepdims=True)
        return -log_probs[..., 1], points[..., 1, :] - np.einsum("rsa,rsad->rsd", np.exp(log_probs), points)

    reach = (rates[:, None] * family.bound)[..., None]
    for step in range(most):
        eps, gradient = law(theta)
        last = np.where(family.horizon * eps >= family.budget, step, last)
        if family.horizon * eps.max() < 1e-9:
            break
        if method == "token":
            for _ in range(family.horizon):
                theta = ball(theta + reach * gradient)
                eps, gradient = law(theta)
                if eps.max() < 1e-15:
                    break
        else:
            kept = np.full(eps.shape, float(family.horizon))
            if method == "truncated":
                kept = kept_tokens(eps, family.horizon, family.budget)
            theta = ball(theta + reach * kept[..., None] * gradient)
    return np.where(last == most - 1, np.inf, last + 1).max(axis=1)


def slope_law(u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ln pi(1), ln pi(0) and E[y] of tokens with logits -u, 0, u."""
    less = np.exp(-np.abs(u))
    total = 1 + less + less * less
    ln = np.log1p(less + less * less)
    return np.minimum(0, 2 * u) - ln, -np.abs(u) - ln, np.sign(u) * (1 - less * less) / total


class Slopes(NamedTuple):
    """Sequences until Cov_N stays <= target, infinite if never. The model answers with the parameters at the
    sequence's start (`fixed`) or, for token-level SGD, with running parameters (`running`)."""

    fixed: Float[np.ndarray, "rates draws"]
    running: Float[np.ndarray, "rates draws"] | None


def slope_coverage(family: Family, u: np.ndarray) -> np.ndarray:
    """Cov_N on one slope for fixed parameters, from the binomial number of zeros in a response. Exact up to
    the token -1, whose probability is e^-B'."""
    truth = slope_law(np.asarray(family.inner / 2))
    one, zero, _ = slope_law(u)
    gain, loss = truth[0] - one, zero - truth[1]
    # ln ratio = (H - z) gain - z loss for z zeros.
    slope = gain + loss
    room = family.horizon * gain - family.budget
    edge = np.divide(room, slope, out=np.zeros_like(room), where=slope != 0)
    few = binomial_cdf(np.floor(edge), family.horizon, np.exp(truth[1]))
    many = 1 - binomial_cdf(np.ceil(edge) - 1, family.horizon, np.exp(truth[1]))
    return np.where(slope > 0, few, np.where(slope < 0, many, 0.0))


def slope_steps(
    family: Family,
    method: Method,
    rates: Float[np.ndarray, " rates"],
    draws: int,
    rng: np.random.Generator,
    most: int,
    elsewhere: Float[np.ndarray, " rates"] | None = None,
) -> Slopes:
    """Train on the slopes for at most `most` sequences; see `Slopes`.

    To compare step sizes, `elsewhere` has the sequences that each needs on other instances. Step sizes that
    fail there are not run. Training ends when every unfinished step size needs more than twice as many
    sequences as the best. Both cases count as never.
    """
    if elsewhere is not None and not np.isfinite(elsewhere).all():
        hopeful = np.isfinite(elsewhere)
        slopes = slope_steps(family, method, rates[hopeful], draws, rng, most, elsewhere[hopeful])
        fixed = np.full((len(rates), draws), np.inf)
        running = fixed.copy()
        fixed[hopeful] = slopes.fixed
        if slopes.running is None:
            return Slopes(fixed, None)
        running[hopeful] = slopes.running
        return Slopes(fixed, running)
    size, inner = family.horizon, family.inner
    truth = slope_law(np.asarray(inner / 2))
    p_zero = math.exp(truth[1])
    theta = np.broadcast_to(np.asarray(family.start), (len(rates), draws, 2)).copy()
    eta = rates[:, None]
    coming: Bool[np.ndarray, "sequences draws"] = rng.random((most, draws)) < family.plus
    last = np.full((len(rates), draws), -1.0)
    last_running, shown = last.copy(), np.zeros((len(rates), draws, 2), bool)
    mu = np.array([family.plus, 1 - family.plus])
    for step in range(most):
        over = slope_coverage(family, inner * theta) @ mu > family.target
        last = np.where(over, step, last)
        if not over.any() and (method != "token" or shown.all()):
            break
        if elsewhere is not None and method != "token":
            cost = np.where(over.any(axis=1), np.inf, np.maximum(elsewhere, last.max(axis=1) + 1))
            if step >= 2 * cost.min() + 64:
                break
        which = coming[step]
        at = np.where(which, theta[..., 0], theta[..., 1])
        if method == "token":
            zeros = rng.random((size, draws)) < p_zero
            ratio = np.zeros_like(at)
            for zero in zeros:
                one, nil, mean = slope_law(inner * at)
                ratio += np.where(zero, truth[1] - nil, truth[0] - one)
                at = at + eta * inner * (np.where(zero, 0.0, 1.0) - mean)
            # The response judges the parameters at its start, which its prompt has had since the last visit.
            # If it is not covered, one more visit was needed.
            uncovered = ratio >= family.budget
            last_running = np.where(uncovered, step, last_running)
            shown |= np.stack([which & ~uncovered, ~which & ~uncovered], -1)
        else:
            one, nil, mean = slope_law(inner * at)
            kept = np.full(at.shape, float(size))
            if method == "truncated":
                eps = math.exp(truth[0]) * (truth[0] - one) + p_zero * (truth[1] - nil)
                kept = kept_tokens(np.maximum(eps, 0), size, family.budget)
            whole = np.floor(kept).astype(int)
            zeros = rng.binomial(whole, p_zero) + (kept - whole) * (rng.random(at.shape) < p_zero)
            at = at + eta * inner * (kept - zeros - kept * mean)
        theta = ball(np.where(np.stack([which, ~which], -1), at[..., None], theta))
    fixed = np.where(over, np.inf, last + 1)
    if method != "token":
        return Slopes(fixed, None)
    return Slopes(fixed, np.where(shown.all(-1), last_running + 1, np.inf))


@dataclasses.dataclass(frozen=True)
class FamilySettings:
    """Settings for measuring the family.

    Attributes:
        horizons: the lengths H.
        family: the family; its horizon is replaced by each of `horizons`.
        draws: draws of the prompts' order for the verdict.
        tuning_draws: draws of the prompts' order for choosing step sizes.
        tuning_seed: seed of the tuning draws.
        seed: seed of all other draws.
    """

    horizons: tuple[int, ...]
    family: Family
    draws: int
    tuning_draws: int
    tuning_seed: int
    seed: int


class Arm(NamedTuple):
    """A way of training and answering.

    Attributes:
        method: one step per sequence, one truncated step per sequence, or one step per token.
        grid: step sizes.
        most: largest number of sequences on the family; four times as many on the draws of the verdict.
        spikes: number of spikes.
        spike_most: largest number of sequences on a spike.
        running: True to answer with running parameters (test-time training); only with "token".
    """

    method: Method
    grid: tuple[float, ...]
    most: int
    spikes: int = 24
    spike_most: int = 256
    running: bool = False

    def needed(self, slopes: Slopes) -> Float[np.ndarray, "rates draws"]:
        """The field of `slopes` for this way of answering."""
        if not self.running:
            return slopes.fixed
        assert slopes.running is not None, "running parameters: only of a step a token"
        return slopes.running


@dataclasses.dataclass(frozen=True)
class FamilyRun:
    """Sequences until Cov_N stays at the target on the worst instance, (draws, H) by arm, and the chosen step
    sizes."""

    needed: dict[str, Float[np.ndarray, "draws horizons"]]
    steps: dict[str, tuple[float, ...]]


def measure_family(
    claim: str, arms: Mapping[str, Arm], settings: FamilySettings, progress: Progress
) -> FamilyRun:
    """Measure every arm at every H, with the step size whose worst instance needs the fewest sequences on the
    tuning seed. Arms of one method have one grid and share the tuning runs."""
    needed: dict[str, list[np.ndarray]] = {name: [] for name in arms}
    steps: dict[str, list[float]] = {name: [] for name in arms}
    for horizon in progress.over("family", settings.horizons, lambda h: {"H": h}):
        family = settings.family._replace(horizon=horizon)
        tuning: dict[Method, tuple[np.ndarray, Slopes]] = {}
        for name, arm in arms.items():
            rates = np.array(arm.grid)
            if arm.method not in tuning:
                spikes = spike_steps(family, arm.method, rates, arm.spikes, arm.spike_most)
                rng = generator(settings.tuning_seed, claim, "family", arm.method, horizon)
                draws = settings.tuning_draws
                slopes = slope_steps(family, arm.method, rates, draws, rng, arm.most, spikes)
                tuning[arm.method] = spikes, slopes
            spikes, slopes = tuning[arm.method]
            best = int(np.maximum(spikes, arm.needed(slopes).mean(axis=1)).argmin())
            rng = generator(settings.seed, claim, "family", name, horizon)
            slopes = slope_steps(family, arm.method, rates[[best]], settings.draws, rng, 4 * arm.most)
            needed[name].append(np.maximum(arm.needed(slopes)[0], spikes[best]))
            steps[name].append(float(rates[best]))
    return FamilyRun(
        {name: np.stack(rows, axis=1) for name, rows in needed.items()},
        {name: tuple(rows) for name, rows in steps.items()},
    )
