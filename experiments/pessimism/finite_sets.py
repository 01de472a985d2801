"""Best-of-N and pessimism at every N on finite sets, overrated where the reference seldom goes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from covlab.claims.settings import Reals, Seed, Whole
from metrics import best_of_n_law, pessimism, pessimism_laws, regret_bound
from tasks import numpy_stream
from tasks.checks import wholes

GOOD, OVERRATED = 24, 24
"""Responses of reward 1, and overrated ones."""
TOP = (1.05, 1.45)
"""Range of the estimated reward of overrated responses; all others have at most 1 + `SPREAD`."""
SPREAD = 0.02
CEILING = 1.5
"""R_max, a bound on every estimate."""
BEST, SAMPLE_MAXIMUM, OWN_SAMPLE = "Best-of-N", "pessimism, R_max of the sample", "pessimism, own sample"
THEORY = "pessimism"
"""beta = eps/sqrt(C), R_max a bound on the estimates: the rule that is judged."""


def multiple_name(multiple: float) -> str:
    """The rule with another beta, in units of eps/sqrt(C)."""
    return THEORY if multiple == 1 else f"{THEORY}, beta x {multiple:g}"


def from_one(field: str, value: Any) -> tuple[int, ...]:
    """At least two different integers, the first of them 1."""
    ns = wholes(field, value, 1, at_least=2)
    if ns[0] != 1:
        raise ValueError(f"{field}: begins with {ns[0]}; valid: 1, the reference itself")
    return ns


@dataclasses.dataclass(frozen=True)
class TabularSettings:
    """Sizes of the measurement on finite sets.

    Attributes:
        seed: of the instances and of the samples that lambda is computed from.
        instances: for each coverage and error.
        coverages, errors: C and about eps of the instances.
        ns: numbers of responses N, the first of them 1.
        multiples: of beta, in units of eps/sqrt(C).
        law_draws: samples that the law of pessimism is averaged over.
    """

    seed: Annotated[int, Seed()]
    instances: Annotated[int, Whole(2)]
    coverages: Annotated[tuple[float, ...], Reals(1, 1e4, at_least=2)]
    errors: Annotated[tuple[float, ...], Reals(0.01, 0.5)]
    ns: Annotated[tuple[int, ...], from_one]
    multiples: Annotated[tuple[float, ...], Reals(0, 1e6)]
    law_draws: Annotated[int, Whole(2)]

    def __post_init__(self) -> None:
        if 1.0 not in self.multiples:
            raise ValueError(f"tabular.multiples: {list(self.multiples)}; valid: with 1, the beta of theory")
        most = 1 - max(self.errors) ** 2 / 0.85**2
        if 1 / min(self.coverages) >= most:
            raise ValueError(f"tabular.coverages: {min(self.coverages):g} is too small for the largest error")


class Instance(NamedTuple):
    """One prompt: pi_ref, the true reward r in [0, 1] and its estimate r^ in [0, 1.5], response by response.

    Attributes:
        coverage: C = E_pi*[pi*/pi_ref] of pi*, pi_ref restricted to the responses of reward 1.
    """

    reference: Float[np.ndarray, " responses"]
    reward: Float[np.ndarray, " responses"]
    estimate: Float[np.ndarray, " responses"]
    coverage: float

    @property
    def error(self) -> float:
        """eps, the root of E_ref[(r^ - r)^2]."""
        return float(np.sqrt(self.reference @ (self.estimate - self.reward) ** 2))

    def regret(self, law: Float[np.ndarray, "*laws responses"]) -> Float[np.ndarray, "*laws"]:
        """J(pi*) - J(pi), J the expected true reward; J(pi*) = 1."""
        return 1.0 - law @ self.reward


def random_instance(rng: np.random.Generator, coverage: float, error: float, ordinary: int = 200) -> Instance:
    """`GOOD` responses of reward 1 with mass 1/C in all, `OVERRATED` ones with as much mass as makes
    eps = `error` about right, and `ordinary` ones with the rest, of rewards uniform on [0, 0.6].

    Overrated responses earn uniform on [0, 0.2] and are thought to earn uniform on `TOP`; elsewhere the
    estimate is off by uniform on +-`SPREAD`. Within its kind a response's mass is drawn from a flat Dirichlet
    distribution. The overrated ones' mass is error^2 over their mean squared error, less what the spread
    contributes, and nothing where that is all.

    Raises:
        ValueError: an error that leaves no mass for ordinary responses.
    """
    low, high = rng.uniform(0, 0.2, OVERRATED), rng.uniform(*TOP, OVERRATED)
    part = rng.dirichlet(np.ones(OVERRATED))
    wrong = max(error**2 - SPREAD**2 / 3, 0.0) / float(part @ (high - low) ** 2)
    rest = 1 - 1 / coverage - wrong
    if rest <= 0:
        raise ValueError(f"error: {error:g} leaves no ordinary responses at coverage {coverage:g}")
    reward = np.concatenate([np.ones(GOOD), low, rng.uniform(0, 0.6, ordinary)])
    estimate = reward + rng.uniform(-SPREAD, SPREAD, reward.size)
    estimate[GOOD : GOOD + OVERRATED] = high
    reference = np.concatenate(
        [rng.dirichlet(np.ones(GOOD)) / coverage, part * wrong, rng.dirichlet(np.ones(ordinary)) * rest]
    )
    return Instance(reference, reward, np.clip(estimate, 0, CEILING), coverage)


def true_rewards(
    estimate: Float[np.ndarray, " responses"],
    reward: Float[np.ndarray, " responses"],
    reference: Float[np.ndarray, " responses"],
    ns: Sequence[int],
    betas: dict[float, float],
    ceiling: float,
    draws: int,
    rng: np.random.Generator,
) -> dict[str, Float[np.ndarray, " n"]]:
    """Rule -> expected true reward at every N: of Best-of-N exactly, of pessimism averaged over `draws`
    samples.

    Args:
        betas: multiple of eps/sqrt(C) -> beta; the rule's variants take that of multiple 1.
    """

    def curve(beta: float, bound: float | None, fresh: bool) -> Float[np.ndarray, " n"]:
        return np.array(
            [
                (pessimism_laws(estimate, reference, n, beta, draws, rng, bound, fresh) @ reward).mean()
                for n in ns
            ]
        )

    expected = {BEST: best_of_n_law(estimate, reference, ns) @ reward}
    for multiple, beta in betas.items():
        expected[multiple_name(multiple)] = curve(beta, ceiling, True)
    expected[SAMPLE_MAXIMUM] = curve(betas[1.0], None, True)
    expected[OWN_SAMPLE] = curve(betas[1.0], None, False)
    return expected


@dataclasses.dataclass(frozen=True)
class Tabular:
    """Finite sets: by (eps, C) and rule, true rewards (instances, N); of the limit N -> infinity of
    pessimism, by (eps, C): regret and its bound, (instances, multiples); eps as it came out."""

    settings: TabularSettings
    reward: dict[tuple[float, float], dict[str, Float[np.ndarray, "instances n"]]]
    limit: dict[tuple[float, float], Float[np.ndarray, "instances multiples"]]
    bound: dict[tuple[float, float], Float[np.ndarray, "instances multiples"]]
    error: dict[tuple[float, float], Float[np.ndarray, " instances"]]


def measure_tabular(settings: TabularSettings, report: Callable[[int, int], None]) -> Tabular:
    """All instances; `report` is told how many of how many are done."""
    cells = [(error, coverage) for error in settings.errors for coverage in settings.coverages]
    tabular = Tabular(settings, {}, {}, {}, {})
    for place, (error, coverage) in enumerate(cells):
        rng = numpy_stream(settings.seed, "pessimism", "tabular", place)
        rewards: list[dict[str, np.ndarray]] = []
        limits, bounds, errors = [], [], []
        for number in range(settings.instances):
            report(place * settings.instances + number, len(cells) * settings.instances)
            instance = random_instance(rng, coverage, error)
            betas = {
                multiple: multiple * instance.error / math.sqrt(coverage) for multiple in settings.multiples
            }
            given = (instance.estimate, instance.reward, instance.reference, settings.ns, betas, CEILING)
            rewards.append(true_rewards(*given, settings.law_draws, rng))
            limits.append([_limit(instance, beta) for beta in betas.values()])
            bounds.append([regret_bound(instance.error, coverage, beta) for beta in betas.values()])
            errors.append(instance.error)
        cell = (error, coverage)
        tabular.reward[cell] = {name: np.stack([reward[name] for reward in rewards]) for name in rewards[0]}
        tabular.limit[cell], tabular.bound[cell] = np.array(limits), np.array(bounds)
        tabular.error[cell] = np.array(errors)
    report(len(cells) * settings.instances, len(cells) * settings.instances)
    return tabular


def _limit(instance: Instance, beta: float) -> float:
    weights = pessimism(instance.estimate, beta, instance.reference).weights
    return float(instance.regret(instance.reference * weights))


def largest_fall(curves: Float[np.ndarray, "*rows n"]) -> Float[np.ndarray, "*rows"]:
    """The largest J(N) - J(N') over N <= N' of each row: 0 where the reward never falls with N."""
    return np.max(np.maximum.accumulate(curves, axis=-1) - curves, axis=-1)


def falls_after_peak(curves: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    """J at the N that is best on average over the rows, less J at the largest N, row by row."""
    return curves[:, int(np.argmax(curves.mean(axis=0)))] - curves[:, -1]


def rises_to_peak(curves: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    """J at the N that is best on average over the rows, less J at N = 1, row by row."""
    return curves[:, int(np.argmax(curves.mean(axis=0)))] - curves[:, 0]
