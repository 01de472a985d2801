"""A judge that selects among k predictions of a Bayesian linear regression: what more predictions are worth.

    python -m experiments.llm_judge scale=cpu|paper

The model is solved in closed form and by quadrature as the dimension grows; direct simulations at a finite
dimension stand beside it. Nothing is trained by gradients.
"""

from covlab.claims.claim import Claim
from experiments.llm_judge import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="llm_judge",
    source="Halder and Pehlevan, Demystifying LLM-as-a-judge, arXiv 2512.19905; closed forms derived",
    title="Selection by the teacher gains 1/k^2; a judge far from it has a best k and a best temperature",
    introduction=(
        "Answers are linear in a normal input with noise, a Bayesian regression learns from n = alpha d "
        "examples, and k draws of its posterior predictive law are put before a judge, who chooses by a "
        "softmax at temperature T of -(y - judge's answer)^2. The error is the mean square of the chosen "
        "draw minus the teacher's answer.",
        "The paper states: with the teacher as judge and T = 0 the error falls as 1/k^2; with a judge close "
        "to the teacher it falls at every k; with one far from it there is a best k; at a fixed k there is "
        "a best T; on harder tasks selection gains less. Close, far and hard are not given numbers in the "
        "parts that were read. Here the judge's mean square offset is a share of the predictive variance "
        "s^2, and a task is harder with fewer examples.",
    ),
)
