"""Number of samples that a KL buys: Best-of-N in the worst case needs (e^r - 1)/r of them, r = KL/eps.

    python -m experiments.scaling_law scale=cpu|paper

Equation (5) of the paper says that N of the order exp(KL/eps) samples suffice for a loss of eps. Here the
law is exact: no pair of target and model, reward or law of prompts needs more than (e^r - 1)/r samples, and a
pair of bits needs as many. Every number is exact; only the pairs that are compared are random.
"""

from covlab.claims.claim import Claim
from experiments.scaling_law import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="scaling_law",
    source="Coverage Principle, arXiv 2510.15020, equation (5) with Propositions D.1, D.2 and D.6",
    title=(
        "Best-of-N needs (e^r - 1)/r samples in the worst case, r = KL/eps, and the KL does not tell which "
        "case it is"
    ),
    introduction=(
        "Best-of-N with a model pi_hat loses at most eps of a target's reward, under every reward, from some "
        "N on. The paper derives from KL(pi_T || pi_hat) alone that N of the order exp(KL/eps) suffices.",
        "Derived: with N = (e^r - 1)/r samples the loss is at most KL/r, for every pair, every reward in "
        "[0, 1] and every law of prompts, and no smaller N suffices. Random pairs are put to the bound. "
        "Ber(t) against Ber(t e^-r) attains it as t tends to 0; the same pair attains the bound of coverage "
        "by KL at N = e^r. A pair of the same KL whose ratios are all equal shows how far from the worst "
        "case a pair can be.",
    ),
)
