"""An imperfect reward: Best-of-N rises, then falls with N; inference-time pessimism rises and stays.

    python -m experiments.pessimism scale=cpu|paper

On finite sets of responses, where regret is exact, the reward's error sits where the reference seldom goes;
the coverage of the good responses and the size of the error are set. On bracket strings the reward is a
network trained on few labelled rollouts of a base model that is known exactly. There theory promises that
pessimism does not fall, and nothing else is judged. Writes `verdict.json` and
`report.html` above the directories of the reward networks.
"""

from covlab.claims.claim import Claim
from experiments.pessimism import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="pessimism",
    source="Is Best-of-N the Best of Them?, arXiv 2503.21878, Theorems 3.4, 4.1 and 4.2",
    title="With an imperfect reward Best-of-N rises and falls with N on finite sets; pessimism falls neither "
    "there nor on bracket strings",
    introduction=(
        "N responses are drawn from a reference and judged by an estimate r^ of the true reward. Best-of-N "
        "takes the one of the largest r^. Inference-time pessimism finds lambda with (1/N) sum_i "
        "relu((r^_i - lambda)/beta) = 1 and draws a response with probability about pi_ref(y) "
        "relu((r^(y) - lambda)/beta): a rare one is given little, however much it is thought to earn.",
        "What can be promised depends on the coverage coefficient C = E_pi*[pi*/pi_ref] of the policy to be "
        "matched and on the error eps^2 = E_ref[(r^ - r)^2]: with beta = eps/sqrt(C) pessimism loses at most "
        "2 eps sqrt(C), for N large. Best-of-N does as well at some N above C, and is lost where N is so "
        "large that overrated responses are drawn.",
    ),
    stages=(measure.stage,),
    check_run=measure.check_run,
)
