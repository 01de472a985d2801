"""Coverage and what bounds it: KL, Hellinger, stopped KL, the converse, transitivity, answers.

    python -m experiments.coverage_bounds scale=cpu|paper

The paper's inequalities on pairs pi_D, pi_hat whose log ratio has an exactly known law: that they hold, how
tight and how loose they are, where they say nothing, and that the bound by KL grows with the length of the
response where coverage does not. Nothing is trained and nothing but the pairs is sampled.
"""

from covlab.claims.claim import Claim
from experiments.coverage_bounds import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="coverage_bounds",
    source="Coverage Principle, arXiv 2510.15020, Propositions 3.1, D.1 to D.5, D.10 and D.11, section 2.1",
    title="What bounds coverage: KL, Hellinger, stopped KL, and back",
    introduction=(
        "Cov_N is the upper tail of X = ln pi_D/pi_hat under pi_D, and KL its mean. Both sides of every "
        "inequality are computed from exact laws of X: Bernoulli pairs, random softmax pairs, heavy tails, "
        "autoregressive pairs as binomial sums and as enumerated trees.",
        "Rare prompts: the model has every token of a few prompts wrong. Switch: it has every token wrong "
        "after a rare token. There KL is proportional to the length H of the response, and Cov_N is at most "
        "the share of these responses, whatever H. Every token: all tokens are a little off, and Cov_N does "
        "grow with H.",
    ),
)
