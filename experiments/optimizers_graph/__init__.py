"""Does the kind of update decide what a transformer covers? Six rules, two tasks, growing responses.

    python -m experiments.optimizers_graph scale=cpu|paper
    python -m experiments.optimizers_graph scale=cpu tune=true    # learning rates, on seeds of their own

For autoregressive linear models SGD needs of the order of H steps until it covers responses of length H, and
normalised SGD does not (Coverage Principle, arXiv 2510.15020, section 5). Whether transformers share this,
and whether updates that are normalised by coordinate (sign-SGD, Adam) or by matrix (Muon) do, was left open.
Trains one run of all seeds for each task, length and rule, compares coverage and Pass@N at equal validation
cross-entropy and at equal steps, draws figures, writes `verdict.json` and `report.html` above the runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from covlab.claims.old_claim import (
    Began,
    Claim,
    leave,
    make_verdict,
    require_seeds,
    timing_facts,
    worked_seconds,
)
from covlab.claims.several_runs import train_runs
from covlab.launch.build import PHASE_KEYS, Setup, build
from covlab.launch.cli import command
from covlab.launch.run_names import run_path
from covlab.launch.runtime import configure
from experiments.optimizers_graph.checks import checks, notes
from experiments.optimizers_graph.figures import draw_all
from experiments.optimizers_graph.measure import Cell, measure
from experiments.optimizers_graph.rules import RULES
from experiments.optimizers_graph.tables import tables
from experiments.optimizers_graph.tuning import tune
from tasks import check_seeds
from tasks.checks import flag, real, whole, wholes

LENGTH_FIELDS = {"graph": "depth", "dyck": "length"}
"""By the task's name: the field that makes its responses longer."""
_RUN_KEYS = ("model", *(key for key in PHASE_KEYS if key not in ("task", "optimizer")))
_TASK_KEYS = ("task", "lengths", "changes")
OWN_KEYS = (
    *LENGTH_FIELDS,
    *("rules", "shared", "learning_rates", "tune", "tuned_rules", "tuning_seed", "tuning_seeds"),
    *("n", "pass_n", "levels", "scale"),
)
"""Settings of the claim that no run depends on: a run's `config.yaml` is one of experiments.train."""
CLAIM = Claim(
    name="optimizers_graph",
    source="Coverage Principle, arXiv 2510.15020, section 5 and its open questions",
    title="Transformers: the update rule and coverage, as responses grow",
    introduction=(
        "For autoregressive linear models, SGD on whole sequences needs of the order of H steps until it "
        "covers responses of H tokens; divide its gradient by its norm, and the dependence on H is gone. The "
        "paper speculates that sign-SGD and Adam share the benefit. Nobody has published the experiment for "
        "transformers.",
        "Here a small transformer is trained on paths through layered graphs and on Dyck strings of growing "
        "length, by SGD, clipped SGD, normalised SGD, sign-SGD, AdamW and Muon, each with the learning rate "
        "that served it best on other seeds, for each task and length. Coverage is compared where the "
        "validation cross-entropy is equal, so that a rule that merely trains faster gains nothing, and "
        "after equal steps, where it does.",
    ),
)


def optimizers_graph(config: DictConfig) -> int:
    """Train (or continue, or reuse) all runs and judge them; exit status 0 whether or not the claim holds.

    With `tune=true`: choose learning rates instead, print them, and write `tuning.json`.
    """
    began = Began.now()
    cells = cells_of(config)
    if config.tune:
        return _tune(config, cells)
    configure(config.seeds if isinstance(config.seeds, int) else 1, config.devices, config.data_parallel)
    path = run_path(config, HydraConfig.get().overrides.task)
    check_rates(config, cells)
    configs = {
        f"{cell.name}/{rule}": run_config(config, path, cell, rule) for cell in cells for rule in RULES
    }
    setups = {name: build_run(name, own) for name, own in configs.items()}
    directories = {name: path / name for name in configs}
    status = train_runs("optimizers_graph", configs, setups, directories)
    if status is not None:
        return status
    found = measure(
        {cell: {rule: (directories[f"{cell.name}/{rule}"], setups[f"{cell.name}/{rule}"]) for rule in RULES}
         for cell in cells},
        float(config.n), int(config.pass_n), config.levels,
    )  # fmt: skip
    timings: dict[str, float] = {}
    for name, directory in directories.items():
        timings |= timing_facts(directory, f"{name}, ")
    worked = worked_seconds(timings)
    written = notes(found, OmegaConf.to_container(config.learning_rates), worked)
    verdict = make_verdict(CLAIM, config, began, worked, checks(found), found.seeds, written)
    leave(path, CLAIM, verdict, config, lambda: draw_all(path, found), tables(found), timings)
    return 0


def _tune(config: DictConfig, cells: Sequence[Cell]) -> int:
    configure(1, 1, 1)
    path = run_path(config, HydraConfig.get().overrides.task)
    own = OmegaConf.merge(config, {"seed": config.tuning_seed, "seeds": config.tuning_seeds})
    assert isinstance(own, DictConfig)
    runs = {
        cell.name: {rule: build_run(cell.name, run_config(own, path, cell, rule, rate=1.0)) for rule in RULES}
        for cell in cells
    }
    grids = {name: [float(rate) for rate in config.rules[name].grid] for name in RULES}
    only = RULES if config.tuned_rules is None else list(config.tuned_rules)
    tune(path, runs, {name: grids[name] for name in only})
    return 0


