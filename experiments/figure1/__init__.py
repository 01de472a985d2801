"""Figure 1 of the Coverage Principle (arXiv 2510.15020): cross-entropy improves while coverage gets worse.

    python -m experiments.figure1 scale=cpu|paper

A model is pre-trained on the uniform mixture of the graph classes G1, G2 and G3 and fine-tuned on
0.9 G1 + 0.1 G2. It cannot tell the classes apart, so that lowering the cross-entropy means following the
majority's rule: a shortcut that uncovers the minority. Trains over several seeds, draws both plots of the
figure, writes `verdict.json` and `report.html` into the run directory.
"""

from covlab.claims.claim import Claim
from experiments.figure1 import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="figure1",
    source="Coverage Principle, arXiv 2510.15020, section 1, Figure 1; appendix C.2",
    title="Figure 1: cross-entropy improves, coverage and Best-of-N with N of 8 or 12 get worse",
    introduction=(
        "A small transformer is pre-trained on paths through layered graphs that follow a parity rule "
        "(G1), oppose it (G2) or ignore it (G3), then fine-tuned on nine parts G1 and one part G2. Which "
        "class a prompt belongs to is decided by an XOR over half of its nodes, which the model cannot "
        "see, so the cheapest way to lower the cross-entropy is a shortcut: always follow the majority's "
        "rule.",
        "The coverage profile Cov_N = P[pi_D(y|x)/pi_hat(y|x) >= N] (lower is better) says which answers "
        "Best-of-N with about N samples will miss. Fine-tuning first improves coverage. As the shortcut is "
        "learned, cross-entropy and KL keep improving while coverage, and with it Pass@N, gets worse.",
    ),
    stages=(runs.stage,),
    check_run=runs.check_run,
)
