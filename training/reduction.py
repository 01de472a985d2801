"""Reduction of the device's scores to records, arrays and histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool

from metrics.evaluators import Evaluator, HeldOut
from training.sink import Record, Sink


def reduce_scores(
    evaluators: Sequence[Evaluator],
    scores: Any,
    held_out: HeldOut,
    heads: list[Record],
    alive: Sequence[int],
    sink: Sink,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Put every evaluator's numbers into the records of the seeds `alive`, and histograms into the sink.

    Args:
        scores: evaluator -> array -> (seeds, examples, ...), padding of the last batch included.
        heads: one record per seed, to which the numbers are added.
        alive: indices of the seeds that have not diverged.

    Returns:
        A few medians to show beside the progress bar, and the per-example arrays of all seeds.
    """
    arrays: dict[str, np.ndarray] = {}
    for evaluator in evaluators:
        own = {k: np.asarray(v)[:, : held_out.num_examples] for k, v in scores[evaluator.name].items()}
        arrays |= own
        for i in alive:
            values = evaluator.reduce({k: v[i] for k, v in own.items()}, held_out)
            heads[i] |= {f"eval/{key}": value for key, value in values}
        living = {k: v[list(alive)] for k, v in own.items()}
        for key, sample, weights in evaluator.histograms(living, held_out) if alive else ():
            sink.histogram(f"eval/{key}", heads[0]["global_step"], sample, weights)
    shown = [key for key in heads[alive[0]] if key.startswith("eval/")][:2] if alive else []
    medians = {key.removeprefix("eval/"): float(np.median([heads[i][key] for i in alive])) for key in shown}
    return medians, arrays


def held_out_arrays(held_out: HeldOut) -> dict[str, np.ndarray]:
    """Held-out examples that the per-example arrays of evaluations refer to, one row per example."""
    example = held_out.batches.example
    prompt, response = held_out.flat((example.prompt, example.response))
    return {
        "log_pi": held_out.log_pi,
        "candidate_weight": held_out.candidate_weight,
        "correct": held_out.correct,
        "groups": held_out.groups,
        "weights": held_out.weights,
        "prompt": prompt,
        "response": response,
    }


def any_nan(scores: Any) -> Bool[np.ndarray, " seeds"]:
    """True for seeds with a NaN among their per-example scores."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(scores)]
    return np.any([np.isnan(leaf).reshape(leaf.shape[0], -1).any(axis=1) for leaf in leaves], axis=0)
