"""Best-of-N and coverage: what is sufficient, what is necessary, how many samples it takes.

    python -m experiments.best_of_n scale=cpu|paper

Best-of-N with a model pi_hat against a target policy pi_T, under the worst of all rewards, on pairs whose
responses are enumerated. The worst reward is found exactly (metrics.worst_loss), so every number is exact;
only the pairs are random.
"""

from covlab.claims.claim import Claim
from experiments.best_of_n import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="best_of_n",
    source="Coverage Principle, arXiv 2510.15020, section 2 and Propositions D.6 and D.7",
    title="Best-of-N succeeds where the model covers the target, and nowhere else",
    introduction=(
        "Best-of-N draws N responses from pi_hat and keeps one of the largest reward. Under the reward "
        "1{y in R} it loses pi_T(R) - (1 - (1 - pi_hat(R))^N) of what a target policy pi_T earns. The worst "
        "set R is one of {y: pi_T(y)/pi_hat(y) >= c}, so the worst loss is exact, and no reward in [0, 1] "
        "has a larger one.",
        "Sufficient: N >= 2 M ln(1/eps) samples lose at most Cov_M + eps, whatever the reward. Necessary: "
        "with N samples some reward loses at least Cov_2N/2. Both are put to random pairs, with one prompt "
        "and with several; to tails P_T[pi_T/pi_hat >= u] = s (u/a)^-alpha; and to pairs whose ratios are "
        "about M.",
    ),
)
