"""KL and coverage of maximum likelihood against the length of the response.

    python -m experiments.mle_horizon scale=cpu|paper

Two prompts, one of them of mass 1/(2n) with H independent bits of a single parameter. With probability above
1/2 the data lack it, and then any estimator has KL of order H/n for one of theta* = -1 and +1; coverage is
never above 1/(2n). All laws are exact at every H; only the data sets are drawn.
"""

from covlab.claims.claim import Claim
from experiments.mle_horizon import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
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
