"""The runs of experiments.optimizers_graph, one for each task, length and rule, and what is chosen before.

    python -m experiments.optimizers_graph tune=true     # learning rates
    python -m experiments.optimizers_graph place=true    # then the N and the KL at which rules are compared

Tuning chooses the learning rate of every rule, task and length by validation loss, placing the N and the KL
by coverage, each on seeds of its own. All rules, rates and seeds of one task and length are rows of one
compiled program (`any_of`). What is chosen belongs into the scale's file; a verdict is computed on other
seeds and other prompts.
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
from jaxtyping import Array, Float, Int
from omegaconf import DictConfig, OmegaConf

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_single_phase
from covlab.launch.build import Setup, build
from covlab.launch.runtime import configure
from experiments.optimizers_graph.measure import Curves, Settings, choose_n, choose_place
from experiments.optimizers_graph.rules import BASELINE, NORMALISED, RULES, Cell, Place, any_of
from metrics.coverage import name_of_n
from metrics.evaluators import DistributionEvaluator, HeldOut
from tracking import Progress
from tracking.atomic import atomic_write
from training import make_program
from training.program import Program, TrainState


def choosing_stage(settings: Settings, plan: Plan) -> dict[str, Arm] | int:
    """With `tune` or `place`, choose learning rates or places instead of judging: write `tuning.json` or
    `places.json`, print what belongs into the scale's file, and end the command."""
    check_measured(settings, plan.config)
    if settings.tune and settings.place:
        raise ValueError("place: true with tune=true; valid: one of them, learning rates first")
    if not settings.tune and not settings.place:
        return {}
    seeds = {"seed": settings.tuning_seed, "seeds": settings.tuning_seeds}
    if settings.place:
        check_rates(settings, plan.config)
        seeds = {"seed": settings.place_seed, "seeds": settings.place_seeds}
    configure(1, 1, 1)
    config = OmegaConf.merge(plan.config, seeds)
    assert isinstance(config, DictConfig)
    setups = {
        cell: {
            rule: _build(cell, run_config(settings, plan._replace(config=config), cell, rule, 1.0))
            for rule in RULES
        }
        for cell in settings.cells
    }
    if settings.place:
        place(plan.path, setups, settings)
    else:
        named = {cell.name: of_cell for cell, of_cell in setups.items()}
        tune(plan.path, named, {name: settings.rules[name].grid for name in settings.tuned_rules})
    return 0


def stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """A run for each task, length and rule."""
    check_rates(settings, plan.config)
    check_places(settings, plan.config)
    arms = {}
    for cell in settings.cells:
        for rule in RULES:
            name, rate = f"{cell.name}/{rule}", settings.learning_rates[cell.name][rule]
            arms[name] = Arm(run_config(settings, plan, cell, rule, rate), label=name)
    return arms


def check_measured(settings: Settings, config: DictConfig) -> None:
    """Refuse an N of Cov_N or Pass@N that is not evaluated."""
    ns = settings.n.items() if isinstance(settings.n, Mapping) else [("", settings.n)]
    asked = {f"n.{task}".rstrip("."): n for task, n in ns}
    asked |= {f"compared.{name}.n": place.n for name, place in settings.compared.items()}
    passes: dict[str, float] = {"pass_n": settings.pass_n}
    evaluated = config.evaluation
    for fields, valid in ((asked, evaluated.coverage_ns), (passes, evaluated.pass_ns)):
        for field, n in fields.items():
            if n not in list(valid):
                raise ValueError(
                    f"{field}: {n:g} is not one of {', '.join(map(str, valid))}, which are measured"
                )


def check_rates(settings: Settings, config: DictConfig) -> None:
    """Refuse a learning rate that is missing, and seeds that served to choose the learning rates."""
    _check_unused(config, settings.tuning_seed, settings.tuning_seeds, "the learning rates")
    for cell in settings.cells:
        for rule in RULES:
            if settings.learning_rates.get(cell.name, {}).get(rule) is None:
                raise ValueError(f"learning_rates.{cell.name}.{rule}: none; tune=true chooses one")


def check_places(settings: Settings, config: DictConfig) -> None:
    """Refuse a place that is missing, and seeds that served to choose the places."""
    _check_unused(config, settings.place_seed, settings.place_seeds, "where rules are compared")
    for cell in settings.cells:
        if settings.place_of(cell) is None:
            raise ValueError(f"compared.{cell.name}: none; place=true chooses one")
        if settings.n_after_steps(cell.task) is None:
            raise ValueError(f"n.{cell.task}: none; place=true chooses one")


