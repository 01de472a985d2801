"""What the tournament claim measures: families, sizes of them, seeds, held-out sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from experiments.tournament.attempts import (
    MIN_KL,
    SIMPLE,
    Design,
    Losses,
    Outcome,
    exact,
    generator,
    measure,
)
from experiments.tournament.families import FAMILIES, JUDGED_AT, Family, misspecified_pair
from tasks import check_seeds
from tasks.checks import real, whole, wholes
from tracking import Progress

RULES_OF_PAIR = (SIMPLE, MIN_KL)
GUARANTEE_A = 0.25
"""Of the guarantee that is judged and drawn."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        seeds: each draws its own instance of every family and its own held-out sets.
        ns: N of the tournaments.
        sizes: |Pi|; the sampled term of the offset tournament is measured at `reference`, one of them.
        design: of every measurement.
        pair_m, pair_examples, pair_members: M of the misspecified pair, its held-out sizes (the exponent is
            fitted from 16 M on), and how many values alpha = 2^(-j/2) of it are tried.
    """

    seeds: tuple[int, ...]
    ns: tuple[int, ...]
    sizes: tuple[int, ...]
    reference: int
    design: Design
    pair_m: int
    pair_examples: tuple[int, ...]
    pair_members: int

    @property
    def alphas(self) -> tuple[float, ...]:
        """Of the misspecified pairs, from 1 down."""
        return tuple(2.0 ** (-j / 2) for j in range(self.pair_members))


class Pair(NamedTuple):
    """The misspecified pairs: probability of what pi_2 misses, and losses by rule, (alphas, seeds, sizes)."""

    missed: Float[np.ndarray, " alphas"]
    regret: dict[str, Float[np.ndarray, "alphas seeds sizes"]]
    wrong: dict[str, Float[np.ndarray, "alphas seeds sizes"]]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One family at one |Pi| and N: an outcome a seed."""

    outcomes: tuple[Outcome, ...]

    @property
    def rules(self) -> tuple[str, ...]:
        """Those that were measured."""
        return tuple(self.outcomes[0].losses)

    def loss(self, rule: str, what: str = "regret") -> Float[np.ndarray, "seeds sizes"]:
        """`what` is a field of `Losses`."""
        return np.stack([getattr(each.losses[rule], what) for each in self.outcomes])

    def guarantee(self, a: float, what: str) -> Float[np.ndarray, "seeds sizes"]:
        """`what` is a field of `Guarantee`."""
        return np.stack([getattr(each.guarantees[a], what) for each in self.outcomes])

    def offset(self, what: str) -> Float[np.ndarray, "seeds sizes"]:
        """The same of the offset tournament."""
        return np.stack([getattr(each.offset, what) for each in self.outcomes])

    @property
    def premise(self) -> float:
        """Share of the seeds at which the offset tournament's premise holds."""
        return float(np.mean([each.premise for each in self.outcomes]))


@dataclasses.dataclass(frozen=True)
class Study:
    """All measurements; cells by family, |Pi| and N."""

    settings: Settings
    pair: Pair
    cells: dict[tuple[str, int, int], Cell]

    def at(self, family: str, n: int, size: int | None = None) -> Cell:
        """A cell, by default at the reference size."""
        return self.cells[family, size or self.settings.reference, n]


def settings(config: DictConfig) -> Settings:
    """Check the configuration.

    Raises:
        ValueError: one line, with the field, its value and what would be valid.
    """
    sizes = wholes("sizes", config.sizes, 4, at_least=3)
    reference = whole("reference", config.reference, 4)
    if reference not in sizes:
        raise ValueError(f"reference: {reference}; valid: one of sizes, {list(sizes)}")
    ns = wholes("ns", config.ns, 2, at_least=3)
    if missing := sorted(set(JUDGED_AT.values()) - set(ns)):
        raise ValueError(f"ns: {list(ns)}; valid: with {missing}, at which families are judged")
    exponents = [config.a] if isinstance(config.a, int | float) else list(config.a)
    if GUARANTEE_A not in exponents or len(set(exponents)) != len(exponents):
        raise ValueError(
            f"a: {config.a}; valid: different numbers from 0 to below 1, {GUARANTEE_A} among them"
        )
    pair_examples = wholes("pair_examples", config.pair_examples, 1)
    pair_m = whole("pair_m", config.pair_m, 3)
    if sum(each >= 16 * pair_m for each in pair_examples) < 2:
        raise ValueError(
            f"pair_examples: {list(pair_examples)}; valid: at least 2 of them >= 16 M = {16 * pair_m}"
        )
    return Settings(
        seeds=check_seeds(config.seed, config.seeds, 2),
        ns=ns,
        sizes=sizes,
        reference=reference,
        design=Design(
            examples=wholes("examples", config.examples, 1, at_least=3),
            sets=whole("sets", config.sets, 1),
            samples=whole("samples", config.samples, 1),
            a=tuple(0.0 if each == 0 else real("a", each, above=0, below=1) for each in exponents),
            offset_a=real("offset_a", config.offset_a, above=0, below=0.5),
            delta=real("delta", config.delta, above=0, below=1),
        ),
        pair_m=pair_m,
        pair_examples=pair_examples,
        pair_members=whole("pair_members", config.pair_members, 2),
    )


