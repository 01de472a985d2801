"""KL and coverage of every way to train and decode, as means over the iterates, paired by seed.

Seed s starts from the same parameters and trains on the same sequences in every run of a length, and all runs
of a length are evaluated on one held-out set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Int

from covlab.claims.claim import Study
from covlab.claims.settings import Real, Wholes, mapping
from covlab.claims.trained import bound_excess, evaluations, finished_seeds
from metrics import Interval, line_fit, mean_interval
from metrics.coverage import name_of_n
from tasks.checks import real
from tracking import load_run

SEQUENCE, NORMALISED, TOKEN = "sequence", "normalised", "token_level"
TRUNCATED, LAWS, TRUNCATED_LAWS = "truncated", "laws", "truncated_laws"
TITLES = {
    SEQUENCE: "a step per sequence",
    NORMALISED: "a normalised step per sequence",
    TOKEN: "a step per token, test-time training",
    TRUNCATED: "a truncated step per sequence",
    LAWS: "the teacher's laws",
    TRUNCATED_LAWS: "the teacher's laws, truncated",
}
"""Every way to train, with the law that it is judged by: of the parameters, but of test-time training from
them for `token_level`."""
DECODED = (SEQUENCE, TOKEN)
"""The runs whose parameters are also decoded by test-time training."""


def rates_by_length(field: str, value: Any) -> dict[str, dict[str, float]]:
    """Learning rates by length (`length_<H>`), then by way to train, as far as they are given.

    Raises:
        ValueError: an unknown way to train, or a rate that is not a positive number.
    """
    found: dict[str, dict[str, float]] = {}
    for name, rates in mapping(field, value).items():
        own = mapping(f"{field}.{name}", rates)
        for arm, rate in own.items():
            if arm not in TITLES:
                raise ValueError(f"{field}.{name}.{arm}: no such field; valid are {', '.join(TITLES)}")
            real(f"{field}.{name}.{arm}", rate, above=0)
        found[name] = dict(own)
    return found


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of its runs are of experiments.train.

    Attributes:
        lengths: response lengths H, values of `task.length`.
        n: N of the Cov_N that is judged, and of the truncation.
        damping: lambda of normalised SGD.
        learning_rates: `length_<H>` -> way to train -> learning rate.
    """

    lengths: Annotated[tuple[int, ...], Wholes(2, at_least=3)]
    n: Annotated[float, Real(above=1)]
    damping: Annotated[float, Real(least=0)]
    learning_rates: Annotated[Mapping[str, Mapping[str, float]], rates_by_length]

    def rate(self, length: int, arm: str) -> float:
        """The learning rate of a run.

        Raises:
            ValueError: none is given.
        """
        name = f"length_{length}"
        rate = self.learning_rates.get(name, {}).get(arm)
        if rate is None:
            raise ValueError(f"learning_rates.{name}.{arm}: none; valid: a positive number")
        return rate


def run_name(length: int, arm: str) -> str:
    """Name of the run of a length and a way to train."""
    return f"length-{length}/{arm}"


