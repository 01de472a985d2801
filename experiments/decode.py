"""Answering held-out prompts with any decoder: python -m experiments.decode run=runs/train/demo decoding=vgb
value=runs/value/demo.

Nothing is trained. The base model comes from the run's checkpoint, the values from a run of
experiments.train_value, from the task or from rollouts. Accuracy, different correct responses, Pass@N, and
queries and tokens per response are printed with intervals, and written as strict JSON to
`evaluations/<name>.json` in the run directory. Every sample with its 0/1 is written beside it, by default to
`<name>.samples.jsonl`: covlab/launch/samples_file.py has the formats.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from covlab.launch import answering
from covlab.launch.base_model import fitted, of_seed, seed_rows, task_config
from covlab.launch.build import make, model_overrides, plain, task_overrides
from covlab.launch.cli import command
from covlab.launch.healthy import chosen_seeds, left_out_line, require_healthy
from covlab.launch.results import asked_settings, plain_intervals, result_file, write_result
from covlab.launch.runtime import configure
from covlab.launch.samples_file import Sampled, check_kind, sampled, write_samples
from covlab.launch.trained import TrainedRun, open_run, over_seeds
from covlab.report.tables import print_table
from decoding import Decoder, ModelPolicy
from metrics import Interval, name_of_n, pass_at_n_unbiased
from metrics.answers import Answers, summaries
from metrics.evaluators import HeldOut, make_held_out
from models import Model, Params
from models.target import platform
from tasks import Task, check_seed, stream
from tasks.checks import real, whole
from tracking import LoadError
from training import ValueRegression
from training.precision import exact_products

NAMED_VALUES = ("exact", "rollouts", "constant")
PASS_NS = (1, 4, 16)
Measured = dict[str, dict[str, Interval]]


@dataclasses.dataclass(frozen=True)
class Asked:
    """Run, decoder and values of a decoding, all checked before anything is compiled. `left_out` has one line
    per run that names the diverged seeds."""

    run: TrainedRun
    phase: str
    step: int
    task: Task
    decoder: Decoder
    value: TrainedRun | None
    value_checkpoint: tuple[str, int]
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    pass_ns: tuple[int, ...]


def check(config: DictConfig) -> Asked:
    """Read the runs and check every setting of conf/decode.yaml.

    Raises:
        ValueError: one line with the field, the value and what would be valid.
    """
    lowest = {"num_prompts": 2, "samples": 1, "batch_size": 1, "show": 0, "rollouts": 1}
    for field, low in lowest.items():
        whole(field, config[field], low)
    check_seed("decoding_seed", config.decoding_seed)
    real("corruption", config.corruption, least=0)
    real("temperature", config.temperature, above=0)
    check_kind("samples_file", config.samples_file)
    if config.run is None:
        raise ValueError("run: none is named; valid: run=<run directory>, as runs/train/demo")
    overrides = task_overrides(config)
    run = open_run(config.run).with_model(model_overrides(config))
    phase, step = run.checkpoints([str(config.checkpoint_of)])[-1]
    task: Task = make(task_config(run, phase, overrides), "task_overrides", Task)
    fitted(run.setup.model, task, f"run: {run.path}")
    decoder: Decoder = make(config.decoding, "decoding", Decoder)
    if config.out is not None:
        result_path(config, run.path, {})
    if isinstance(run.setup.phases[-1].objective, ValueRegression):
        raise ValueError(
            f"run: {run.path} is a value function; valid: a run of experiments.train, and value="
        )
    seeds, left_out = _healthy(run, phase, step, chosen_seeds(config.seeds, run.setup.seeds), "run")
    pass_ns = pass_ns_of(plain(config)["pass_ns"], config.samples)
    value_run, value_checkpoint = _value_run(str(config.value), task, seeds), ("", 0)
    if value_run is not None:
        value_checkpoint = value_run.checkpoints([str(config.value_checkpoint)])[-1]
        seeds, more = _healthy(value_run, *value_checkpoint, seeds, "value")
        left_out += more
    guided = getattr(decoder, "needs_values", True)
    if guided and str(config.value) == "exact" and type(task).value is Task.value:
        raise LoadError(f"value: exact; {type(task).__name__} knows no value function")
    return Asked(run, phase, step, task, decoder, value_run, value_checkpoint, seeds, left_out, pass_ns)


def _healthy(
    run: TrainedRun, phase: str, step: int, asked: Sequence[int], field: str
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The healthy seeds of `seeds`, and a line that names the diverged seeds."""
    healthy = run.healthy_seeds(phase, step)
    kept = tuple(seed for seed in asked if seed in healthy)
    require_healthy(run.path, phase, step, kept, field)
    line = left_out_line(run.path, phase, step, [seed for seed in asked if seed not in healthy])
    return kept, (line,) if line else ()


