"""Opening a trained run: rebuilding the model from `config.yaml` and scoring it on any held-out set."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float
from omegaconf import OmegaConf

from covlab.launch.build import Setup, build, make
from covlab.launch.healthy import healthy_seeds
from metrics import (
    RATIO_TOLERANCE,
    Interval,
    coverage_bound,
    cross_entropy,
    hellinger_bound,
    kl,
    mean_interval,
    name_of_n,
    pass_at_n,
    pass_at_n_unbiased,
    stratified_mean_interval,
    stratified_proportion_interval,
)
from metrics.coverage import coverage_profile
from metrics.evaluators import (
    DistributionEvaluator,
    Evaluator,
    HeldOut,
    correct_log_prob,
    log_ratios,
    total_prob,
)
from models import Model, Params, with_ahead
from tasks import Task, stream
from tracking import LoadError, read_config
from training.checkpoints import load_parameters, saved_digest, saved_parameters
from training.parameter_files import described, digest
from training.program import first_parameters

Scores = dict[str, np.ndarray]
Measured = dict[str, dict[str, Interval]]
"""Metric -> class ("" for the mixture) -> estimate and interval."""


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run directory and the objects that its configuration describes."""

    path: Path
    config: Mapping[str, Any]
    setup: Setup

    def checkpoints(self, asked: Sequence[str]) -> list[tuple[str, int]]:
        """(phase, step) of every item of `asked`: `<phase>:<step>`, "last" or "all", in order of training.

        Raises:
            ValueError: no such checkpoint; the message names the run's checkpoints.
        """
        order = [phase.name for phase in self.setup.phases]
        saved = [item for item in saved_parameters(self.path / "checkpoints") if item[0] in order]
        saved.sort(key=lambda item: (order.index(item[0]), item[1]))
        named = {f"{phase}:{step}": [(phase, step)] for phase, step in saved}
        valid = named | ({"last": saved[-1:], "all": saved} if saved else {})
        unknown = [name for name in asked if name not in valid]
        if unknown or not asked:
            there = ", ".join(valid) or "none yet"
            raise LoadError(
                f"checkpoints: {unknown[0] if unknown else 'none'} asked of {self.path}; there are {there}"
            )
        wanted = {item for name in asked for item in valid[name]}
        return [item for item in saved if item in wanted]

    @property
    def model(self) -> Model:
        """The run's model, as it is evaluated, sampled and decoded."""
        return self.setup.model.tested

    def with_model(self, overrides: Mapping[str, Any]) -> TrainedRun:
        """This run with the fields `overrides` of its model replaced; the parameters' shapes must stay.

        Raises:
            ValueError: an unknown field, an invalid value, or a field that changes a parameter's shape.
        """
        if not overrides:
            return self
        model = self.setup.model
        sizes = {field: getattr(model, field) for field in ("vocab_size", "prompt_length", "response_length")}
        node = dict(self.config["model"]) | dict(overrides)
        for field in sizes.keys() & overrides.keys():
            raise ValueError(f"model_overrides.{field}: is the task's; valid: task_overrides")
        changed: Model = make(node, "model_overrides", Model, **sizes)
        for phase in self.setup.phases:
            changed = changed.for_task(phase.task)
        changed = with_ahead(changed, model.ahead)
        before, now = (
            described(jax.eval_shape(lambda seed, of=of: of.init(stream(seed, "init")), np.uint32(0)))
            for of in (model, changed)
        )
        if before != now:
            name = next(name for name in sorted(before | now) if before.get(name) != now.get(name))
            raise ValueError(
                f"model_overrides: {dict(overrides)} make parameter {name} {now.get(name, 'nothing')}, which "
                f"is {before.get(name, 'nothing')} in {self.path}; valid: fields that change no parameter, "
                "such as test_recursions"
            )
        return dataclasses.replace(self, setup=dataclasses.replace(self.setup, model=changed))

    def task(self, phase: str, overrides: Mapping[str, Any]) -> Task:
        """The task of a phase, with the fields `overrides` replaced.

        Raises:
            ValueError: an unknown field, an invalid value, or a task that the model cannot read.
        """
        changes = ((self.config["phases"] or {}).get(phase) or {}).get("task") or {}
        node = OmegaConf.merge(self.config["task"], changes, dict(overrides))
        task: Task = make(node, "task_overrides", Task)
        for field in ("vocab_size", "prompt_length", "response_length"):
            asked, valid = getattr(task, field), getattr(self.setup.model, field)
            if asked != valid:
                raise ValueError(
                    f"task_overrides: {field} becomes {asked}; valid: {valid}, which the model has"
                )
        self.setup.model.for_task(task)
        return task

    def parameters(self, phase: str, step: int) -> Params:
        """Parameters of a checkpoint, with a leading axis of seeds. ValueError if there is none."""
        model, seeds = self.setup.model, np.asarray(self.setup.seeds, np.uint32)
        abstract = jax.eval_shape(jax.vmap(lambda seed: model.init(stream(seed, "init"))), seeds)
        return load_parameters(self.path / "checkpoints", phase, step, abstract)

    def start(self, phase: str) -> Params | None:
        """Parameters that a phase started from, with a leading axis of seeds.

        They are those of step 0, or of the end of the phase before, or the fresh ones of the first phase.
        None if none of these is known.
        """
        names = [each.name for each in self.setup.phases]
        index = names.index(phase)
        before = None if index == 0 else (names[index - 1], self.setup.phases[index - 1].steps)
        for place in ((phase, 0), before):
            if place in saved_parameters(self.path / "checkpoints"):
                return self.parameters(*place)
        if index or self.setup.start_from_base:
            return None
        return first_parameters(self.setup.model, jax.numpy.asarray(self.setup.seeds, np.uint32))

    def digest(self, phase: str, step: int) -> str:
        """SHA-256 of a checkpoint's parameters, which identifies them whatever the run's name. ValueError if
        it cannot be read."""
        return saved_digest(self.path / "checkpoints", phase, step) or digest(self.parameters(phase, step))

    def healthy_seeds(self, phase: str, step: int) -> tuple[int, ...]:
        """The seeds that had not diverged at a checkpoint."""
        return healthy_seeds(self.path, self.setup.seeds, phase, step)