@dataclasses.dataclass(frozen=True)
class Curves:
    """One run. KL in nats.

    Attributes:
        spans: numbers of steps that the training records are means over.
        kl, cov: KL and Cov_n of the law that was trained, on the training sequences, each before the model
            has learned from it: fresh draws, so unbiased for pi_D. With a step per token it is the law of
            test-time training.
        steps: steps of the evaluations.
        fixed_kl, fixed_cov: of the law of the parameters, on the held-out set.
        ttt_kl, ttt_cov: of test-time training from the parameters with the learning rate of `token_level`, on
            the held-out set; None for a run that is not decoded so.
    """

    spans: Int[np.ndarray, " records"]
    kl: Float[np.ndarray, "seeds records"]
    cov: Float[np.ndarray, "seeds records"]
    steps: Int[np.ndarray, " evaluations"]
    fixed_kl: Float[np.ndarray, "seeds evaluations"]
    fixed_cov: Float[np.ndarray, "seeds evaluations"]
    ttt_kl: Float[np.ndarray, "seeds evaluations"] | None = None
    ttt_cov: Float[np.ndarray, "seeds evaluations"] | None = None

    @property
    def mean_kl(self) -> Float[np.ndarray, " seeds"]:
        """Mean of `kl` over all iterates, the quantity of the theorems."""
        return self.kl @ self.spans / self.spans.sum()

    @property
    def mean_cov(self) -> Float[np.ndarray, " seeds"]:
        """Mean of `cov` over all iterates."""
        return self.cov @ self.spans / self.spans.sum()

    def gain(self, kind: str) -> Float[np.ndarray, " seeds"]:
        """`fixed_<kind>` minus `ttt_<kind>`, mean over the iterates by trapezoids between evaluations.

        Raises:
            ValueError: the run was not decoded by test-time training.
        """
        adapted = getattr(self, f"ttt_{kind}")
        if adapted is None:
            raise ValueError("run: not decoded by test-time training")
        return mean_over_steps(self.steps, getattr(self, f"fixed_{kind}") - adapted)


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        n: N of Cov_N and of the truncation.
        seeds: those that finished every run.
        left_out: one text for each seed that did not, in which run.
        lengths: H -> way to train -> its run, the shortest H first.
        rates: learning rates, in the same order.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation.
    """

    n: float
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    lengths: Mapping[int, Mapping[str, Curves]]
    rates: Mapping[int, Mapping[str, float]]
    bound_excess: float

    @property
    def longest(self) -> int:
        """The largest H."""
        return max(self.lengths)

    def by_length(
        self, of: Callable[[Mapping[str, Curves]], np.ndarray]
    ) -> Float[np.ndarray, "seeds lengths"]:
        """A quantity of the runs of each length, by seed."""
        return np.stack([of(runs) for runs in self.lengths.values()], axis=1)

    def growth(self, of: Callable[[Mapping[str, Curves]], np.ndarray]) -> Interval:
        """By how much it grows for each doubling of H: each seed's least-squares slope in log2 H."""
        x = tuple(np.log2(np.array(list(self.lengths), float)))
        return mean_interval(line_fit(x, self.by_length(of))[0])


def log_kl_gap(better: str, worse: str) -> Callable[[Mapping[str, Curves]], np.ndarray]:
    """ln of one run's mean KL over another's, by seed; positive where `better` has less."""
    return lambda runs: np.log(runs[worse].mean_kl / runs[better].mean_kl)


def cov_gap(better: str, worse: str) -> Callable[[Mapping[str, Curves]], np.ndarray]:
    """One run's mean Cov_N minus another's, by seed; positive where `better` covers more."""
    return lambda runs: runs[worse].mean_cov - runs[better].mean_cov


def mean_over_steps(
    steps: Int[np.ndarray, " evaluations"], values: Float[np.ndarray, "seeds evaluations"]
) -> Float[np.ndarray, " seeds"]:
    """The area below each curve, by trapezoids, over the distance from the first step to the last."""
    at = np.asarray(steps, np.float64)
    return np.asarray(np.trapezoid(values, at, axis=1) / (at[-1] - at[0]))


def curves_of(frame: Any, seeds: Sequence[int], n: float, decoded: bool) -> Curves:
    """The curves of one run from its records."""
    name = name_of_n(n)
    trained = frame[frame["train/kl"].notna() & frame["seed"].isin(seeds)]

    def recorded(metric: str) -> Any:
        return trained.pivot(index="seed", columns="step", values=f"train/{metric}").loc[list(seeds)]

    kl, fixed = recorded("kl"), evaluations(frame, seeds, "kl")
    adapted = [
        evaluations(frame, seeds, metric).to_numpy() if decoded else None
        for metric in ("ttt_kl", f"ttt_cov/{name}")
    ]
    return Curves(
        np.diff([0, *kl.columns]),
        kl.to_numpy(),
        recorded(f"cov/{name}").to_numpy(),
        np.asarray(fixed.columns),
        fixed.to_numpy(),
        evaluations(frame, seeds, f"cov/{name}").to_numpy(),
        *adapted,
    )


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the runs. Seeds that diverged in one run are left out of all.

    Raises:
        ValueError: fewer than two seeds finished every run.
    """
    frames = {name: load_run(run.path) for name, run in study.runs.items()}
    seeds, left_out = finished_seeds(frames, next(iter(study.runs.values())).setup.seeds)
    lengths = {
        length: {
            arm: curves_of(frames[run_name(length, arm)], seeds, settings.n, arm in DECODED) for arm in TITLES
        }
        for length in settings.lengths
    }
    rates = {length: {arm: settings.rate(length, arm) for arm in TITLES} for length in settings.lengths}
    excess = max(map(bound_excess, study.runs.values()))
    return Measurements(settings.n, seeds, left_out, lengths, rates, excess)
