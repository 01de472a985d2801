"""Building the objects of a run from its configuration, with every check that needs no compilation."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import optax
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from covlab.launch.healthy import seeds_of
from covlab.launch.schema import check_fields, free_fields
from covlab.launch.settings import EvaluationSettings, TrackingSettings
from metrics.evaluators import Evaluator, HeldOut
from metrics.values import ValueEvaluator
from models import Model, with_ahead
from tasks import LayeredGraph, Task, check_seeds
from tasks.checks import whole
from training import (
    CheckpointPolicy,
    Demonstrations,
    Judged,
    Layout,
    Objective,
    Phase,
    Source,
    ValueRegression,
    choose_layout,
)
from training.mesh import RECURRENT_TOKENS, Hardware
from training.precision import require_bfloat16
from training.step import TOKENS_OF_A_PART

PHASE_KEYS = (
    "task",
    "objective",
    "optimizer",
    "steps",
    "batch_size",
    "dataset_size",
    "log_every",
    "class_proposal",
    "evaluation",
    "source",
    "averaging",
)

LATER = ("pass_all_ns", "taus", "eps", "ratio_ns")
"""Fields of `evaluation` that runs of earlier versions lack."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """All objects of a training run, before anything is compiled."""

    model: Model
    phases: tuple[Phase, ...]
    evaluation: tuple[EvaluationSettings, ...]
    checkpoint: CheckpointPolicy
    tracking: TrackingSettings
    seeds: tuple[int, ...]
    start_from_base: bool = False
    described: bool = False
    """True if a configuration describes everything: `build` made it."""

    @property
    def evaluators(self) -> tuple[Evaluator, ...]:
        """The evaluators: those of the last phase's settings, or of a value function if it trains one."""
        last, settings = self.phases[-1], self.evaluation[-1]
        if isinstance(last.objective, ValueRegression):
            base, samples = last.source.model, max(settings.num_samples or 0, 1)
            return (ValueEvaluator(base, samples, settings.seed),)
        return settings.evaluators(all(phase.task.num_enumerated for phase in self.phases))

    def layout(self, config: DictConfig, hardware: Hardware | None = None) -> Layout:
        """The devices that `config` asks for, of `hardware` or else of this machine; ValueError if they are
        not available."""
        sizes = {phase.name: phase.batch_size for phase in self.phases}
        tokens = {
            phase.name: phase.batch_size * (phase.task.prompt_length + phase.task.response_length)
            for phase in self.phases
        }
        least = RECURRENT_TOKENS if self.model.recurrent else TOKENS_OF_A_PART
        return choose_layout(
            len(self.seeds), sizes, config.devices, config.data_parallel, hardware, tokens, least
        )

    def held_out(self) -> tuple[HeldOut, ...]:
        """The held-out set of each phase, drawn or taken from the cache now."""
        return tuple(
            settings.held_out(phase.task)
            for phase, settings in zip(self.phases, self.evaluation, strict=True)
        )


def build(config: DictConfig) -> Setup:
    """Instantiate and check everything that `config` (composed from conf/train.yaml) describes.

    Raises:
        ValueError: one line that names the field, the value and what would be valid.
    """
    config = spelt_out(config)
    if not isinstance(config.phases, DictConfig):
        raise ValueError(f"phases: {config.phases!r} is not a mapping from a phase's name to its overrides")
    check_seeds(config.seed, config.seeds)
    seeds = seeds_of(config)
    phases, settings = [], []
    for name, changes in (config.phases or {"train": {}}).items():
        _check_phase_name(str(name))
        phase, evaluation = _phase(config, str(name), changes)
        phases.append(phase)
        settings.append(evaluation)
    for phase, evaluation in zip(phases, settings, strict=True):
        if evaluation.evaluators() != settings[-1].evaluators():
            raise ValueError(
                f"phases.{phase.name}.evaluation: coverage_ns, pass_ns, num_samples, seed and extra must be "
                f"the same in all phases"
            )
        for evaluator in evaluation.evaluators():
            evaluator.check(phase.task)
    if len({isinstance(phase.objective, ValueRegression) for phase in phases}) > 1:
        raise ValueError("phases: some train a value function and some do not; a run does one or the other")
    model = _model(config, phases)
    return Setup(
        model=model,
        phases=tuple(phases),
        evaluation=tuple(settings),
        checkpoint=make(config.checkpoint, "checkpoint", CheckpointPolicy),
        tracking=make(config.tracking, "tracking", TrackingSettings),
        seeds=seeds,
        start_from_base=config.get("initial") == "base",
        described=True,
    )


