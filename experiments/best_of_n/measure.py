"""Settings and measurements of experiments.best_of_n: losses of Best-of-N against coverage."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from covlab.claims.claim import Study
from covlab.claims.settings import Reals, Seed, Whole, Wholes
from experiments.best_of_n.instances import Instance, random_instance, ratio_instance, tail_instance
from metrics import samples_needed
from tasks import numpy_stream
from theory.coverage_laws import Sides, between


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and seeds of the measurement; the defaults are the scale `cpu`.

    The ranges of the instances were chosen on seed 920.

    Attributes:
        seed: seed of all instances.
        draws: instances of each family and size.
        alphabets: numbers of responses to a prompt.
        prompts: prompts of the instances with several prompts.
        ms: M of the sufficient condition.
        epsilons: eps of the sufficient condition.
        ns: N of the necessary condition.
        tails: exponents alpha of the tails P_T[pi_T/pi_hat >= u] ~ u^-alpha.
        atoms: responses of a tail.
        budgets: N against which the worst loss is fitted.
        ratios: M against which the number of samples needed is fitted.
    """

    seed: Annotated[int, Seed()] = 520
    draws: Annotated[int, Whole(32)] = 96
    alphabets: Annotated[tuple[int, ...], Wholes(2, at_least=2)] = (4, 8, 16, 32, 64)
    prompts: Annotated[int, Whole(2)] = 8
    ms: Annotated[tuple[float, ...], Reals(1, 1e6)] = (1.5, 2, 4, 8, 16, 64)
    epsilons: Annotated[tuple[float, ...], Reals(0, 0.5)] = (0.3, 0.1, 0.03, 0.01)
    ns: Annotated[tuple[int, ...], Wholes(2)] = (2, 4, 8, 16, 32, 64)
    tails: Annotated[tuple[float, ...], Reals(0, 3)] = (0.5, 1.0)
    atoms: Annotated[int, Whole(100)] = 4000
    budgets: Annotated[tuple[int, ...], Wholes(2, at_least=2)] = (8, 16, 32, 64, 128, 256)
    ratios: Annotated[tuple[int, ...], Wholes(2, at_least=2)] = (8, 16, 32, 64, 128)


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {
        "draws": 512,
        "alphabets": (4, 8, 16, 32, 64, 128, 256),
        "atoms": 16000,
        "budgets": (8, 16, 32, 64, 128, 256, 512, 1024),
        "ratios": (8, 16, 32, 64, 128, 256, 512),
    },
}


@dataclasses.dataclass(frozen=True)
class Measurements:
    """`sides` by statement and family, left <= right expected; `allowed` where the paper's condition
    Cov_M <= 1/2 holds; `tails` by (alpha, quantity) and `needed` by epsilon, one row a draw; `attained` by
    statement: right over left of pairs made to attain it."""

    settings: Settings
    sides: dict[tuple[str, str], Sides]
    allowed: dict[str, np.ndarray]
    tails: dict[tuple[float, str], Float[np.ndarray, "draws budgets"]]
    needed: dict[float, Float[np.ndarray, "draws ratios"]]
    attained: dict[str, Float[np.ndarray, " draws"]]


def enough(m: float, epsilon: float, factor: float) -> int:
    """The least whole N >= factor M ln(1/eps)."""
    return math.ceil(factor * m * math.log(1 / epsilon))


