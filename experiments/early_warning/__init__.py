"""Does anything that needs no pi_D tell when cross-entropy improves and coverage gets worse?

    python -m experiments.early_warning scale=cpu|paper

Statistics of the held-out log-probabilities that a run's checkpoints give (`metrics.early_warning`) are
judged as alarms against the truth from the exact pi_D (`metrics.coverage_events`), on other held-out prompts.
Twelve tasks are trained, each with settings in which the event happens and settings in which it should not;
thresholds for a task come from its quiet runs at other seeds. Recorded runs are judged beside them by the
largest of these thresholds.
Draws figures, writes `verdict.json` and `report.html` above the runs.
"""

from covlab.claims.claim import Claim
from experiments.early_warning import checks, figures, measure

CLAIM = Claim.of(
    (measure, checks, figures),
    name="early_warning",
    source="Coverage Principle, arXiv 2510.15020, section 4.3; a rule is asked for, none is published",
    title="A warning without pi_D: cross-entropy improves, coverage gets worse",
    introduction=(
        "During training cross-entropy can improve while coverage, Cov_N = P[pi_D/pi_hat >= N], gets worse: "
        "the model gains on many responses and gives up some that it covered before. Here pi_D is known, so "
        "that the event can be told exactly; a practitioner has held-out responses and the log-probabilities "
        "that the checkpoints give them.",
        "A statistic compares the checkpoint of now with every earlier one of higher cross-entropy, on the "
        "same held-out responses. It raises an alarm where it exceeds a threshold. The prompts that it sees "
        "and those that define the event are disjoint halves of the held-out set, and the thresholds for a "
        "task are chosen on runs of that task, at other seeds, in which nothing should go wrong.",
    ),
    stages=(measure.stage,),
    check_run=measure.check_run,
)
