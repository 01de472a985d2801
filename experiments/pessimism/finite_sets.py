"""Best-of-N and pessimism at every N: settings of experiments.pessimism, and the rules on finite sets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from experiments.pessimism.instances import CEILING, Instance, random_instance
from metrics import best_of_n_law, pessimism, pessimism_laws, regret_bound
from tasks import check_seed, numpy_stream
from tasks.checks import reals, whole, wholes

BEST, SAMPLE_MAXIMUM, OWN_SAMPLE = "Best-of-N", "pessimism, R_max of the sample", "pessimism, own sample"
THEORY = "pessimism"
"""beta = eps/sqrt(C), R_max a bound on the estimates: the rule that is judged."""


def multiple_name(multiple: float) -> str:
    """The rule with another beta, in units of eps/sqrt(C)."""
    return THEORY if multiple == 1 else f"{THEORY}, beta x {multiple:g}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured on finite sets.

    Attributes:
        seed: of the instances and of the samples that lambda is computed from.
        instances: for each coverage and error.
        coverages, errors: C and about eps of the instances.
        ns: numbers of responses N, the first of them 1.
        multiples: of beta, in units of eps/sqrt(C).
        law_draws: samples that the law of pessimism is averaged over.
        pool_ns, pool, prompts, pool_law_draws: of the bracket strings: N, responses of a prompt, prompts,
            samples for the law.
    """

    seed: int
    instances: int
    coverages: tuple[float, ...]
    errors: tuple[float, ...]
    ns: tuple[int, ...]
    multiples: tuple[float, ...]
    law_draws: int
    pool_ns: tuple[int, ...]
    pool: int
    prompts: int
    pool_law_draws: int


def settings(config: DictConfig) -> Settings:
    """Check the claim's own part of the configuration.

    Raises:
        ValueError: one line, with the field, its value and what would be valid.
    """
    for field in ("tabular", "pools"):
        if not isinstance(config[field], DictConfig):
            raise ValueError(f"{field}: {config[field]!r} is not a mapping")
    tabular, pools = config.tabular, config.pools
    found = Settings(
        seed=check_seed("tabular.seed", tabular.seed),
        instances=whole("tabular.instances", tabular.instances, 2),
        coverages=reals("tabular.coverages", tabular.coverages, 1, 1e4, at_least=2),
        errors=reals("tabular.errors", tabular.errors, 0.01, 0.5),
        ns=wholes("tabular.ns", tabular.ns, 1, at_least=2),
        multiples=reals("tabular.multiples", tabular.multiples, 0, 1e6),
        law_draws=whole("tabular.law_draws", tabular.law_draws, 2),
        pool_ns=wholes("pools.ns", pools.ns, 1, at_least=2),
        pool=whole("pools.responses", pools.responses, 2),
        prompts=whole("pools.prompts", pools.prompts, 1),
        pool_law_draws=whole("pools.law_draws", pools.law_draws, 2),
    )
    for field, ns in (("tabular.ns", found.ns), ("pools.ns", found.pool_ns)):
        if ns[0] != 1:
            raise ValueError(f"{field}: begins with {ns[0]}; valid: 1, the reference itself")
    if found.pool_ns[-1] > found.pool:
        raise ValueError(f"pools.ns: {found.pool_ns[-1]} is more than pools.responses = {found.pool}")
    if 1.0 not in found.multiples:
        raise ValueError(f"tabular.multiples: {list(found.multiples)}; valid: with 1, the beta of theory")
    most = 1 - max(found.errors) ** 2 / 0.85**2
    if 1 / min(found.coverages) >= most:
        raise ValueError(f"tabular.coverages: {min(found.coverages):g} is too small for the largest error")
    return found


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

    found = {BEST: best_of_n_law(estimate, reference, ns) @ reward}
    for multiple, beta in betas.items():
        found[multiple_name(multiple)] = curve(beta, ceiling, True)
    found[SAMPLE_MAXIMUM] = curve(betas[1.0], None, True)
    found[OWN_SAMPLE] = curve(betas[1.0], None, False)
    return found


@dataclasses.dataclass(frozen=True)
class Tabular:
    """Finite sets: by (eps, C) and rule, true rewards (instances, N); of the limit N -> infinity of
    pessimism, by (eps, C): regret and its bound, (instances, multiples); eps as it came out."""

    settings: Settings
    reward: dict[tuple[float, float], dict[str, Float[np.ndarray, "instances n"]]]
    limit: dict[tuple[float, float], Float[np.ndarray, "instances multiples"]]
    bound: dict[tuple[float, float], Float[np.ndarray, "instances multiples"]]
    error: dict[tuple[float, float], Float[np.ndarray, " instances"]]


def measure_tabular(chosen: Settings, report: Callable[[int, int], None]) -> Tabular:
    """All instances; `report` is told how many of how many are done."""
    cells = [(error, coverage) for error in chosen.errors for coverage in chosen.coverages]
    found = Tabular(chosen, {}, {}, {}, {})
    for place, (error, coverage) in enumerate(cells):
        rng = numpy_stream(chosen.seed, "pessimism", "tabular", place)
        rewards: list[dict[str, np.ndarray]] = []
        limits, bounds, errors = [], [], []
        for number in range(chosen.instances):
            report(place * chosen.instances + number, len(cells) * chosen.instances)
            instance = random_instance(rng, coverage, error)
            betas = {each: each * instance.error / math.sqrt(coverage) for each in chosen.multiples}
            rewards.append(_of_instance(instance, chosen, betas, rng))
            limits.append([_limit(instance, beta) for beta in betas.values()])
            bounds.append([regret_bound(instance.error, coverage, beta) for beta in betas.values()])
            errors.append(instance.error)
        cell = (error, coverage)
        found.reward[cell] = {name: np.stack([each[name] for each in rewards]) for name in rewards[0]}
        found.limit[cell], found.bound[cell] = np.array(limits), np.array(bounds)
        found.error[cell] = np.array(errors)
    report(len(cells) * chosen.instances, len(cells) * chosen.instances)
    return found


def _of_instance(
    instance: Instance, chosen: Settings, betas: dict[float, float], rng: np.random.Generator
) -> dict[str, Float[np.ndarray, " n"]]:
    return true_rewards(
        instance.estimate,
        instance.reward,
        instance.reference,
        chosen.ns,
        betas,
        CEILING,
        chosen.law_draws,
        rng,
    )


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
