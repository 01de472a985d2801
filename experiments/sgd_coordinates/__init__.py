"""Sign-SGD, Adam and clipped SGD with mini-batches: do their updates, like normalised SGD's, not grow with H?

    python -m experiments.sgd_coordinates scale=cpu|paper

The class is that of `experiments.sgd_horizon`, the draws are other ones. No theorem is tested here: that
methods which normalise each coordinate behave like the one that normalises the whole gradient is what the
authors of the Coverage Principle expect. Their rule, equation (20), takes the mean gradient of a mini-batch,
and so do the judged methods. Smaller batches run beside them.
"""

from covlab.claims.claim import Claim
from experiments.sgd_coordinates import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="sgd_coordinates",
    source="Coverage Principle, arXiv 2510.15020, section 5.2 and equation (20), an expectation of its "
    "authors",
    title="With mini-batches, sign-SGD, Adam and clipped SGD share normalised SGD's independence of the "
    "response's length",
    introduction=(
        "On the class of linear models of `sgd_horizon` SGD needs of order H updates and normalised SGD a "
        "number that does not depend on H. The paper's rule normalises the mean gradient of a mini-batch. "
        "Sign-SGD and Adam normalise each coordinate of that mean, and clipping shortens long gradients "
        "only. Each method has its own best constant step size of the same grid, chosen at every H on draws "
        "that the results are not computed on.",
        "The sign of a single sequence's gradient does not say how long the gradient was, so that sign-SGD's "
        "mean update points to the more frequent prompt and not to theta* (derived). Batches of one and two "
        "sequences are measured without a check.",
    ),
    seeds=lambda results: (results.seed,),
)
