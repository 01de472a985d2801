"""Checks of experiments.state_tracking, with the reason for each target, and notes."""

from __future__ import annotations

import numpy as np

from covlab.claims.trained import check_bound, left_out_notes
from covlab.report.verdict import Check, above, below
from experiments.state_tracking.measure import CELLS, ORDERS, SOLVES, Measurements
from metrics import Interval, proportion_interval

HALF = 0.5
"""The share of seeds that a prediction is judged by."""


def share(results: Measurements, problem: str, model: str) -> Interval:
    """Share of seeds that solve the problem, with its exact 95 % interval (Clopper and Pearson)."""
    return proportion_interval(results.solvers(problem, model), len(results.seeds))


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks: one for each problem and each model with a prediction.

    The reasons for the targets:

    - A seed has solved a problem if at least `solved` of its tokens in the range of largest lengths are
      right. Training may fail to find a solution that a model has, so that accuracy has two modes and its
      mean tells little. The share of seeds is judged.
    - Predicted to solve: more than half of the seeds solve. With eight seeds the interval's lower end is .63
      if all solve, and .47 if one does not.
    - Predicted not to solve: fewer than half. With eight seeds the upper end is .37 if none solves, and .53
      if one does.
    - Parity, arXiv 2411.12537: a product of matrices with eigenvalues in [0, 1] converges on a constant
      string, so that no length beyond some bound is told from the next. This holds for n_h = 2 too: a
      product of two symmetric positive matrices has real eigenvalues >= 0.
    - S_3, arXiv 2502.10297: on a constant string of an element of order 3, powers of one matrix must have
      period 3. A step I - beta k k^T has real eigenvalues, so that one step per token does not have it, and
      two reflections, a rotation, do.
    """
    made = []
    for problem in results.runs:
        for model in CELLS:
            solves = model in SOLVES[problem]
            said = f"share of seeds that solve, predicted {'all' if solves else 'none'}"
            name = f"{problem}, {described(model)}: {said}"
            made.append((above if solves else below)(name, share(results, problem, model), HALF))
    excess = max(run.bound_excess for models in results.runs.values() for run in models.values())
    return (*made, check_bound(excess))


def described(model: str) -> str:
    """The model's eigenvalues and steps in words, or its name."""
    if model not in CELLS:
        return model
    negative, steps = CELLS[model]
    return f"eigenvalues in [{-1 if negative else 0}, 1], n_h = {steps}"


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    written = []
    for problem, models in results.runs.items():
        trained, *_, longest = results.ranges[problem]
        written.append(
            f"A seed has solved {problem} if its accuracy per token after {longest[0]} to {longest[1]} "
            f"elements is at least {results.solved:g}. Training has strings of {trained[0]} to {trained[1]} "
            f"elements. Chance is {1 / ORDERS[problem]:.3f}."
        )
        for model, run in models.items():
            written.append(
                f"{problem}, {described(model)}: accuracy per token by seed in the range of largest lengths "
                f"{_listed(run.accuracy(longest))}, at the training lengths {_listed(run.accuracy(trained))}"
                f"{'' if model in CELLS else '; not judged'}."
            )
    return (*written, *left_out_notes(results.seeds, results.left_out))


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
