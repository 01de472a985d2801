"""Distillation with truncated gradients against distillation without truncation.

    python -m experiments.truncated_distillation scale=cpu|paper

A ladder of rare prompts shows how Cov_N falls with the number of steps and with ln N; the lower-bound family
of SGD shows how the number of steps depends on the length H. Teacher and student are linear models; nothing
else is trained, in float64.
"""

from covlab.claims.claim import Claim
from experiments.truncated_distillation import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="truncated_distillation",
    source="Coverage Principle, arXiv 2510.15020, Theorem 6.2 and Proposition 5.1 (lower bound)",
    title="Truncated distillation: steps that do not grow with the length of responses",
    introduction=(
        "The teacher's next-token law is known, so the KL of every token is: eps_h. The gradient of a "
        "sequence keeps its tokens until their eps add up to ln N, the one that crosses ln N in part, and "
        "none after. The theorem bounds the mean of Cov_N over the iterates by order "
        "sqrt(sigma*^2/(T ln N)) + B^2/T, without H.",
        "The ladder: prompts with 16, 32, ..., 8192 informative tokens, each with a coordinate of its own "
        "and the same share of sigma*^2 = 1, so that at every step size some prompt is just not covered.",
        "The lower bound's family: prompts on which a step must be short of order 1/H without truncation, "
        "beside prompts that need order H of such steps. What counts is the number of sequences until Cov_N "
        "is at its target for good, on the worst member of the family.",
    ),
)
