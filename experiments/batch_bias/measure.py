"""The lemmas behind Theorem 5.1, resting points of normalised SGD, and runs: settings and measurements."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from scipy import special

from covlab.claims.claim import Study
from covlab.claims.settings import Real, Seed, Whole, Wholes
from tasks import numpy_stream
from theory.sgd.batch_bias import Bits, least_batch, lemma_sides, resting_point, run, theorem_bound

MODERATE = 1.0
"""lambda of the resting points that have a closed form to compare with, beside the proof's."""
RUNS = ("normalised SGD, 1", "normalised SGD, K", "SGD, 1")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Instances, rule and runs; the defaults are the scale `cpu`.

    Step size, damping and numbers of updates were chosen on seed 990.

    Attributes:
        seed: seed of the runs.
        inverses: 1/p*.
        bound: B of the biased instance, whose responses have one bit.
        n: N of Cov_N.
        damping: the small lambda.
        step_size: eta of the runs on the biased instance, at the largest 1/p* below 100.
        updates: T of these runs; the second half is judged.
        draws: runs of each rule.
        theorem_updates: T of the runs at the proof's constants, B = 1.
        theorem_batch: their K.
        theorem_length: their H; p* = sigmoid(1), from theta = -1.
        theorem_n: their N.
        theorem_draws: number of these runs.
    """

    seed: Annotated[int, Seed()] = 2710
    inverses: Annotated[tuple[int, ...], Wholes(8, at_least=2)] = (16, 32, 64, 128, 256, 512)
    bound: Annotated[float, Real(least=8, most=64)] = 32.0
    n: Annotated[float, Real(above=math.e, below=1e4)] = 16.0
    damping: Annotated[float, Real(above=0, most=1)] = 1e-5
    step_size: Annotated[float, Real(above=0, most=1)] = 0.002
    updates: Annotated[int, Whole(100)] = 20000
    draws: Annotated[int, Whole(8)] = 32
    theorem_updates: Annotated[int, Whole(1000)] = 1_000_000
    theorem_batch: Annotated[int, Whole(1)] = 4000
    theorem_length: Annotated[int, Whole(1, 64)] = 8
    theorem_n: Annotated[float, Real(above=math.e, below=1e4)] = 32.0
    theorem_draws: Annotated[int, Whole(2)] = 8

    def __post_init__(self) -> None:
        if self.inverses[0] > 99:
            raise ValueError(f"inverses: {list(self.inverses)}; valid: the least of them below 100")
        if math.log(self.inverses[-1]) > self.bound:
            raise ValueError(f"inverses: {self.inverses[-1]}; valid: at most e^bound")

    @property
    def run_bits(self) -> Bits:
        """The instance of the runs."""
        return Bits(self.bound, 1 / max(inverse for inverse in self.inverses if inverse < 100))

    def theorem_batch_of(self, rare: float) -> int:
        """B/(eps ln N) at eps = p*, rounded up."""
        return math.ceil(self.bound / (rare * math.log(self.n)))


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {
        "inverses": (16, 32, 64, 128, 256, 512, 1024, 2048),
        "draws": 128,
        "theorem_updates": 10_000_000,
        "theorem_batch": 40_000,
    },
}


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Numbers of the claim.

    Attributes:
        settings: what was measured.
        squares, stopped: left over right side of Lemmas I.8 and I.9, one entry per case of `grid`.
        closed: p at rest over its closed form, at K = 1 and lambda = 1, by 1/p*.
        factor: p*/p at rest at K = 1 and the proof's least lambda, 8 B ln N, by 1/p*.
        single, theorem: Cov_N at rest over p*, at the small lambda, with K = 1 and K = B/(p* ln N).
        least: least K with Cov_N = 0 at rest, at the small lambda.
        runs: mean Cov_N over p* in the second half of the updates, by rule; one entry per draw.
        rule: eta, lambda and the right-hand side of Theorem 5.1 with the proof's constants.
        mean: mean Cov_N over all iterates of the runs at these constants, one entry per draw.
    """

    settings: Settings
    squares: Float[np.ndarray, " cases"]
    stopped: Float[np.ndarray, " cases"]
    closed: Float[np.ndarray, " inverses"]
    factor: Float[np.ndarray, " inverses"]
    single: Float[np.ndarray, " inverses"]
    theorem: Float[np.ndarray, " inverses"]
    least: Float[np.ndarray, " inverses"]
    runs: Mapping[str, Float[np.ndarray, " draws"]]
    rule: tuple[float, float, float]
    mean: Float[np.ndarray, " draws"]


