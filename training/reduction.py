"""Reduction of the device's means and scores to records, arrays and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool

from metrics.evaluators import Evaluator, HeldOut
from training.program import ChunkLog
from training.seen import named
from training.sink import Record, Sink

SHOWN = ((("eval/cov/",), 4.0), (("eval/pass/", "eval/sampled_pass/"), 8.0))
"""Coverage and Pass@N to show beside the progress bar: prefixes, of which the first that a run has is shown,
and the N."""


def reduce_log(
    log: ChunkLog, judges: bool, ns: Sequence[float], heads: list[Record], alive: Sequence[int]
) -> dict[str, float]:
    """Put the means over a chunk of steps into the records of the seeds `alive`.

    Args:
        log: means with a leading axis of seeds.
        judges: True if the means have a reward.
        ns: the N of the coverage of the batches.
        heads: one record per seed, to which the numbers are added.
        alive: indices of the seeds that have not diverged.

    Returns:
        Medians to show beside the progress bar.
    """
    for i in alive:
        heads[i] |= {"train/loss": _number(log.loss, i), "train/gradient_norm": _number(log.gradient_norm, i)}
        if judges:
            heads[i]["train/reward"] = _number(log.reward, i)
        if log.seen is not None:
            heads[i] |= dict(named(log.seen, i, ns))
    keys = ["train/loss", *(["train/reward"] if judges else [])]
    return _medians(heads, alive, keys) if alive else {}


def _number(values: Any, seed: int) -> float:
    return float(np.asarray(values)[seed])


def _medians(heads: Sequence[Record], alive: Sequence[int], keys: Sequence[str]) -> dict[str, float]:
    return {key.partition("/")[2]: float(np.median([heads[i][key] for i in alive])) for key in keys}


def shown_keys(record: Mapping[str, Any]) -> list[str]:
    """Keys of an evaluation to show beside the progress bar: cross-entropy, KL, one Cov_N and one Pass@N.

    N is 4 for coverage and 8 for Pass@N, which is exact where it is known and else sampled, or the N that is
    nearest. An evaluation without any of these, as that of a value function, shows its first two numbers.

    Example:
        >>> shown_keys({"step": 1, "eval/ce": 0.0, "eval/cov/2": 0.0, "eval/cov/16": 0.0, "eval/pass/4": 0.0})
        ['eval/ce', 'eval/cov/2', 'eval/pass/4']
    """
    shown = [key for key in ("eval/ce", "eval/kl") if key in record]
    for names, wanted in SHOWN:
        own = next(filter(None, ([key for key in record if key.startswith(name)] for name in names)), None)
        if own is not None:
            shown.append(min(own, key=lambda key: abs(float(key.rpartition("/")[2]) - wanted)))
    return shown or [key for key in record if key.startswith("eval/")][:2]


def reduce_scores(
    evaluators: Sequence[Evaluator],
    scores: Any,
    held_out: HeldOut,
    heads: list[Record],
    alive: Sequence[int],
    sink: Sink,
    start: Mapping[str, Mapping[str, np.ndarray]],
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Put every evaluator's numbers into the records of the seeds `alive`, and histograms into the sink.

    Args:
        scores: evaluator -> array -> (seeds, examples, ...), padding of the last batch included.
        heads: one record per seed, to which the numbers are added.
        alive: indices of the seeds that have not diverged.
        start: evaluator -> array -> (seeds, ...), see `Evaluator.remembered`.

    Returns:
        A few medians to show beside the progress bar, and the per-example arrays of all seeds.
    """
    arrays: dict[str, np.ndarray] = {}
    for evaluator in evaluators:
        own = {k: np.asarray(v)[:, : held_out.num_examples] for k, v in scores[evaluator.name].items()}
        arrays |= own
        needed = own | dict(start.get(evaluator.name, {}))
        for i in alive:
            values = evaluator.reduce({k: v[i] for k, v in needed.items()}, held_out)
            heads[i] |= {f"eval/{key}": value for key, value in values}
        living = {k: v[list(alive)] for k, v in own.items()}
        for key, sample, weights in evaluator.histograms(living, held_out) if alive else ():
            sink.histogram(f"eval/{key}", heads[0]["global_step"], sample, weights)
    return _medians(heads, alive, shown_keys(heads[alive[0]])) if alive else {}, arrays


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