def pass_ns_of(asked: Any, samples: int) -> tuple[int, ...]:
    """The N of Pass@N: `asked`, a number or a list; for None, the values of `PASS_NS` that `samples` allow.

    Raises:
        ValueError: an N that is not an integer from 1 to `samples`.
    """
    if asked is None:
        return tuple(n for n in PASS_NS if n <= samples)
    pass_ns = tuple(whole("pass_ns", n, 1) for n in (asked if isinstance(asked, list) else [asked]))
    if not pass_ns or max(pass_ns) > samples:
        raise ValueError(f"pass_ns: {list(pass_ns)}; valid: integers from 1 to samples = {samples}")
    return pass_ns


def _value_run(name: str, task: Task, seeds: tuple[int, ...]) -> TrainedRun | None:
    """The run that `value` names; None for a named kind of values."""
    if name in NAMED_VALUES:
        return None
    if not (Path(name) / "config.yaml").exists():
        raise LoadError(f"value: {name!r} is neither a run directory nor one of {', '.join(NAMED_VALUES)}")
    run = open_run(name)
    if not isinstance(run.setup.phases[-1].objective, ValueRegression):
        raise LoadError(f"value: {name} is no value function; valid: a run of experiments.train_value")
    fitted(run.setup.model, task, f"value: {name}")
    seed_rows(run, seeds)
    return run


