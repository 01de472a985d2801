"""Exploration by representations: choosing among samples at test time, and a bonus in reinforcement learning.

    python -m experiments.exploration scale=cpu|paper

Transformers are trained on two tasks. From checkpoints of different strength, k of N sampled responses are
chosen by their hidden states, and in several ways that need no representation, and go to the verifier. Then
policy gradients with and without a bonus for unlike responses start from one checkpoint, at equal verifier
calls. Writes `verdict.json` and `report.html` above the runs' directories.
"""

from covlab.claims.claim import Claim
from experiments.exploration import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="exploration",
    source="Representation-based exploration, arXiv 2510.11686, sections 3 and 4",
    title="Choosing responses by their representations saves verifier calls, and as a bonus keeps Pass@k",
    introduction=(
        "Each response has a feature, the mean of the model's last hidden states over its tokens. At test "
        "time N responses are drawn and k of them picked one after the other, each the one that is least "
        "explained by those picked before. In reinforcement learning a response earns a bonus for what its "
        "group's other responses do not explain. The authors find over 50 % fewer verifier calls with models "
        "of 14 billion parameters, and nothing with the smallest ones.",
        "Copies of one response are explained by each other. So the first question is what remains beyond "
        "dropping copies, which needs no representation: k of the different responses at random, in the "
        "order in which they appear, or the likeliest first; and in reinforcement learning a bonus that only "
        "counts copies.",
    ),
    stages=(measure.base_stage, measure.arms_stage),
    check_run=measure.check_run,
)