def open_run(path: str | Path) -> TrainedRun:
    """Rebuild model, tasks and settings from the `config.yaml` of a run, which may be in progress.

    Raises:
        ValueError: there is no run, or its configuration is not one of experiments.train.
    """
    config = run_config(path)
    return TrainedRun(Path(path), config, build(OmegaConf.create(config)))


def run_config(path: str | Path) -> dict[str, Any]:
    """The configuration of a run of experiments.train, from its `config.yaml`.

    Raises:
        ValueError: there is no run, or its configuration is not one of experiments.train.
    """
    config = read_config(path)
    missing = [key for key in ("phases", "task", "model", "seed", "seeds") if key not in config]
    if missing:
        raise LoadError(f"run: {path}: config.yaml has no {missing[0]}; valid: a run of experiments.train")
    return config


def make_scorer(
    model: Model, evaluators: Sequence[Evaluator], held_out: HeldOut
) -> Callable[[Params], dict[str, Scores]]:
    """A function from one seed's parameters to evaluator name -> array name -> per-example array."""

    @jax.jit
    def scan(params: Params, batches: Any) -> dict[str, dict[str, jax.Array]]:
        def score(batch: Any) -> dict[str, dict[str, jax.Array]]:
            return {
                evaluator.name: evaluator.score(model, held_out.task, params, batch)
                for evaluator in evaluators
            }

        return jax.lax.map(score, batches)

    def flat(params: Params) -> dict[str, Scores]:
        scores: dict[str, Scores] = held_out.flat(scan(params, held_out.batches))
        return scores

    return flat


