"""Evaluating a trained run: python -m experiments.evaluate run=runs/train/demo checkpoints=finetune:480
coverage_ns=[2,8].

Nothing is trained. Model and task are rebuilt from the run's `config.yaml`, and the parameters come from
`checkpoints/`. The held-out set is drawn from the stream "asked", independently of the run's training,
evaluation and selection. In a task with few prompts independent draws overlap: the number of prompts that are
also in the run's held-out set is printed and stored (`repeated_prompts`). They are not removed, because that
would change the distribution. Numbers are printed, and written as strict JSON to `evaluations/<name>.json` in
the run directory.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from omegaconf import DictConfig, OmegaConf

from covlab.launch import trained
from covlab.launch.build import model_overrides, plain, task_overrides
from covlab.launch.cli import command
from covlab.launch.healthy import chosen_seeds, left_out_line, require_healthy
from covlab.launch.overlap import among
from covlab.launch.results import asked_settings, finite, plain_intervals, result_file, write_result
from covlab.launch.runtime import configure
from covlab.launch.settings import EvaluationSettings
from covlab.launch.trained import Measured, over_seeds
from covlab.report.tables import print_table
from metrics import Interval, name_of_n
from metrics.evaluators import DistributionEvaluator, Evaluator, HeldOut, SamplingEvaluator
from models.target import platform
from tasks import check_seed
from tasks.checks import whole
from tracking import LoadError, load_log_probs
from tracking.metric_names import in_order
from training import ValueRegression
from training.precision import exact_products

Bounds = dict[str, dict[float, float]]
"""Name of the bound -> N -> value for the mixture."""
_LISTS = ("coverage_ns", "pass_ns", "pass_all_ns", "taus", "eps", "ratio_ns")
"""Settings that are lists."""


def settings_of(config: DictConfig, run: trained.TrainedRun, phase: str) -> EvaluationSettings:
    """The run's evaluation settings with the command line's replacements.

    Raises:
        ValueError: an invalid value.
    """
    names = [each.name for each in run.setup.phases]
    settings = run.setup.evaluation[names.index(phase)]
    keys = (*_LISTS, "num_examples", "batch_size")
    asked = {key: config[key] for key in keys}
    lists = {key: list(v) if OmegaConf.is_list(v) else v for key, v in asked.items()}
    merged: dict[str, Any] = {
        key: getattr(settings, key) if value is None else value for key, value in lists.items()
    }
    for key in _LISTS:
        merged[key] = merged[key] if isinstance(merged[key], list | tuple) else (merged[key],)
    if whole("num_examples", merged["num_examples"], 1) < 2:
        raise ValueError(
            f"num_examples: {merged['num_examples']} of each class give no interval; valid: at least 2"
        )
    seed = check_seed("evaluation_seed", config.evaluation_seed)
    return EvaluationSettings(seed=seed, num_samples=config.num_samples, extra=settings.extra, **merged)


@dataclasses.dataclass(frozen=True)
class Result:
    """Results of one checkpoint: `seeds` and `bounds` by seed, the omitted diverged seeds, the SHA-256 of the
    parameters, and the number of `repeated` prompts, which are in the run's held-out set too."""

    phase: str
    step: int
    seeds: dict[int, Measured]
    bounds: dict[int, Bounds]
    diverged: tuple[int, ...]
    sha256: str
    repeated: int = 0

    @property
    def name(self) -> str:
        """`<phase>:<step>`."""
        return f"{self.phase}:{self.step}"


def measure(config: DictConfig, run: trained.TrainedRun) -> list[Result]:
    """Everything that `config` (conf/evaluate.yaml) asks of `run`, checkpoint by checkpoint.

    Raises:
        ValueError: an invalid checkpoint, seed, setting or task override; one line.
    """
    results = []
    overrides = task_overrides(config)
    asked = chosen_seeds(config.seeds, run.setup.seeds)
    checkpoints = _with_healthy_seeds(run, run.checkpoints(_texts(config.checkpoints)), asked)
    for phase, members in itertools.groupby(checkpoints, key=lambda item: item[0]):
        settings = settings_of(config, run, phase)
        evaluators = settings.evaluators()
        held_out = settings.held_out(run.task(phase, overrides), "asked")
        repeated = _repeated_prompts(run, phase, held_out)
        scorer = trained.make_scorer(run.model, evaluators, held_out)
        start = _Start(run, phase, evaluators, held_out)
        for _, step in members:
            healthy = run.healthy_seeds(phase, step)
            params = run.parameters(phase, step)
            seeds, limits = {}, {}
            for seed in (seed for seed in asked if seed in healthy):
                index = run.setup.seeds.index(seed)
                scores = scorer(jax.tree.map(operator.itemgetter(index), params))
                known = {name: arrays | start.of(index).get(name, {}) for name, arrays in scores.items()}
                seeds[seed] = measure_seed(known, held_out, evaluators)
                limits[seed] = trained.bounds(scores["distribution"], held_out, settings.coverage_ns)
            diverged = tuple(seed for seed in asked if seed not in healthy)
            results.append(Result(phase, step, seeds, limits, diverged, run.digest(phase, step), repeated))
    return results


