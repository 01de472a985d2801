"""Families of models whose laws are known exactly, for choosing among them.

An instance is a law of prompts, pi_D and |Pi| models on few outcomes (x, y). Which model has the better
coverage, and whether the KL says so, is what the families differ in.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

LEAST_MASS, MOST_MASS = 2e-6, 0.2
"""Probabilities of rare prompts: from what no held-out set meets to what every one meets."""
PROMPTS = 24
RESPONSES = 4
WASTE = 3.0
"""Largest factor that a model loses to wrong responses everywhere: ratios stay below every N >= 4."""
NOISE = 0.1
FORGOTTEN = (13.0, 20.0)
"""Powers of two by which a forgotten prompt's responses are too improbable: beyond N^(1+a) everywhere."""
MINORITY = 0.1


@dataclasses.dataclass(frozen=True)
class Instance:
    """Prompts, pi_D and the models to choose from; log-probabilities in nats, -inf off pi_D's support.

    Attributes:
        prompts: mu(x).
        target: ln pi_D(y|x).
        models: ln pi(y|x), in the order of training where there is one.
    """

    prompts: Float[np.ndarray, " prompts"]
    target: Float[np.ndarray, "prompts responses"]
    models: Float[np.ndarray, "models prompts responses"]


@dataclasses.dataclass(frozen=True)
class Family:
    """A way of drawing instances: `draw(rng, size, n, a)` for |Pi| = size; `n` and `a` are those of the
    tournament where `per_n` says that the instance is made for them. `judged_at` is the N of the verdict,
    where models differ and the guarantee is below 1 (but for checkpoints, which differ at small N only)."""

    name: str
    summary: str
    draw: Callable[[np.random.Generator, int, float, float], Instance]
    judged_at: int
    per_n: bool = False


def misspecified_pair(alpha: float, m: float) -> Instance:
    """pi_1, which is off by at most alpha everywhere, and pi_2, which has the smaller KL and misses (-, 1).

    X = {+, -}, mu(-) = alpha^2/(32 ln M), pi_D = Ber(1/2); pi_1(.|+) = Ber(e^-alpha/2), pi_1(.|-) = Ber(1/2);
    pi_2(.|+) = Ber(1/2), pi_2(.|-) = Ber(1/(2M)). Cov_N(pi_1) = 0 for N > e^alpha, Cov_N(pi_2) = mu(-)/2 for
    1 < N <= M. (The paper prints mu(-) = alpha/(32 ln M) and Cov = mu(-); the proof needs the square.)

    Source: Coverage Principle, arXiv 2510.15020, Proposition E.1.

    Raises:
        ValueError: alpha not in (0, 1], or M <= e^alpha.
    """
    if not (0 < alpha <= 1 and m > math.exp(alpha)):
        raise ValueError(f"alpha: {alpha}, M: {m}; valid: 0 < alpha <= 1 and M > e^alpha")
    rare = alpha**2 / (32 * math.log(m))
    laws = np.array([[[0.5, 0.5], [0.5, 0.5]], [_bernoulli(math.exp(-alpha) / 2), [0.5, 0.5]],
                     [[0.5, 0.5], _bernoulli(1 / (2 * m))]])  # fmt: skip
    return Instance(np.array([1 - rare, rare]), np.log(laws[0]), np.log(laws[1:]))


def checkpoints(rng: np.random.Generator, size: int, n: float, a: float) -> Instance:
    """Figure 1's fine-tuning as curves of class-blind models: pi_D takes path 0 on the majority class (.9)
    and path 1 on the minority; a model cannot tell the classes apart. It starts at 5/12 on both paths (1/6 on
    wrong ones) and drifts to .97 on path 0, through .9, where the KL is least. Each of 8 prompts of a class
    has log-odds of its own, the same for both classes' like prompts.

    Source: Coverage Principle, arXiv 2510.15020, Appendix C.2, the ideal class-blind model (derived).
    """
    del n, a
    kinds = 8
    time = np.linspace(0, 1, size)
    odds = math.log(0.97 / 0.03) * time[:, None] * np.exp(0.15 * rng.standard_normal(kinds))
    wrong = (1 - time[:, None]) ** 3 / 6 * np.ones(kinds) + 1e-4
    first = (1 - wrong) / (1 + np.exp(-odds))
    law = np.stack([first, 1 - wrong - first, wrong / 2, wrong / 2], axis=-1)
    target = np.full((2 * kinds, 4), -np.inf)
    target[:kinds, 0] = target[kinds:, 1] = 0.0
    prompts = np.repeat([(1 - MINORITY) / kinds, MINORITY / kinds], kinds)
    return Instance(prompts, target, np.log(np.concatenate([law, law], axis=1)))