def grid() -> list[tuple[Bits, int, float]]:
    """Instances, batches and ln N on which the lemmas are checked, each at nine parameters from -1 to 1."""
    return [
        (Bits(bound, rare, length, plus), batch, math.log(n))
        for bound, rare in ((1.0, 0.3), (1.0, 0.5), (4.0, 0.05), (16.0, 1e-3))
        for length, plus, batch, n in itertools.product((1, 16, 256), (1.0, 0.1), (1, 16, 128), (4, 256))
    ]


def closed_form(bits: Bits, damping: float) -> float:
    """The root of lambda (p* - p) = B p (1 - p)(1 - 2 p*) between 0 and p*: p at rest for H = K = 1."""
    slope = bits.bound * (1 - 2 * bits.rare) / damping
    # slope p^2 - (1 + slope) p + p* = 0; the smaller root, without cancellation.
    return 2 * bits.rare / (1 + slope + math.sqrt((1 + slope) ** 2 - 4 * slope * bits.rare))


def measure(settings: Settings, study: Study) -> Measurements:
    """The lemmas on the grid, the resting points, and the runs."""
    squares, stopped = [], []
    for bits, batch, log_n in study.progress.over("cases", grid(), lambda case: {"K": case[1]}):
        damping = 8 * bits.bound * log_n
        for theta in np.linspace(-1, 1, 9):
            p = float(special.expit(bits.bound * theta))
            left, right = lemma_sides(bits, p, batch, damping, log_n)
            squares.append(left)
            stopped.append(right)
    every = [Bits(settings.bound, 1 / inverse) for inverse in settings.inverses]
    proof = 8 * settings.bound * math.log(settings.n)

    def at_rest(bits: Bits, batch: int) -> float:
        return float(bits.coverage(resting_point(bits, batch, settings.damping), settings.n)) / bits.rare

    bits = settings.run_bits
    rules = {
        RUNS[0]: (1, settings.damping),
        RUNS[1]: (settings.theorem_batch_of(bits.rare), settings.damping),
        RUNS[2]: (1, math.inf),
    }
    runs = {}
    for name, (batch, damping) in rules.items():
        rng = numpy_stream(settings.seed, "batch_bias", name)
        path = run(
            bits, bits.rare, batch, (settings.step_size, damping), settings.updates, settings.draws, rng
        )
        runs[name] = bits.coverage(path[settings.updates // 2 :], settings.n).mean(axis=0) / bits.rare
    rule, mean = at_own_constants(settings)
    return Measurements(
        settings,
        np.array(squares),
        np.array(stopped),
        np.array([resting_point(each, 1, MODERATE) / closed_form(each, MODERATE) for each in every]),
        np.array([each.rare / resting_point(each, 1, proof) for each in every]),
        np.array([at_rest(each, 1) for each in every]),
        np.array([at_rest(each, settings.theorem_batch_of(each.rare)) for each in every]),
        np.array(
            [least_batch(each, settings.damping, settings.n, round(4 / each.rare)) for each in every],
            np.float64,
        ),
        runs,
        rule,
        mean,
    )


def at_own_constants(
    settings: Settings,
) -> tuple[tuple[float, float, float], Float[np.ndarray, " draws"]]:
    """eta, lambda and bound of Theorem 5.1 at B = 1, and the mean of Cov_N over all iterates of its runs."""
    bits = Bits(1.0, float(special.expit(1.0)), settings.theorem_length)
    log_n, updates = math.log(settings.theorem_n), settings.theorem_updates
    eta, damping, bound = theorem_bound(bits, updates, settings.theorem_batch, log_n)
    rng = numpy_stream(settings.seed, "batch_bias", "own constants")
    start, draws = float(special.expit(-1.0)), settings.theorem_draws
    path = run(bits, start, settings.theorem_batch, (eta, damping), updates, draws, rng)
    return (eta, damping, bound), bits.coverage(path, settings.theorem_n).mean(axis=0)