def exact_values(
    scores: Scores, held_out: HeldOut, evaluator: DistributionEvaluator
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, one value per prompt) of every exact metric. The evaluator reports their stratified means.

    Where responses are enumerated, a prompt's value is the expectation over y ~ pi_D(.|x).
    """
    log_prob = np.asarray(scores["log_prob"], np.float64)
    ratio = log_ratios(log_prob, held_out)
    weight = held_out.candidate_weight
    rows = range(held_out.num_examples)
    yield "ce", np.array([float(cross_entropy(log_prob[i], weight[i])) for i in rows])
    yield "kl", np.array([float(kl(ratio[i], weight[i])) for i in rows])
    profile = np.stack([coverage_profile(ratio[i], evaluator.coverage_ns, weight[i]) for i in rows])
    for column, n in enumerate(evaluator.coverage_ns):
        yield f"cov/{name_of_n(n)}", profile[:, column]
    yield "accuracy", np.any(scores["greedy"] & held_out.correct, axis=1).astype(np.float64)
    if held_out.enumerated:
        passes = pass_at_n(correct_log_prob(log_prob, held_out), evaluator.pass_ns)
        for column, n in enumerate(evaluator.pass_ns):
            yield f"pass/{name_of_n(n)}", passes[:, column]
        yield "validity", total_prob(log_prob)
        yield from evaluator.prompts.by_prompt(correct_log_prob(log_prob, held_out))


def sampled_values(
    scores: Scores, num_samples: int, pass_ns: Sequence[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, one value per prompt) of the sampling estimates."""
    passes = pass_at_n_unbiased(num_samples, scores["num_correct"], pass_ns)
    for column, n in enumerate(pass_ns):
        yield f"sampled_pass/{name_of_n(n)}", passes[:, column]
    yield "sampled_validity", scores["num_valid"] / num_samples


def bounds(scores: Scores, held_out: HeldOut, ns: Sequence[float]) -> dict[str, dict[float, float]]:
    """Bounds of Cov_N by the KL and by the Hellinger distance, from the samples, for the mixture."""
    ratio = log_ratios(scores["log_prob"], held_out).reshape(-1)
    joint = (held_out.weights[:, None] * held_out.candidate_weight).reshape(-1)
    by_kl = coverage_bound(ratio, ns, joint, RATIO_TOLERANCE)
    by_hellinger = hellinger_bound(ratio, ns, joint, RATIO_TOLERANCE)
    return {
        "kl_bound": {n: float(value) for n, value in zip(ns, by_kl, strict=True)},
        "hellinger_bound": {n: float(value) for n, value in zip(ns, by_hellinger, strict=True)},
    }


def intervals(values: Float[np.ndarray, " prompts"], name: str, held_out: HeldOut) -> dict[str, Interval]:
    """The 95 % interval over held-out prompts, for the mixture (key "") and for each of several classes."""
    probabilities = np.asarray(held_out.task.group_probs) / np.sum(held_out.task.group_probs)
    by_class = {"": example_interval(values, name, held_out.groups, probabilities.tolist())}
    if len(probabilities) > 1:
        for group, label in enumerate(held_out.task.groups):
            members = values[held_out.groups == group]
            by_class[label] = example_interval(members, name, np.zeros(members.size, int), [1.0])
    return by_class


def example_interval(
    values: Float[np.ndarray, " prompts"], name: str, groups: np.ndarray, probabilities: Sequence[float]
) -> Interval:
    """The exact interval (Clopper-Pearson by class) if every value is 0 or 1, else Student's, cut to [0, 1]
    for a metric in [0, 1]. The limits are NaN if a value is infinite.
    """
    if not np.isfinite(values).all():
        counts = np.bincount(groups, minlength=len(probabilities))
        weights = np.asarray(probabilities)[groups] / counts[groups]
        return Interval(float(np.average(values, weights=weights)), np.nan, np.nan)
    hits: Bool[np.ndarray, " prompts"] = values > 0.5
    fraction = name not in ("ce", "kl")
    if fraction and (values == hits).all():
        return stratified_proportion_interval(hits, groups, probabilities)
    result = stratified_mean_interval(values, groups, probabilities)
    return Interval(result.estimate, max(result.low, 0.0), min(result.high, 1.0)) if fraction else result


def over_seeds(measured: Mapping[int, Measured]) -> Measured:
    """The mean over seeds with Student's interval over seeds; for one seed, its interval over prompts."""
    tables = list(measured.values())
    if len(tables) == 1:
        return tables[0]
    return {
        name: {group: _over([t[name][group] for t in tables]) for group in tables[0][name]}
        for name in tables[0]
    }


def _over(values: Sequence[Interval]) -> Interval:
    estimates = np.array([value.estimate for value in values])
    if not np.isfinite(estimates).all():
        return Interval(float(estimates.mean()), math.nan, math.nan)
    return mean_interval(estimates)
