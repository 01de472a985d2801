"""A step per token with test-time training, and truncated distillation, for transformers on Dyck strings.

    python -m experiments.interventions scale=cpu|paper

For autoregressive linear models the Coverage Principle (arXiv 2510.15020, section 6) proves two ways around
the dependence on H of SGD with a step per sequence: a step per token, at test time too, and a step that is
truncated where the student's divergence from a known teacher reaches ln N. Trains a small transformer on Dyck
strings of growing length by six rules, each on the same sequences and with a learning rate chosen on other
seeds, and compares KL and coverage as means over the iterates. Draws figures, writes
`verdict.json` and `report.html` above the runs.
"""

from covlab.claims.claim import Claim
from experiments.interventions import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="interventions",
    source="Coverage Principle, arXiv 2510.15020, Theorems 6.1 and 6.2",
    title="Transformers: test-time training and truncated distillation against plain SGD, as responses grow",
    introduction=(
        "For autoregressive linear models SGD with a step per sequence needs of the order of H sequences "
        "until it covers responses of H tokens, in the worst case. Two interventions are proved to be free "
        "of H. One takes a step after every token, and goes on doing so while it writes, forgetting these "
        "steps after the response. The other knows the teacher's next-token laws, and drops the gradient "
        "of all tokens after the one at which the divergence from the teacher reaches ln N. No theorem is "
        "about transformers.",
        "Here a small transformer learns Dyck strings, whose law is known exactly, from one sequence at a "
        "time: by a step per sequence, plain, normalised or truncated, with sampled tokens or the "
        "teacher's laws as labels, and by a step per token with test-time training. Every seed sees the "
        "same sequences in all runs. It is asked whether each intervention has the lower KL and Cov_N on "
        "average over the iterates, whether its advantage grows with the length, and how much of it is the "
        "decoder's.",
    ),
    stages=(runs.stage,),
    check_run=runs.check_run,
)
