"""VGB with values that are trained, and right only on average.

    python -m experiments.vgb_average scale=cpu|paper

Values of the task "delay" are regressed on 500, 1,000 and 10,000 rollouts. They are wrong by any factor at
nodes that no rollout passed, and nearly right on average over pi*. Laws of all samplers are exact, on trees
of up to 2^14 leaves. A guarantee by the average errors is derived and checked, with Best-of-N on top; the
cost of outcome-level rejection and the error of drawing K children for a step are measured.
"""

from covlab.claims.claim import Claim
from experiments.vgb_average import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="vgb_average",
    source=(
        "Taming Imperfect Process Verifiers, arXiv 2510.03149, section 4, average-case errors (read "
        "second-hand) and algorithm 3; bounds derived"
    ),
    title="Trained values: VGB covers pi* by their average error, where the action level's errors add up",
    introduction=(
        "A response has H fair bits, tau = e^(-lambda zeros), and pi* is the base model tilted by tau. V^ is "
        "regressed on n rollouts of the base model: a table over (length, number of zeros). Where no rollout "
        "passed V^ is wrong by up to a factor that grows exponentially in H, so that guarantees by the "
        "uniform error are empty.",
        "Derived: after T steps VGB's law given a leaf, pi_hat, has Cov_2N(pi* || pi_hat) <= 2M/T with N "
        "about 1, where M is the mean number of steps that the walk needs from a leaf of pi* to the root, an "
        "average of products of V^/V and V/V^ over pi*. So a few samples of VGB with the verifier on top "
        "lose little to pi* on any reward.",
        "Nothing is sampled but the rollouts.",
    ),
)
