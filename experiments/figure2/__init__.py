"""Figure 2 of the Coverage Principle (arXiv 2510.15020): KL grows linearly with H, coverage hardly.

    python -m experiments.figure2 scale=cpu|paper

Models are trained on paths through layered graphs with H intermediate layers, for several H. One prompt in
twenty (class "xor") has H/2 branching layers that follow a rule too hard to learn; a model guesses there. Its
converged KL grows linearly with H, its converged Cov_N hardly. Trains one run of all seeds per horizon,
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
        "A small transformer is trained on paths through layered graphs with H intermediate layers. "
        "Nineteen prompts in twenty have one valid path. In one of twenty (class xor) H/2 layers branch, "
        "and an XOR over the parities of all passable nodes decides which of the 2^(H/2) valid paths is "
        "right. The model learns to stay on valid paths, not to compute the XOR, and guesses.",
        "Each guess adds ln 2 to the cross-entropy, so that the converged KL of a model that guesses and "
        "knows all else grows linearly with H. Whether the right path's ratio pi_D/pi_hat is 2^3 or 2^12, it "
        "is above N: the coverage profile Cov_N of that model is the share of such prompts at every H. "
        "Trained models use some of what the path shows and leave some of the local rule unlearned. The "
        "checks ask whether their KL still follows a straight line and no other law, and how little their "
        "Cov_N grows. KL / Cov_N shows how loose the bound of coverage by KL becomes.",
    ),
    stages=(runs.stage,),
    check_run=runs.check_run,
)
