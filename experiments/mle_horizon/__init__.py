"""KL and coverage of maximum likelihood against the length of the response.

    python -m experiments.mle_horizon scale=cpu|paper

Two prompts, one of them of mass 1/(2n) with H independent bits of a single parameter. With probability above
1/2 the data lack it, and then any estimator has KL of order H/n for one of theta* = -1 and +1; coverage is
never above 1/(2n). All laws are exact at every H; only the data sets are drawn.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from omegaconf import DictConfig

from covlab.claims import sweeps
from covlab.claims.direct_claim import Claim, Findings, run_direct_claim
from covlab.claims.sweeps import Sweep
from covlab.launch.cli import command
from covlab.report.rates import Rate
from covlab.report.verdict import Check, check_interval, check_value
from tasks import check_seed, numpy_stream
from tasks.checks import real, whole, wholes
from theory.maximum_likelihood.bit_laws import bit_kl
from theory.maximum_likelihood.fitting import fit_logistic_on_ball
from theory.maximum_likelihood.rate_instances import TwoPrompts
from tracking import Progress

CLAIM = Claim(
    name="mle_horizon",
    source="Coverage Principle, arXiv 2510.15020, Proposition 3.2",
    title="Maximum likelihood: KL grows with the response's length, coverage does not",
    introduction=(
        "A prompt of mass 1/(2n) has H bits, each +1 with probability 1/(1 + e^-2 theta*), theta* = -1 or "
        "+1; on the other prompt all models agree. With probability about e^-1/2 = 0.61 the rare prompt is "
        "not among the n examples, every theta maximises the likelihood, and the tie is broken at theta = 0.",
        "KL is then .1639 H/n, whatever theta*: the model is wrong by a constant a token, H times. Coverage "
        "counts the prompt once, however wrong the model is there: at most 1/(2n).",
        "KL and coverage of each fitted model are exact (a binomial tail); the data sets are drawn.",
    ),
)
THETAS = (-1.0, 1.0)
PER_TOKEN = float(bit_kl(np.asarray(2.0), np.asarray(0.0))) / 2
"""KL n/H of theta = 0: KL(Ber(sigma(2)) || Ber(1/2))/2 = .1639."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """H, n, ln N, data sets for each H and theta*."""

    horizons: tuple[int, ...]
    samples: int
    log_n: float
    seed: int
    draws: int


class Measured(NamedTuple):
    """`kl` and `coverage` of the fits; `unseen`: whether the rare prompt is not in the data set."""

    settings: Settings
    kl: Float[np.ndarray, "thetas draws horizons"]
    coverage: Float[np.ndarray, "thetas draws horizons"]
    unseen: Bool[np.ndarray, "thetas draws horizons"]


def settings(config: DictConfig) -> Settings:
    """Check the configuration.

    Raises:
        ValueError: one line, with the field, its value and what would be valid.
    """
    return Settings(
        horizons=wholes("horizons", config.horizons, 1, at_least=3),
        samples=whole("samples", config.samples, 1),
        log_n=math.log(real("n", config.n, above=1, below=math.inf)),
        seed=check_seed("seed", config.seed),
        draws=whole("draws", config.draws, 32),
    )


def measure(chosen: Settings, progress: Progress) -> Findings:
    """Draw the data sets, fit, and say what follows."""
    found = fits(chosen)
    progress.update("fits", len(chosen.horizons), len(chosen.horizons))
    every = swept(found)
    return Findings(
        checks=checks(found),
        seeds=(chosen.seed,),
        notes=notes(found),
        drawings=[
            sweeps.drawing(
                "horizon",
                f"Left: KL of the maximum-likelihood model; dashed, .1639 H/n times the probability that the "
                f"rare prompt is missing. Right: Cov_N at N = {math.exp(chosen.log_n):g}, dashed 1/(2n), and "
                f"the bound on it that KL gives, KL/(ln N - 1 + 1/N). Means over "
                f"{len(THETAS) * chosen.draws} data sets of n = {chosen.samples} with 95 % intervals, thin: "
                f"fitted slope, dotted: the theory's.",
                every,
                chosen.seed,
            )
        ],
        tables=[
            sweeps.exponent_table(every, chosen.seed),
            *sweeps.value_tables(every, chosen.seed),
            reached_table(found),
            tie_table(),
        ],
    )


def fits(chosen: Settings) -> Measured:
    """KL and coverage of every data set's model."""
    kl: list[np.ndarray] = []
    coverage: list[np.ndarray] = []
    unseen: list[np.ndarray] = []
    log_n = np.array([chosen.log_n])
    for theta in THETAS:
        columns = []
        for horizon in chosen.horizons:
            instance = TwoPrompts(horizon, chosen.samples)
            rng = numpy_stream(chosen.seed, "mle", "two prompts", f"{theta:g}", horizon)
            data = instance.sample(rng, 2 * theta, chosen.draws)
            fitted = fit_logistic_on_ball(data.ones, data.trials, instance.radius).log_odds[:, 0]
            columns.append(
                (
                    instance.kl(2 * theta, fitted),
                    instance.coverage(2 * theta, fitted, log_n)[:, 0],
                    data.trials[:, 0] == 0,
                )
            )
        for part, many in zip((kl, coverage, unseen), zip(*columns, strict=True), strict=True):
            part.append(np.stack(many, axis=1))
    return Measured(chosen, np.stack(kl), np.stack(coverage), np.stack(unseen))


