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
from covlab.claims.trained import bound_excess, evaluations, finished_seeds, mean_over_steps
from metrics import Interval, line_fit, mean_interval, seeds_and_prompts_interval
from metrics.coverage import name_of_n
from tasks.checks import real
from tracking import load_log_probs, load_run

SEQUENCE, NORMALISED, TOKEN = "sequence", "normalised", "token_level"
TRUNCATED, LAWS, TRUNCATED_LAWS = "truncated", "laws", "truncated_laws"
SEQUENCE_LARGE, TOKEN_LARGE = "sequence_large", "token_level_large"
TITLES = {
    SEQUENCE: "a step per sequence",
    NORMALISED: "a normalised step per sequence",
    TOKEN: "a step per token, test-time training",
    TRUNCATED: "a truncated step per sequence",
    LAWS: "the teacher's laws",
    TRUNCATED_LAWS: "the teacher's laws, truncated",
    SEQUENCE_LARGE: "a large step per sequence",
    TOKEN_LARGE: "a large step per token, test-time training",
}
"""Every way to train, with the law that it is judged by: of the parameters, but of test-time training from
them where there is a step per token."""
LARGE = (SEQUENCE_LARGE, TOKEN_LARGE)
"""The runs whose learning rate is that of `sequence` times a factor."""
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
            if arm not in TITLES or arm in LARGE:
                valid = ", ".join(way for way in TITLES if way not in LARGE)
                raise ValueError(f"{field}.{name}.{arm}: no such field; valid are {valid}")
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
        large: learning rate of a large step over the rate of `sequence`.
        learning_rates: `length_<H>` -> way to train -> learning rate.
    """

    lengths: Annotated[tuple[int, ...], Wholes(2, at_least=3)]
    n: Annotated[float, Real(above=1)]
    damping: Annotated[float, Real(least=0)]
    large: Annotated[float, Real(above=1)]
    learning_rates: Annotated[Mapping[str, Mapping[str, float]], rates_by_length]

    def rate(self, length: int, arm: str) -> float:
        """The learning rate of a run.

        Raises:
            ValueError: none is given.
        """
        if arm in LARGE:
            return self.large * self.rate(length, SEQUENCE)
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
        ttt_by_pair: ln pi_TTT - ln pi_fixed in nats of every held-out pair, mean over the iterates by
            trapezoids between evaluations; None as above.
    """

    spans: Int[np.ndarray, " records"]
    kl: Float[np.ndarray, "seeds records"]
    cov: Float[np.ndarray, "seeds records"]
    steps: Int[np.ndarray, " evaluations"]
    fixed_kl: Float[np.ndarray, "seeds evaluations"]
    fixed_cov: Float[np.ndarray, "seeds evaluations"]
    ttt_kl: Float[np.ndarray, "seeds evaluations"] | None = None
    ttt_cov: Float[np.ndarray, "seeds evaluations"] | None = None
    ttt_by_pair: Float[np.ndarray, "seeds pairs"] | None = None

    @property
    def mean_kl(self) -> Float[np.ndarray, " seeds"]:
        """Mean of `kl` over all iterates, the quantity of the theorems."""
        return self.kl @ self.spans / self.spans.sum()

    @property
    def mean_cov(self) -> Float[np.ndarray, " seeds"]:
        """Mean of `cov` over all iterates."""
        return self.cov @ self.spans / self.spans.sum()

    @property
    def kl_gain(self) -> Interval:
        """KL of the parameters minus that of test-time training from them, mean over the iterates, with an
        interval over seeds and held-out pairs.

        Raises:
            ValueError: the run was not decoded by test-time training.
        """
        return seeds_and_prompts_interval(_decoded(self.ttt_by_pair))

    @property
    def cov_gain(self) -> Interval:
        """Cov_n likewise, with an interval over seeds alone.

        Raises:
            ValueError: the run was not decoded by test-time training.
        """
        return mean_interval(mean_over_steps(self.steps, self.fixed_cov - _decoded(self.ttt_cov)))


def _decoded(values: np.ndarray | None) -> np.ndarray:
    if values is None:
        raise ValueError("run: not decoded by test-time training")
    return values


