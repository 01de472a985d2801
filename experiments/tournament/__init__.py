"""Choosing a model for coverage: simple and offset tournament against min-KL, with their guarantees.

    python -m experiments.tournament scale=cpu|paper

Six kinds of model families whose laws are known exactly: the coverage, the KL and Pass@N of every model are
closed forms, and only the held-out sets are drawn. The paper states the guarantees up to constants; the
constants of the paper's proofs and smaller ones that are derived are both drawn (see `attempts`). The
families, the rates in n and all measurements are this project's; the paper has the misspecified pair and the
two theorems.

Source: Coverage Principle, arXiv 2510.15020, section 6.3, Theorems 6.3 and 6.4, Proposition E.1, Appendix J.
"""

from covlab.claims.claim import Claim
from experiments.tournament import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
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
    seeds=lambda results: results.settings.all_seeds,
)
