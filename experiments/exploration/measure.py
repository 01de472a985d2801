"""Test-time selection on checkpoints of base runs, and runs of reinforcement learning with a bonus."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from covlab.claims.arms import Arm as Run
from covlab.claims.arms import check_rl_settings, rl_run_config
from covlab.claims.claim import Plan, Study, require_seeds
from covlab.claims.matrices import RunMatrices, common_seeds, run_matrices
from covlab.claims.settings import Given, Overrides, Real, Whole, Wholes, check_mapping, check_names, read
from covlab.claims.trained import require_parameters
from covlab.launch.base_model import of_seed, seed_rows
from covlab.launch.build import PHASE_KEYS, Setup
from covlab.launch.trained import TrainedRun
from experiments.exploration import rules
from experiments.exploration.pools import PoolSettings, draw_pool, held_out_prompts, pool_key, prompt_weights
from experiments.exploration.rules import FACTS, RANDOM, RULES
from tasks.checks import real, whole

_OF_BASE = (*(key for key in PHASE_KEYS if key not in ("task", "source")), "model", "checkpoint")
_OF_POOL = ("responses", "ridge")


def optional_name(field: str, value: Any) -> str | None:
    """A name, or None.

    Raises:
        ValueError: anything else.
    """
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"{field}: {value!r}; valid: the name of a class of the task, or null")
    return value


@dataclasses.dataclass(frozen=True)
class TaskSettings:
    """A task and the runs on it."""

    # Checkpoints of the base run that are selected from.
    checkpoints: Annotated[tuple[int, ...], Wholes(0, at_least=2)]
    # The checkpoint that reinforcement learning starts from.
    start: Annotated[int, Whole(0)]
    # Prompts of each class for the pools.
    prompts: Annotated[int, Whole(1)]
    # The class of prompts whose wrong answer repeats, on which choosing is judged; null where no class does.
    repeats: Annotated[str | None, optional_name]
    base: Annotated[Mapping[str, Any], Overrides(_OF_BASE)]
    rl: Annotated[Mapping[str, Any], check_rl_settings]
    task: Annotated[Any, Given()]


def tasks(field: str, value: Any) -> dict[str, TaskSettings]:
    """The tasks by name, at least one.

    Raises:
        ValueError: a name that no run can have, or a bad setting.
    """
    names = check_mapping(field, value)
    keys = ("task", "base", "checkpoints", "start", "rl", "prompts", "repeats")
    check_names(field, names)
    for name in names:
        # Configurations of before have no `repeats`.
        if not isinstance(value[name], dict) or {"repeats", *value[name]} != set(keys):
            raise ValueError(f"{field}.{name}: valid is a mapping with the keys {', '.join(keys)}")
    return {name: read(TaskSettings, {"repeats": None, **value[name]}, f"{field}.{name}") for name in names}


def arms(field: str, value: Any) -> dict[str, dict[str, Any]]:
    """The runs of reinforcement learning by name, at least two.

    Raises:
        ValueError: a name or a setting that no run can have.
    """
    names = check_mapping(field, value, at_least=2)
    check_names(field, names)
    return {name: check_rl_settings(f"{field}.{name}", value[name]) for name in names}


def rl(field: str, value: Any) -> dict[str, Any]:
    """Settings of all runs of reinforcement learning, with the number of rollouts that a bonus compares.

    Raises:
        ValueError: a value that is not a mapping, a key that no such run has, or fewer than two rollouts.
    """
    settings = check_rl_settings(field, value)
    whole(f"{field}.source.per_prompt", (settings.get("source") or {}).get("per_prompt"), 2)
    return settings


def pool(field: str, value: Any) -> dict[str, Any]:
    """Number of responses to each prompt, and the ridge of selection.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, dict) or set(value) != set(_OF_POOL):
        raise ValueError(f"{field}: valid is a mapping with the keys {', '.join(_OF_POOL)}")
    return {
        "responses": whole(f"{field}.responses", value["responses"], 2),
        "ridge": real(f"{field}.ridge", value["ridge"], above=0, below=1e9),
    }


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of its base runs are of experiments.train.

    Attributes:
        tasks: name -> task, settings of its base model (`base`) and of its reinforcement learning (`rl`),
            checkpoints and prompts of its pools, the class whose wrong answer repeats.
        arms: runs of reinforcement learning: the first without a bonus, the second is judged against it, the
            others are reported.
        rl: settings of experiments.train_rl, of all arms.
        ks: k of Pass@k along reinforcement learning.
        coverage_n: N of the Cov_N that is reported.
        pool: responses of a pool for each prompt, and lambda of the bonus at test time (`ridge`).
    """

    tasks: Annotated[Mapping[str, TaskSettings], tasks]
    arms: Annotated[Mapping[str, Mapping[str, Any]], arms]
    rl: Annotated[Mapping[str, Any], rl]
    ks: Annotated[tuple[int, ...], Wholes(1)]
    coverage_n: Annotated[float, Real(above=1, below=1e9)]
    pool: Annotated[Mapping[str, Any], pool]

    def __post_init__(self) -> None:
        """Refuse pools that do not divide into groups of rollouts or are smaller than a k."""
        size, largest = self.pool["responses"], max(self.ks)
        if size % self.group or size < largest:
            raise ValueError(
                f"pool.responses: {size}; valid: a multiple of rl.source.per_prompt = {self.group}, and at "
                f"least the largest of ks, {largest}"
            )

    @property
    def group(self) -> int:
        """Rollouts that the bonus compares."""
        return int(self.rl["source"]["per_prompt"])

    def pools(self, name: str) -> PoolSettings:
        """Size of the pools on a task."""
        return PoolSettings(self.pool["responses"], self.tasks[name].prompts, self.pool["ridge"], self.group)


def base_stage(settings: Settings, plan: Plan) -> dict[str, Run]:
    """The base run of every task."""
    if plan.config.phases:
        raise ValueError("phases: exploration trains one phase; valid: {}")
    return {name: Run(_base_config(settings, plan, name)) for name in settings.tasks}


def arms_stage(settings: Settings, plan: Plan) -> dict[str, Run]:
    """Reinforcement learning on every task, from one checkpoint of its base run."""
    runs = {}
    for name, task_settings in settings.tasks.items():
        config = _base_config(settings, plan, name)
        for arm, changes in settings.arms.items():
            overrides = (settings.rl, task_settings.rl, changes)
            run_name = f"{plan.path.name}-{name}_{arm}"
            start = plan.path / name, f"train:{task_settings.start}"
            runs[f"{name}_{arm}"] = Run(rl_run_config(config, *start, run_name, overrides))
    return runs


def _base_config(settings: Settings, plan: Plan, name: str) -> Any:
    return plan.run_config(name, {"task": settings.tasks[name].task}, settings.tasks[name].base)


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a base run that does not keep the checkpoints that are needed."""
    if name not in settings.tasks:
        return
    require_seeds("exploration", setup.seeds)
    require_parameters("exploration", setup, evaluations=True)
    phase, task_settings = setup.phases[-1], settings.tasks[name]
    if task_settings.repeats not in (None, *phase.task.groups):
        raise ValueError(
            f"tasks.{name}.repeats: {task_settings.repeats!r}; valid: null, {', '.join(phase.task.groups)}"
        )
    there = set(phase.schedule.steps(phase.steps))
    for field, steps in (("checkpoints", task_settings.checkpoints), ("start", (task_settings.start,))):
        missing = sorted(set(steps) - there)
        if missing:
            raise ValueError(f"tasks.{name}.{field}: {missing[0]} is no evaluated step of its base run")


