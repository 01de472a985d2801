"""Rates of maximum likelihood's coverage, on families where it can be computed.

    python -m experiments.mle_rates scale=cpu|paper

Bernoulli models, an overparameterised autoregressive linear class, random finite classes of autoregressive
models, and a convex class beside the finite one that it is the hull of. Estimators are exact or solved to
their optimality conditions, coverage is exact; the data sets and instances are drawn.
"""

from covlab.claims.claim import Claim
from experiments.mle_rates import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="mle_rates",
    source="Coverage Principle, arXiv 2510.15020, section 3, Theorems 4.1, 4.2 and E.1",
    title="Maximum likelihood: how coverage improves with the data, with N and with convexity",
    introduction=(
        "Bernoulli: the share of ones as estimate of p*. Its KL is infinite with positive probability; Cov_N "
        "is at most of order ln(1/delta)/n with probability 1 - delta.",
        "Linear: prompts of a heavy-tailed law with one parameter and H independent bits each, more "
        "parameters than examples; E Cov_N is at most of order sqrt(sigma*^2/(n ln N)) + B^2/n.",
        "Finite: |Pi| random autoregressive models, the data's own among them; Cov_N is at most of order "
        "ln |Pi|/n, of which a part shrinks with ln N.",
        "Convex: 2^d models that differ from the data's on a prompt too rare to be told by; their maximum-"
        "likelihood coverage is of order d/(n ln N). In the convex hull it is of order d/(n N) + 1/n.",
    ),
)
