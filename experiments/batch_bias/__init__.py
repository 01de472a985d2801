"""Normalised SGD with single sequences is biased, by an amount that lambda and the batch decide.

    python -m experiments.batch_bias scale=cpu|paper

The mean of g/(lambda + |g|) is not 0 where the mean of g is. On sequences of independent bits the mean update
is an exact sum over batches. So are both sides of the two lemmas behind Theorem 5.1, at the proof's own
lambda, and the parameter at which the rule rests.
"""

from covlab.claims.claim import Claim
from experiments.batch_bias import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="batch_bias",
    source="Coverage Principle, arXiv 2510.15020, Theorem 5.1 with Lemmas I.8 and I.9",
    title="A single sequence biases normalised SGD where lambda is small, and hardly at the proof's",
    introduction=(
        "Normalised SGD goes by eta g/(lambda + |g|), g the mean gradient of K sequences. Theorem 5.1 bounds "
        "the mean of Cov_N over the iterates without the length H, with a term B/(K ln N): the batch bounds "
        "the bias of the normalised gradient.",
        "The instance: a response has H independent bits, 1 with probability p*, and the model has one "
        "parameter. With a small lambda and a rare 1, most batches have none, and the rule follows the sign "
        "of their gradients: the model forgets the rare response, although SGD on the same sequences does "
        "not. The batch has to grow as 1/p*. At the proof's lambda = 8 B ln N or more a single sequence "
        "moves p by a factor of 1 + 1/(8 ln N) at most.",
        "Both lemmas are checked on a grid of instances, parameters and batches. Theorem 5.1 is checked with "
        "the proof's eta, lambda and constants where they say something, at B = 1 and 10^6 updates.",
    ),
)
