"""Every family at every size and N, on every seed: settings and measurements of experiments.tournament."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from covlab.claims.claim import Study
from covlab.claims.settings import Real, Seed, Whole, Wholes
from experiments.tournament.attempts import (
    MIN_KL,
    SIMPLE,
    Design,
    Outcome,
    attempt,
    exact,
    generator,
)
from experiments.tournament.families import FAMILIES, JUDGED_AT, Family, misspecified_pair
from tasks import check_seeds
from tasks.checks import real, wholes

RULES_OF_PAIR = (SIMPLE, MIN_KL)
GUARANTEE_A = 0.25
"""Of the guarantee that is judged and drawn."""


def _exponents(field: str, value: Any) -> tuple[float, ...]:
    exponents = value if isinstance(value, list | tuple) else [value]
    if GUARANTEE_A not in exponents or len(set(exponents)) != len(exponents):
        raise ValueError(
            f"{field}: {value}; valid: different numbers from 0 to below 1, {GUARANTEE_A} among them"
        )
    return tuple(0.0 if exponent == 0 else real(field, exponent, above=0, below=1) for exponent in exponents)


def _judged_ns(field: str, value: Any) -> tuple[int, ...]:
    ns = wholes(field, value, 2, at_least=3)
    if missing := sorted(set(JUDGED_AT.values()) - set(ns)):
        raise ValueError(f"{field}: {list(ns)}; valid: with {missing}, at which families are judged")
    return ns


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and seeds of the measurement; the defaults are the scale `cpu`.

    The families' shapes and the sizes were chosen on seeds 900 to 911.

    The offset tournament's premise needs N^(1-2a) >= 8, so N >= 64.

    Attributes:
        seed: first seed.
        seeds: number of seeds; each draws an instance of every family, and held-out sets.
        examples: sizes of the held-out sets.
        sets: held-out sets of each size for each instance.
        ns: N of the tournaments.
        sizes: numbers of models |Pi|.
        reference: the |Pi| at which the offset tournament also samples.
        samples: responses of every model to every held-out prompt.
        a: exponents a of the simple tournament's guarantee.
        offset_a: exponent a of the offset tournament.
        delta: probability that a guarantee may fail.
        pair_m: M = N of the misspecified pair.
        pair_examples: held-out sizes of the pair; the exponent is fitted from 16 M on.
        pair_members: number of values alpha = 2^(-j/2) of the pair: mu(-)/2 from 1/177 to 1/90,000.
    """

    seed: Annotated[int, Seed()] = 540
    seeds: Annotated[int, Whole(2)] = 32
    examples: Annotated[tuple[int, ...], Wholes(1, at_least=3)] = (64, 256, 1024, 4096, 16384)
    sets: Annotated[int, Whole(1)] = 24
    ns: Annotated[tuple[int, ...], _judged_ns] = (4, 16, 64, 256)
    sizes: Annotated[tuple[int, ...], Wholes(4, at_least=3)] = (4, 16, 64)
    reference: Annotated[int, Whole(4)] = 16
    samples: Annotated[int, Whole(1)] = 4
    a: Annotated[tuple[float, ...], _exponents] = (0.0, 0.25, 0.5)
    offset_a: Annotated[float, Real(above=0, below=0.5)] = 0.25
    delta: Annotated[float, Real(above=0, below=1)] = 0.05
    pair_m: Annotated[int, Whole(3)] = 16
    pair_examples: Annotated[tuple[int, ...], Wholes(1)] = (1, 16, 256, 1024, 4096, 16384, 65536)
    pair_members: Annotated[int, Whole(2)] = 10

    def __post_init__(self) -> None:
        check_seeds(self.seed, self.seeds, 2)
        if self.reference not in self.sizes:
            raise ValueError(f"reference: {self.reference}; valid: one of sizes, {list(self.sizes)}")
        if sum(n >= 16 * self.pair_m for n in self.pair_examples) < 2:
            valid = f"at least 2 of them >= 16 M = {16 * self.pair_m}"
            raise ValueError(f"pair_examples: {list(self.pair_examples)}; valid: {valid}")

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Every seed."""
        return check_seeds(self.seed, self.seeds)

    @property
    def design(self) -> Design:
        """The design of every measurement."""
        return Design(self.examples, self.sets, self.samples, self.a, self.offset_a, self.delta)

    @property
    def alphas(self) -> tuple[float, ...]:
        """Of the misspecified pairs, from 1 down."""
        return tuple(2.0 ** (-j / 2) for j in range(self.pair_members))


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {
        "seeds": 128,
        "examples": (64, 256, 1024, 4096, 16384, 65536),
        "sets": 64,
        "samples": 16,
    },
}


class Pair(NamedTuple):
    """The misspecified pairs: probability of what pi_2 misses, and losses by rule, (alphas, seeds, sizes)."""

    missed: Float[np.ndarray, " alphas"]
    regret: dict[str, Float[np.ndarray, "alphas seeds sizes"]]
    wrong: dict[str, Float[np.ndarray, "alphas seeds sizes"]]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One family at one |Pi| and N: an outcome per seed."""

    outcomes: tuple[Outcome, ...]

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that were measured."""
        return tuple(self.outcomes[0].losses)

    def loss(self, rule: str, what: str = "regret") -> Float[np.ndarray, "seeds sizes"]:
        """`what` is a field of `Losses`."""
        return np.stack([getattr(outcome.losses[rule], what) for outcome in self.outcomes])

    def guarantee(self, a: float, what: str) -> Float[np.ndarray, "seeds sizes"]:
        """`what` is a field of `Guarantee`."""
        return np.stack([getattr(outcome.guarantees[a], what) for outcome in self.outcomes])

    def offset(self, what: str) -> Float[np.ndarray, "seeds sizes"]:
        """`what` is a field of `Guarantee`, that of the offset tournament."""
        return np.stack([getattr(outcome.offset, what) for outcome in self.outcomes])

    @property
    def premise(self) -> float:
        """Share of the seeds at which the offset tournament's premise holds."""
        return float(np.mean([outcome.premise for outcome in self.outcomes]))


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Results of the measurement; cells by family, |Pi| and N."""

    settings: Settings
    pair: Pair
    cells: dict[tuple[str, int, int], Cell]

    def at(self, family: str, n: int, size: int | None = None) -> Cell:
        """A cell, by default at the reference size."""
        return self.cells[family, size or self.settings.reference, n]


def measure(settings: Settings, study: Study) -> Measurements:
    """Measure everything."""
    cells: dict[tuple[str, int, int], list[Outcome]] = {}
    pairs = []
    for seed in study.progress.over("seeds", settings.all_seeds):
        pairs.append(_pairs(settings, seed))
        for family in FAMILIES:
            for size in settings.sizes:
                for n, outcome in _family(settings, seed, family, size).items():
                    cells.setdefault((family.name, size, n), []).append(outcome)
    missed = [
        exact(misspecified_pair(alpha, settings.pair_m)).coverage(settings.pair_m)[1]
        for alpha in settings.alphas
    ]

    regret, wrong = (
        {
            rule: np.array([[getattr(one.losses[rule], what) for one in row] for row in pairs]).swapaxes(0, 1)
            for rule in RULES_OF_PAIR
        }
        for what in ("regret", "wrong")
    )
    every = {key: Cell(tuple(outcomes)) for key, outcomes in cells.items()}
    return Measurements(settings, Pair(np.array(missed), regret, wrong), every)


def _pairs(settings: Settings, seed: int) -> list[Outcome]:
    """Every misspecified pair at N = M."""
    design = dataclasses.replace(settings.design, examples=settings.pair_examples, samples=0)
    outcomes = []
    for index, alpha in enumerate(settings.alphas):
        held_out = generator(seed, "evaluation", "tournament", "misspecified", index)
        instance = misspecified_pair(alpha, settings.pair_m)
        outcomes.append(attempt(instance, (settings.pair_m,), design, held_out, held_out)[settings.pair_m])
    return outcomes


def _family(settings: Settings, seed: int, family: Family, size: int) -> dict[int, Outcome]:
    """A family's instance of this seed at every N; where it is made for N, one instance for each."""
    reference = size == settings.reference
    design = settings.design if reference else dataclasses.replace(settings.design, samples=0)
    groups: Sequence[tuple[int, ...]] = [(n,) for n in settings.ns] if family.per_n else [settings.ns]
    outcomes: dict[int, Outcome] = {}
    for ns in groups:
        part = ns[0] if family.per_n else 0
        draw = generator(seed, "instance", "tournament", family.name, size, part)
        instance = family.draw(draw, size, float(ns[0]), settings.design.offset_a)
        held_out = generator(seed, "evaluation", "tournament", family.name, size, part)
        rng = generator(seed, "evaluation", "tournament", "own", family.name, size, part)
        outcomes |= attempt(instance, ns, design, held_out, rng)
    return outcomes


def worst_pairs(results: Measurements) -> tuple[list[int], list[int], list[float]]:
    """Of the sizes n >= 16 M: their places, the alpha (its place) whose pair is hardest for the tournament,
    and its exact expected regret q (1 - q)^n, q = mu(-)/2: the tournament errs when (-, 1) was not drawn, and
    then the cross-entropy, which breaks the tie, prefers pi_2."""
    settings = results.settings
    places = [i for i, n in enumerate(settings.pair_examples) if n >= 16 * settings.pair_m]
    members, expected = [], []
    for place in places:
        regret = results.pair.missed * (1 - results.pair.missed) ** settings.pair_examples[place]
        members.append(int(regret.argmax()))
        expected.append(float(regret.max()))
    return places, members, expected


def pair_regret(results: Measurements, rule: str, members: Sequence[int]) -> Float[np.ndarray, "seeds sizes"]:
    """Regret of a rule at the sizes n >= 16 M, at the given alpha of each."""
    places = worst_pairs(results)[0]
    values = results.pair.regret[rule]
    return np.stack([values[member, :, place] for place, member in zip(places, members, strict=True)], axis=1)
