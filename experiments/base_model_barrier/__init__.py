"""Outcome rewards need as many queries as the base likelihood is small; process rewards do not.

    python -m experiments.base_model_barrier scale=cpu|paper

Policy gradient on an autoregressive linear model is simulated exactly, at base likelihoods over many decades.
"""

from covlab.claims.claim import Claim
from experiments.base_model_barrier import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="base_model_barrier",
    source="the base-model barrier, arXiv 2603.06957, read second-hand; the reduction derived",
    title="Outcome rewards take 1/(base likelihood) queries, process rewards only the tokens' likelihood",
    introduction=(
        "A prompt has one right response of H tokens, to which the base model gives the likelihood alpha. "
        "Policy gradient draws a response for each query. An outcome reward says whether the response is "
        "right, process rewards say it of each token.",
        "The paper states: outcome rewards reach the error eps with of order 1/alpha + 1/eps queries; the "
        "error over prompts is governed by the quantile of the base likelihood; beyond the base model's "
        "support outcome rewards do not move a prompt and process rewards do, since they depend on the "
        "tokens' likelihood alone.",
    ),
)
