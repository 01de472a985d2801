"""Measurements of the tournament claim made by hand, on which every check passes.

Six seeds, of which three are above and three below the mean by the same share. Held-out sets of 64, 256 and
1,024 examples. Where a check takes the size whose interval reaches highest, it is one of a wide interval, and
another one has the larger estimate.
"""

import copy
import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np

from experiments.tournament.attempts import MIN_KL, OFFSET, OFFSET_EXACT, SIMPLE, Design, Guarantee, Losses
from experiments.tournament.measure import Cell, Measurements, Pair

SEEDS, SETS, EXAMPLES = 6, 10, (64, 256, 1024)
SIGNS = np.array([1.0, -1.0] * 3)
NEAR, WIDE = 1 + 0.01 * SIGNS, 1 + 0.5 * SIGNS
PAIR_EXAMPLES = (250, 256, 1023)
"""At M = 16 the exponent is fitted from n = 256 on."""
MISSED = np.array([1 / 64, 1 / 128, 1 / 256, 1 / 1024])
"""q by alpha. At n = 256 the largest q (1 - q)^n is that of q = 1/256, at n = 1,023 that of 1/1024."""
EXPECTED = ((255 / 256) ** 256 / 256, (1023 / 1024) ** 1023 / 1024)
FAR = 9.0
"""In places that no check may look at."""


def columns(*parts: tuple[float, np.ndarray]) -> np.ndarray:
    return np.stack([mean * spread for mean, spread in parts], axis=1)


def flat(value: float) -> np.ndarray:
    return np.full((SEEDS, 3), value)


def promise(**fields: np.ndarray) -> dict[str, np.ndarray]:
    """A vacuous guarantee that is never broken, except for these fields."""
    return {**{name: flat(0.0) for name in Guarantee._fields}, "bound": flat(FAR), **fields}


def broken(size: int, first: float, second: float) -> np.ndarray:
    """Shares of two seeds' sets at one size."""
    shares = flat(0.0)
    shares[:2, size] = first, second
    return shares


def spec(**parts: Any) -> dict[str, Any]:
    """Losses by rule and guarantees of a cell."""
    nothing: dict[str, Any] = {
        "regret": {},
        "pass_regret": {},
        "guarantees": {0.25: promise(), 0.5: promise()},
        "offset": promise(violated=flat(0.9)),
        "premise": [False] * SEEDS,
    }
    return {**nothing, **parts}


LAST = (0.0, NEAR)
EXACT = columns((0.02, NEAR), (0.006, NEAR), (0.0012, WIDE))
SPECS: dict[tuple[str, int, int], dict[str, Any]] = {
    ("rare_prompts", 4, 64): spec(regret={SIMPLE: np.outer(NEAR, 0.01 * 4.0 ** (-1.1 * np.arange(3)))}),
    ("rare_prompts", 16, 64): spec(
        regret={
            SIMPLE: np.outer(NEAR, [0.016, 0.004, 0.001]),
            MIN_KL: np.outer(NEAR, 0.05 * 4.0 ** (-0.05 * np.arange(3))),
        },
        guarantees={
            0.25: promise(bound=columns((FAR, NEAR), (FAR, NEAR), (0.6, WIDE))),
            0.5: promise(violated=broken(1, 0.2, 0.04)),
        },
    ),
    ("rare_prompts", 16, 4): spec(
        regret={SIMPLE: flat(FAR)}, offset=promise(violated=broken(0, 0.06, 0.0)), premise=[True] * SEEDS
    ),
    ("checkpoints", 16, 4): spec(
        pass_regret={
            MIN_KL: columns(LAST, LAST, (0.05, NEAR)),
            SIMPLE: columns((FAR, NEAR), (FAR, NEAR), (0.02, NEAR)),
        },
        regret={MIN_KL: flat(0.0), SIMPLE: flat(FAR)},
    ),
    ("aligned", 16, 64): spec(
        regret={MIN_KL: flat(0.1), SIMPLE: 0.1 + columns((0.002, NEAR), (0.001, NEAR), (0.0002, WIDE))},
        guarantees={0.25: promise(paper_violated=broken(2, 0.15, 0.03)), 0.5: promise()},
        # Five of six seeds do not make it hold.
        premise=[True] * 5 + [False],
    ),
    ("rogue", 16, 256): spec(
        regret={
            SIMPLE: columns(LAST, LAST, (0.6 / 256, NEAR)),
            OFFSET_EXACT: EXACT,
            OFFSET: EXACT + columns((0.001, NEAR), (0.0008, NEAR), (0.0001, 1 + 2 * SIGNS)),
        },
        offset=promise(violated=broken(0, 0.11, 0.01), bound=columns((FAR, NEAR), (FAR, NEAR), (0.7, WIDE))),
        premise=[True] * SEEDS,
    ),
}