def _check_unused(config: DictConfig, seed: int, seeds: int, what: str) -> None:
    if isinstance(config.seed, int) and isinstance(config.seeds, int):
        shared = sorted(set(range(seed, seed + seeds)) & set(range(config.seed, config.seed + config.seeds)))
        if shared:
            raise ValueError(
                f"seed: {', '.join(map(str, shared))} served to choose {what}; valid: other seeds"
            )


def run_config(settings: Settings, plan: Plan, cell: Cell, rule: str, rate: float) -> DictConfig:
    """One run as a configuration of experiments.train."""
    config, task_settings = plan.run_config(f"{cell.name}-{rule}"), settings.of(cell)
    config.task = OmegaConf.merge(task_settings.task, {cell.field: cell.length})
    config.optimizer = {
        "_target_": RULES[rule].target,
        **settings.shared,
        **settings.rules[rule].options,
        "learning_rate": rate,
    }
    merged = OmegaConf.merge(config, task_settings.changes)
    assert isinstance(merged, DictConfig)
    return merged


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("optimizers_graph", setup.seeds)
    _check_setup(setup)


def _check_setup(setup: Setup) -> None:
    require_single_phase("optimizers_graph", setup)
    phase = setup.phases[-1]
    task: Any = phase.task
    if not task.num_enumerated and task.prompt_length > 1:
        raise ValueError(
            f"task.prefix_lengths: prompts of up to {task.prompt_length} tokens; optimizers_graph takes "
            f"the responses to all prompts together where it samples, which must be one prompt"
        )
    steps = phase.schedule.steps(phase.steps)
    if len(steps) < 5:
        raise ValueError(
            f"evaluation.schedule: {steps}; optimizers_graph interpolates between evaluations and needs at "
            f"least 5"
        )


def _build(cell: Cell, config: DictConfig) -> Setup:
    try:
        setup = build(config)
        # One seed is enough for tuning.
        _check_setup(setup)
    except ValueError as error:
        raise ValueError(f"{cell.name}: {error}") from None
    return setup


SPLIT = "tuning"
"""Name of the stream of the prompts that losses are measured on; a verdict's are of the stream held-out."""


