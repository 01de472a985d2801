"""Maximum likelihood's coverage where it is as bad as the upper bounds allow.

    python -m experiments.mle_lower_bounds scale=cpu|paper

Three families from the paper's lower bounds: a coarse term that no N improves, a fine term of order
d/(n ln N), and a linear class in which coverage of order H/(n ln N) shows that the inherent variance is
needed. The estimators are exact or solved to their optimality conditions; the data sets are drawn.
"""

from covlab.claims.claim import Claim
from experiments.mle_lower_bounds import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
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
