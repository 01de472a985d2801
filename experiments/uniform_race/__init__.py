"""The uniform race against rejection sampling at the best threshold, and self-normalised resampling.

    python -m experiments.uniform_race scale=cpu|paper

From N responses of a base model the race returns the one with the largest w_i/U_i. Its law is known in closed
form, so its total variation to pi* is compared exactly with that of other choices among N responses. Nothing
is trained.
"""

from covlab.claims.claim import Claim
from experiments.uniform_race import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="uniform_race",
    source="the uniform race of 2026, read second-hand; closed forms derived",
    title="A uniform race needs no threshold and is at least as near to pi* as rejection at its best one",
    introduction=(
        "N responses are drawn from pi_ref and have weights w; the target is pi*, prop. to pi_ref w. "
        "Rejection sampling accepts a response with probability min(w/M, 1) and needs a threshold M. The "
        "uniform race returns argmax w_i/U_i, U_i uniform on (0, 1): the response that the largest "
        "threshold would accept. Self-normalised resampling returns response i with probability w_i / sum "
        "w.",
        "All three laws are exact. They are put to random pairs (pi_ref, w) of enumerated responses, with "
        "the best M found for each pair and N, and to pairs whose density ratios have a power-law tail, "
        "P*[pi*/pi_ref >= u] = (u/a)^-alpha, for which Cov_N of pi_ref is (N/a)^-alpha.",
    ),
)
