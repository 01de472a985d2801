"""Reinforcement learning with verifiable rewards: Pass@1 rises, and Pass@k at large k falls or rises.

    python -m experiments.rl_pass_at_k scale=cpu|paper

A transformer is trained on paths through layered graphs whose class it cannot see, and then by policy
gradients on the verifier's reward. All that it can gain is to commit to the likelier class's rule, at the
price of the other class. In a second arm every valid path is right and the prompt tells it, so that nothing
forces Pass@k at large k to fall. Pass@k and the coverage profile of the base model and of the model after
reinforcement learning are computed exactly, from the probabilities of the correct responses. Writes
`verdict.json` and `report.html` above the runs' directories.
"""

import operator

from covlab.claims.claim import Claim
from experiments.rl_pass_at_k import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="rl_pass_at_k",
    source="Yue et al., arXiv 2504.13837, section 3; GRPO, arXiv 2402.03300; closed forms derived",
    title=(
        "Reinforcement learning raises Pass@1; Pass@k at large k falls below a base model that cannot see "
        "the class, and rises above one that still learns visible paths"
    ),
    introduction=(
        "A small transformer is trained by cross-entropy on paths through layered graphs of two classes. "
        "Which class a prompt belongs to is decided by an XOR over half of its nodes, which the model cannot "
        "see: calibrated, it gives the path of each class that class's probability. Then it answers prompts "
        "itself, a verifier says whether an answer is its class's path, and a policy gradient follows.",
        "The best that such a model can earn is to take the likelier class's path always. Its Pass@1 is then "
        "that class's probability, and so is its Pass@k for every k: the other class's paths, which the base "
        "model found in a few samples, are lost. In the coverage profile Cov_N = P[pi_D/pi_hat >= N] the "
        "other class's probability remains at every N, where the base model's profile falls to 0. So the "
        "fall at large k is forced.",
        "In the open arm every valid path is right, the prompt's edges tell which paths are valid, and the "
        "base model is stopped while it learns them. Pass@k at large k may rise or fall there.",
    ),
    stages=(runs.base_stage, runs.arms_stage),
    check_run=runs.check_run,
    seeds=operator.attrgetter("judged.seeds"),
)
