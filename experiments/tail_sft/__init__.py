"""TailSFT keeps the coverage that plain fine-tuning destroys (arXiv 2608.25756).

    python -m experiments.tail_sft scale=cpu|paper

A small transformer that samples valid paths of layered graphs uniformly is fine-tuned on one path of each
graph. In one set-up two rules give the paths of a small fixed set that is seen many times, and which rule
holds can only be remembered. In the other set-up one rule gives the paths of fresh graphs. The claim: where
plain fine-tuning destroys more coverage than it makes, Pass@16 after TailSFT is higher at equal steps, and
higher by more than .01 than that of plain fine-tuning stopped at equal KL; where it destroys none, TailSFT
does not help. Reinforcement learning from the ends of fine-tuning asks whether the coverage that is kept pays
on the way, and whether anything of it is left at the end.
Pass@N is exact. Draws figures, writes `verdict.json` and `report.html` above the runs.
"""

from covlab.claims.claim import Claim
from experiments.tail_sft import checks, figures, measure, runs

CLAIM = Claim.of(
    (measure, checks, figures),
    name="tail_sft",
    source="TailSFT, arXiv 2608.25756 (its definitions were read second-hand)",
    title="TailSFT keeps coverage that fine-tuning destroys, and helps nowhere else",
    introduction=(
        "A pre-trained model samples the valid paths of a layered graph uniformly. Where fine-tuning "
        "destroys coverage, it shows paths of two rules, each for half of the graphs: in every branching "
        "layer the node whose parity is the layer's, or the other node. Which rule holds is an XOR over the "
        "graph that is too hard to learn. The model can remember the answers of a small fixed set, and is "
        "then as sure of a path on graphs that it has not seen, without being right as often. Pass@16 falls "
        "where it is sure of a wrong path. Where coverage is kept, the first rule holds for all graphs, "
        "which are fresh.",
        "TailSFT drops from every batch the sequences whose loss has fallen most since fine-tuning began, "
        "and trains on the rest. Its authors report that Pass@16 is higher after it where the coverage ratio "
        "rho_16 of plain fine-tuning, coverage destroyed over coverage made, is above 1. All arms start from "
        "the same parameters and see the same examples.",
        "Reinforcement learning from a verifier (GRPO) then starts from the arms' ends, from plain "
        "fine-tuning stopped at TailSFT's KL, and from the base, with the same prompts and the same number "
        "of rollouts, until Pass@1 hardly changes. A model that cannot tell the two rules apart passes at "
        "most half of the prompts at k = 1, whichever rule it follows, so that starts differ in the mean "
        "over the batches, and hardly at the end.",
    ),
    stages=(runs.base_stage, runs.tuning_stage, runs.rl_stage),
    check_run=runs.check_run,
)
