"""Particle filtering: particles against the horizon, perfect and late values, sampling error and accuracy.

    python -m experiments.particle_filtering scale=cpu|paper

On the "delay" task the law of the returned response is known at every horizon: exactly with perfect values,
and up to a mean over leaves drawn from pi* with values that are one step late. Nothing is trained.
"""

from covlab.claims.claim import Claim
from experiments.particle_filtering import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="particle_filtering",
    source="Golowich et al., Reject, resample, repeat, arXiv 2603.07887; exact laws derived",
    title="Particle filtering needs of order sqrt(H) particles, and its sampling error is not its accuracy",
    introduction=(
        "A response has H bits, the base model is uniform, tau = e^(-lambda zeros), and pi* has independent "
        "bits with odds e^lambda. N particles grow by a bit of the base model, are weighed by the ratio of "
        "values, and are resampled; one of them is returned.",
        "The paper states that with perfect values of order sqrt(H) particles are still needed, where a "
        "single particle that draws by value needs one, and that the criteria of its theory govern the "
        "sampling error and not necessarily the accuracy. Here both are computed: the total variation to "
        "pi*, and the share of ones, whose mean under pi* is the accuracy to be reached.",
    ),
)
