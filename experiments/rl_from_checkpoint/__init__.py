"""Coverage at N = the number of rollouts tells which checkpoint to start reinforcement learning from.

    python -m experiments.rl_from_checkpoint scale=cpu|paper [run=<a run with both phases>]

A small transformer learns two rules, and is fine-tuned on the rarer one alone until the other's answers have
almost no mass. From checkpoints along the way the same reinforcement learning starts, on prompts
whose right answer follows the other rule. A run finds the answer or is stuck. Coverage of the start on these
prompts and cross-entropy as fine-tuned compete as predictors. Writes `verdict.json` and `report.html` above
the runs' directories.
"""

from covlab.claims.claim import Claim
from experiments.rl_from_checkpoint import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="rl_from_checkpoint",
    source=(
        "Coverage Principle, arXiv 2510.15020, section 1: what coverage is for; GRPO, arXiv 2402.03300; "
        "law of the first reward derived"
    ),
    title=(
        "Coverage at N near the number of rollouts predicts whether RL finds a neglected answer, better than "
        "cross-entropy"
    ),
    introduction=(
        "A model has learned two rules, cannot tell which of them gives the answer to a prompt, and is "
        "fine-tuned on prompts of the first rule alone. Its cross-entropy there improves to the end, "
        "while the mass on the second rule's answers falls to millionths. From checkpoints "
        "along the way it goes on with reinforcement learning on prompts of the second rule: it answers, "
        "a verifier judges, and a policy gradient follows.",
        "Before the first right answer all rewards are equal and nothing is learned. So a run from a "
        "start with mass m on the right answers should be stuck where m is well below 1/R, R the number "
        "of all rollouts, and find the answer where m is well above. Coverage says that before the run, "
        "if N is R: Cov_N is the share of prompts with m <= 1/N. The claim asks at which N coverage "
        "separates runs that find the answer from runs that are stuck, for several R, and compares it "
        "with the cross-entropy.",
    ),
    stages=(runs.base_stage, runs.starts_stage),
    check_run=runs.check_run,
    timings=runs.timings,
)
