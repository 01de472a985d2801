"""Does the kind of update decide what a transformer covers? Six rules, two tasks, growing responses.

    python -m experiments.optimizers_graph scale=cpu|paper
    python -m experiments.optimizers_graph scale=cpu tune=true    # learning rates, on seeds of their own
    python -m experiments.optimizers_graph scale=cpu place=true   # N and KL of the comparison, likewise

For autoregressive linear models SGD needs of the order of H steps until it covers responses of length H, and
normalised SGD does not (Coverage Principle, arXiv 2510.15020, section 5). Whether transformers share this,
and whether updates that are normalised by coordinate (sign-SGD, Adam) or by matrix (Muon) do, was left open.
Trains one run of all seeds for each task, length and rule, compares coverage after equal steps and at equal
validation cross-entropy, draws figures, writes `verdict.json` and `report.html` above the runs.
"""

from covlab.claims.claim import Claim
from experiments.optimizers_graph import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="optimizers_graph",
    source="Coverage Principle, arXiv 2510.15020, section 5 and its open questions",
    title="Transformers: the update rule and coverage, as responses grow",
    introduction=(
        "For autoregressive linear models, SGD on whole sequences needs of the order of H steps until it "
        "covers responses of H tokens in the worst case; normalised SGD, which divides the gradient by its "
        "norm, needs a number free of H. That is the paper's statement. Its authors speculate that sign-SGD "
        "and Adam share the benefit. No theorem is about transformers.",
        "Here a small transformer is trained on paths through layered graphs and on Dyck strings of growing "
        "length, by SGD, clipped SGD, normalised SGD, sign-SGD, AdamW and Muon, each with the learning rate "
        "that served it best on other seeds, for each task and length. For each of the last four rules and "
        "each task it is asked whether it covers more than SGD at the longest responses, and whether the "
        "difference grows with the length: after equal steps, on average over the iterates, and where the "
        "validation cross-entropy is equal, so that a rule that merely trains faster gains nothing.",
    ),
    stages=(runs.choosing_stage, runs.stage),
    check_run=runs.check_run,
)