def measure(
    config: DictConfig, asked: Asked, keep: Callable[[Sampled], None] | None = None
) -> tuple[dict[int, Measured], list[tuple[Any, ...]], HeldOut]:
    """Decode for every seed: seed -> metrics, sample texts of the first seed, the prompts.

    `keep` gets the responses of every seed, as texts.
    """
    task, samples = asked.task, config.samples
    held_out = make_held_out(task, config.num_prompts, config.batch_size, config.decoding_seed, "decoding")
    problem = answering.prompts_of(held_out)
    params = asked.run.parameters(asked.phase, asked.step)
    base = fitted(asked.run.setup.model, task, "run")
    networks = _networks(asked)
    results: dict[int, Measured] = {}
    shown: list[tuple[Any, ...]] = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        batches = -(-held_out.num_examples // config.batch_size)
        working = bar.add_task("decoding", total=batches * len(asked.seeds))
        for seed in asked.seeds:
            row = seed_rows(asked.run, [seed])[0]
            policy = ModelPolicy(base, of_seed(params, row), task.response_tokens, config.temperature)
            kind = (str(config.value), task, policy, networks.get(seed))
            values = answering.values_named(*kind, config.rollouts, config.corruption, config.decoding_seed)
            key = stream(config.decoding_seed, "evaluation", "decoding", "responses", seed)
            given = (asked.decoder, task, policy, values, problem, key, samples, config.batch_size)
            answers = answering.answer(*given, lambda: bar.advance(working))
            results[seed] = answering.over_prompts(by_prompt(answers, asked.pass_ns), held_out)
            shown = shown or answering.texts(task, problem, answers, config.show)
            if keep is not None:
                name = f"seed {seed}, {asked.phase}:{asked.step}"
                groups = np.asarray(held_out.flat(held_out.batches.example).group)
                keep(sampled(seed, name, task, problem, answers, groups.tolist()))
    return results, shown, held_out


def _networks(asked: Asked) -> dict[int, tuple[Model, Params]]:
    """Seed -> value network; empty if the values do not come from a network."""
    if asked.value is None:
        return {}
    params = asked.value.parameters(*asked.value_checkpoint)
    rows = seed_rows(asked.value, asked.seeds)
    model = fitted(asked.value.setup.model, asked.task, "value")
    return {seed: (model, of_seed(params, row)) for seed, row in zip(asked.seeds, rows, strict=True)}


def by_prompt(answers: Answers, pass_ns: tuple[int, ...]) -> dict[str, Float[np.ndarray, " prompts"]]:
    """`metrics.answers.summaries`, and Pass@N by the unbiased estimator."""
    passes = pass_at_n_unbiased(answers.correct.shape[1], answers.correct.sum(axis=1), pass_ns)
    return summaries(answers) | {f"pass/{name_of_n(n)}": passes[:, i] for i, n in enumerate(pass_ns)}


def document(config: DictConfig, asked: Asked, results: dict[int, Measured]) -> dict[str, Any]:
    """The results as JSON values."""
    settings = plain(config) | {"pass_ns": list(asked.pass_ns)}
    # Where samples are written changes no number, and no name of a result.
    settings.pop("samples_file")
    return {
        "asked": asked_settings(settings),
        "checkpoint": f"{asked.phase}:{asked.step}",
        "sha256": asked.run.digest(asked.phase, asked.step),
        "value_sha256": None if asked.value is None else asked.value.digest(*asked.value_checkpoint),
        "confidence": 0.95,
        "over_seeds": plain_intervals(over_seeds(results)),
        "seeds": {str(seed): plain_intervals(measured) for seed, measured in results.items()},
    }


def result_path(config: DictConfig, run: Path, content: dict[str, Any]) -> Path:
    """`evaluations/<out>.json`; without `out`, a name that distinguishes the requested settings.

    Raises:
        ValueError: `out` is not a plain file name.
    """
    name = config.out
    if name is None:
        asked = json.dumps([content["asked"], content["checkpoint"]], sort_keys=True)
        kind = str(config.decoding.get("_target_", "decoder")).rpartition(".")[2]
        name = f"decode-{kind}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    return result_file(run, str(name))


def print_results(asked: Asked, results: dict[int, Measured], shown: list[tuple[Any, ...]]) -> None:
    """Print metrics over seeds, or over prompts for a single seed, and then sample texts."""
    for line in asked.left_out:
        print(line)
    measured = over_seeds(results)
    over = f"over {len(results)} seeds" if len(results) > 1 else "over prompts"
    classes = list(next(iter(measured.values())))
    rows = [[name, *(groups[group] for group in classes)] for name, groups in measured.items()]
    title = f"{asked.run.path}, {asked.phase}:{asked.step}, {asked.decoder!r}, mean [95 % {over}]"
    print_table(title, ["metric", *(group or "mixture" for group in classes)], rows)
    if shown:
        print_table(
            "Samples of the first seed", ["prompt", "response", "reward", "finished", "queries"], shown
        )


class Decoding(NamedTuple):
    """Metrics by seed, the same as JSON values and the file that they belong into, texts to show, the format
    that samples are written in (None: they are not), and the samples."""

    asked: Asked
    results: dict[int, Measured]
    content: dict[str, Any]
    file: Path
    shown: list[tuple[Any, ...]]
    samples_kind: str | None
    samples: list[Sampled]


def decoded(config: DictConfig) -> Decoding:
    """Decode what `config` (conf/decode.yaml) asks for; nothing is written.

    Raises:
        ValueError: an invalid run, decoder, value or setting; one line.
    """
    configure()
    asked = check(config)
    kind, samples = config.samples_file, list[Sampled]()
    with exact_products(platform()):
        results, shown, _ = measure(config, asked, None if kind is None else samples.append)
    content = document(config, asked, results)
    file = result_path(config, asked.run.path, content)
    return Decoding(asked, results, content, file, shown, kind, samples)


def write_decoding(answered: Decoding) -> Path | None:
    """Write the result, and the samples if they are asked for; returns the file of the samples."""
    write_result(answered.file, answered.content)
    if not answered.samples:
        return None
    return write_samples(str(answered.samples_kind), answered.file, answered.samples)


def decode(config: DictConfig) -> int:
    """Decode, print and write."""
    answered = decoded(config)
    print_results(answered.asked, answered.results, answered.shown)
    samples = write_decoding(answered)
    print(f"\n{answered.file}")
    if samples is not None:
        print(samples)
    return 0


main = command("decode", decode, makes_runs=False)

if __name__ == "__main__":
    main()
