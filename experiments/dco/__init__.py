"""Cross-entropy grows over-confident over many epochs; direct coverage optimisation (arXiv 2502.07154).

    python -m experiments.dco scale=cpu|paper

A small transformer is trained for many epochs on a small fixed set of graph problems, in several arms that
share seeds, data and initialisation: by cross-entropy, by DCO for several N', and by cross-entropy with each
intervention that is meant against over-confidence. The claim: under cross-entropy Pass@1 rises while Pass@N
at a large N falls and coverage degrades, and the model trained by DCO for N' = N is better at N than models
trained for neighbouring and for far N'. Everything is computed exactly, from the probabilities of the valid
responses. Draws figures, writes `verdict.json` and `report.html` above the runs.
"""

from covlab.claims.claim import Claim
from experiments.dco import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="dco",
    source="Chen et al., arXiv 2502.07154; interventions as their objectives' sources say",
    title="Many epochs of cross-entropy raise Pass@1 and lower Pass@64; DCO for N' = N is better at N than "
    "for N' that are 4 or more times smaller or larger",
    introduction=(
        "Half of the graph problems have one path, found by a local rule that generalises. The others "
        "branch, and which branch is right is decided by a parity over the whole graph that the model does "
        "not learn: it can only remember it for the problems of its small training set. With every epoch it "
        "remembers more of them, and on fresh problems it is as sure of a branch as on those that it "
        "remembers, but not as often right.",
        "So Pass@1 rises, with the local rule, while Pass@N at a large N falls: where the model is sure of "
        "the wrong branch, no number of samples finds the right one. That is a loss of coverage, Cov_N = "
        "P[pi_D/pi_hat >= N]. Direct coverage optimisation (DCO) has the loss -ln(1 - (1 - p)^N'), whose "
        "gradient is cross-entropy's times a factor that vanishes once N' samples are enough: what will be "
        "found anyway is not learned any better.",
    ),
    stages=(runs.stage,),
    check_run=runs.check_run,
    check_runs=runs.check_runs,
)
