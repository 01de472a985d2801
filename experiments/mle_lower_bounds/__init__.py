"""Maximum likelihood's coverage where it is as bad as the upper bounds allow.

    python -m experiments.mle_lower_bounds scale=cpu|paper

Three families from the paper's lower bounds: a coarse term that no N improves, a fine term of order
d/(n ln N), and a linear class in which coverage of order H/(n ln N) shows that the inherent variance is
needed. The estimators are exact or solved to their optimality conditions; the data sets are drawn.
"""

from __future__ import annotations

import numpy as np
from omegaconf import DictConfig

from covlab.claims import sweeps
from covlab.claims.direct_claim import Claim, Findings, run_direct_claim
from covlab.launch.cli import command
from covlab.report.verdict import Check, check_interval, check_value
from experiments.mle_lower_bounds.measure import (
    Measured,
    Settings,
    bit_instances,
    coarse_instances,
    constant,
    fine_instances,
    measured,
)
from tasks import check_seed
from tasks.checks import real, whole, wholes
from tracking import Progress

CLAIM = Claim(
    name="mle_lower_bounds",
    source="Coverage Principle, arXiv 2510.15020, Propositions 4.1 and I.1",
    title="Maximum likelihood: instances on which the coverage bounds are tight",
    introduction=(
        "Coarse term: one token of d, all but one of them too rare for n examples. What is not seen gets the "
        "least probability that the class allows, and Cov_N >= (d - 1)/(10 n) for every N up to e^B.",
        "Fine term: 2^d models that fit the noise at d fair coins a little better than the truth does, and "
        "are wrong by a factor N on a prompt of mass c0^3 d/(n ln N). The fit is one of them with constant "
        "probability, and Cov_N is that mass.",
        "Inherent variance: H bits of one parameter each, seen together in so few examples that the errors "
        "of the H fits add up to a factor N. Cov_N is of order H/(n ln N), the square root of sigma*^2/(n ln "
        "N) up to the constant B.",
    ),
)


def settings(config: DictConfig) -> Settings:
    """Check the configuration.

    Raises:
        ValueError: one line, with the field, its value and what would be valid.
    """

    def many(name: str) -> tuple[int, ...]:
        return wholes(name, config[name], 2, at_least=3)

    def one(name: str) -> int:
        return whole(name, config[name], 2)

    chosen = Settings(
        seed=check_seed("seed", config.seed),
        draws=whole("draws", config.draws, 32),
        log_n=real("log_n", config.log_n, above=0.69, below=100),
        coarse_norm=real("coarse_norm", config.coarse_norm, above=0, below=300),
        coarse_log_ns=sweeps.increasing("coarse_log_ns", config.coarse_log_ns, 0, 100),
        fine_log_ns=sweeps.increasing("fine_log_ns", config.fine_log_ns, 0.69, 100),
        bits_norm=real("bits_norm", config.bits_norm, above=0, below=1000),
        bits_log_n=real("bits_log_n", config.bits_log_n, above=0, below=100),
        bits_log_ns=sweeps.increasing("bits_log_ns", config.bits_log_ns, 0, 100),
        coarse_samples=many("coarse_samples"),
        coarse_sizes=many("coarse_sizes"),
        fine_samples=many("fine_samples"),
        fine_sizes=many("fine_sizes"),
        bits_samples=many("bits_samples"),
        bits_horizons=many("bits_horizons"),
        coarse_sample=one("coarse_sample"),
        coarse_size=one("coarse_size"),
        fine_sample=one("fine_sample"),
        fine_size=one("fine_size"),
        bits_sample=one("bits_sample"),
        bits_horizon=one("bits_horizon"),
        bits_long=one("bits_long"),
        bits_responses=one("bits_responses"),
    )
    if chosen.coarse_log_ns[-1] > chosen.coarse_norm:
        raise ValueError(
            f"coarse_log_ns: {list(chosen.coarse_log_ns)}; valid: at most coarse_norm = "
            f"{chosen.coarse_norm:g}"
        )
    # Each instance refuses sizes at which its proposition does not hold.
    coarse_instances(chosen), fine_instances(chosen), bit_instances(chosen)
    return chosen


def measure(chosen: Settings, progress: Progress) -> Findings:
    """Measure all families and say what follows."""
    found = measured(chosen, progress)
    every = list(found.sweeps.values())
    return Findings(
        checks=checks(found),
        seeds=(chosen.seed,),
        notes=notes(found),
        drawings=[
            sweeps.drawing(name, caption, [s for s in every if s.name == family], chosen.seed)
            for name, caption, family in FIGURES
        ],
        tables=[sweeps.exponent_table(every, chosen.seed), *sweeps.value_tables(every, chosen.seed)],
    )