Gap = Callable[[Mapping[str, Curves]], np.ndarray]
"""A quantity of the runs of one length, by seed."""


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

    def by_length(self, of: Gap) -> Float[np.ndarray, "seeds lengths"]:
        """A quantity of the runs of each length, by seed."""
        return np.stack([of(runs) for runs in self.lengths.values()], axis=1)

    def growth(self, of: Gap) -> Interval:
        """By how much it grows for each doubling of H: each seed's least-squares slope in log2 H."""
        x = tuple(np.log2(np.array(list(self.lengths), float)))
        return mean_interval(line_fit(x, self.by_length(of))[0])


def log_kl_gap(better: str, worse: str) -> Gap:
    """ln of one run's mean KL over another's, by seed; positive where `better` has less."""
    return lambda runs: np.log(runs[worse].mean_kl / runs[better].mean_kl)


def cov_gap(better: str, worse: str) -> Gap:
    """One run's mean Cov_N minus another's, by seed; positive where `better` covers more."""
    return lambda runs: runs[worse].mean_cov - runs[better].mean_cov


def gains_by_pair(
    scores: Mapping[int, Mapping[str, np.ndarray]], rows: Sequence[int]
) -> Float[np.ndarray, "seeds pairs"]:
    """ln pi_TTT - ln pi_fixed of every held-out pair, mean over the iterates.

    Args:
        scores: step -> per-example arrays (seeds, examples, 1) of the evaluation.
        rows: rows of the seeds.
    """
    steps = np.array(sorted(scores))
    gaps = [
        (scores[step]["ttt_log_prob"].astype(np.float64) - scores[step]["log_prob"])[list(rows), :, 0]
        for step in steps.tolist()
    ]
    return mean_over_steps(steps, np.stack(gaps, axis=-1))


def curves_of(frame: Any, seeds: Sequence[int], n: float, by_pair: np.ndarray | None = None) -> Curves:
    """The curves of one run from its records, and `ttt_by_pair` of a run that is decoded by test-time
    training."""
    name = name_of_n(n)
    trained = frame[frame["train/kl"].notna() & frame["seed"].isin(seeds)]

    def recorded(metric: str) -> Any:
        return trained.pivot(index="seed", columns="step", values=f"train/{metric}").loc[list(seeds)]

    kl, fixed = recorded("kl"), evaluations(frame, seeds, "kl")
    curves = Curves(
        np.diff([0, *kl.columns]),
        kl.to_numpy(),
        recorded(f"cov/{name}").to_numpy(),
        np.asarray(fixed.columns),
        fixed.to_numpy(),
        evaluations(frame, seeds, f"cov/{name}").to_numpy(),
    )
    if by_pair is None:
        return curves
    return dataclasses.replace(
        curves,
        ttt_kl=evaluations(frame, seeds, "ttt_kl").to_numpy(),
        ttt_cov=evaluations(frame, seeds, f"ttt_cov/{name}").to_numpy(),
        ttt_by_pair=by_pair,
    )


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the runs. Seeds that diverged in one run are left out of all.

    Raises:
        ValueError: fewer than two seeds finished every run.
    """
    frames = {name: load_run(run.path) for name, run in study.runs.items()}
    every = next(iter(study.runs.values())).setup.seeds
    seeds, left_out = finished_seeds(frames, every)
    rows = [every.index(seed) for seed in seeds]
    lengths: dict[int, dict[str, Curves]] = {}
    for length in settings.lengths:
        lengths[length] = {}
        for arm in TITLES:
            name, by_pair = run_name(length, arm), None
            if arm in DECODED:
                files = load_log_probs(study.runs[name].path, "train_[0-9]*")
                scores = {int(key.rpartition("_")[2]): arrays for key, arrays in files.items()}
                by_pair = gains_by_pair(scores, rows)
            lengths[length][arm] = curves_of(frames[name], seeds, settings.n, by_pair)
    rates = {length: {arm: settings.rate(length, arm) for arm in TITLES} for length in settings.lengths}
    excess = max(map(bound_excess, study.runs.values()))
    return Measurements(settings.n, seeds, left_out, lengths, rates, excess)