def study(chosen: Settings, progress: Progress) -> Study:
    """Measure everything."""
    todo = len(chosen.seeds)
    cells: dict[tuple[str, int, int], list[Outcome]] = {}
    pairs = []
    for done, seed in enumerate(chosen.seeds):
        progress.update("seeds", done, todo)
        pairs.append(_pairs(chosen, seed))
        for family in FAMILIES:
            for size in chosen.sizes:
                for n, outcome in _family(chosen, seed, family, size).items():
                    cells.setdefault((family.name, size, n), []).append(outcome)
    progress.update("seeds", todo, todo)
    missed = [
        exact(misspecified_pair(alpha, chosen.pair_m)).coverage(chosen.pair_m)[1] for alpha in chosen.alphas
    ]

    def stacked(what: Callable[[Losses], np.ndarray]) -> dict[str, np.ndarray]:
        return {
            rule: np.array([[what(each.losses[rule]) for each in row] for row in pairs]).swapaxes(0, 1)
            for rule in RULES_OF_PAIR
        }

    return Study(
        chosen,
        Pair(np.array(missed), stacked(lambda each: each.regret), stacked(lambda each: each.wrong)),
        {key: Cell(tuple(outcomes)) for key, outcomes in cells.items()},
    )


def _pairs(chosen: Settings, seed: int) -> list[Outcome]:
    """Every misspecified pair at N = M."""
    design = dataclasses.replace(chosen.design, examples=chosen.pair_examples, samples=0)
    outcomes = []
    for index, alpha in enumerate(chosen.alphas):
        held_out = generator(seed, "evaluation", "tournament", "misspecified", index)
        instance = misspecified_pair(alpha, chosen.pair_m)
        outcomes.append(measure(instance, (chosen.pair_m,), design, held_out, held_out)[chosen.pair_m])
    return outcomes


def _family(chosen: Settings, seed: int, family: Family, size: int) -> dict[int, Outcome]:
    """A family's instance of this seed at every N; where it is made for N, one instance for each."""
    reference = size == chosen.reference
    design = chosen.design if reference else dataclasses.replace(chosen.design, samples=0)
    groups: Sequence[tuple[int, ...]] = [(n,) for n in chosen.ns] if family.per_n else [chosen.ns]
    outcomes: dict[int, Outcome] = {}
    for ns in groups:
        part = ns[0] if family.per_n else 0
        draw = generator(seed, "instance", "tournament", family.name, size, part)
        instance = family.draw(draw, size, float(ns[0]), chosen.design.offset_a)
        outcomes |= measure(
            instance,
            ns,
            design,
            generator(seed, "evaluation", "tournament", family.name, size, part),
            generator(seed, "evaluation", "tournament", "own", family.name, size, part),
        )
    return outcomes


def worst_pairs(found: Study) -> tuple[list[int], list[int], list[float]]:
    """Of the sizes n >= 16 M: their places, the alpha (its place) whose pair is hardest for the tournament,
    and its exact expected regret q (1 - q)^n, q = mu(-)/2: the tournament errs when (-, 1) was not drawn, and
    then the cross-entropy, which breaks the tie, prefers pi_2."""
    chosen = found.settings
    places = [i for i, n in enumerate(chosen.pair_examples) if n >= 16 * chosen.pair_m]
    members, expected = [], []
    for place in places:
        regret = found.pair.missed * (1 - found.pair.missed) ** chosen.pair_examples[place]
        members.append(int(regret.argmax()))
        expected.append(float(regret.max()))
    return places, members, expected


def pair_regret(found: Study, rule: str, members: Sequence[int]) -> Float[np.ndarray, "seeds sizes"]:
    """Regret of a rule at the sizes n >= 16 M, at the given alpha of each."""
    places = worst_pairs(found)[0]
    values = found.pair.regret[rule]
    return np.stack([values[member, :, place] for place, member in zip(places, members, strict=True)], axis=1)