def rare_prompts(rng: np.random.Generator, size: int, n: float, a: float) -> Instance:
    """The price of coverage: a model that wastes less probability on wrong responses has forgotten more.

    Model k has forgotten prompts of total mass m_k, log-uniform over five decades: their responses are
    2^13 to 2^20 times too improbable. Everywhere else its responses are too improbable by a factor of at most
    3, larger the smaller m_k: a wide KL and no loss of coverage. The KL is least at an m of about .009.
    """
    del n, a
    return _forgetful(rng, size, WASTE, price=True)


def aligned(rng: np.random.Generator, size: int, n: float, a: float) -> Instance:
    """As `rare_prompts`, but the model that has forgotten most wastes most too: the KL orders the models as
    their coverage does, and min-KL is right."""
    del n, a
    return _forgetful(rng, size, WASTE, price=False)


def logistic(rng: np.random.Generator, size: int, n: float, a: float) -> Instance:
    """Autoregressive logistic models of H = 6 bits that cannot see the prompt: theta_k = s_k theta* + noise
    along a training path, s from 0 to 1.8. pi_D follows theta* on four prompts (mass .95) and -theta* on a
    rare one, so larger scales fit the majority better and cover the rare prompt worse.

    P(y_h = 1) = sigmoid<theta, phi>, phi = (1, last bit as +-1, mean of the bits so far as +-1).
    """
    del n, a
    star = rng.standard_normal(3)
    star *= 2.0 / np.linalg.norm(star)
    masses = np.array([0.4, 0.3, 0.2, 0.05, 0.05])
    signs = np.array([1.0, 1.0, 1.0, 1.0, -1.0])
    spread = 1 + 0.2 * rng.standard_normal(5)
    target = np.stack(
        [logistic_log_probs(sign * factor * star, 6) for sign, factor in zip(signs, spread, strict=True)]
    )
    scales = np.linspace(0, 1.8, size)
    noise = 0.15 * rng.standard_normal((size, 3))
    models = np.stack(
        [logistic_log_probs(s * star + direction, 6) for s, direction in zip(scales, noise, strict=True)]
    )
    return Instance(masses, target, np.repeat(models[:, None], 5, axis=1))


def rogue(rng: np.random.Generator, size: int, n: float, a: float) -> Instance:
    """The simple tournament has the term N^-(1-a) here, and the offset tournament's premise holds.

    Model 0 is within a ln N of pi_D everywhere. Model 1, the rogue, always gives response 0, which has
    probability .9/N under pi_D: it beats whoever gives response 0 less than 1/N, though all of them are
    right. Model 2 gives it 1.8 times as much, so the rogue cannot beat it; but it has forgotten a prompt of
    mass .6/N. The others are as in `rare_prompts` with less waste: the KL of one that has forgotten about
    .002 is least. The simple tournament takes model 2 for every number of examples; the offset forgives
    what the rogue says.
    """
    base = _forgetful(rng, size, 1.2, price=True)
    special = 0.9 / n
    prompts = np.append(base.prompts * (1 - 0.6 / n), 0.6 / n)
    target = np.append(base.target, base.target[:1], axis=0)
    models = np.append(base.models, base.models[:, :1], axis=1)
    models[3:, -1] = target[-1]
    models[0] = _normalised(target + rng.choice([-a / 2, a / 2], target.shape) * math.log(n))
    models[1:3] = target
    lost = rng.uniform(*FORGOTTEN) * math.log(2)
    models[2, -1] -= lost
    models[2, -1, -1] = math.log1p(-math.exp(-lost))
    first = np.full((size, len(prompts)), special)
    first[1], first[2] = 0.999, 1.8 * special
    return Instance(prompts, _with_first(target, np.full(len(prompts), special)), _with_first(models, first))


