"""Figure 1's shortcut with recurrent models: an LSTM and a DeltaNet in place of the transformer.

    python -m experiments.architectures scale=cpu|paper

Every model is pre-trained on the uniform mixture of the graph classes G1, G2 and G3 and fine-tuned on
0.9 G1 + 0.1 G2, as in `experiments.figure1`. Asks of each whether the KL keeps falling while coverage and
Pass@8 get worse. Writes `verdict.json` and `report.html` into the run directory.
"""

from covlab.claims.claim import Claim
from experiments.architectures import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="architectures",
    source="Coverage Principle, arXiv 2510.15020, section 1, Figure 1, whose model is a transformer",
    title="Figure 1's shortcut with an LSTM and a DeltaNet: KL falls, coverage and Pass@8 get worse",
    introduction=(
        "Figure 1 shows a transformer whose KL keeps falling in fine-tuning while coverage gets worse. Its "
        "explanation lies in the data: the class of a prompt is decided by an XOR that the model does not "
        "learn, so the cheapest way to a lower KL is a shortcut, the majority's rule for every prompt.",
        "Here an LSTM and a DeltaNet, which read the prompt into a state of fixed size, take the "
        "transformer's place: pre-trained on paths through layered graphs of three classes, fine-tuned on "
        "nine parts G1 and one part G2. Each is asked the same: the KL falls; after its turning point Cov_N "
        "rises while the KL still falls; the checkpoint of least KL has a lower Pass@8 than the "
        "tournament's choice; and the model does not tell the classes apart.",
    ),
    stages=(runs.stage,),
    check_run=runs.check_run,
)
