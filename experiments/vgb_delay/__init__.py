"""VGB on the "delay" and parity tasks: a value function that is one step late.

    python -m experiments.vgb_delay scale=cpu|paper

V^(y_1:h) = V(y_1:h-1) does not tell siblings apart, so a sampler that never goes back is blind: on `delay` it
samples the base model, on `parity` it survives every check with probability 1/2. The worth of a choice shows
one step later, which is in time for a sampler that may go back. Nothing is trained: all laws are exact at
every H, and the decoders' samples are tested against them where the tree can be enumerated.
"""

from covlab.claims.claim import Claim
from experiments.vgb_delay import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="vgb_delay",
    source="Taming Imperfect Process Verifiers, arXiv 2510.03149, Example 3.2, Theorem 4.1, parity task",
    title="Delay: late values leave a sampler that never goes back blind, and guide one that does",
    introduction=(
        "A response has H bits and the base model is uniform. Delay: the reward is the mean of the bits, the "
        "regulariser beta KL(pi || pi_ref) with beta = 1/(lambda H), so that pi* has independent bits with "
        "odds e^lambda. Parity: the bits come in blocks, and the last bit of each has to be the XOR of the "
        "others, else the response earns nothing.",
        "The values are exact but one step late, V^(y_1:h) = V(y_1:h-1); at the leaves the verifier answers "
        "at once. Action-level rejection sampling draws every bit in proportion to pi_ref V^ and never goes "
        "back. VGB is a random walk on the tree of partial responses that also goes back, with weight V^, "
        "stopped after a fixed number of steps of order H^2, and repeated until it ends at a leaf, or at the "
        "first leaf that it meets.",
        "The total variation of VGB after a fixed number of steps is a mean over leaves drawn from pi*, at "
        "each of which the law is known exactly, and the queries that VGB needs on parity are counted on "
        "sampled chains. All other numbers are exact.",
    ),
    seeds=lambda results: results.settings.chain.seeds,
)
