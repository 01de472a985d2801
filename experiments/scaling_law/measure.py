"""Losses against the KL, and samples needed at every KL/eps: settings and measurements of the claim."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from covlab.claims.claim import Study
from covlab.claims.settings import Real, Reals, Seed, Whole, Wholes
from metrics import samples_needed, worst_loss
from tasks import numpy_stream
from theory.scaling_law import (
    Pair,
    even_pair,
    guaranteed_ratio,
    printed_samples,
    random_bits,
    random_pair,
    scaling_law,
    worst_pair,
)

MOST = 1 << 44
"""Samples up to which `samples_needed` looks: e^28/28 is 5e10."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and seed of the measurement; the defaults are the scale `cpu`.

    The ranges of the pairs were chosen on seed 990.

    Attributes:
        seed: seed of the random pairs.
        draws: random pairs of each family and size.
        alphabets: numbers of responses to a prompt.
        prompts: prompts of the pairs with several prompts.
        ns: N at which the loss of random pairs is compared with KL/r(N).
        ratios: r = KL/eps at which samples are counted.
        masses: t of Ber(t) against Ber(t e^-r); the least is judged.
        epsilon: eps of the pair whose ratios are all equal.
    """

    seed: Annotated[int, Seed()] = 2700
    draws: Annotated[int, Whole(32)] = 96
    alphabets: Annotated[tuple[int, ...], Wholes(2, at_least=2)] = (2, 4, 16, 64)
    prompts: Annotated[int, Whole(2)] = 8
    ns: Annotated[tuple[int, ...], Wholes(2)] = (2, 4, 16, 64, 256, 4096, 65536)
    ratios: Annotated[tuple[float, ...], Reals(2, 28)] = (4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24)
    masses: Annotated[tuple[float, ...], Reals(0, 1)] = (1e-4, 1e-3, 0.01, 0.1)
    epsilon: Annotated[float, Real(above=0, below=0.5)] = 0.05

    def __post_init__(self) -> None:
        if len(self.ratios) < 3:
            raise ValueError(f"ratios: {list(self.ratios)}; valid: at least 3 different numbers")
        if self.masses[0] > 0.01:
            raise ValueError(f"masses: {list(self.masses)}; valid: the least of them at most .01")


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {
        "draws": 512,
        "alphabets": (2, 4, 16, 64, 256),
        "ratios": (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27),
        "masses": (1e-5, 1e-4, 1e-3, 0.01, 0.1),
    },
}


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Numbers of the claim.

    Attributes:
        settings: what was measured.
        shares: by family, the worst loss of random pairs at N over KL/r(N).
        needed: samples that the pair of bits needs to lose at most KL/r.
        tight: Cov_N (ln N - 1 + 1/N)/KL of the same pairs at N = e^r.
        even: samples that the pair whose ratios are all equal needs, at the same KL = r eps.
        printed: ln of the N of Propositions D.1 and D.6 at that KL and eps.
    """

    settings: Settings
    shares: dict[str, Float[np.ndarray, "pairs n"]]
    needed: Float[np.ndarray, "masses ratios"]
    tight: Float[np.ndarray, "masses ratios"]
    even: Float[np.ndarray, " ratios"]
    printed: Float[np.ndarray, " ratios"]

    @property
    def law(self) -> Float[np.ndarray, " ratios"]:
        """(e^r - 1)/r."""
        return np.array([scaling_law(r) for r in self.settings.ratios])


def shares(pair: Pair, ns: tuple[int, ...]) -> Float[np.ndarray, " n"]:
    """The worst loss of Best-of-N over its bound KL/r(N)."""
    loss = pair.prompts @ worst_loss(pair.target, pair.model, ns)
    return loss * np.array([guaranteed_ratio(n) for n in ns]) / pair.divergence


def needed(pair: Pair, loss: float) -> float:
    """Least N at which a pair of one prompt loses at most `loss`; infinite above 2^44."""
    least = samples_needed(pair.target[0], pair.model[0], loss, at_most=MOST)
    return math.inf if least is None else float(least)


def measure(settings: Settings, study: Study) -> Measurements:
    """Random pairs, the pairs that attain the law, and those of equal KL that do not."""
    families = {"one prompt": 1, f"{settings.prompts} prompts": settings.prompts}
    parts = [(family, size) for family in families for size in (0, *settings.alphabets)]
    found: dict[str, list[Float[np.ndarray, " n"]]] = {}
    for family, size in study.progress.over("pairs", parts, lambda part: {"size": part[1]}):
        rng, prompts = numpy_stream(settings.seed, "scaling_law", family, size), families[family]
        for _ in range(settings.draws):
            pair = random_pair(rng, size, prompts) if size else random_bits(rng, prompts)
            name = f"{'softmax' if size else 'bits'}, {family}"
            found.setdefault(name, []).append(shares(pair, settings.ns))
    counted, tight = [], []
    for mass in settings.masses:
        pairs = [(worst_pair(mass, r), r) for r in settings.ratios]
        counted.append([needed(pair, pair.divergence / r) for pair, r in pairs])
        bounds = [(math.exp(r), r - 1 + math.exp(-r)) for r in settings.ratios]
        tight.append(
            [
                pair.coverage(n) * factor / pair.divergence
                for (pair, _), (n, factor) in zip(pairs, bounds, strict=True)
            ]
        )
    divergences = [r * settings.epsilon for r in settings.ratios]
    return Measurements(
        settings,
        {name: np.array(values) for name, values in found.items()},
        np.array(counted),
        np.array(tight),
        np.array([needed(even_pair(kl), settings.epsilon) for kl in divergences]),
        np.array([printed_samples(kl, settings.epsilon) for kl in divergences]),
    )