_LINES = " Means over data sets with 95 % intervals, thin: fitted slope, dotted: the theory's, dashed: "
FIGURES = (
    ("coarse", "Coarse term." + _LINES + "the promised (d - 1)/(10 n).", "coarse"),
    ("fine", "Fine term." + _LINES + "c0^3 d/(n ln N), reached if pi_D is always missed.", "fine"),
    (
        "variance",
        "Inherent variance." + _LINES + "the upper bound sqrt(sigma*^2/(n ln N)) + B^2/n, constants 1.",
        "variance",
    ),
)


def checks(found: Measured) -> tuple[Check, ...]:
    """The claim's checks, asked of whole intervals; the reasons for their targets:

    - Coarse: the proposition's own statement, (d - 1)/(10 n) with probability at least 1/2 at N = e^B; the
      exponents of that, within .15, for pi_D(y) = 1/(4n + d - 1) is of order 1/n only while d is well below
      n; no improvement with ln N at all, exponent 0 within .02; and 0 at N = e^2B, which is trivial, since
      ratios of the class's models end there.
    - Fine: pi_D is missed with probability at least .1, the proposition's; exponents within .15, which is a
      probability that drifts by a third over a factor of 16. Two models cover the class within sqrt(d/n):
      ln(1/(1 - eps)) <= sqrt(d/n), so no covering number at a coarse scale can give this rate.
    - Variance: exponents within .15, 1/2 in sigma*^2, and below the upper bound with constant 1.
    """
    seed = found.settings.seed

    def exponents(name: str, theories: dict[str, float], within: float = 0.15) -> list[Check]:
        made: list[Check] = []
        for axis, theory in theories.items():
            slope = sweeps.slope(found.sweeps[name, axis], 0, seed)
            made += sweeps.near(f"{name}: exponent of Cov_N in {axis}", slope, theory, within)
        return made

    shares = [sweeps.share_of_bound(found.sweeps["variance", axis], 0, seed) for axis in ("n", "H", "ln N")]
    return (
        check_interval(
            "coarse: probability of Cov_N >= (d - 1)/(10 n), least over n and d",
            sweeps.least_share(found.promised),
            ">=",
            0.5,
            "low",
        ),
        *exponents("coarse", {"n": -1, "d": 1}),
        *exponents("coarse", {"ln N": 0}, 0.02),
        check_value("coarse: Cov_N at the trivial N = e^2B, largest", found.trivial, "<=", 0),
        check_interval(
            "fine: probability of missing pi_D, least over n, d and ln N",
            sweeps.least_share(found.missed),
            ">=",
            0.1,
            "low",
        ),
        *exponents("fine", {"n": -1, "d": 1, "ln N": -1}),
        check_value("fine: ln(1/(1 - eps)) over sqrt(d/n), largest", found.spread, "<=", 1),
        *exponents("variance", {"n": -1, "H": 1, "sigma*^2": 0.5, "ln N": -1}),
        check_interval(
            "variance: largest share of the upper bound",
            max(shares, key=lambda each: each.high),
            "<=",
            1,
            "high",
        ),
    )


def notes(found: Measured) -> tuple[str, ...]:
    """What the numbers mean."""
    chosen = found.settings
    constants = constant(found)
    bounds = [float(np.max(s.rates[0].bound)) for s in found.sweeps.values() if s.rates[0].bound is not None]
    fine = fine_instances(chosen)["n"][0]
    bits = bit_instances(chosen)["n"][0]
    return (
        "Fine term: the class has ln |Pi| = ln(2^d + 1), so that the exponent in d is that in ln |Pi|.",
        f"Fine term: c0 = {fine.c0:g}, where the proof has c0 <= 1e-4; with the proof's the mass of the "
        f"hidden prompt is of order 1e-12 d/(n ln N).",
        f"Inherent variance: c0 = {bits.c0:g}, c1 = {bits.c1:g}, chosen so that it shows; E Cov_N = c H/(n "
        f"ln N) with c from {min(constants):.3f} to {max(constants):.3f} over all sizes. The proposition is "
        f"about every proper estimator and its worst theta*; here is the maximum-likelihood estimator, whose "
        f"law is the same for all 2^H theta*.",
        f"Inherent variance: Cov_N is the share of {chosen.bits_responses} responses drawn for each data "
        f"set, unbiased; everything else is an exact sum.",
        f"The largest bound drawn is {max(bounds):.3f}, so none is vacuous."
        if max(bounds) < 1
        else f"The largest bound drawn is {max(bounds):.3f}: at 1 or above it says nothing.",
        "Along ln N the fine-rate and variance instances change with N, as the propositions have it; the "
        "coarse one is a single instance.",
    )


def mle_lower_bounds(config: DictConfig) -> int:
    """Run the claim."""
    return run_direct_claim(CLAIM, config, settings(config), measure)


main = command("mle_lower_bounds", mle_lower_bounds)
