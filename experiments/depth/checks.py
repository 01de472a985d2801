"""Checks of experiments.depth, with the reason for each target, and notes."""

from __future__ import annotations

from covlab.claims.trained import check_bound, left_out_notes
from covlab.report.tables import interval_text
from covlab.report.verdict import Check, above
from experiments.depth.measure import Measurements
from metrics import mean_interval, name_of_n, paired_difference_interval


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks, with 95 % Student intervals of differences by seed.

    The first number of recursions in training is the shallowest. The reasons for the targets:

    - More recursions at equal training FLOP, each number against the shallowest: Cov_n is lower and the
      greedy accuracy higher. Looped transformers (arXiv 2502.17416) match deeper ones on tasks of reasoning
      and exceed those of equal parameters, at equal steps. Here steps pay for recursions, and the prediction
      is that depth is worth them. The first intermediate checkpoints do not count, only the last.
    - Fewer recursions at test than in training: Cov_n is higher. No state before the last was ever read out
      in training.
    - More recursions at test than in training: Cov_n is higher. Recurrent networks that are trained with
      one number of iterations overthink (arXiv 2202.05826): only training at many depths teaches a state
      that further iterations keep.
    - A difference whose whole interval lies above 0 passes, and one that is exactly 0 for every seed fails.
    - The coverage bound by KL holds at every evaluation.
    """
    settings, made = results.settings, []
    first, *deeper = settings.recursions
    cov = f"Cov_{name_of_n(settings.n)}"
    for problem in results.runs:
        for count in deeper:
            lower = paired_difference_interval(
                results.coverage(problem, first, first), results.coverage(problem, count, count)
            )
            higher = paired_difference_interval(
                results.accuracy(problem, count, count), results.accuracy(problem, first, first)
            )
            of = f"{problem}, {count} recursions against {first} at equal FLOP"
            made += [above(f"{of}: fall of {cov}", lower, 0), above(f"{of}: rise of the accuracy", higher, 0)]
        for count in deeper:
            right = results.coverage(problem, count, count)
            for other in settings.around(count):
                rise = paired_difference_interval(results.coverage(problem, count, other), right)
                made.append(
                    above(f"{problem}, trained with {count}, tested with {other}: rise of {cov}", rise, 0)
                )
    excess = max(run.bound_excess for runs in results.runs.values() for run in runs.values())
    return (*made, check_bound(excess))


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    settings, written = results.settings, []
    cov = f"Cov_{name_of_n(settings.n)}"
    for problem, runs in results.runs.items():
        budget = runs[settings.recursions[0]].flops
        apart = max(abs(run.flops / budget - 1) for run in runs.values())
        taken = ", ".join(f"{run.steps} steps with {count}" for count, run in runs.items())
        written.append(
            f"{problem}: {budget:.3g} FLOP per seed, up to {100 * apart:.2g} % in the other runs: {taken}."
        )
        for count in runs:
            texts = (
                f"{tested}: {interval_text(mean_interval(results.coverage(problem, count, tested)), '.4f')}"
                for tested in settings.tested
            )
            written.append(
                f"{problem}, trained with {count}: {cov} by the number of recursions at test: "
                f"{'; '.join(texts)}."
            )
    return (*written, *left_out_notes(results.seeds, results.left_out))
