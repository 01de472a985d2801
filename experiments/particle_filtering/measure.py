"""Laws of particle filtering over horizons and numbers of particles: settings and measurements."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from covlab.claims.claim import Study
from covlab.claims.settings import Real, Seed, Whole, Wholes
from decoding import ParticleFilter, TaskValues, Walk
from decoding.analytic_values import Delayed
from decoding.exact_selection import distance, race_law
from tasks import numpy_stream
from tasks.delay import Delay
from theory.particle_laws import bits, late_ratios, particles_needed, perfect_share, product_error
from theory.vgb.laws import UNLIMITED, chi_square, leaf_counts, sample
from theory.vgb.typed_trees import delay_tree, first_leaf_moves, first_leaf_steps, total_variation_of


@dataclasses.dataclass(frozen=True)
class Settings:
    """Horizons, particles and seeds; the defaults are the scale `cpu`.

    Horizons, particles and margins were chosen on seed 100.

    Attributes:
        seed: seed of the leaves and of the decoder's samples.
        tilt: lambda.
        error: total variation that is to be reached.
        horizons: H with perfect values.
        particles: N of both.
        late_horizons: H with late values.
        groups, leaves: groups of leaves drawn from pi*, over which intervals are computed, and leaves of
            each.
        chains: samples of the compiled decoder.
        sampled_horizon, sampled_particles: H and N there.
    """

    seed: Annotated[int, Seed()] = 2620
    tilt: Annotated[float, Real(above=0, most=5)] = 1.0
    error: Annotated[float, Real(above=0, below=0.5)] = 0.1
    horizons: Annotated[tuple[int, ...], Wholes(2, at_least=3)] = (16, 64, 256, 1024, 4096, 16384)
    particles: Annotated[tuple[int, ...], Wholes(2, at_least=3)] = (4, 8, 16, 32)
    late_horizons: Annotated[tuple[int, ...], Wholes(3, at_least=3)] = (8, 16, 32, 64, 128)
    groups: Annotated[int, Whole(4)] = 16
    leaves: Annotated[int, Whole(100)] = 500
    chains: Annotated[int, Whole(256)] = 16384
    sampled_horizon: Annotated[int, Whole(3, 8)] = 4
    sampled_particles: Annotated[int, Whole(2)] = 4

    def __post_init__(self) -> None:
        if self.particles[-1] > 64:
            raise ValueError(f"particles: {self.particles[-1]}; valid: 2 to 64, whose chain is tabulated")
        if self.late_horizons[-1] * self.tilt > 300:
            raise ValueError(f"late_horizons: {self.late_horizons[-1]} is too long for tilt {self.tilt:g}")


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {"particles": (4, 8, 16, 32, 64), "late_horizons": (8, 16, 32, 64, 128, 256), "leaves": 4000},
}


class Late(NamedTuple):
    """Late values at one H and N; arrays are over groups of leaves.

    Attributes:
        mass: mean of p/pi*, which is 1.
        error: total variation to pi*.
        loss: mean share of ones under pi* minus that of the returned response.
    """

    mass: Float[np.ndarray, " groups"]
    error: Float[np.ndarray, " groups"]
    loss: Float[np.ndarray, " groups"]


class Rivals(NamedTuple):
    """Errors at N H queries without values, and of VGB's first leaf with late values.

    Attributes:
        rejection: rejection with threshold 1 of up to N H whole responses; nothing returned counts as wrong.
        race: the uniform race of N H whole responses.
        vgb: total variation of VGB's first leaf.
        vgb_steps: mean number of steps to it, with at most 2 queries each.
    """

    rejection: float
    race: float
    vgb: float
    vgb_steps: float


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Errors, losses and p-values.

    Attributes:
        needed: particles for `error` with perfect values, over `horizons`.
        perfect: total variation with perfect values.
        at_root: total variation with sqrt(H) particles, rounded up, and perfect values.
        losses: share of ones lost with perfect values, the same at every H, over `particles`.
        late: by (H, N).
        rivals: by (H, N), at the same horizons.
        goodness: by "perfect" and "late": p-values of the decoder against its law, and against pi*.
    """

    settings: Settings
    needed: Int[np.ndarray, " horizons"]
    perfect: Float[np.ndarray, "horizons particles"]
    at_root: Float[np.ndarray, " horizons"]
    losses: Float[np.ndarray, " particles"]
    late: dict[tuple[int, int], Late]
    rivals: dict[tuple[int, int], Rivals]
    goodness: dict[str, tuple[float, float]]

    def late_errors(self) -> Float[np.ndarray, "groups horizons particles"]:
        """Total variations with late values."""
        return self._table("error")

    def late_losses(self) -> Float[np.ndarray, "groups horizons particles"]:
        """Lost shares of ones with late values."""
        return self._table("loss")

    def _table(self, name: str) -> np.ndarray:
        settings = self.settings
        rows = [[getattr(self.late[h, n], name) for n in settings.particles] for h in settings.late_horizons]
        return np.moveaxis(np.asarray(rows), 2, 0)


