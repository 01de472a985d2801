"""From the scores that the device hands back to records, arrays and histograms."""

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
    name: str,
) -> dict[str, float]:
    """Put every evaluator's numbers into the records of the seeds that live, arrays and histograms into the
    sink; a few medians to show beside the progress bar.

    Args:
        scores: evaluator -> array -> (seeds, examples, ...), padding of the last batch included.
        heads: one record a seed, which grows.
        alive: indices of the seeds that have not diverged.
        name: of the arrays.
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
    sink.arrays(name, arrays)
    shown = [key for key in heads[alive[0]] if key.startswith("eval/")][:2] if alive else []
    return {key.removeprefix("eval/"): float(np.median([heads[i][key] for i in alive])) for key in shown}


def any_nan(scores: Any) -> Bool[np.ndarray, " seeds"]:
    """Whether a seed has a NaN among its per-example scores."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(scores)]
    return np.any([np.isnan(leaf).reshape(leaf.shape[0], -1).any(axis=1) for leaf in leaves], axis=0)
