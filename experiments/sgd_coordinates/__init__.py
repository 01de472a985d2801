"""Sign-SGD, Adam and clipped SGD: do their updates, like normalised SGD's, not grow with the horizon?

    python -m experiments.sgd_coordinates scale=cpu|paper

The runs are those of `experiments.sgd_horizon`, on draws of their own. No theorem is tested here: that
methods which normalise each coordinate behave like the one that normalises the whole gradient is what the
authors of the Coverage Principle expect.
"""

from covlab.claims.claim import Claim
from experiments.sgd_coordinates import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="sgd_coordinates",
    source="Coverage Principle, arXiv 2510.15020, section 5.2, an expectation of its authors",
    title="Sign-SGD, Adam and clipped SGD share normalised SGD's independence of the response's length",
    introduction=(
        "On the class of linear models of `sgd_horizon` SGD needs of order H updates and normalised SGD a "
        "number that does not depend on H. Sign-SGD and Adam normalise each coordinate of the gradient, one "
        "sequence at a time here, and clipping shortens long gradients only. Each method has its own best "
        "constant step size of the same grid, chosen at every H on draws that the results are not computed "
        "on.",
    ),
    seeds=lambda results: (results.seed,),
)