def cell(found: dict[str, Any]) -> Cell:
    def loss(rule: str, seed: int) -> Losses:
        regret, passed = (found[part].get(rule, flat(FAR)) for part in ("regret", "pass_regret"))
        return Losses(regret[seed], passed[seed], flat(FAR)[seed])

    def guarantee(fields: dict[str, np.ndarray], seed: int) -> Guarantee:
        return Guarantee(**{name: each[seed] for name, each in fields.items()})

    rules = {*found["regret"], *found["pass_regret"]}
    outcomes: list[Any] = [
        SimpleNamespace(
            losses={rule: loss(rule, seed) for rule in rules},
            guarantees={a: guarantee(each, seed) for a, each in found["guarantees"].items()},
            offset=guarantee(found["offset"], seed),
            premise=found["premise"][seed],
        )
        for seed in range(SEEDS)
    ]
    return Cell(tuple(outcomes))


def pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The tournament's regret by alpha, seed and size: what counts is the third alpha at n = 256 and the
    fourth at 1,023."""
    regret = np.full((4, SEEDS, 3), FAR)
    regret[2, :, 1], regret[3, :, 2] = first, second
    return regret


def of_pair(at_1: np.ndarray) -> np.ndarray:
    """Min-KL's: that at alpha = 1, from n = 256 on."""
    regret = np.full((4, SEEDS, 3), FAR)
    regret[0, :, 1:] = at_1
    return regret


def taken(share: float) -> np.ndarray:
    """Share of the held-out sets at which the MLE is pi_2: least at one alpha and size, on the mean over
    seeds."""
    wrong = np.full((4, SEEDS, 3), 0.9)
    wrong[1, :, 2] = share + 0.1 * SIGNS
    return wrong


SPREAD = 0.02
ALIKE = 0.01 * (1 + 1e-10 * SIGNS)
"""Nearly the same in all seeds: a standard error must not be 0."""
FOUND = Measurements(
    SimpleNamespace(  # type: ignore[arg-type]
        seed=0,
        seeds=SEEDS,
        sizes=(4, 16),
        reference=16,
        design=Design(EXAMPLES, SETS, 1, (0.25, 0.5), 0.25, 0.06),
        pair_m=16,
        pair_examples=PAIR_EXAMPLES,
    ),
    Pair(
        MISSED,
        {
            SIMPLE: pair(EXPECTED[0] * (1.01 + SPREAD * SIGNS), EXPECTED[1] * (0.98 + SPREAD * SIGNS)),
            MIN_KL: of_pair(np.full((SEEDS, 2), 0.5)),
        },
        {MIN_KL: taken(0.5), SIMPLE: np.zeros((4, SEEDS, 3))},
    ),
    {key: cell(each) for key, each in SPECS.items()},
)


def with_pair(field: str, rule: str, values: np.ndarray) -> Measurements:
    old = getattr(FOUND.pair, field)
    return dataclasses.replace(FOUND, pair=FOUND.pair._replace(**{field: {**old, rule: values}}))


def changed(key: tuple[str, int, int], *path: Any, value: Any) -> Measurements:
    """One array of a cell replaced."""
    found = copy.deepcopy(SPECS[key])
    place = found
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return dataclasses.replace(FOUND, cells={**FOUND.cells, key: cell(found)})
