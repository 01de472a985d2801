"""Checks of experiments.dco, with the reason for each target, and notes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from covlab.claims.trained import check_bound, left_out_notes
from covlab.report.verdict import Check, above, below
from experiments.dco.measure import Measurements
from metrics import mean_interval, paired_difference_interval

FAR = 16
"""N' is far from N where one is at least so many times the other, and a neighbour where it is not."""
OVERCONFIDENT = 0.05
"""Probability by which the likeliest response is over-rated, from which a model counts as over-confident."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; a check on an interval asks it of the whole 95 % interval over seeds.

    The reasons for the targets:

    - Cross-entropy, from an early evaluation to the last: Pass@1 rises, Pass@N at the setting `large` falls,
      Cov_N there rises. Threshold 0, because the source's finding is of signs; both evaluations are at steps
      that were fixed on other seeds, none is chosen by its result.
    - Over-confidence is the mechanism that is claimed: at the end the likeliest response is over-rated by
      more than .05. A calibrated model has 0, but for what a few hundred prompts leave open, about .02.
    - DCO with N' = N, the setting `large`: better at N than cross-entropy, after as many epochs.
    - N' near N is best at N: at every N that is an N', the run with N' = N is better than the best of those
      whose N' is 16 times smaller or larger, and better than the best of the nearer ones. The second is the
      claim word for word, because the loss with N' = N is ln Pass@N of the training set. The best is picked
      by its mean on these very seeds, which makes the checks harder to pass.
    - The coverage bound by KL holds at every evaluation.

    Raises:
        ValueError: with fewer than two seeds.
    """
    base, n = results.baseline, results.large
    early, name = results.early, next(iter(results.arms))

    def change(values: Float[np.ndarray, "seeds checkpoints"]) -> Float[np.ndarray, " seeds"]:
        return values[:, -1] - values[:, early]

    when = f"from step {base.steps[early]} to {base.steps[-1]}"
    largest = next(key for key, value in results.trained_for.items() if value == n)
    over_rated = f"{name}: by how much the likeliest response is over-rated at the end"
    gain = paired_difference_interval(results.last(largest, n), results.last(name, n))
    judged = [
        above(f"{name}, {when}: change of Pass@1", mean_interval(change(base.passes[1])), 0),
        below(f"{name}, {when}: change of Pass@{n}", mean_interval(change(base.passes[n])), 0),
        above(f"{name}, {when}: change of Cov_{n}", mean_interval(change(base.coverage[n])), 0),
        above(over_rated, mean_interval(base.overconfidence[:, -1]), OVERCONFIDENT),
        above(f"Pass@{n} at the end: DCO with N' = {n} minus {name}", gain, 0),
    ]
    for trained, value in results.trained_for.items():
        for kind, other in (("far", best_far(results, value)), ("neighbouring", best_near(results, value))):
            if other is not None:
                text = f"N' = {value} minus the best of {kind} N' ({results.trained_for[other]})"
                gain = paired_difference_interval(results.last(trained, value), results.last(other, value))
                judged.append(above(f"Pass@{value} at the end: {text}", gain, 0))
    return (*judged, check_bound(results.bound_excess))


def best_far(results: Measurements, n: int) -> str | None:
    """Of the runs whose N' is far from n, the one with the highest mean Pass@n at the end; None where all are
    near."""
    return _best(results, n, lambda trained: _apart(trained, n) >= FAR)


def best_near(results: Measurements, n: int) -> str | None:
    """Of the runs whose N' is not n and not far from it, the one with the highest mean Pass@n at the end;
    None where there is none."""
    return _best(results, n, lambda trained: 1 < _apart(trained, n) < FAR)


def _apart(trained: int, n: int) -> float:
    return max(trained, n) / min(trained, n)


def _best(results: Measurements, n: int, counts: Callable[[int], bool]) -> str | None:
    names = [name for name, trained in results.trained_for.items() if counts(trained)]
    return max(names, key=lambda name: float(results.last(name, n).mean()), default=None)


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    base, n, name = results.baseline, results.large, next(iter(results.arms))
    changes = "; ".join(
        f"{title} {values[:, results.early].mean():.3f} -> {values[:, -1].mean():.3f}"
        for title, values in base.quantities(n)
    )
    written = [
        f"{results.epochs:g} epochs of a fixed training set of each seed's own; held-out prompts are fresh.",
        f"{name}, from step {base.steps[results.early]} to {base.steps[-1]}: {changes}.",
    ]
    for value in results.trained_for.values():
        ranked = sorted(results.arms, key=lambda each: -float(results.last(each, value).mean()))
        listed = ", ".join(f"{rule} {results.last(rule, value).mean():.3f}" for rule in ranked)
        written.append(f"Pass@{value} at the end, all arms from the best: {listed}.")
    written.append(
        "Label smoothing, the confidence penalty, weight decay, averaging and re-weighting have one setting "
        "each, from the literature or at hand and not tuned: their place in the ranking is theirs, not the "
        f"method's. The ensemble is the mixture of the checkpoints of {name} from step "
        f"{base.steps[results.early]} on."
    )
    return (*written, *left_out_notes(results.seeds, results.left_out))
