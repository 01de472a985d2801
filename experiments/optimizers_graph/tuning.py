"""The learning rate of every rule, task and length, by validation loss on seeds of its own.

    python -m experiments.optimizers_graph tune=true

All rules, rates and seeds of one task and length are rows of one compiled program (`any_of`). What is chosen
belongs into the scale's file, `learning_rates`; a verdict is computed on other seeds and other prompts.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import yaml
from jaxtyping import Float

from covlab.launch.build import Setup
from experiments.optimizers_graph.rules import any_of
from metrics.evaluators import DistributionEvaluator
from tracking import Progress
from tracking.atomic import atomic_write
from training import make_program

SPLIT = "tuning"
"""Name of the stream of the prompts that losses are measured on; a verdict's are of the stream held-out."""


class Tuned(NamedTuple):
    """What tuning found for one task and length.

    Attributes:
        losses: rule -> mean over the seeds of the cross-entropy (nats) after the last step, one a rate of the
            rule's grid; inf where a seed's is not finite.
        chosen: rule -> rate.
        finals: rule -> the other final metrics at the rate that was chosen, means over the seeds.
    """

    losses: dict[str, list[float]]
    chosen: dict[str, float]
    finals: dict[str, dict[str, float]]


def best_rate(grid: Sequence[float], losses: Float[np.ndarray, "rates seeds"]) -> float:
    """The rate whose mean loss over the seeds is smallest; a rate that diverged on any seed is out, and of
    equal ones the smaller is taken.

    Raises:
        ValueError: no rate kept every seed's loss finite.
    """
    mean = mean_losses(losses)
    if not np.isfinite(mean).any():
        raise ValueError(f"grid: {list(grid)}; every rate diverged on some seed; valid: smaller rates")
    return float(min(zip(mean.tolist(), grid, strict=True))[1])


def mean_losses(losses: Float[np.ndarray, "rates seeds"]) -> Float[np.ndarray, " rates"]:
    """Means over the seeds; inf where one is not finite."""
    array = np.asarray(losses, np.float64)
    return np.where(
        np.isfinite(array).all(axis=1), np.where(np.isfinite(array), array, 0).mean(axis=1), np.inf
    )


def at_edge(grid: Sequence[float], rate: float) -> bool:
    """Whether a rate is the smallest or the largest of its grid: a better one may lie beyond."""
    return rate in (min(grid), max(grid))


def tune_setup(setups: Mapping[str, Setup], grids: Mapping[str, Sequence[float]]) -> Tuned:
    """The losses of every rate of every rule, trained together.

    Args:
        setups: rule -> its run of one task and length, with learning rate 1; all but the optimizer is the
            same in each.
        grids: rule -> learning rates; other rules are left out.
    """
    setup = next(iter(setups.values()))
    phase, settings = setup.phases[-1], setup.evaluation[-1]
    rule = any_of([setups[name].phases[-1].optimizer for name in grids])
    rows = [
        (index, rate, seed)
        for index, name in enumerate(grids)
        for rate in grids[name]
        for seed in setup.seeds
    ]
    held_out = settings.held_out(phase.task, SPLIT)
    evaluator = DistributionEvaluator(settings.coverage_ns, settings.pass_ns)
    program = make_program(setup.model, dataclasses.replace(phase, optimizer=rule), (evaluator,), held_out)
    seeds = jnp.asarray([seed for _, _, seed in rows], jnp.uint32)
    state = program.begin(program.init(seeds), jnp.full(len(rows), -1, jnp.int32))
    chosen = state.opt_state._replace(
        rule=jnp.asarray([index for index, _, _ in rows], jnp.int32),
        rate=jnp.asarray([rate for _, rate, _ in rows], jnp.float32),
    )
    state, _ = program.run(state._replace(opt_state=chosen), seeds, 0, phase.steps)
    scores = {name: np.asarray(array) for name, array in program.score(state.params)[evaluator.name].items()}
    metrics = [
        _metrics(evaluator, {k: a[row] for k, a in scores.items()}, held_out) for row in range(len(rows))
    ]
    found = Tuned({}, {}, {})
    for index, name in enumerate(grids):
        own = [each for each, row in zip(metrics, rows, strict=True) if row[0] == index]
        losses = np.array([each["ce"] for each in own]).reshape(len(grids[name]), -1)
        rate = best_rate(grids[name], losses)
        place = list(grids[name]).index(rate) * losses.shape[1]
        kept = own[place : place + losses.shape[1]]
        found.losses[name] = mean_losses(losses).tolist()
        found.chosen[name] = rate
        found.finals[name] = {key: float(np.mean([each[key] for each in kept])) for key in kept[0]}
    return found


def _metrics(
    evaluator: DistributionEvaluator, scores: dict[str, np.ndarray], held_out: Any
) -> dict[str, float]:
    if np.isnan(scores["log_prob"]).any():
        return {"ce": math.nan}
    return dict(evaluator.reduce(scores, held_out))


def tune(
    path: Path, runs: Mapping[str, Mapping[str, Setup]], grids: Mapping[str, Sequence[float]]
) -> dict[str, Tuned]:
    """Tune every task and length (`runs`: its name -> rule -> run), write `tuning.json` and print what
    belongs into the scale's file."""
    found: dict[str, Tuned] = {}
    progress = Progress()
    for name, setups in runs.items():
        progress.update("tuning", len(found), len(runs), {})
        found[name] = tune_setup(setups, grids)
        text = json.dumps({key: each._asdict() for key, each in found.items()}, indent=1)
        path.mkdir(parents=True, exist_ok=True)
        atomic_write(path / "tuning.json", text.encode())
    progress.close()
    edges = [
        f"{name}, {rule}: {rate:g}"
        for name, each in found.items()
        for rule, rate in each.chosen.items()
        if at_edge(grids[rule], rate)
    ]
    print(yaml.safe_dump({"learning_rates": {name: each.chosen for name, each in found.items()}}))
    print("at the edge of their grid: " + ("; ".join(edges) or "none"))
    return found
