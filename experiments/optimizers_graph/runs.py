"""The runs of experiments.optimizers_graph, one for each task, length and rule, and the choice of rates.

    python -m experiments.optimizers_graph tune=true

Tuning chooses the learning rate of every rule, task and length by validation loss on seeds of its own. All
rules, rates and seeds of one task and length are rows of one compiled program (`any_of`). The chosen rates
belong into the scale's file, `learning_rates`; a verdict is computed on other seeds and other prompts.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import yaml
from jaxtyping import Array, Float, Int
from omegaconf import DictConfig, OmegaConf

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_single_phase
from covlab.launch.build import Setup, build
from covlab.launch.runtime import configure
from experiments.optimizers_graph.measure import Cell, Settings
from experiments.optimizers_graph.rules import RULES
from metrics.evaluators import DistributionEvaluator
from tracking import Progress
from tracking.atomic import atomic_write
from training import make_program


def tuning_stage(settings: Settings, plan: Plan) -> dict[str, Arm] | int:
    """With `tune`, choose learning rates instead of judging: write `tuning.json`, print what belongs into the
    scale's file, and end the command."""
    check_measured(settings, plan.config)
    if not settings.tune:
        return {}
    configure(1, 1, 1)
    config = OmegaConf.merge(plan.config, {"seed": settings.tuning_seed, "seeds": settings.tuning_seeds})
    assert isinstance(config, DictConfig)
    setups = {
        cell.name: {
            rule: _build(cell, run_config(settings, plan._replace(config=config), cell, rule, 1.0))
            for rule in RULES
        }
        for cell in settings.cells
    }
    tune(plan.path, setups, {name: settings.rules[name].grid for name in settings.tuned_rules})
    return 0


def stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """A run for each task, length and rule."""
    check_rates(settings, plan.config)
    arms = {}
    for cell in settings.cells:
        for rule in RULES:
            name, rate = f"{cell.name}/{rule}", settings.learning_rates[cell.name][rule]
            arms[name] = Arm(run_config(settings, plan, cell, rule, rate), label=name)
    return arms


def check_measured(settings: Settings, config: DictConfig) -> None:
    """Refuse an N of Cov_N or Pass@N that is not evaluated."""
    for field, n, valid in (
        ("n", settings.n, config.evaluation.coverage_ns),
        ("pass_n", settings.pass_n, config.evaluation.pass_ns),
    ):
        if n not in list(valid):
            valid_ns = ", ".join(map(str, valid))
            raise ValueError(f"{field}: {config[field]!r} is not one of {valid_ns}, which are measured")


def check_rates(settings: Settings, config: DictConfig) -> None:
    """Refuse a learning rate that is missing, and seeds that served to choose the learning rates."""
    tuned = range(settings.tuning_seed, settings.tuning_seed + settings.tuning_seeds)
    if isinstance(config.seed, int) and isinstance(config.seeds, int):
        shared = sorted(set(tuned) & set(range(config.seed, config.seed + config.seeds)))
        if shared:
            raise ValueError(
                f"seed: {', '.join(map(str, shared))} served to choose the learning rates; valid: other seeds"
            )
    for cell in settings.cells:
        for rule in RULES:
            if settings.learning_rates.get(cell.name, {}).get(rule) is None:
                raise ValueError(f"learning_rates.{cell.name}.{rule}: none; tune=true chooses one")


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
    tuned = Tuned({}, {}, {})
    for index, name in enumerate(grids):
        of_rule = [metric for metric, row in zip(metrics, rows, strict=True) if row[0] == index]
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


def _metrics(
    evaluator: DistributionEvaluator, scores: dict[str, np.ndarray], held_out: Any
) -> dict[str, float]:
    if np.isnan(scores["log_prob"]).any():
        return {"ce": math.nan}
    return dict(evaluator.reduce(scores, held_out))


class ChosenState(NamedTuple):
    """State of `any_of`: every rule's own state, which rule is taken, and what its updates are multiplied
    by."""

    states: tuple[Any, ...]
    rule: Int[Array, ""]
    rate: Float[Array, ""]


def any_of(rules: Sequence[optax.GradientTransformation]) -> optax.GradientTransformation:
    """The rule that the state names, its updates times the state's rate; both are data, so that one compiled
    program trains with any rule at any rate.

    A rule's updates must be proportional to its learning rate, and it must be made with learning rate 1.
    """

    def init(params: Any) -> ChosenState:
        return ChosenState(tuple(rule.init(params) for rule in rules), jnp.zeros((), jnp.int32), jnp.ones(()))

    def branch(index: int) -> Any:
        def update(gradient: Any, states: tuple[Any, ...], params: Any) -> tuple[Any, tuple[Any, ...]]:
            updates, new_state = rules[index].update(gradient, states[index], params)
            return updates, (*states[:index], new_state, *states[index + 1 :])

        return update

    def update(gradient: Any, state: ChosenState, params: Any = None) -> tuple[Any, ChosenState]:
        branches = [branch(index) for index in range(len(rules))]
        updates, states = jax.lax.switch(state.rule, branches, gradient, state.states, params)
        scaled = jax.tree.map(lambda leaf: leaf * state.rate.astype(leaf.dtype), updates)
        return scaled, state._replace(states=states)

    return optax.GradientTransformation(init, update)


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