FAMILIES = (
    Family("checkpoints", "class-blind checkpoints of Figure 1, drifting past the least KL", checkpoints, 4),
    Family("rare_prompts", "forgetting rare prompts is what makes the KL small", rare_prompts, 64),
    Family("logistic", "autoregressive logistic models along a path, blind to the prompt", logistic, 64),
    Family("aligned", "the KL orders the models as coverage does", aligned, 64),
    Family("rogue", "a model far from pi_D beats the good ones on a rare response", rogue, 256, per_n=True),
)
JUDGED_AT = {family.name: family.judged_at for family in FAMILIES}


def logistic_log_probs(theta: Float[np.ndarray, "3"], horizon: int) -> Float[np.ndarray, " responses"]:
    """ln pi_theta(y) of all 2^H responses in lexicographic order (see `logistic`)."""
    bits = (np.arange(2**horizon)[:, None] >> np.arange(horizon)[::-1]) & 1
    signs = 2.0 * bits - 1
    total = np.zeros(len(bits))
    for h in range(horizon):
        last = signs[:, h - 1] if h else np.zeros(len(bits))
        mean = signs[:, :h].mean(axis=1) if h else np.zeros(len(bits))
        logit = theta[0] + theta[1] * last + theta[2] * mean
        total -= np.logaddexp(0, -signs[:, h] * logit)
    return total


def _bernoulli(p: float) -> list[float]:
    return [1 - p, p]


def _normalised(log_weights: Float[np.ndarray, "*batch responses"]) -> Float[np.ndarray, "*batch responses"]:
    with np.errstate(divide="ignore"):
        return log_weights - np.log(np.exp(log_weights).sum(axis=-1, keepdims=True))


def _with_first(
    laws: Float[np.ndarray, "*batch responses"], first: Float[np.ndarray, "*batch"]
) -> Float[np.ndarray, "*batch more"]:
    """One more response, the new response 0, of probability `first`; the others share the rest as before."""
    return np.concatenate([np.log(first)[..., None], laws + np.log1p(-first)[..., None]], axis=-1)


def _forgetful(rng: np.random.Generator, size: int, waste: float, price: bool) -> Instance:
    """Models that have forgotten prompts; each wastes a factor of up to `waste`, which falls with the
    forgotten mass (`price`) or rises with it. The last response is wrong: pi_D never gives it. Models are in
    no particular order."""
    low, high = math.log(LEAST_MASS), math.log(MOST_MASS)
    prompts = np.exp(np.linspace(low, high, PROMPTS) + 0.2 * rng.standard_normal(PROMPTS))
    prompts /= prompts.sum()
    target = _normalised(rng.standard_normal((PROMPTS, RESPONSES)))
    largest = rng.integers(PROMPTS, size=size)
    forgets = (rng.random((size, PROMPTS)) < 0.2) & (np.arange(PROMPTS) < largest[:, None])
    forgets[np.arange(size), largest] = True
    rank = (np.log(forgets @ prompts) - low) / (high - low)
    share = np.clip((1 - rank if price else rank) + 0.1 * rng.standard_normal(size), 0.01, 1)
    wasted = share * math.log(waste)
    lost = rng.uniform(*FORGOTTEN, size) * math.log(2)
    factor = np.where(forgets, lost[:, None], wasted[:, None])[..., None]
    models = _normalised(target + rng.uniform(-NOISE, NOISE, (size, PROMPTS, RESPONSES))) - factor
    none = np.full((PROMPTS, 1), -np.inf)
    return Instance(
        prompts,
        np.concatenate([target, none], axis=-1),
        np.concatenate([models, np.log(-np.expm1(-factor))], axis=-1),
    )
