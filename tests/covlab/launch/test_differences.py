"""Settings that differ between runs, and their short names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from covlab.launch.differences import causes, differing_keys, short_names, texts, together
from covlab.launch.found_runs import Head


def heads(*configs: dict[str, Any]) -> list[Head]:
    return [Head(Path(str(i)), str(i), c, "complete", "", frozenset()) for i, c in enumerate(configs)]


def test_what_differs_and_what_moves_together() -> None:
    found = heads(
        {"model.width": 64, "model.layers": 2, "lr": 0.1, "name": "a", "tracking.wandb": "auto", "same": [1]},
        {"model.width": 128, "model.layers": 3, "lr": 0.1, "name": "b", "tracking.wandb": "x", "same": [1]},
        {"model.width": 128, "model.layers": 3, "lr": 0.2, "name": "c", "same": [1], "only.here": 1},
    )
    keys = differing_keys(found, ("name", "tracking"))
    assert keys == ["model.width", "model.layers", "lr", "only.here"]
    assert together(found, keys) == {"model.width": ["model.layers"], "lr": ["only.here"]}
    assert texts(found, "only.here") == ["absent", "absent", "1"]


def test_different_values_have_different_texts() -> None:
    found = heads(*({"rate": rate, "model._target_": name} for rate, name in (
        (0.1, "models.GPT"), (0.10000001, "mine.GPT"), (0.1, "models.GPT"),
    )))  # fmt: skip
    assert texts(found, "rate") == ["0.1", "0.10000001", "0.1"]
    assert texts(found, "model._target_") == ["models.GPT", "mine.GPT", "models.GPT"]
    assert texts(found[::2], "model._target_") == ["GPT", "GPT"]


def test_what_is_measured_is_no_cause() -> None:
    changes = ("evaluation.num_samples", "tracking.wandb", "checkpoint.keep", "log_every", "seed", "name",
               "phases.a.evaluation.schedule.every")  # fmt: skip
    found = heads(*(dict.fromkeys((*changes, "lr", "phases.a.steps"), i) for i in (1, 2)))
    assert causes(found) == ["lr", "phases.a.steps"]


def test_short_names_tell_keys_apart() -> None:
    keys = ["task.depth", "model.width", "task.width", "optimizer._target_", "phases.a.steps", "steps"]
    assert short_names(keys) == {
        "task.depth": "depth",
        "model.width": "model.width",
        "task.width": "task.width",
        "optimizer._target_": "optimizer",
        "phases.a.steps": "a.steps",
        "steps": "steps",
    }
