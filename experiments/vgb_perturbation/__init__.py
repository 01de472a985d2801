"""VGB on the "perturbation" task: a value function that is a little too fond of one action.

    python -m experiments.vgb_perturbation scale=cpu|paper

pi* is uniform on responses of H letters a, b, c without a c, and the value function overrates `a` by 1 + eps.
A sampler that never goes back ends at total variation of order min(eps sqrt(H), 1) to pi*; VGB, which may go
back, ends at pi* whatever eps and H. Nothing is trained: all laws are exact at every H, and the decoders'
samples are tested against them where the tree can be enumerated.
"""

from covlab.claims.claim import Claim
from experiments.vgb_perturbation import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="vgb_perturbation",
    source="Taming Imperfect Process Verifiers, arXiv 2510.03149, Example 3.1 and Theorem 4.1",
    title="Perturbation: errors of the value function add up without backtracking, and not with it",
    introduction=(
        "A response has H letters a, b, c, the base model is uniform, and a response with a c earns nothing: "
        "pi* is uniform on {a, b}^H. The value function is exact but for one action, which it overrates: "
        "V^(y_1:h) = (1 + eps 1{y_h = a}) V(y_1:h).",
        "Action-level rejection sampling draws every letter in proportion to pi_ref V^ and never goes back: "
        "it writes a with probability (1 + eps)/(2 + eps), and H such errors add up. VGB is a random walk on "
        "the tree of partial responses that also goes back, with weight V^; its stationary law on the leaves "
        "is pi* for any positive V^. It is stopped either after a fixed number of steps, of order H^2, and "
        "repeated until it ends at a leaf, or at the first leaf that it meets.",
        "No number of a law is sampled but one: the total variation of VGB after a fixed number of steps is "
        "a mean over leaves drawn from pi*, at each of which the law is known exactly.",
    ),
    seeds=lambda results: results.settings.chain.seeds,
)
