"""VGB on Dyck strings (arXiv 2510.03149, section 5): does going back pay at equal numbers of queries?

    python -m experiments.vgb_dyck scale=cpu|paper

A small transformer is trained on balanced strings of fixed length, and a value function on its rollouts.
Prompts of open brackets up to the depth cap, which training hardly ever shows, are then answered by VGB and
by the paper's decoders that never go back, at several budgets of queries: accuracy against diversity. On
trees that can be enumerated the exact laws of VGB and of action-level rejection sampling are compared with
pi*, for values of different quality. Writes `verdict.json` and `report.html` above the two runs' directories.
"""

from covlab.claims.claim import Claim
from experiments.vgb_dyck import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="vgb_dyck",
    source="Taming Imperfect Process Verifiers (VGB), arXiv 2510.03149, section 5, Dyck grammar",
    title="VGB on Dyck strings: accuracy, diversity and the price of going back",
    introduction=(
        "A small transformer is trained on balanced strings of brackets of two types, and a value function "
        "on its rollouts: V(x, y) is the probability that the model goes on from the prefix y to a "
        "balanced string. The model rarely fails on strings like those of training, and nearly always "
        "after a prompt of open brackets up to the depth cap, mostly of the type rare in training. Every "
        "decoder returns the same number of responses to each prompt.",
        "Accuracy is the share of balanced responses, diversity the share of different balanced ones. A "
        "decoder's queries are its evaluations of the value function or of the verifier; a response that "
        "needs more than the budget counts as wrong. VGB, which may go back, is compared with each rival "
        "at each budget, with equally many settings: by the area that the points of accuracy and "
        "diversity dominate.",
    ),
    stages=(measure.base_model, measure.value_function),
)