def swept(found: Measured) -> tuple[Sweep, Sweep]:
    """KL and coverage against H, both theta* together: by symmetry they have one law."""
    chosen = found.settings
    h, n = np.array(chosen.horizons, float), chosen.samples
    kl = found.kl.reshape(-1, len(h))
    coverage = found.coverage.reshape(-1, len(h))
    by_kl = chosen.log_n - 1 + math.exp(-chosen.log_n)
    fixed = f"n = {n}"
    expected = PER_TOKEN * h / n * (1 - 1 / (2 * n)) ** n
    return (
        Sweep(
            "KL",
            "H",
            fixed,
            chosen.horizons,
            (Rate("KL", kl, 1.0, expected),),
        ),
        Sweep(
            "coverage",
            "H",
            fixed,
            chosen.horizons,
            (
                Rate("Cov_N", coverage, 0.0, np.full(len(h), 1 / (2 * n))),
                Rate("bound by KL", kl / by_kl, 1.0),
            ),
        ),
    )


def checks(found: Measured) -> tuple[Check, ...]:
    """The claim's checks; the reasons for their targets:

    - Exponents: 1 and 0. Data sets with the rare prompt add KL of order 1/n, and the tail of X below ln N
      takes a little coverage at the shortest H; each bends a slope by less than .05 at these sizes.
    - KL >= .1639 H/n with probability >= 1/4 for one theta*: the whole interval, at every H.
    - Cov_N <= 1/(2n): each data set, up to rounding.
    - Breaking the tie elsewhere does not help: for every theta in [-1, 1] one of the two KL n/H is at least
      that of 0.
    """
    chosen = found.settings
    kl, coverage = swept(found)
    h, n = np.array(chosen.horizons, float), chosen.samples
    reached = found.kl >= PER_TOKEN * h / n * (1 - 1e-9)
    by_theta = [
        sweeps.least_share([reached[t, :, column] for column in range(len(h))]) for t in range(len(THETAS))
    ]
    ties = np.linspace(-1, 1, 201)
    worse = np.max([bit_kl(np.asarray(2 * theta), 2 * ties) / 2 for theta in THETAS], axis=0)
    return (
        *sweeps.near("KL: exponent in H", sweeps.slope(kl, 0, chosen.seed), 1, 0.05),
        *sweeps.near("Cov_N: exponent in H", sweeps.slope(coverage, 0, chosen.seed), 0, 0.05),
        check_interval(
            "probability that KL >= .1639 H/n, least over H, larger of the two theta*",
            max(by_theta, key=lambda each: each.low),
            ">=",
            0.25,
            "low",
        ),
        check_value(
            "Cov_N over 1/(2n), largest over all data sets",
            float(found.coverage.max() * 2 * n),
            "<=",
            1 + 1e-9,
        ),
        check_value(
            "any tie-break: KL n/H without the rare prompt, worse theta*, least",
            float(worse.min()),
            ">=",
            round(PER_TOKEN, 6) - 1e-6,
        ),
    )


def notes(found: Measured) -> tuple[str, ...]:
    """What the numbers mean."""
    chosen = found.settings
    printed = float((found.kl >= np.array(chosen.horizons) / (4 * chosen.samples)).mean())
    both = PER_TOKEN * 2
    return (
        f"The paper prints KL >= H/(4n) with probability 1/4. With the tie at 0 it is reached by a share "
        f"{printed:.3g} of all data sets here: KL is .1639 H/n without the rare prompt. The step of the "
        f"proof that fails says that the two KL sum to at least H/(2n); at theta = 0 they sum to "
        f"{both:.4f} H/n.",
        f"The rare prompt was missing from {float(found.unseen.mean()):.3f} of the data sets; (1 - 1/(2n))^n "
        f"= {(1 - 1 / (2 * chosen.samples)) ** chosen.samples:.3f}.",
        f"Neither bound on coverage is vacuous: 1/(2n) = {1 / (2 * chosen.samples):.2g}, and the bound by KL "
        f"is {float(np.max(swept(found)[1].rates[1].values.mean(axis=0))):.3g} at most; "
        f"the second grows with H.",
    )


def reached_table(found: Measured) -> tuple[str, list[str], list[list[Any]]]:
    """How often KL is as large as said."""
    chosen = found.settings
    rows = []
    for t, theta in enumerate(THETAS):
        for column, horizon in enumerate(chosen.horizons):
            kl = found.kl[t, :, column] * chosen.samples / horizon
            shares = [float((kl >= each * (1 - 1e-9)).mean()) for each in (PER_TOKEN, 0.25)]
            rows.append([theta, horizon, *shares, float(kl.max())])
    return (
        "Share of the data sets with KL >= .1639 H/n, and with the paper's KL >= H/(4n); largest KL n/H.",
        ["theta*", "H", ">= .1639 H/n", ">= H/(4n)", "largest KL n/H"],
        rows,
    )


def tie_table() -> tuple[str, list[str], list[list[Any]]]:
    """Other tie-breaks, exactly."""
    rows: list[list[Any]] = []
    for tie in (-1.0, -0.5, 0.0, 0.5, 1.0):
        each = [float(bit_kl(np.asarray(2 * theta), np.asarray(2 * tie))) / 2 for theta in THETAS]
        rows.append([tie, *each, max(each)])
    return (
        "KL n/H on data without the rare prompt, when the tie is broken at another theta; exact.",
        ["tie at theta", "theta* = -1", "theta* = +1", "worse"],
        rows,
    )


def mle_horizon(config: DictConfig) -> int:
    """Run the claim."""
    return run_direct_claim(CLAIM, config, settings(config), measure)


main = command("mle_horizon", mle_horizon)
