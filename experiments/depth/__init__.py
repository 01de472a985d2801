"""Recursions of a shared-weight transformer as compute: coverage and accuracy at equal training FLOP.

    python -m experiments.depth scale=cpu|paper

A transformer uses its blocks R times. Models with several R have the same parameters and the same training
FLOP, so that more recursions leave fewer steps. They are trained on paths through layered graphs and on
sorting, and evaluated with the number of recursions of training, with fewer and with more. Draws figures,
writes `verdict.json` and `report.html` above the runs.
"""

from covlab.claims.claim import Claim
from experiments.depth import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="depth",
    source="Saunshi et al., arXiv 2502.17416; Bansal et al., arXiv 2202.05826",
    title="More recursions cover more at equal training FLOP, and other numbers at test cover less",
    introduction=(
        "A transformer with shared weights uses its blocks R times, one use after the other. The number of "
        "parameters does not depend on R. A step of training costs about R times as much, so that at equal "
        "training FLOP a model with more recursions takes fewer steps.",
        "The first prediction is that of looped transformers: what limits a model on tasks that need several "
        "steps of reasoning is its depth and not its parameters. Here depth is paid for with steps. Paths "
        "through layered graphs and sorting are to be covered better, and answered right more often, by "
        "models with more recursions.",
        "The second prediction is that of recurrent networks that are trained at a single depth: they "
        "overthink. A model that is trained with R recursions is evaluated with fewer and with more. Both "
        "are predicted to cover less than R.",
    ),
    stages=(runs.stage,),
    check_run=runs.check_run,
)