def spelt_out(config: DictConfig) -> DictConfig:
    """`config` without the key `every`, whose number stands in `log_every` and `evaluation.schedule` instead,
    also in phases that have their own. With null, all else stays as it is. `precision: auto`, no
    `compiler_options` and the defaults of `LATER` and of a layered graph's `given` are left out.

    A run's `config.yaml` so has the same keys with and without `every`, and an earlier run can be continued.

    Raises:
        ValueError: `every` is neither null nor a whole number >= 1.
    """
    old = [field for field in LATER if _is_default(config.get("evaluation"), field)]
    defaults: dict[str, Any] = {"precision": "auto", "compiler_options": None}
    of_today = [key for key in defaults if key in config and config[key] == defaults[key]]
    if of_today or old or any(_by_default(config)):
        config = copy.deepcopy(config)
        OmegaConf.set_struct(config, False)
        for key in of_today:
            del config[key]
        for field in old:
            del config.evaluation[field]
        for task in [*_by_default(config)]:
            del task["given"]
    if "every" not in config:
        return config
    made = copy.deepcopy(config)
    OmegaConf.set_struct(made, False)
    every = made.pop("every")
    if every is None:
        return made
    whole("every", every, 1, other="null")
    changes = {"log_every": every, "evaluation": {"schedule": {"every": every, "spacing": "linear"}}}
    phases = made.phases if isinstance(made.phases, DictConfig) else {}
    for name, own in phases.items():
        if isinstance(own, DictConfig) and {"log_every", "evaluation"} & own.keys():
            phases[name] = OmegaConf.merge(own, changes)
    merged = OmegaConf.merge(made, changes)
    assert isinstance(merged, DictConfig)
    return merged


def _is_default(node: Any, field: str) -> bool:
    """True if a node of `EvaluationSettings` states the default of the field."""
    default = list(getattr(EvaluationSettings, field))
    return isinstance(node, DictConfig) and field in node and _plain(node[field]) == default


def _by_default(node: Any) -> Iterator[DictConfig]:
    """The nodes of layered graphs that state the default of `given`, which runs of earlier versions lack.

    `phases` has only what differs from the run's own settings, and stays as it is.
    """
    if not isinstance(node, DictConfig):
        return
    if "given" in node and node.get("_target_") == "tasks.LayeredGraph":
        if node["given"] == LayeredGraph.given:
            yield node
        return
    for key in map(str, node):
        if key != "phases" and not (OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key)):
            yield from _by_default(node[key])