def compare(instance: Instance, settings: Settings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Left and right side of each statement.

    Sufficient: the worst loss at N = 2M ln(1/eps), for every M and eps, against Cov_M + eps; sharper: at half
    as many. Necessary: Cov_2N/2 against the witness's loss; sharper: the witness's and E_N against the worst.
    """
    grid = [(m, epsilon) for m in settings.ms for epsilon in settings.epsilons]
    covered = np.repeat(instance.coverage(settings.ms), len(settings.epsilons))
    promised = covered + np.array([epsilon for _, epsilon in grid])
    worst, witness = instance.worst(settings.ns), instance.witness(settings.ns)
    covered = instance.coverage(tuple(2.0 * n for n in settings.ns))
    return {
        "sufficient": (instance.worst(tuple(enough(*sizes, 2) for sizes in grid)), promised),
        "sufficient, half as many": (instance.worst(tuple(enough(*sizes, 1) for sizes in grid)), promised),
        "necessary": (covered / 2, witness),
        "witness": (witness, worst),
        "hockey stick": (instance.hockey_stick(settings.ns), worst),
    }


def measure(settings: Settings, study: Study) -> Measurements:
    """Random instances, tails, ratios, and the pairs that attain the statements."""
    families = {"one prompt": 1, f"{settings.prompts} prompts": settings.prompts}
    parts = [(family, size) for family in families for size in settings.alphabets]
    parts += [(f"tail {alpha:g}", n) for alpha in settings.tails for n in settings.budgets]
    parts += [("ratios", m) for m in settings.ratios]
    compared: dict[str, list[list[dict]]] = {family: [] for family in families}
    tails: dict[tuple[float, str], list] = {}
    needed: dict[float, list] = {epsilon: [] for epsilon in settings.epsilons}
    for family, size in study.progress.over("instances", parts, lambda part: {"size": part[1]}):
        rng = numpy_stream(settings.seed, "best_of_n", family, size)
        draws = range(settings.draws)
        if family in families:
            drawn = [random_instance(rng, size, families[family]) for _ in draws]
            compared[family].append([compare(setting, settings) for setting in drawn])
        elif family == "ratios":
            pairs = [ratio_instance(rng, size) for _ in draws]
            for epsilon in settings.epsilons:
                needed[epsilon].append([_needed(pair, epsilon) for pair in pairs])
        else:
            alpha = float(family.removeprefix("tail "))
            columns = [of_tail(tail_instance(rng, alpha, settings.atoms), size) for _ in draws]
            for name in columns[0]:
                tails.setdefault((alpha, name), []).append([column[name] for column in columns])
    sides = {}
    for family, sizes in compared.items():
        for name in sizes[0][0]:
            both = np.array([[draw[name] for draw in draws] for draws in sizes], np.float64)
            sides[name, family] = Sides(*both.transpose(2, 1, 0, 3))
    last = np.tile(settings.epsilons, len(settings.ms))
    allowed = {family: sides["sufficient", family].right - last <= 0.5 for family in families}
    return Measurements(
        settings,
        sides,
        allowed,
        {key: np.array(value).T for key, value in tails.items()},
        {key: np.array(value, np.float64).T for key, value in needed.items()},
        attaining(settings),
    )


def _needed(instance: Instance, epsilon: float) -> float:
    missed = float(instance.target[0, -1])
    results = samples_needed(instance.target[0], instance.model[0], missed + epsilon)
    return math.inf if results is None else results


def of_tail(instance: Instance, n: int) -> dict[str, float]:
    """The worst loss at N, Cov_N, and what the theorems say: Cov_2N/2 and the least Cov_M + e^(-N/2M)."""
    ms = tuple(float(m) for m in np.geomspace(1.0, n, 200))
    covered = instance.coverage(ms)
    promised = np.where(covered <= 0.5, covered + np.exp(-n / (2 * np.array(ms))), np.inf)
    return {
        "worst": float(instance.worst((n,))[0]),
        "Cov": float(instance.coverage((n,))[0]),
        "necessary": float(instance.coverage((2.0 * n,))[0]) / 2,
        "sufficient": min(float(promised.min()), 1.0),
    }


def attaining(settings: Settings) -> dict[str, Float[np.ndarray, " draws"]]:
    """Right over left of pairs that attain the statements (derived).

    Sufficient: the model misses a share C of .1 to .5, the rest has ratio M: Cov_M + eps over the worst loss
    at the least eps. Half as many: all ratios are M: the N needed over M ln(1/eps) is the left side.
    Necessary: Ber(p) against Ber(p/2N), p from 1e-4 to 1/2.
    """
    rng = numpy_stream(settings.seed, "best_of_n", "attaining")
    epsilon = min(settings.epsilons)
    sufficient, half, necessary = [], [], []
    for _ in range(settings.draws):
        missed, m = rng.uniform(0.1, 0.5), between(rng, 2.0, 64.0)
        pair = Instance(np.array([[missed, 1 - missed]]), np.array([[0.0, (1 - missed) / m]]), np.ones(1))
        sufficient.append(float((missed + epsilon) / pair.worst((enough(m, epsilon, 2),))[0]))
        large = between(rng, 64.0, 1024.0)
        least = samples_needed(np.ones(1), np.array([1 / large]), epsilon)
        half.append(enough(large, epsilon, 1) / (least or math.nan))
        n, p = int(rng.choice(settings.ns)), between(rng, 1e-4, 0.5)
        pair = Instance(np.array([[p, 1 - p]]), np.array([[p / (2 * n), 1 - p / (2 * n)]]), np.ones(1))
        necessary.append(float(pair.witness((n,))[0] / (pair.coverage((2.0 * n,))[0] / 2)))
    return {
        "sufficient": np.array(sufficient),
        "sufficient, half as many": np.array(half),
        "necessary": np.array(necessary),
    }