class Tuned(NamedTuple):
    """Results of tuning for one task and length.

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
    """True if a rate is the smallest or the largest of its grid: a better one may lie beyond."""
    return rate in (min(grid), max(grid))


class Row(NamedTuple):
    """One row of a program of `begin_rows`."""

    rule: str
    rate: float
    seed: int


class Rows(NamedTuple):
    """A program that trains rows together, each by a rule at a rate on a seed, and its state at step 0."""

    program: Program
    evaluator: DistributionEvaluator
    held_out: HeldOut
    seeds: Int[Array, " rows"]
    state: TrainState

    def metrics(self, state: TrainState) -> list[dict[str, float]]:
        """Metrics of each row in `state`."""
        scores = self.program.score(state.params)[self.evaluator.name]
        arrays = {name: np.asarray(array) for name, array in scores.items()}
        return [
            _metrics(self.evaluator, {key: array[row] for key, array in arrays.items()}, self.held_out)
            for row in range(len(self.seeds))
        ]


def begin_rows(setups: Mapping[str, Setup], rows: Sequence[Row]) -> Rows:
    """The program of the rows.

    Args:
        setups: rule -> its run of one task and length, with learning rate 1; all but the optimizer is the
            same in each.
        rows: the rows.
    """
    setup = next(iter(setups.values()))
    phase, settings = setup.phases[-1], setup.evaluation[-1]
    rules = list(dict.fromkeys(row.rule for row in rows))
    optimizer = any_of([setups[name].phases[-1].optimizer for name in rules])
    held_out = settings.held_out(phase.task, SPLIT)
    evaluator = DistributionEvaluator(settings.coverage_ns, settings.pass_ns)
    own = dataclasses.replace(phase, optimizer=optimizer)
    program = make_program(setup.model, own, (evaluator,), held_out)
    seeds = jnp.asarray([row.seed for row in rows], jnp.uint32)
    state = program.begin(program.init(seeds), jnp.full(len(rows), -1, jnp.int32))
    chosen = state.opt_state._replace(
        rule=jnp.asarray([rules.index(row.rule) for row in rows], jnp.int32),
        rate=jnp.asarray([row.rate for row in rows], jnp.float32),
    )
    return Rows(program, evaluator, held_out, seeds, state._replace(opt_state=chosen))


def tune_setup(setups: Mapping[str, Setup], grids: Mapping[str, Sequence[float]]) -> Tuned:
    """The losses of every rate of every rule, trained together.

    Args:
        setups: as in `begin_rows`.
        grids: rule -> learning rates; other rules are left out.
    """
    setup = next(iter(setups.values()))
    rows = [Row(name, rate, seed) for name, grid in grids.items() for rate in grid for seed in setup.seeds]
    begun = begin_rows(setups, rows)
    state, _ = begun.program.run(begun.state, begun.seeds, 0, setup.phases[-1].steps)
    metrics = begun.metrics(state)
    tuned = Tuned({}, {}, {})
    for name in grids:
        of_rule = [metric for metric, row in zip(metrics, rows, strict=True) if row.rule == name]
        losses = np.array([item["ce"] for item in of_rule]).reshape(len(grids[name]), -1)
        rate = best_rate(grids[name], losses)
        place = list(grids[name]).index(rate) * losses.shape[1]
        kept = of_rule[place : place + losses.shape[1]]
        tuned.losses[name] = mean_losses(losses).tolist()
        tuned.chosen[name] = rate
        tuned.finals[name] = {
            key: float(np.mean([metrics_of_rate[key] for metrics_of_rate in kept])) for key in kept[0]
        }
    return tuned


def curves_of_setup(setups: Mapping[str, Setup], rates: Mapping[str, float]) -> dict[str, Curves]:
    """The curves of every rule at its rate, trained together, of KL and Cov_N alone.

    Args:
        setups: as in `begin_rows`.
        rates: rule -> learning rate.
    """
    setup = next(iter(setups.values()))
    phase, ns = setup.phases[-1], setup.evaluation[-1].coverage_ns
    rows = [Row(name, rate, seed) for name, rate in rates.items() for seed in setup.seeds]
    begun = begin_rows(setups, rows)
    state, done, found = begun.state, 0, []
    steps = phase.schedule.steps(phase.steps)
    for step in steps:
        if step > done:
            state, _ = begun.program.run(state, begun.seeds, done, step)
        done = step
        found.append(begun.metrics(state))

    def curve(name: str, rule: str) -> np.ndarray:
        kept = [index for index, row in enumerate(rows) if row.rule == rule]
        return np.array([[metrics[index].get(name, math.nan) for metrics in found] for index in kept])

    return {
        rule: Curves(
            np.array(steps), curve("kl", rule), {n: curve(f"cov/{name_of_n(n)}", rule) for n in ns}, {}
        )
        for rule in rates
    }


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
    tuned: dict[str, Tuned] = {}
    progress = Progress()
    for name, setups in runs.items():
        progress.update("tuning", len(tuned), len(runs), {})
        tuned[name] = tune_setup(setups, grids)
        text = json.dumps({key: choice._asdict() for key, choice in tuned.items()}, indent=1)
        path.mkdir(parents=True, exist_ok=True)
        atomic_write(path / "tuning.json", text.encode())
    progress.close()
    edges = [
        f"{name}, {rule}: {rate:g}"
        for name, choice in tuned.items()
        for rule, rate in choice.chosen.items()
        if at_edge(grids[rule], rate)
    ]
    print(yaml.safe_dump({"learning_rates": {name: choice.chosen for name, choice in tuned.items()}}))
    print("at the edge of their grid: " + ("; ".join(edges) or "none"))
    return tuned


def place(path: Path, runs: Mapping[Cell, Mapping[str, Setup]], settings: Settings) -> None:
    """Choose where rules are compared at every task and length (`runs`: rule -> run), write `places.json` and
    print what belongs into the scale's file."""
    places: dict[str, Place] = {}
    longest: dict[str, Curves] = {}
    progress = Progress()
    for cell, setups in runs.items():
        progress.update("placing", len(places), len(runs), {})
        curves = curves_of_setup(setups, settings.learning_rates[cell.name])
        judged = {rule: curves[rule] for rule in (BASELINE, *NORMALISED)}
        try:
            places[cell.name] = choose_place(judged, settings.levels)
        except ValueError as error:
            raise ValueError(f"{cell.name}: {error}") from None
        # Lengths come in increasing order.
        longest[cell.task] = curves[BASELINE]
    progress.close()
    chosen = {
        "compared": {name: dict(one._asdict()) for name, one in places.items()},
        "n": {task: choose_n(curves) for task, curves in longest.items()},
    }
    path.mkdir(parents=True, exist_ok=True)
    atomic_write(path / "places.json", json.dumps(chosen, indent=1).encode())
    print(yaml.safe_dump(chosen))