def run_config(
    config: DictConfig, path: Path, cell: Cell, rule: str, rate: float | None = None
) -> DictConfig:
    """One run as a configuration of experiments.train; `rate` None takes the chosen learning rate."""
    own = OmegaConf.create({key: value for key, value in config.items() if key not in OWN_KEYS})
    OmegaConf.set_struct(own, False)
    settings = config[cell.task]
    own.task = OmegaConf.merge(settings.task, {LENGTH_FIELDS[cell.task]: cell.length})
    own.optimizer = {
        "_target_": RULES[rule].target,
        **config.shared,
        **(config.rules[rule].options or {}),
        "learning_rate": config.learning_rates[cell.name][rule] if rate is None else rate,
    }
    place = {"group": config.group, "name": f"{path.name}-{cell.name}-{rule}"}
    merged = OmegaConf.merge(own, settings.changes or {}, place)
    assert isinstance(merged, DictConfig)
    return merged


def build_run(name: str, config: DictConfig) -> Setup:
    """Build a run, and refuse before compiling one that the claim cannot be judged on."""
    try:
        setup = build(config)
        require_seeds("optimizers_graph", setup.seeds)
        phase = setup.phases[-1]
        if len(setup.phases) != 1:
            raise ValueError(
                f"phases: {[each.name for each in setup.phases]}; optimizers_graph needs a single phase"
            )
        task: Any = phase.task
        if not task.num_enumerated and task.prompt_length > 1:
            raise ValueError(
                f"task.prefix_lengths: prompts of up to {task.prompt_length} tokens; optimizers_graph takes "
                f"the responses to all prompts together where it samples, which must be one prompt"
            )
        if len(phase.schedule.steps(phase.steps)) < 5:
            raise ValueError(
                f"evaluation.schedule: {phase.schedule.steps(phase.steps)}; optimizers_graph interpolates "
                f"between evaluations and needs at least 5"
            )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return setup


def cells_of(config: DictConfig) -> tuple[Cell, ...]:
    """The tasks and lengths.

    Raises:
        ValueError: one line for a bad setting of the claim itself.
    """
    cells = []
    for task, field in LENGTH_FIELDS.items():
        settings = config[task]
        for key in settings:
            if key not in _TASK_KEYS:
                raise ValueError(f"{task}.{key}: no such field; valid are {', '.join(_TASK_KEYS)}")
        for key in settings.changes or {}:
            if key not in _RUN_KEYS:
                raise ValueError(f"{task}.changes.{key}: no such field; valid are {', '.join(_RUN_KEYS)}")
        lengths = wholes(f"{task}.lengths", settings.lengths, 1, 3)
        cells += [Cell(task, length, field) for length in lengths]
    if set(config.rules) != set(RULES):
        raise ValueError(f"rules: {', '.join(config.rules)}; valid: exactly {', '.join(RULES)}")
    for name, own in config.rules.items():
        grid = list(own.grid) if OmegaConf.is_list(own.grid) else []
        if len(grid) < 2:
            raise ValueError(f"rules.{name}.grid: {own.grid}; valid: at least 2 positive learning rates")
        for each in grid:
            real(f"rules.{name}.grid", each, above=0)
    flag("tune", config.tune)
    only = config.tuned_rules
    if only is not None and (not OmegaConf.is_list(only) or not only or set(only) - set(RULES)):
        raise ValueError(f"tuned_rules: {only}; valid: null or some of {', '.join(RULES)}")
    check_seeds(config.tuning_seed, config.tuning_seeds, fields=("tuning_seed", "tuning_seeds"))
    whole("levels", config.levels, 1)
    real("n", config.n, least=1)
    whole("pass_n", config.pass_n, 1)
    for field, n, valid in (
        ("n", config.n, config.evaluation.coverage_ns),
        ("pass_n", config.pass_n, config.evaluation.pass_ns),
    ):
        if n not in list(valid):
            raise ValueError(f"{field}: {n!r} is not one of {', '.join(map(str, valid))}, which are measured")
    return tuple(cells)


def check_rates(config: DictConfig, cells: Sequence[Cell]) -> None:
    """Refuse, by a ValueError, a learning rate that is missing or seeds that served to choose it."""
    tuned = range(config.tuning_seed, config.tuning_seed + config.tuning_seeds)
    if isinstance(config.seed, int) and isinstance(config.seeds, int):
        shared = sorted(set(tuned) & set(range(config.seed, config.seed + config.seeds)))
        if shared:
            raise ValueError(
                f"seed: {', '.join(map(str, shared))} served to choose the learning rates; valid: other seeds"
            )
    rates: Mapping[str, Any] = config.learning_rates or {}
    for cell in cells:
        for rule in RULES:
            rate = (rates.get(cell.name) or {}).get(rule)
            if rate is None:
                raise ValueError(f"learning_rates.{cell.name}.{rule}: none; tune=true chooses one")
            real(f"learning_rates.{cell.name}.{rule}", rate, above=0)


main = command("optimizers_graph", optimizers_graph)