class _Start:
    """Arrays of a phase's start that evaluators remember, on a held-out set, computed once for each seed."""

    def __init__(
        self, run: trained.TrainedRun, phase: str, evaluators: Sequence[Evaluator], held_out: HeldOut
    ) -> None:
        self._evaluators = [each for each in evaluators if type(each).remembered is not Evaluator.remembered]
        self._held_out = held_out
        self._params = run.start(phase) if self._evaluators else None
        self._scorer = trained.make_scorer(run.model, self._evaluators, held_out)
        self._known: dict[int, dict[str, trained.Scores]] = {}

    def of(self, index: int) -> dict[str, trained.Scores]:
        """Evaluator -> its arrays for the `index`-th seed of the run; nothing if the start is not known."""
        if self._params is None:
            return {}
        if index not in self._known:
            scores = self._scorer(jax.tree.map(operator.itemgetter(index), self._params))
            self._known[index] = {
                each.name: each.remembered(scores[each.name], self._held_out) for each in self._evaluators
            }
        return self._known[index]


def _with_healthy_seeds(
    run: trained.TrainedRun, checkpoints: Sequence[tuple[str, int]], asked: Sequence[int]
) -> list[tuple[str, int]]:
    """The checkpoints with at least one healthy seed; the others are named.

    Raises:
        ValueError: there is no such checkpoint.
    """
    healthy = {place: set(asked) & set(run.healthy_seeds(*place)) for place in checkpoints}
    if not any(healthy.values()):
        require_healthy(run.path, *checkpoints[-1], ())
    for place in (place for place in checkpoints if not healthy[place]):
        print(left_out_line(run.path, *place, asked))
    return [place for place in checkpoints if healthy[place]]


def _repeated_prompts(run: trained.TrainedRun, phase: str, held_out: HeldOut) -> int:
    """Number of prompts that are in the held-out set that the run evaluated this phase on; a line says it."""
    name = f"{phase}_held_out"
    try:
        seen = load_log_probs(run.path, name)[name]["prompt"]
    except (LoadError, KeyError):
        return 0
    prompts = held_out.flat(held_out.batches.example.prompt)
    repeated = int(among(prompts, seen).sum())
    # A task with a single prompt overlaps by design.
    if repeated and len(np.unique(seen, axis=0)) > 1:
        print(f"{phase}: {repeated} of {len(prompts)} fresh prompts are in the run's own held-out set too")
    return repeated


def measure_seed(
    scores: Mapping[str, trained.Scores], held_out: HeldOut, evaluators: Sequence[Any]
) -> Measured:
    """All metrics of one seed, with intervals over held-out prompts."""
    measured: Measured = {}
    for evaluator in evaluators:
        arrays = scores[evaluator.name]
        if isinstance(evaluator, DistributionEvaluator):
            values = trained.exact_values(arrays, held_out, evaluator)
            measured |= reduced(evaluator.of_the_set(arrays, held_out), held_out.task.groups)
        elif isinstance(evaluator, SamplingEvaluator):
            values = trained.sampled_values(arrays, evaluator.num_samples, evaluator.pass_ns)
        else:
            measured |= reduced(evaluator.reduce(dict(arrays), held_out), held_out.task.groups)
            continue
        measured |= {name: trained.intervals(array, name, held_out) for name, array in values}
    return measured


def reduced(values: Iterable[tuple[str, float]], classes: Sequence[str]) -> Measured:
    """Values by metric and class, without intervals over prompts: the limits are NaN."""
    measured: Measured = {}
    for name, value in values:
        group, _, rest = name.partition("/")
        key = (rest, group) if group in classes else (name, "")
        measured.setdefault(key[0], {})[key[1]] = Interval(value, math.nan, math.nan)
    return measured


