"""What Figure 1's claim measures on a finished run, and the checks that it is judged by."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from covlab.claims.old_claim import interval_over_shared_prompts
from covlab.claims.selection import Row, RunMatrices, run_matrices, run_tables
from covlab.launch.build import Setup
from covlab.report.verdict import Check, check_interval, check_value
from metrics import TIE_BREAKS, Interval, auc_interval, mean_interval, paired_difference_interval
from metrics.evaluators import BOUND_TOLERANCE, DistributionEvaluator
from tasks import stream
from tracking import load_run
from training import load_parameters

COVERAGE_NS = (2.0, 3.0, 4.0, 4.6, 5.7)
PASS_NS = (4, 8, 12)
CLASS_BLIND_MIN_KL = round(float(-0.9 * np.log(0.9) - 0.1 * np.log(0.1)), 4)
"""KL of the best class-blind model, 0.325 nats."""


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of; arrays are (seeds, checkpoints)."""

    matrices: RunMatrices
    kl: np.ndarray
    cov: dict[float, np.ndarray]
    passes: dict[int, np.ndarray]
    tables: dict[int, list[Row]]
    chosen: np.ndarray
    lowest: np.ndarray
    blindness: dict[int, Interval]
    log_odds: dict[str, np.ndarray]
    bound_excess: float


def measure(path: Path, setup: Setup, n: float, tie_break: str, blindness_examples: int) -> Measurements:
    """Read the run at `path` and derive what the claim speaks of."""
    matrices = run_matrices(path, "finetune")
    tables = run_tables(matrices, COVERAGE_NS, TIE_BREAKS, PASS_NS)
    passes = matrices.pass_at_n(PASS_NS)
    if passes is None:
        raise ValueError("task: figure1 needs a task that enumerates its valid responses")
    blindness, log_odds = class_blindness(path, setup, matrices, blindness_examples)
    return Measurements(
        matrices=matrices,
        kl=matrices.kl(),
        cov=matrices.coverage(COVERAGE_NS),
        passes=passes,
        tables=tables,
        chosen=picks(tables, "simple_tournament", n, tie_break),
        lowest=picks(tables, "min_kl"),
        blindness=blindness,
        log_odds=log_odds,
        bound_excess=float(load_run(path)["eval/bound_excess"].max()),
    )


def class_blindness(
    path: Path, setup: Setup, matrices: RunMatrices, per_group: int
) -> tuple[dict[int, Interval], dict[str, np.ndarray]]:
    """Whether the last fine-tuned model tells the two classes apart.

    The log-odds ln pi_hat(majority rule's path|x) - ln pi_hat(minority rule's path|x) of fresh held-out
    prompts of G1 and G2 are compared by the area under the ROC curve, P[G1's is larger]: 0.5 if they carry no
    information on the class.

    Returns:
        Seed -> AUC with its 95 % interval, and the first seed's log-odds (nats) by class.
    """
    phase = setup.phases[-1]
    held_out = dataclasses.replace(setup.evaluation[-1], num_examples=per_group).held_out(
        phase.task, "blindness"
    )
    evaluator = DistributionEvaluator()
    abstract = jax.eval_shape(jax.vmap(setup.model.init), jax.random.split(stream(0), len(setup.seeds)))
    params = load_parameters(path / "checkpoints", phase.name, phase.steps, abstract)

    @jax.jit
    def score(own: Any) -> Any:
        return jax.lax.map(
            lambda batch: evaluator.score(setup.model, phase.task, own, batch)["log_prob"], held_out.batches
        )

    blindness: dict[int, Interval] = {}
    shown: dict[str, np.ndarray] = {}
    for seed in matrices.seeds:
        own = _row(params, setup.seeds.index(seed))
        log_prob = np.asarray(score(own), np.float64).reshape(-1, phase.task.num_enumerated)[
            : held_out.num_examples
        ]
        log_odds = log_prob[:, 0] - log_prob[:, -1]
        by_class = {name: log_odds[held_out.groups == group] for group, name in enumerate(phase.task.groups)}
        first, second = by_class.values()
        blindness[seed] = auc_interval(first, second)
        shown = shown or by_class
    return blindness, shown


def picks(
    tables: dict[int, list[Row]], rule: str, n: float | None = None, tie_break: str | None = None
) -> Int[np.ndarray, " seeds"]:
    """Index of the checkpoint that a rule chooses, for every seed."""
    wanted = (rule, n, tie_break)
    return np.array(
        [
            next(row["index"] for row in table if (row["rule"], row["n"], row["tie_break"]) == wanted)
            for table in tables.values()
        ]
    )


def checks(found: Measurements, whole_interval: bool = False) -> tuple[Check, ...]:
    """The claim's checks, with 95 % Student intervals over the seeds.

    The mean over the seeds is held against the target; with `whole_interval`, the interval's end that is
    nearer to missing it. The tournament's gain has to exclude 0, and class-blindness to fit into its range,
    with the whole interval in any case.

    Raises:
        ValueError: with fewer than two seeds, which have no interval.
    """
    kl, cov, passes = found.kl, found.cov, found.passes
    rows = np.arange(len(kl))
    excess = np.max(kl - np.minimum.accumulate(kl, axis=1), axis=1)
    gain = paired_difference_interval(passes[8][rows, found.chosen], passes[8][rows, found.lowest])
    auc = interval_over_shared_prompts(list(found.blindness.values()))

    def over_seeds(name: str, interval: Interval, target_op: str, threshold: float) -> Check:
        end: Literal["low", "high"] = "high" if target_op.startswith("<") else "low"
        return check_interval(name, interval, target_op, threshold, end if whole_interval else "estimate")

    falls = {"KL": kl[:, 0] - kl[:, -1], "Cov_2": cov[2.0][:, 0] - cov[2.0][:, -1]}
    return (
        check_value(
            "KL: largest rise above its running minimum, worst seed (nats)", float(excess.max()), "<=", 0.02
        ),
        over_seeds("KL: fall from start to end (nats)", mean_interval(falls["KL"]), ">=", 0.3),
        over_seeds("Cov_2: fall from start to end", mean_interval(falls["Cov_2"]), ">=", 0.3),
        over_seeds("Cov_4: minimum over the run", mean_interval(cov[4.0].min(axis=1)), "<=", 0.05),
        over_seeds("Cov_4: at the end", mean_interval(cov[4.0][:, -1]), ">=", 0.09),
        over_seeds(
            "Pass@8 of the min-KL checkpoint", mean_interval(passes[8][rows, found.lowest]), "<=", 0.965
        ),
        over_seeds("Pass@8 of the best checkpoint", mean_interval(passes[8].max(axis=1)), ">=", 0.98),
        over_seeds("Pass@8: tournament's choice over min-KL's", gain, ">=", 0.015),
        check_interval("Pass@8: that gain excludes 0", gain, ">", 0.0, "low"),
        check_interval(
            "class-blindness: AUC of the log-odds between the rules, from below", auc, ">=", 0.45, "low"
        ),
        check_interval("class-blindness: the same AUC, from above", auc, "<=", 0.55, "high"),
        over_seeds("KL: minimum over the run (nats)", mean_interval(kl.min(axis=1)), ">", CLASS_BLIND_MIN_KL),
        check_value(
            "coverage bound by KL: largest excess at any evaluation",
            found.bound_excess,
            "<=",
            BOUND_TOLERANCE,
        ),
    )


def _row(params: Any, index: int) -> Any:
    return jax.tree.map(lambda stacked: jnp.asarray(stacked[index]), params)