def measure(settings: Settings, study: Study) -> Measurements:
    """All laws and the decoder's samples."""
    target, tilt = bits(settings.tilt).target, settings.tilt
    shares = [perfect_share(tilt, n) for n in settings.particles]
    roots = [perfect_share(tilt, math.ceil(math.sqrt(h))) for h in settings.horizons]
    todo = list(itertools.product(settings.late_horizons, settings.particles))
    late, rivals = {}, {}
    for h, n in study.progress.over("late values", todo, lambda each: {"H": each[0], "N": each[1]}):
        late[h, n] = late_law(settings, h, n)
        rivals[h, n] = rivals_of(tilt, h, n * h)
    return Measurements(
        settings,
        np.array([particles_needed(h, tilt, settings.error) for h in settings.horizons]),
        np.array([[product_error(h, share, target) for share in shares] for h in settings.horizons]),
        np.array(
            [product_error(h, share, target) for h, share in zip(settings.horizons, roots, strict=True)]
        ),
        target - np.array(shares),
        late,
        rivals,
        decoder_goodness(settings),
    )


def late_law(settings: Settings, length: int, particles: int) -> Late:
    """Mass, error and loss over leaves drawn from pi*; all N of an H share their leaves."""
    target = bits(settings.tilt).target
    rng = numpy_stream(settings.seed, "particle_filtering", "leaves", length)
    drawn = (rng.random((settings.groups * settings.leaves, length)) < target).astype(np.int64)
    ratio = late_ratios(drawn, settings.tilt, particles).reshape(settings.groups, settings.leaves)
    ones = drawn.mean(axis=1).reshape(ratio.shape)
    # ratio - 1 has mean 0 under pi*, so the second form has the same mean and less noise.
    return Late(
        ratio.mean(axis=1),
        np.abs(ratio - 1).mean(axis=1) / 2,
        ((1 - ratio) * (ones - target)).mean(axis=1),
    )


def rivals_of(tilt: float, length: int, queries: int) -> Rivals:
    """Errors of methods on numbers of ones, which are sufficient for these laws."""
    zeros = length - np.arange(length + 1)
    reference = stats.binom.pmf(zeros, length, 0.5)
    weights = np.exp(-tilt * zeros)
    chance = float(reference @ weights)
    target = reference * weights / chance
    law = race_law(reference, weights, queries)
    return Rivals(
        float((1 - chance) ** queries),
        float(distance(law, target)),
        *_first_leaf(tilt, length),
    )


@functools.lru_cache
def _first_leaf(tilt: float, length: int) -> tuple[float, float]:
    """Total variation of VGB's first leaf with late values, and the mean number of steps to it."""
    tree = delay_tree(length, tilt)
    return total_variation_of(first_leaf_moves(tree), tree.target), first_leaf_steps(tree)


def decoder_goodness(settings: Settings) -> dict[str, tuple[float, float]]:
    """Chi-square p-values of the compiled decoder against its exact law and against pi*."""
    length, tilt, count = settings.sampled_horizon, settings.tilt, settings.sampled_particles
    task = Delay(length=length, tilt=tilt)
    leaves = np.array(list(itertools.product((0, 1), repeat=length)))
    one = bits(tilt).target
    target = np.where(leaves == 1, one, 1 - one).prod(axis=1)
    share = perfect_share(tilt, count)
    laws = {
        "perfect": np.where(leaves == 1, share, 1 - share).prod(axis=1),
        "late": target * late_ratios(leaves, tilt, count),
    }
    values: dict[str, Walk] = {"perfect": TaskValues(task), "late": Delayed(task)}
    found = {}
    for name, law in laws.items():
        decoder = ParticleFilter(budget=UNLIMITED, particles=count)
        decoded = sample(
            task, values[name], decoder, settings.chains, settings.seed, f"particles, {name}"
        ).decoded
        counts = leaf_counts(task, decoded)
        found[name] = chi_square(counts, law), chi_square(counts, target)
    return found