def make(node: Any, path: str, kind: type | None = None, **fields: Any) -> Any:
    """Instantiate a config node; errors of the target become one line.

    Args:
        node: a mapping with `_target_`.
        path: the node's key in the configuration.
        kind: the required class; None for any.
        fields: more of the target's parameters.

    Raises:
        ValueError: a node without a target, a target that does not exist or makes another class, an unknown
            field, a field of another shape, or an error of the target.
    """
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    if not isinstance(plain, Mapping) or "_target_" not in plain:
        raise ValueError(f"{path}: {plain!r} is not a mapping with a _target_")
    check_fields(plain, path, kind)
    try:
        made = instantiate(_with_free_fields(plain), **fields, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        raise ValueError(_line(_reason(cause), path)) from None
    if kind is not None and not isinstance(made, kind):
        raise ValueError(f"{path}._target_: {plain['_target_']} makes no {kind.__name__}")
    return made


def _with_free_fields(node: Any) -> Any:
    """`node` with a `functools.partial` of the `_target_` of every free field, for the object that has the
    field to call."""
    if isinstance(node, list):
        return [_with_free_fields(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    free = free_fields(node["_target_"]) if "_target_" in node else ()
    made = {key: _with_free_fields(item) for key, item in node.items()}
    for field in free:
        if isinstance(made.get(field), dict) and "_target_" in made[field]:
            made[field]["_partial_"] = True
    return made


def _reason(error: BaseException) -> str:
    if isinstance(error, TypeError | ValueError | ImportError):
        return str(error)
    if isinstance(error, InstantiationException):
        # Further lines of the message advise how to see the cause.
        return str(error).splitlines()[0].partition(", set env var")[0]
    return f"{type(error).__name__}: {error}"


def _line(text: str, path: str) -> str:
    text = " ".join(text.split())
    return text if text.startswith(path.split(".")[0]) else f"{path}: {text}"


def _check_phase_name(name: str) -> None:
    """Refuse a phase name that does not fit into file names, their patterns and `<phase>:<step>`."""
    if not re.fullmatch(r"[^\W_][\w .+=,-]{0,79}", name):
        raise ValueError(
            f"phases: {name!r} is not a phase's name; valid: a letter or digit, then at most 79 letters, "
            "digits, spaces and . + = , - _"
        )


def _phase(config: DictConfig, name: str, changes: Any) -> tuple[Phase, EvaluationSettings]:
    if changes and not isinstance(changes, DictConfig):
        raise ValueError(
            f"phases.{name}: {changes!r} is not a mapping; valid keys are {', '.join(PHASE_KEYS)}"
        )
    for key in changes or {}:
        if key not in PHASE_KEYS:
            raise ValueError(f"phases.{name}.{key}: no such field; valid are {', '.join(PHASE_KEYS)}")
    base = OmegaConf.create({key: config[key] for key in PHASE_KEYS if key in config})
    OmegaConf.set_struct(base, False)
    for key, node in (changes or {}).items():
        # Another class replaces the run's, including all fields.
        if _names_another(node, base.get(key)):
            base[key] = {}
    merged: Any = base
    path = f"phases.{name}"
    for key, node in (changes or {}).items():
        try:
            merged = OmegaConf.merge(merged, {key: node})
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}.{key}: {node} does not fit the run's own: {reason}") from None
    steps = whole(f"{path}.steps", merged.steps)
    evaluation: EvaluationSettings = make(merged.evaluation, f"{path}.evaluation", EvaluationSettings)
    task: Task = make(merged.task, f"{path}.task", Task)
    source = _source(merged.source, f"{path}.source", task) if "source" in merged else Demonstrations()
    averaging = merged.averaging if "averaging" in merged else None
    if averaging is not None:
        # A phase may average where the others do not, so that no group has named the class.
        averaging = make({"_target_": "training.Averaging", **averaging}, f"{path}.averaging")
    objective: Objective = make(merged.objective, f"{path}.objective", Objective)
    updates = steps * (task.response_length if objective.by_token else source.updates)
    phase = Phase(
        name=name,
        task=task,
        objective=objective,
        optimizer=make(merged.optimizer, f"{path}.optimizer", optax.GradientTransformation, steps=updates),
        steps=steps,
        batch_size=merged.batch_size,
        dataset_size=merged.dataset_size,
        schedule=evaluation.schedule,
        log_every=merged.log_every,
        class_proposal=_plain(merged.class_proposal),
        averaging=averaging,
        source=source,
        precision=config.get("precision", "auto"),
        compiler_options=_plain(config.get("compiler_options")),
    )
    return phase, evaluation


def _names_another(node: Any, instead: Any) -> bool:
    return (
        isinstance(node, DictConfig)
        and isinstance(instead, DictConfig)
        and "_target_" in node
        and node["_target_"] != instead.get("_target_")
    )


def _source(node: Any, path: str, task: Task) -> Source:
    """A phase's source, whose base model is fitted to the phase's task."""
    source: Source = make(node, path, Source)
    if isinstance(source, Judged | Demonstrations) and source.base is not None:
        return dataclasses.replace(source, base=source.base.for_task(task).tested)
    return source


def _model(config: DictConfig, phases: list[Phase]) -> Model:
    """The model, for the longest prompt of any phase, with the heads that any phase's objective asks for;
    vocabularies and lengths must agree."""
    shapes: dict[str, set[int]] = {}
    for field in ("vocab_size", "prompt_length", "response_length"):
        shapes[field] = {getattr(phase.task, field) for phase in phases}
        if len(shapes[field]) > 1:
            raise ValueError(
                f"phases: {field} differs between phases' tasks ({sorted(shapes[field])}); one model needs "
                f"one"
            )
    model: Model = make(
        config.model, "model", Model, **{field: next(iter(values)) for field, values in shapes.items()}
    )
    for phase in phases:
        model = model.for_task(phase.task)
    if "bfloat16" in (phase.precision for phase in phases):
        require_bfloat16(model)
    return with_ahead(model, max(phase.objective.ahead for phase in phases))


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain containers."""
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    if not isinstance(container, Mapping):
        raise ValueError("configuration: not a mapping")
    return {str(key): value for key, value in container.items()}


def identity_of(config: DictConfig) -> dict[str, Any]:
    """The resolved settings as a run or a claim stores them: those that a later command is compared with."""
    return plain(spelt_out(config))


def task_overrides(config: DictConfig) -> Mapping[str, Any]:
    """The fields of the run's task that a command replaces.

    Raises:
        ValueError: they are not a mapping.
    """
    return _overrides(config, "task")


def model_overrides(config: DictConfig) -> Mapping[str, Any]:
    """The fields of the run's model that a command replaces.

    Raises:
        ValueError: they are not a mapping.
    """
    return _overrides(config, "model")


def _overrides(config: DictConfig, of: str) -> Mapping[str, Any]:
    overrides = plain(config)[f"{of}_overrides"] or {}
    if not isinstance(overrides, Mapping):
        raise ValueError(f"{of}_overrides: {overrides!r} is not a mapping from the {of}'s fields to values")
    return overrides
