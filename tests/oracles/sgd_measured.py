"""Hand-made measurements of `sgd_horizon` and `sgd_coordinates`, on which every check passes.

H is 8 or 16, so that an exponent is a logarithm to the base 2. The mean over iterates has two draws that are
2 % apart; what is needed for good has nine, one of which never settles, which a median does not see.
"""

import dataclasses
from math import log2
from types import SimpleNamespace
from typing import Any

import numpy as np

from experiments.sgd_coordinates.measure import Measurements as Coordinates
from theory.sgd.horizon_runs import Family, Method
from theory.sgd.horizon_sweep import Measurements

HORIZONS = (8, 16)
FAMILY = Family(HORIZONS, letters=20.0, plus=0.25, n=16.0, target=0.1, updates=1000)
STEPS = np.array([0.0005, 0.00125, 0.0025, 0.01])
"""B = 400, so that 8/(HB) is .0025 and .00125."""
WIDTH = log2(1.02)
MEAN = {
    "SGD": 1.01,
    "SGD, batch 8": 0.98,
    "clipped SGD": 0.12,
    "normalised SGD": 0.03,
    "normalised SGD, batch 8": -0.04,
    "normalised SGD, batch 100": 0.05,
    "sign-SGD": 0.1,
    "Adam": -0.13,
}
"""Exponents of H in the updates, mean over iterates."""
BATCHES = {
    "SGD, batch 8": 0.98,
    **{f"clipped SGD, batch {batch}": slope for batch, slope in ((1, 0.14), (2, 0.13), (8, 0.11))},
    **{f"sign-SGD, batch {batch}": slope for batch, slope in ((1, 0.4), (2, 0.3), (8, 0.1))},
    **{f"Adam, batch {batch}": slope for batch, slope in ((1, -0.1), (2, -0.12), (8, -0.13))},
}
"""The same of the methods of `sgd_coordinates`."""
GOOD = {name: slope - 0.06 for name, slope in MEAN.items()}
"""For good."""


def laws(slope: float, median: bool = False) -> np.ndarray:
    law = np.array([100.0, 100.0 * 2**slope])
    return np.stack([*[law] * 8, [np.inf, np.inf]]) if median else np.outer([1.0, 1.02], law)


def chosen(name: str) -> Any:
    rule = name.split(",")[0].removesuffix(" SGD").removesuffix("-SGD").lower()
    slope = {**MEAN, **BATCHES}[name]
    batch = int(name.split()[-1]) if "batch" in name else 1
    tuning = np.array([[50.0, 40.0, 60.0, 1.0], [70.0, 50.0, 1.0, 1.0]])[..., None] + np.array([0.0, 9.0])
    return SimpleNamespace(
        method=Method(name, rule, batch),
        tuning=SimpleNamespace(mean=tuning),
        steps={"mean": np.array([1, 2]), "good": np.array([0, 3])},
        worst={"mean": laws(slope), "good": laws(slope - 0.06, median=True)},
    )


def averages() -> np.ndarray:
    """Mean Cov on three numbers; the first is the step itself, of at least 8/(HB) from the third and from the
    second step on."""
    found = np.zeros((2, 4, 3))
    found[0, 2:, 0] = [1.0, 0.9998]
    found[1, 1:, 0] = [0.9997, 1.0, 1.0]
    return found


RIGHT = Measurements(
    FAMILY,
    0,
    STEPS,
    {"sgd": SimpleNamespace(average=averages())},  # type: ignore[dict-item]
    {name: chosen(name) for name in MEAN},
    {},
    None,  # type: ignore[arg-type]
    SimpleNamespace(  # type: ignore[arg-type]
        letters=np.array([[1.0, 2.0], [3.0, 4.0]]),
        numbers=np.array([[1.0, 6.0], [1.0, 1.0]]),
        bound=np.array([[10.0, 8.0], [10.0, 5.0]]),
    ),
)
RIGHT_COORDINATES = Coordinates(
    FAMILY, 0, STEPS, {}, {name: chosen(name) for name in BATCHES}, batch=8, smaller_batches=(1, 2)
)


def put(name: str, right: Any = RIGHT, **changes: Any) -> Any:
    """The right measurements, one method's fields changed."""
    new = SimpleNamespace(**{**vars(right.chosen[name]), **changes})
    return dataclasses.replace(right, chosen={**right.chosen, name: new})


def needing(name: str, criterion: str, values: np.ndarray, right: Any = RIGHT) -> Any:
    """Updates that a method needs."""
    return put(name, right, worst={**right.chosen[name].worst, criterion: values})


def at_ends(names: tuple[str, ...], count: int, right: Any = RIGHT) -> Any:
    """`count` of the step sizes chosen by these methods are the grid's first or last."""
    found = right
    for place, name in enumerate(names):
        ends = [0 if count > 2 * place else 1, 3 if count > 2 * place + 1 else 2]
        new = SimpleNamespace(**{**vars(found.chosen[name]), "steps": {"mean": np.array(ends)}})
        found = dataclasses.replace(found, chosen={**found.chosen, name: new})
    return found
