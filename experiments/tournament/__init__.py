"""Choosing a model for coverage: simple and offset tournament against min-KL, with their guarantees.

    python -m experiments.tournament scale=cpu|paper

Six kinds of model families whose laws are known exactly: the coverage, the KL and Pass@N of every model are
closed forms, and only the held-out sets are drawn. The paper states the guarantees up to constants; the
constants of its proofs and smaller ones that are derived are both drawn (see `tournament_bounds`). The
families, the rates in n and all measurements are this project's; the paper has the misspecified pair and
the two theorems.

Source: Coverage Principle, arXiv 2510.15020, section 6.3, Theorems 6.3 and 6.4, Proposition E.1, Appendix J.
"""

from __future__ import annotations

from omegaconf import DictConfig

from covlab.claims.direct_claim import Claim, Findings, run_direct_claim
from covlab.launch.cli import command
from experiments.tournament.checks import checks, notes
from experiments.tournament.figures import drawings
from experiments.tournament.measure import Settings, settings, study
from experiments.tournament.tables import tables
from tracking import Progress

CLAIM = Claim(
    name="tournament",
    source="Coverage Principle, arXiv 2510.15020, section 6.3, Theorems 6.3 and 6.4; Proposition E.1",
    title="Choosing a model: a tournament finds coverage at the rate 1/n where the KL misleads for every n",
    introduction=(
        "From held-out examples one of |Pi| models is chosen. The usual rule takes the least cross-entropy. "
        "The simple tournament takes the model that is beaten on the fewest examples: pi' beats pi on (x, y) "
        "where pi'(y|x)/pi(y|x) >= N. The offset tournament first forgives each challenger 2 N^a times what "
        "the chosen model itself would give to the responses on which it is beaten.",
        "Guarantee of the simple tournament: Cov_{N^(1+a)}(chosen) <~ min_pi Cov_{N^a}(pi) + N^-(1-a) + "
        "ln(|Pi|/delta)/n, with no model close to pi_D in the KL. The offset tournament loses the middle "
        "term where N^(1-2a) >= 8 and one model is within a ln N nats of pi_D everywhere.",
        "Every law here is known exactly: only held-out sets (and the samples of the offset tournament's "
        "second term) are drawn. Regret is the chosen model's Cov_N less the least in its family. A held-out "
        "example has one correct response, drawn from pi_D, in Pass@N.",
    ),
)


def measure(chosen: Settings, progress: Progress) -> Findings:
    """All families, and what follows from them."""
    found = study(chosen, progress)
    return Findings(
        checks=checks(found),
        seeds=chosen.seeds,
        notes=notes(found),
        drawings=drawings(found),
        tables=tables(found),
    )


def tournament(config: DictConfig) -> int:
    """Run the claim."""
    return run_direct_claim(CLAIM, config, settings(config), measure)


main = command("tournament", tournament)
