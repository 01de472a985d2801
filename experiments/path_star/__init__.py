"""Path-star graphs: the choice that teacher forcing does not teach (Bachmann, Nagarajan, arXiv 2403.06963).

    python -m experiments.path_star scale=cpu|paper

One small transformer is trained four times: on responses written from the start (forward), from the goal
(reversed), from the start without ever reading its response (teacherless), and from the start with heads that
predict the whole rest of the response (multi-token). An LSTM is trained forward (recurrent). The claim:
forward training learns to follow edges and leaves the choice of the arm at chance, as the closed form of
"Clever Hans" says in accuracy, cross-entropy, coverage and Pass@N, while reversed training solves the task.
On most seeds edges are followed on wrong arms too, which training never shows, the heads do not teach the
choice, and an LSTM does not learn it. What teacherless training reaches is reported beside them. Draws
figures, writes `verdict.json` and `report.html` above the runs.
"""

from covlab.claims.claim import Claim
from experiments.path_star import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="path_star",
    source="Bachmann and Nagarajan, arXiv 2403.06963, sections 4 and 5; closed forms derived",
    title="Path-star graphs: the choice that teacher forcing does not teach",
    introduction=(
        "A path-star graph has several arms that leave one start. The prompt lists its edges in random "
        "order and names the start and a goal, the end of one arm; the response is that arm. Read from the "
        "goal, each node is one look-up. From the start, everything is decided at the first step, which "
        "needs the whole arm.",
        "With the right tokens before it as input, every later token is one look-up too. A model that has "
        "learned this 'Clever Hans' look-up earns no more from the rest, and the choice stays at chance, "
        "1/d. Then the cross-entropy is ln d, Cov_N is 1 up to N = d and 0 beyond, and Pass@N is 1 - (1 - "
        "1/d)^N: a model that fails by accuracy covers the answer, and a few samples find it.",
        "Multi-token training gives every position the rest of the response as targets, one for each head "
        "on a shared trunk. Its claim is one-sided: on most seeds the law of the next token, which samples "
        "and scores, chooses no better than a random arm. A forward run with an LSTM in place of the "
        "transformer asks the same: is it the network that hides the choice?",
    ),
    stages=(runs.stage,),
    check_run=runs.check_run,
)
