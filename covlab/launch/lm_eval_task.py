"""A run's held-out set as tasks of lm-evaluation-harness, which scores and samples its texts.

`write_task` writes `<name>.jsonl`, a line per example with `prompt`, `target`, `log_pi` = ln pi_D(y|x) in
nats and `class`, and `<name>.yaml`, which asks for the log-likelihood of the target. Where the responses are
enumerated, a line also has `correct`, all right responses, and `<name>_sampled.yaml` asks for responses that
`is_right` judges; it is left out where responses differ in length and have no end token, since a text does
not tell where such a response ends. `covlab.launch.lm_eval_model` is the model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import yaml
from jaxtyping import Bool, Int

from covlab.launch.trained import open_run
from metrics.evaluators import HeldOut
from tasks import PAD, Task
from tasks.checks import whole
from tracking import LoadError
from tracking.atomic import atomic_write


def write_task(
    run: str | Path,
    folder: str | Path,
    name: str = "held_out",
    phase: str | None = None,
    group: str | None = None,
    repeats: int = 16,
) -> list[Path]:
    """Write the held-out set of a phase as tasks; returns the YAML files.

    Examples are those of the run's own evaluations, so that log-likelihoods can be compared with them. Other
    programs give all examples one weight: examples whose weights differ are refused.

    Args:
        run: a run directory.
        folder: the folder for `lm-eval --include_path`.
        name: the task's name.
        phase: None for the last.
        group: the class of the examples; None for all that have a positive probability.
        repeats: responses per prompt of the sampled task.

    Raises:
        ValueError: no such run, phase or class, classes of different weight, a text that gives other tokens.
    """
    if not re.fullmatch(r"\w+", name):
        raise ValueError(f"name: {name!r}; valid: letters, digits and _")
    whole("repeats", repeats, 1)
    setup = open_run(run).setup
    phases = [each.name for each in setup.phases]
    if phase is not None and phase not in phases:
        raise LoadError(f"phase: {phase!r} is not in {run}; valid are {', '.join(phases)}")
    place = phases.index(phase) if phase is not None else len(phases) - 1
    task = setup.phases[place].task
    if group is not None and group not in task.groups:
        raise LoadError(f"group: {group!r} is no class of {run}; valid are {', '.join(task.groups)}")
    held_out = setup.evaluation[place].held_out(task)
    chosen = held_out.weights > 0 if group is None else held_out.groups == task.groups.index(group)
    if np.ptp(held_out.weights[chosen]) > 1e-9:
        raise LoadError(
            f"group: the classes of {run} have different weights; valid: one of {', '.join(task.groups)}"
        )
    rows = list(_rows(task, held_out, chosen))
    path = Path(folder)
    data = path.resolve() / f"{name}.jsonl"
    try:
        path.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        atomic_write(data, b"".join(lines))
        written = {name: _task(name, data, _SCORED)}
        if held_out.enumerated and _texts_end(task, held_out):
            written[f"{name}_sampled"] = _task(f"{name}_sampled", data, _SAMPLED | {"repeats": repeats})
        for each, content in written.items():
            atomic_write(path / f"{each}.yaml", yaml.safe_dump(content, sort_keys=False).encode())
    except OSError as error:
        raise LoadError(f"{folder}: {error.strerror}: choose a folder that can be written") from None
    return [path / f"{each}.yaml" for each in written]


def is_right(response: str, target: str, record: Mapping[str, Any]) -> bool:
    """True for a right response to an example of `write_task`; `verifier=` of `covlab select`.

    Blanks at the ends of a response do not count, except where a right response has them.

    Raises:
        ValueError: the example has no list of right responses.
    """
    if "correct" not in record:
        raise LoadError("verifier: no correct in an example; valid: a task whose responses are enumerated")
    return response in record["correct"] or response.strip() in record["correct"]


_SCORED: dict[str, Any] = {
    "output_type": "loglikelihood",
    # The share of targets that are the greedy response. lm-eval would resample a perplexity 100,000 times.
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
_SAMPLED: dict[str, Any] = {
    "output_type": "generate_until",
    # Texts end at the task's own end token, and no metric reads them: `is_right` judges all repetitions.
    "generation_kwargs": {"until": [], "do_sample": True, "temperature": 1.0},
    "metric_list": [{"metric": "bypass", "aggregation": "bypass", "higher_is_better": True}],
}


def _task(name: str, data: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{target}}",
        # A blank before the target would count as a byte of it.
        "target_delimiter": "",
        **settings,
    }


def _rows(task: Task, held_out: HeldOut, chosen: Bool[np.ndarray, " examples"]) -> Iterator[dict[str, Any]]:
    """The texts of the `chosen` examples."""
    batches = held_out.flat(held_out.batches)
    for i in np.flatnonzero(chosen):
        response, found = batches.example.response[i], batches.candidates.responses[i]
        row = {
            "prompt": text_of(task, batches.example.prompt[i]),
            "target": text_of(task, response),
            "log_pi": float(held_out.log_pi[i, np.argmax((found == response).all(axis=1))]),
            "class": task.groups[int(held_out.groups[i])],
        }
        if held_out.enumerated:
            row["correct"] = [text_of(task, each) for each in found[held_out.correct[i]]]
        yield row


def _texts_end(task: Task, held_out: HeldOut) -> bool:
    """True if a text shows where a response ends: by an end token, or since all have the full length."""
    if task.end_token is not None:
        return True
    lengths = jax.vmap(jax.vmap(task.max_tokens))(held_out.batches.example.latent)
    return bool(np.all(np.asarray(lengths) == task.response_length))


def text_of(task: Task, tokens: Int[np.ndarray, " tokens"]) -> str:
    """The text of tokens, from which `encode` gets the tokens back.

    Raises:
        ValueError: it gets other tokens.
    """
    text = task.decode(tokens)
    if task.encode(text) != [int(token) for token in tokens if token != PAD]:
        raise LoadError(
            f"task: the text {text!r} does not give its tokens back; valid: a task whose texts do"
        )
    return text
