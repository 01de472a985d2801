"""Does the kind of update decide what a transformer covers? Six rules, two tasks, growing responses.

    python -m experiments.optimizers_graph scale=cpu|paper
    python -m experiments.optimizers_graph scale=cpu tune=true    # learning rates, on seeds of their own

For autoregressive linear models SGD needs of the order of H steps until it covers responses of length H, and
normalised SGD does not (Coverage Principle, arXiv 2510.15020, section 5). Whether transformers share this,
and whether updates that are normalised by coordinate (sign-SGD, Adam) or by matrix (Muon) do, was left open.
Trains one run of all seeds for each task, length and rule, compares coverage and Pass@N at equal validation
cross-entropy and at equal steps, draws figures, writes `verdict.json` and `report.html` above the runs.
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
        "covers responses of H tokens; divide its gradient by its norm, and the dependence on H is gone. The "
        "paper speculates that sign-SGD and Adam share the benefit. Nobody has published the experiment for "
        "transformers.",
        "Here a small transformer is trained on paths through layered graphs and on Dyck strings of growing "
        "length, by SGD, clipped SGD, normalised SGD, sign-SGD, AdamW and Muon, each with the learning rate "
        "that served it best on other seeds, for each task and length. Coverage is compared where the "
        "validation cross-entropy is equal, so that a rule that merely trains faster gains nothing, and "
        "after equal steps, where it does.",
    ),
    stages=(runs.tuning_stage, runs.stage),
    check_run=runs.check_run,
)
