"""Checks of experiments.base_model_barrier, with the reason for each target."""

from __future__ import annotations

from covlab.report.rates import exponent
from covlab.report.verdict import Check, at_least, at_most, between
from experiments.base_model_barrier.measure import Measurements
from metrics import Interval
from tasks import numpy_stream

MARGIN = 0.1
"""About an exponent of the theory."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks.

    The reasons for the targets:

    - Outcome rewards: 1/alpha + 1/eps queries, so the exponents are -1 in alpha where alpha is small, and -1
      in eps from a likelihood of 1/2.
    - Process rewards: only the tokens' likelihood p = alpha^(1/H) counts, so over the same alpha the exponent
      is near 0, and -1 in p where p is small.
    - Over prompts: a budget of B leaves those with alpha below about 1/B, a share of B^-beta.
    - Beyond the support: in B queries outcome rewards solve a share B alpha of the prompts at most, 1e-8, so
      none; process rewards solve all. The other clusters are solved by outcome rewards.
    """
    settings = results.settings

    def slope(name: str, sizes: tuple[float, ...]) -> Interval:
        rng = numpy_stream(settings.seed, "base_model_barrier", "bootstrap", name)
        return exponent(sizes, getattr(results, name), rng)

    return (
        *between(
            "outcome: exponent of the base likelihood in the queries",
            slope("outcome", settings.likelihoods),
            -1 - MARGIN,
            -1 + MARGIN,
        ),
        *between("outcome: exponent of eps", slope("precision", settings.errors), -1 - MARGIN, -1 + MARGIN),
        *between(
            "process: exponent of the base likelihood",
            slope("process", settings.likelihoods),
            -MARGIN,
            MARGIN,
        ),
        *between(
            "process: exponent of the tokens' likelihood",
            slope("tokens", settings.tokens),
            -1 - MARGIN,
            -1 + MARGIN,
        ),
        *between(
            "outcome: exponent of the budget in the share of unsolved prompts",
            slope("unsolved", settings.budgets),
            -settings.tail - MARGIN,
            -settings.tail + MARGIN,
        ),
        at_most("outcome: share solved beyond the support", results.moved["outcome"].mean(), 0),
        at_least("process: share solved beyond the support", results.moved["process"].mean(), 1),
        at_least("outcome: share solved of the other clusters", results.others.mean(), 0.99),
    )


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences for the verdict."""
    settings = results.settings
    small = settings.likelihoods[0]
    far = settings.least ** (1 / settings.length)
    return (
        f"At the base likelihood {small:g} outcome rewards take {results.outcome[:, 0].mean():.3g} queries, "
        f"process rewards {results.process[:, 0].mean():.3g}.",
        f"A likelihood of {settings.least:g} over {settings.length} tokens is {far:.3g} a token.",
        "The right tokens share one margin in a cluster, and clusters do not interact. The step size, plain "
        "REINFORCE without a baseline, and the tail over prompts are this project's choices; a "
        "margin gamma is "
        "not varied.",
    )
