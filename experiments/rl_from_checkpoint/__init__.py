"""Which checkpoint to start reinforcement learning from: does coverage know, or cross-entropy?

    python -m experiments.rl_from_checkpoint scale=cpu|paper [run=<a run of Figure 1's phases>]

Trains Figure 1's run and keeps its fine-tuning checkpoints. From several of them the same reinforcement
learning starts, with the same prompts and random numbers and a fixed budget, on two kinds of prompts: as in
fine-tuning, and the minority's alone. The coverage of the start, its cross-entropy and the tournament compete
as predictors of the reward reached. Writes `verdict.json` and `report.html` above the runs' directories.
"""

from covlab.claims.claim import Claim
from experiments.rl_from_checkpoint import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="rl_from_checkpoint",
    source="Coverage Principle, arXiv 2510.15020, section 1: what coverage is for; GRPO, arXiv 2402.03300",
    title="Coverage of the start predicts what reinforcement learning reaches, better than cross-entropy",
    introduction=(
        "Figure 1's model is fine-tuned on nine parts of prompts whose answer follows a rule and one part "
        "whose answer opposes it, and cannot tell them apart. On the way cross-entropy improves to the end, "
        "while coverage at larger N first improves and then degrades. From checkpoints along the way the "
        "model goes on with reinforcement learning: it answers prompts, a verifier judges the answers, and a "
        "policy gradient follows, for a fixed number of batches.",
        "Each start has a cross-entropy, a coverage Cov_N = P[pi_D/pi_hat >= N] and a score in the simple "
        "tournament. The better predictor orders the starts as the rewards reached do, by Spearman's rank "
        "correlation; the better rule picks a start that loses little against the best. Everything is asked "
        "twice: with prompts as in fine-tuning, and with prompts of the minority alone, the deployment that "
        "fine-tuning neglected.",
    ),
    stages=(runs.base_stage, runs.starts_stage),
    check_run=runs.check_run,
    timings=runs.timings,
)