@dataclasses.dataclass(frozen=True)
class TestTime:
    """Selection from pools of N responses, on the checkpoints of one base run.

    Attributes:
        seeds: of training.
        steps: of the checkpoints, from the weakest to the strongest.
        curves: rule -> Pass@k for k = 1..N, means over the prompts by their classes' probabilities.
        calls: rule -> mean verifier calls up to the first correct response, over pools that have one.
        solvable: share of the pools with a correct response.
        coverage: Cov_N of the checkpoints, N = `coverage_n`.
        cross_entropy: nats.
        facts: by name of `FACTS`.
        coverage_n: see `coverage`.
        repeats: the class of prompts whose wrong answer repeats: curves, calls, solvable and facts are of it
            alone; None for all prompts.
    """

    __test__ = False

    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    curves: Mapping[str, Float[np.ndarray, "seeds checkpoints responses"]]
    calls: Mapping[str, Float[np.ndarray, "seeds checkpoints"]]
    solvable: Float[np.ndarray, "seeds checkpoints"]
    coverage: Float[np.ndarray, "seeds checkpoints"]
    cross_entropy: Float[np.ndarray, "seeds checkpoints"]
    facts: Mapping[str, Float[np.ndarray, "seeds checkpoints"]]
    coverage_n: float
    repeats: str | None

    @property
    def size(self) -> int:
        """N."""
        return int(self.curves[RANDOM].shape[-1])

    def efficiency(self, rule: str, over: str = RANDOM) -> Float[np.ndarray, "seeds checkpoints"]:
        """ln of the verifier calls up to a correct response by `over`, less those by `rule`: above 0 the rule
        needs fewer."""
        return np.log(self.calls[over]) - np.log(self.calls[rule])


