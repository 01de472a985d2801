"""Fine-tuning loses more Pass@k the more decision points there are, roughly in proportion (arXiv 2605.17026).

    python -m experiments.forks scale=cpu|paper

A small transformer that samples valid paths of layered graphs uniformly is fine-tuned on one path of each
graph of a small fixed set. From 0 to L layers branch. Which way the path goes in a branching layer is a
hidden decision: a hash of the graph tells it, which can be remembered and not learned. Prompts and responses
have the same lengths whatever branches. The claim: Pass@1 rises and Pass@k falls, in proportion to the share
of the response's tokens that are hidden decisions, and not at all without any. In further arms only the first
of several branching layers is a hidden decision. Pass@N is exact. Draws figures, writes `verdict.json` and
`report.html` above the runs.
"""

from covlab.claims.claim import Claim
from experiments.forks import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="forks",
    source="Why Do Reasoning Models Lose Coverage, arXiv 2605.17026 (its abstract was read)",
    title="Fine-tuning loses Pass@k in proportion to the share of decision points",
    introduction=(
        "A pre-trained model samples the valid paths of a layered graph uniformly. From 0 to L layers "
        "branch. Fine-tuning shows one path of each graph of a small fixed set. In every branching layer the "
        "path takes the node of the layer's parity in nine of ten graphs, and the other node in the tenth. "
        "Which graphs these are is a hash of the graph, a decision that can be remembered and not learned.",
        "The source reports that Pass@1 rises, that Pass@k falls below that of the base model, and that this "
        "is tightly correlated with the prevalence of decision points in the data. Here the share of a "
        "response's tokens that are decision points varies, while prompts and responses keep their lengths.",
        "In further arms the first branching layer's decision holds in all other layers as well, which can "
        "be learned. They have several branching layers and a single decision point, and tell apart whether "
        "branching or deciding costs coverage.",
    ),
    stages=(runs.base_stage, runs.tuning_stage),
    check_run=runs.check_run,
)
