"""Tracking a state beyond the training lengths: eigenvalues and Householder steps of linear recurrences.

    python -m experiments.state_tracking scale=cpu|paper

Linear recurrent models with the delta rule are trained on products of short strings of group elements, and
evaluated on longer ones: parity (Z_2) and S_3, with the eigenvalues of a step in [0, 1] or [-1, 1] and with
one or two Householder steps per token. A check for each of the eight runs compares the share of seeds that
solve the longest strings with what the papers predict: solved or not. An LSTM and a transformer are trained
for comparison. Draws figures, writes `verdict.json` and `report.html` above the runs.
"""

from covlab.claims.claim import Claim
from experiments.state_tracking import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="state_tracking",
    source="Grazzi et al., arXiv 2411.12537; Siems et al., arXiv 2502.10297",
    title="State tracking beyond the training lengths takes negative eigenvalues, and for S_3 two steps",
    introduction=(
        "A prompt is a string of group elements, the response is their product. A model that has read the "
        "string must have the product in its state. Training has short strings. A seed of a run has solved "
        "the problem if the greedy answer is right on nearly all strings of the range of largest lengths, "
        "which training never shows.",
        "A step of the delta rule multiplies the state by I - beta k k^T, with |k| = 1. With beta in (0, 1) "
        "its eigenvalues lie in [0, 1], with beta in (0, 2) in [-1, 1]. A layer that takes n_h steps per "
        "token multiplies the state by a product of n_h such matrices.",
        "The predictions for one layer. Parity needs an eigenvalue that is negative: it is solved with "
        "[-1, 1] and not with [0, 1], for n_h = 1 and n_h = 2. S_3 has elements of order 3, rotations, which "
        "are products of two reflections: it is solved with [-1, 1] and n_h = 2 alone.",
        "The checks ask the share of seeds that solve. An LSTM and a transformer are trained on the same "
        "strings. What they reach, and the coverage of all models, is reported and not judged.",
    ),
    stages=(runs.stage,),
    check_run=runs.check_run,
)