@dataclasses.dataclass(frozen=True)
class Arm:
    """One run of reinforcement learning.

    Attributes:
        steps: batches of rollouts at the points measured; the first is the start.
        passes: k -> Pass@k, unbiased from pools.
        distinct: expected number of different correct responses among `draws` of a prompt.
        coverage: Cov_N, N = `TestTime.coverage_n`.
        kl: KL(pi_D || pi), nats.
        draws: the largest k.
    """

    steps: tuple[int, ...]
    passes: Mapping[int, Float[np.ndarray, "seeds points"]]
    distinct: Float[np.ndarray, "seeds points"]
    coverage: Float[np.ndarray, "seeds points"]
    kl: Float[np.ndarray, "seeds points"]
    draws: int


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that checks, figures and tables are made of: by task, and by arm; the first arm has no
    bonus, the second is the judged one."""

    test_time: Mapping[str, TestTime]
    arms: Mapping[str, Mapping[str, Arm]]
    seeds: tuple[int, ...]


def measure(settings: Settings, study: Study) -> Measurements:
    """Draw the pools of all runs, for the seeds that diverged in none.

    Raises:
        ValueError: fewer than two seeds.
    """
    seeds = common_seeds(run.path for run in study.runs.values())
    require_seeds("exploration", seeds)
    runs = {name: {arm: study.runs[f"{name}_{arm}"] for arm in settings.arms} for name in settings.tasks}
    points = [
        [len(run.checkpoints(["all"])) for run in task_settings.values()] for task_settings in runs.values()
    ]
    # The start of the arms is measured once.
    along = sum(sum(point) - len(point) + 1 for point in points)
    total = len(seeds) * (
        along + sum(len(task_settings.checkpoints) for task_settings in settings.tasks.values())
    )
    done = iter(range(1, total + 1))

    def report() -> None:
        study.progress.update("pools", next(done), total)

    study.progress.update("pools", 0, total)
    test_time, arms, n = {}, {}, settings.coverage_n
    for name, task_settings in settings.tasks.items():
        base, pools = study.runs[name], settings.pools(name)
        seed = base.setup.evaluation[-1].seed
        test_time[name] = measure_test_time(
            base, seeds, task_settings.checkpoints, pools, seed, name, n, task_settings.repeats, report
        )
        arms[name] = measure_arms(runs[name], seeds, pools, seed, name, settings.ks, n, report)
    return Measurements(test_time, arms, seeds)


def measure_test_time(
    run: TrainedRun,
    seeds: Sequence[int],
    steps: Sequence[int],
    settings: PoolSettings,
    evaluation_seed: int,
    task_name: str,
    coverage_n: float,
    repeats: str | None,
    report: Callable[[], None],
) -> TestTime:
    """Draw a pool for every seed and checkpoint of a base run, and apply every rule to it."""
    phase = run.setup.phases[-1]
    held_out = held_out_prompts(phase.task, settings, evaluation_seed)
    weights = prompt_weights(held_out, repeats)
    shape = (len(seeds), len(steps))
    curves = {rule: np.zeros((*shape, settings.responses)) for rule in RULES}
    calls = {rule: np.zeros(shape) for rule in RULES}
    facts = {name: np.zeros(shape) for name in FACTS}
    solvable = np.zeros(shape)
    for column, step in enumerate(steps):
        params = run.parameters(phase.name, step)
        for row, (seed, place) in enumerate(zip(seeds, seed_rows(run, seeds), strict=True)):
            key = pool_key(evaluation_seed, task_name, seed)
            pool = draw_pool(held_out, run.model, of_seed(params, place), settings, key)
            count = range(len(pool.reward))
            each_curve = [rules.prompt_curves(pool, index) for index in count]
            each_facts = [rules.prompt_facts(pool, index, settings.group) for index in count]
            solved = np.any(pool.reward, axis=1)
            solvable[row, column] = np.sum(weights * solved)
            for rule in RULES:
                stacked = np.stack([curve[rule] for curve in each_curve])
                curves[rule][row, column] = weights @ stacked
                number = rules.calls_to_correct(stacked)
                calls[rule][row, column] = rules.mean_where(number, solved, weights)
            for name in FACTS:
                values = np.array([each_fact[name] for each_fact in each_facts])
                facts[name][row, column] = rules.mean_where(values, np.isfinite(values), weights)
            report()
    matrices = run_matrices(run.path)
    coverage, kl = _at(matrices, seeds, steps, coverage_n)
    entropy = -float(np.sum(matrices.weights * matrices.log_pi))
    measured = (curves, calls, solvable, coverage, kl + entropy, facts, coverage_n)
    return TestTime(tuple(seeds), tuple(steps), *measured, repeats)


def measure_arms(
    runs: Mapping[str, TrainedRun],
    seeds: Sequence[int],
    settings: PoolSettings,
    evaluation_seed: int,
    task_name: str,
    ks: Sequence[int],
    coverage_n: float,
    report: Callable[[], None],
) -> dict[str, Arm]:
    """Pools along the runs of reinforcement learning; all start from one checkpoint, which is measured
    once."""
    arms: dict[str, Arm] = {}
    start: dict[int, Float[np.ndarray, " measures"]] = {}
    for name, run in runs.items():
        phase = run.setup.phases[-1]
        held_out = held_out_prompts(phase.task, settings, evaluation_seed)
        steps = tuple(step for of_phase, step in run.checkpoints(["all"]) if of_phase == phase.name)
        measured = np.zeros((len(seeds), len(steps), len(ks) + 1))
        for column, step in enumerate(steps):
            params = run.parameters(phase.name, step)
            for row, (seed, place) in enumerate(zip(seeds, seed_rows(run, seeds), strict=True)):
                if step == 0 and seed in start:
                    measured[row, column] = start[seed]
                    continue
                key = pool_key(evaluation_seed, task_name, seed)
                pool = draw_pool(held_out, run.model, of_seed(params, place), settings, key, False)
                measured[row, column] = rules.pool_measures(pool, held_out, ks)
                if step == 0:
                    start[seed] = measured[row, column]
                report()
        coverage, kl = _at(run_matrices(run.path), seeds, steps, coverage_n)
        passes = {k: measured[..., i] for i, k in enumerate(ks)}
        arms[name] = Arm(steps, passes, measured[..., -1], coverage, kl, max(ks))
    return arms


def _at(
    matrices: RunMatrices, seeds: Sequence[int], steps: Sequence[int], n: float
) -> tuple[Float[np.ndarray, "seeds steps"], Float[np.ndarray, "seeds steps"]]:
    """Cov_N and KL (nats) of some seeds at some steps."""
    own, columns = matrices.of_seeds(seeds), [matrices.steps.index(step) for step in steps]
    return own.coverage((n,))[n][:, columns], own.kl()[:, columns]
