"""Token-level SGD with and without test-time training, against a step a sequence.

    python -m experiments.token_sgd scale=cpu|paper

On a prompt that is the rarer the longer its responses are, so that the inherent variance sigma*^2 does not
change, every model that answers with fixed parameters has a KL that grows with H; the KL of test-time
training does not. On the lower-bound family of SGD the sequences that a step a sequence needs grow with H,
and those of a step a token do not. Nothing but linear models is trained, in float64.
"""

from covlab.claims.claim import Claim
from experiments.token_sgd import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="token_sgd",
    source="Coverage Principle, arXiv 2510.15020, Theorem 6.1, Propositions 3.2 and 5.1",
    title="Token-level SGD with test-time training does not depend on the length of responses",
    introduction=(
        "Token-level SGD takes a gradient step after every token and carries the parameters on to the next "
        "sequence. Test-time training decodes the same way: it takes the same step on every token that it "
        "has just written, and forgets it after the response. The theorem bounds the mean over the iterates "
        "of KL(pi_D || pi_TTT) by 4/(eta T) + 2 eta sigma*^2: H is not in it.",
        "The rare prompt: one prompt has H informative tokens, phi = y_h in {-1, +1}, all others have none. "
        "Its probability falls as 1/H, so that sigma*^2 is the same at every H. As long as it has not come "
        "up, fixed parameters know nothing of it: any proper estimator, averaged over the two signs of "
        "theta*, has at least the KL of theta = 0. Test-time training learns it while it writes.",
        "The lower bound's family: prompts on which a step a sequence must be short of order 1/H, beside "
        "prompts that need order H of such steps. What counts is the number of sequences until Cov_N is at "
        "its target for good, on the worst member of the family.",
    ),
)
