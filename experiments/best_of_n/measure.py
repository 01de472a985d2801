"""What Best-of-N loses beside what coverage says: settings and measurements of experiments.best_of_n."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from experiments.best_of_n.instances import Instance, random_instance, ratio_instance, tail_instance
from experiments.coverage_bounds.measure import Sides
from metrics import samples_needed
from tasks import check_seed, numpy_stream
from tasks.checks import reals, whole, wholes
from theory.coverage_laws import between
from tracking import Progress


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured."""

    seed: int
    draws: int
    alphabets: tuple[int, ...]
    prompts: int
    ms: tuple[float, ...]
    epsilons: tuple[float, ...]
    ns: tuple[int, ...]
    tails: tuple[float, ...]
    atoms: int
    budgets: tuple[int, ...]
    ratios: tuple[int, ...]


def settings(config: DictConfig) -> Settings:
    """Check the configuration.

    Raises:
        ValueError: one line, with the field, its value and what would be valid.
    """
    return Settings(
        seed=check_seed("seed", config.seed),
        draws=whole("draws", config.draws, 32),
        alphabets=wholes("alphabets", config.alphabets, 2, at_least=2),
        prompts=whole("prompts", config.prompts, 2),
        ms=reals("ms", config.ms, 1, 1e6),
        epsilons=reals("epsilons", config.epsilons, 0, 0.5),
        ns=wholes("ns", config.ns, 2),
        tails=reals("tails", config.tails, 0, 3),
        atoms=whole("atoms", config.atoms, 100),
        budgets=wholes("budgets", config.budgets, 2, at_least=2),
        ratios=wholes("ratios", config.ratios, 2, at_least=2),
    )


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


def compare(instance: Instance, chosen: Settings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Left and right side of each statement.

    Sufficient: the worst loss at N = 2M ln(1/eps), for every M and eps, against Cov_M + eps; sharper: at half
    as many. Necessary: Cov_2N/2 against the witness's loss; sharper: the witness's and E_N against the worst.
    """
    grid = [(m, epsilon) for m in chosen.ms for epsilon in chosen.epsilons]
    promised = np.repeat(instance.coverage(chosen.ms), len(chosen.epsilons)) + np.array([e for _, e in grid])
    worst, witness = instance.worst(chosen.ns), instance.witness(chosen.ns)
    covered = instance.coverage(tuple(2.0 * n for n in chosen.ns))
    return {
        "sufficient": (instance.worst(tuple(enough(*each, 2) for each in grid)), promised),
        "sufficient, half as many": (instance.worst(tuple(enough(*each, 1) for each in grid)), promised),
        "necessary": (covered / 2, witness),
        "witness": (witness, worst),
        "hockey stick": (instance.hockey_stick(chosen.ns), worst),
    }


def measure_all(chosen: Settings, progress: Progress) -> Measurements:
    """Random instances, tails, ratios, and the pairs that attain the statements."""
    families = {"one prompt": 1, f"{chosen.prompts} prompts": chosen.prompts}
    parts = [(family, size) for family in families for size in chosen.alphabets]
    parts += [(f"tail {alpha:g}", n) for alpha in chosen.tails for n in chosen.budgets]
    parts += [("ratios", m) for m in chosen.ratios]
    compared: dict[str, list[list[dict]]] = {family: [] for family in families}
    tails: dict[tuple[float, str], list] = {}
    needed: dict[float, list] = {epsilon: [] for epsilon in chosen.epsilons}
    for done, (family, size) in enumerate(parts):
        progress.update("instances", done, len(parts), {"size": size})
        rng = numpy_stream(chosen.seed, "best_of_n", family, size)
        draws = range(chosen.draws)
        if family in families:
            drawn = [random_instance(rng, size, families[family]) for _ in draws]
            compared[family].append([compare(each, chosen) for each in drawn])
        elif family == "ratios":
            pairs = [ratio_instance(rng, size) for _ in draws]
            for epsilon in chosen.epsilons:
                needed[epsilon].append([_needed(each, epsilon) for each in pairs])
        else:
            alpha = float(family.removeprefix("tail "))
            columns = [of_tail(tail_instance(rng, alpha, chosen.atoms), size) for _ in draws]
            for name in columns[0]:
                tails.setdefault((alpha, name), []).append([each[name] for each in columns])
    progress.update("instances", len(parts), len(parts))
    sides = {}
    for family, sizes in compared.items():
        for name in sizes[0][0]:
            both = np.array([[each[name] for each in draws] for draws in sizes], np.float64)
            sides[name, family] = Sides(*both.transpose(2, 1, 0, 3))
    last = np.tile(chosen.epsilons, len(chosen.ms))
    allowed = {family: sides["sufficient", family].right - last <= 0.5 for family in families}
    return Measurements(
        chosen,
        sides,
        allowed,
        {key: np.array(value).T for key, value in tails.items()},
        {key: np.array(value, np.float64).T for key, value in needed.items()},
        attaining(chosen),
    )


def _needed(instance: Instance, epsilon: float) -> float:
    missed = float(instance.target[0, -1])
    found = samples_needed(instance.target[0], instance.model[0], missed + epsilon)
    return math.inf if found is None else found


def of_tail(instance: Instance, n: int) -> dict[str, float]:
    """The worst loss at N, Cov_N, and what the theorems say: Cov_2N/2 and the least Cov_M + e^(-N/2M)."""
    ms = tuple(float(each) for each in np.geomspace(1.0, n, 200))
    covered = instance.coverage(ms)
    promised = np.where(covered <= 0.5, covered + np.exp(-n / (2 * np.array(ms))), np.inf)
    return {
        "worst": float(instance.worst((n,))[0]),
        "Cov": float(instance.coverage((n,))[0]),
        "necessary": float(instance.coverage((2.0 * n,))[0]) / 2,
        "sufficient": min(float(promised.min()), 1.0),
    }


def attaining(chosen: Settings) -> dict[str, Float[np.ndarray, " draws"]]:
    """Right over left of pairs that attain the statements (derived).

    Sufficient: the model misses a share C of .1 to .5, the rest has ratio M: Cov_M + eps over the worst loss
    at the least eps. Half as many: all ratios are M: the N needed over M ln(1/eps) is the left side.
    Necessary: Ber(p) against Ber(p/2N), p from 1e-4 to 1/2.
    """
    rng = numpy_stream(chosen.seed, "best_of_n", "attaining")
    epsilon = min(chosen.epsilons)
    sufficient, half, necessary = [], [], []
    for _ in range(chosen.draws):
        missed, m = rng.uniform(0.1, 0.5), between(rng, 2.0, 64.0)
        pair = Instance(np.array([[missed, 1 - missed]]), np.array([[0.0, (1 - missed) / m]]), np.ones(1))
        sufficient.append(float((missed + epsilon) / pair.worst((enough(m, epsilon, 2),))[0]))
        large = between(rng, 64.0, 1024.0)
        least = samples_needed(np.ones(1), np.array([1 / large]), epsilon)
        half.append(enough(large, epsilon, 1) / (least or math.nan))
        n, p = int(rng.choice(chosen.ns)), between(rng, 1e-4, 0.5)
        pair = Instance(np.array([[p, 1 - p]]), np.array([[p / (2 * n), 1 - p / (2 * n)]]), np.ones(1))
        necessary.append(float(pair.witness((n,))[0] / (pair.coverage((2.0 * n,))[0] / 2)))
    return {
        "sufficient": np.array(sufficient),
        "sufficient, half as many": np.array(half),
        "necessary": np.array(necessary),
    }
