"""Figure 2 of the Coverage Principle (arXiv 2510.15020): KL grows linearly with H, coverage hardly.

    python -m experiments.figure2 scale=cpu|paper

Models are trained on paths through layered graphs with H intermediate layers, for several H. One prompt in
twenty (the hard class) has H/2 branching layers that follow a rule too hard to learn; a model guesses there.
Its converged KL grows linearly with H, its converged Cov_N hardly. In the paper's hard class, "xor", one bit
decides all branching layers, so that the path shows it; at the scale `cpu` the hard class is "parities", in
which each layer has a bit of its own. Trains one run of all seeds per horizon,
draws the figure, writes `verdict.json` and `report.html` above the runs' directories.
"""

from covlab.claims.claim import Claim
from experiments.figure2 import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="figure2",
    source="Coverage Principle, arXiv 2510.15020, Figure 2; appendix C.3",
    title="Figure 2: KL grows linearly with the horizon, coverage hardly",
    introduction=(
        "A small transformer is trained on paths through layered graphs with H intermediate layers. In one "
        "prompt of twenty (the hard class) H/2 layers branch, and a rule decides which of the 2^(H/2) valid "
        "paths is right: in class xor, the paper's, one XOR over the parities of all passable nodes; in "
        "class parities for each layer an XOR of its own over hidden labels of the nodes, of which the rest "
        "of the path tells nothing. The model learns to stay on valid paths, not to compute an XOR, and "
        "guesses.",
        "Each guess adds ln 2 to the cross-entropy, so that the converged KL of a model that guesses and "
        "knows all else grows linearly with H. However large the right path's ratio pi_D/pi_hat gets, it is "
        "above N: the coverage profile Cov_N of that model is the share of such prompts at every H. Trained "
        "models use some of what the path shows in class xor, and their guesses are not quite fair. The "
        "checks ask whether their KL still follows a straight line and no other law, and how little their "
        "Cov_N grows. KL / Cov_N shows how loose the bound of coverage by KL becomes.",
    ),
    stages=(runs.stage,),
    check_run=runs.check_run,
)
