"""Reinforcement learning from the base or after fine-tuning, and on-policy distillation, over pre-training.

    python -m experiments.rl_from_base scale=cpu|paper

A small transformer learns to write valid paths of layered graphs. From checkpoints at 1 % to 100 % of this
pre-training three routes lead to a task on which one of two hidden rules gives the path: a policy gradient on
the verifier's reward, fine-tuning followed by the same policy gradient, and distillation of the exact law on
the model's own responses. Judged is where reinforcement learning expands Pass@32 and where it sharpens, and
what before it predicts Pass@1 after it. Pass@N is exact. Draws figures, writes `verdict.json` and
`report.html` above the runs.
"""

from covlab.claims.claim import Claim
from experiments.rl_from_base import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="rl_from_base",
    source="arXiv 2606.04272 and arXiv 2609.28145 (both read second-hand); closed forms derived",
    title=(
        "Over starts of pre-training RL expands Pass@32 from the base on average, and sharpens after "
        "fine-tuning; coverage and Pass@32 predict its end"
    ),
    introduction=(
        "A pre-trained model samples the valid paths of a layered graph uniformly. The task that follows has "
        "two rules: in every branching layer the node whose parity is the layer's, or the other node. Which "
        "rule gives a graph's path is an XOR over the graph that is too hard to learn. From several shares "
        "of pre-training the model learns the task by reinforcement learning from a verifier (GRPO), by "
        "fine-tuning on paths followed by the same reinforcement learning, and by on-policy distillation of "
        "the exact law.",
        "Reinforcement learning sharpens if Pass@1 rises and Pass@32 does not, and expands if Pass@32 rises "
        "above that before it. A model that cannot tell the rules apart earns most by the likelier rule "
        "always, and then passes that rule's share of the prompts for every k. So reinforcement learning "
        "should expand where Pass@32 was below this share, and sharpen where it was above.",
    ),
    stages=(runs.base_stage, runs.starts_stage, runs.tuned_stage),
    check_run=runs.check_run,
)