def document(config: DictConfig, results: Sequence[Result]) -> dict[str, Any]:
    """The results as JSON values; null stands for NaN and infinities."""
    checkpoints = [
        {
            "phase": result.phase,
            "step": result.step,
            "sha256": result.sha256,
            "repeated_prompts": result.repeated,
            "diverged_seeds": list(result.diverged),
            "over_seeds": plain_intervals(over_seeds(result.seeds)),
            "seeds": {
                str(seed): plain_intervals(measured) | _plain_bounds(result.bounds[seed])
                for seed, measured in result.seeds.items()
            },
        }
        for result in results
    ]
    return {"asked": asked_settings(plain(config)), "confidence": 0.95, "checkpoints": checkpoints}


def _plain_bounds(limits: Bounds) -> dict[str, Any]:
    return {name: {name_of_n(n): finite(value) for n, value in by_n.items()} for name, by_n in limits.items()}


def result_path(config: DictConfig, run: Path, asked: Mapping[str, Any]) -> Path:
    """`evaluations/<out>.json`; without `out`, a name that distinguishes the requested settings.

    Raises:
        ValueError: `out` is not a plain file name.
    """
    name = config.out
    if name is None:
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
        name = f"{'+'.join(_texts(config.checkpoints)).replace(':', '_')[:80]}-{digest}"
    return result_file(run, str(name))


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if OmegaConf.is_list(value) else [str(value)]


def print_results(results: Sequence[Result], path: Path) -> None:
    """Print all metrics of a single checkpoint, or only the mixture's for several checkpoints."""
    for result in results:
        if result.diverged:
            print(left_out_line(path, result.phase, result.step, result.diverged))
    if len(results) > 1:
        names = in_order(over_seeds(results[0].seeds))
        rows = []
        for result in results:
            measured = over_seeds(result.seeds)
            rows.append([result.name, *(measured.get(name, {}).get("", "") for name in names)])
        print_table("Mixture, estimate [95 %]", ["checkpoint", *names], rows)
        return
    (result,) = results
    if len(result.seeds) > 1:
        title = f"{result.name}, mean over {len(result.seeds)} seeds [95 % over seeds]"
        print_table(title, *_table(over_seeds(result.seeds), {}))
    for seed, measured in result.seeds.items():
        title = f"{result.name}, seed {seed}, estimate [95 % over held-out prompts]"
        print_table(title, *_table(measured, result.bounds[seed]))


def _table(
    measured: Measured, limits: Mapping[str, Mapping[float, float]]
) -> tuple[list[str], list[list[Any]]]:
    classes = list(dict.fromkeys(group for groups in measured.values() for group in groups))
    ns = {f"cov/{name_of_n(n)}": n for by_n in limits.values() for n in by_n}
    rows = []
    for name in in_order(measured):
        groups = measured[name]
        beside = [by_n[ns[name]] if name in ns else "" for by_n in limits.values()]
        rows.append([name, *(groups.get(group, "") for group in classes), *beside])
    headings = [group or "mixture" for group in classes]
    return ["metric", *headings, *(key.replace("_", " ") for key in limits)], rows


class Evaluation(NamedTuple):
    """Results by checkpoint, the same as JSON values, and the file that they belong into."""

    run: Path
    results: list[Result]
    content: dict[str, Any]
    file: Path


def evaluated(config: DictConfig) -> Evaluation:
    """Evaluate what `config` (conf/evaluate.yaml) asks for; nothing is written.

    Raises:
        ValueError: an invalid run, checkpoint, seed, setting, override or file name; one line.
    """
    configure()
    if config.run is None:
        raise ValueError("run: none is named; valid: run=<run directory>, as runs/train/demo")
    run = trained.open_run(config.run).with_model(model_overrides(config))
    if any(isinstance(phase.objective, ValueRegression) for phase in run.setup.phases):
        raise ValueError(f"run: {config.run}: holds a value function; valid: a run of experiments.train")
    whole("num_samples", config.num_samples)
    with exact_products(platform()):
        results = measure(config, run)
    content = document(config, results)
    return Evaluation(run.path, results, content, result_path(config, run.path, content["asked"]))


def evaluate(config: DictConfig) -> int:
    """Evaluate, print and write."""
    evaluation = evaluated(config)
    print_results(evaluation.results, evaluation.run)
    write_result(evaluation.file, evaluation.content)
    print(f"\n{evaluation.file}")
    return 0


main = command("evaluate", evaluate, makes_runs=False)

if __name__ == "__main__":
    main()
