"""SGD against normalised SGD: updates and samples until Cov_N <= eps, against the horizon.

    python -m experiments.sgd_horizon scale=cpu|paper

In one class of linear models SGD's steps must be of order 1/(HB) on some prompts, and then have to be
repeated of order H times on others. Each method has the best constant step size of one grid, the same for the
whole class, chosen at every H on draws of its own. Clipped SGD, sign-SGD and Adam run beside them; the
expectation on these is a claim of its own, `experiments.sgd_coordinates`.
"""

from covlab.claims.claim import Claim
from experiments.sgd_horizon import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="sgd_horizon",
    source="Coverage Principle, arXiv 2510.15020, Proposition 5.1 and Theorem 5.1",
    title="Samples that SGD needs grow with the length of the response; those of normalised SGD do not",
    introduction=(
        "Tokens are -1, 0, 1, the model is pi_theta(a|x) proportional to exp<theta, phi(x, a)> at every "
        "place, and theta lies in the unit ball of the plane. Prompts are numbers e >= 8/(HB) and two "
        "letters, + and -. On the number e = eta an SGD step of size eta >= 8/(HB) jumps from one wrong "
        "answer to the other, for ever; on the letters, started where + is not yet covered, smaller steps "
        "take of order H visits to +. One step size must serve both (the worst instance counts), so that SGD "
        "needs of order H samples. A gradient of given length does not have to choose.",
        "Each method has its own best constant step size of one grid, chosen at every H on draws that the "
        "results are not computed on. Updates needed: until the mean of Cov_N over the iterates is at most "
        "eps, which is what the theorems bound, and, with steps chosen for that, until Cov_N is at most eps "
        "for the rest of the run. Samples are updates times the mini-batch. Cov_N and KL of every iterate "
        "are exact.",
    ),
    seeds=lambda results: (results.seed,),
)
