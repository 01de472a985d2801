"""Names of run directories: readable, stable, and different wherever the overrides are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig

from covlab.launch.build import plain
from covlab.launch.run_names import LONGEST, override_key, run_name, run_path

SHARED = tuple(f"evaluation.{key}={value}" for key, value in {
    "num_examples": 4096, "batch_size": 128, "num_samples": 64, "table_prompts": 16, "seed": 17,
    "schedule.every": 250, "schedule.spacing": "logarithmic", "schedule.per_decade": 12,
}.items())  # fmt: skip


def test_names_are_readable_and_unique() -> None:
    assert run_name(()).text == "default"
    ignored = ["name=x", "root=y", "tracking.wandb=disabled", "tracking.tags=[a,b]", "checkpoint=default"]
    assert run_name(["seed=3", *ignored, "task.depth=2"]) == ("seed=3__task.depth=2", "", "")
    long = [run_name([f"task.depth={'1' * 200}{i}"]).text for i in range(2)]
    assert len(set(long)) == 2
    assert max(map(len, long)) <= LONGEST


@pytest.mark.parametrize(
    "override", ["early_warning={}", "early_warning.parameter=16", "+early_warning.threshold=0.1"]
)
def test_an_early_warning_is_not_in_the_name(override: str) -> None:
    assert run_name([override, "seed=1"]).text == "seed=1"


def test_the_key_of_an_override() -> None:
    assert [override_key(text) for text in ("a.b=1", "++a=x=y", "~a", "task@g.task=x")] == [
        "a.b", "a", "a", "task",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('task.prefix="( ["', 'task.prefix="[ ("'),
        ("run=runs/train/a-b", "run=runs/train-a/b"),
        ("run=a/b", "run=a-b"),
        ("evaluation.coverage_ns=[2,4]", "evaluation.coverage_ns={2,4}"),
        ("name_of=a__b", 'name_of="a,b"'),
    ],
)
def test_values_that_clean_to_one_name_are_told_apart(one: str, other: str) -> None:
    names = [run_name([each, "seed=1"]).text for each in (one, other)]
    assert names[0] != names[1]


def test_what_a_sweep_varies_comes_first_where_names_are_cut() -> None:
    jobs = [(*SHARED, f"optimizer={kind}", f"seed={seed}") for kind in ("adamw", "sgd") for seed in (0, 1)]
    made = [run_name(job, {"optimizer", "seed"}) for job in jobs]
    assert len({name.text for name in made}) == 4
    for job, name in zip(jobs, made, strict=True):
        assert name.text.startswith("__".join(job[-2:]) + "__evaluation.batch_size=128__")
        assert len(name.text) <= LONGEST
        # The single command has the same digest, by which it finds the sweep's directory.
        assert name.digest == run_name(job).digest
        assert name.text.endswith(name.digest)
    # A name that is not cut is the single command's own.
    assert run_name(["steps=3", "seed=1"], {"seed"}).text == run_name(["steps=3", "seed=1"]).text


def test_a_run_is_found_whatever_its_name_begins_with(
    tmp_path: Path, compose_config: Callable[..., DictConfig]
) -> None:
    overrides = [*SHARED, "seed=1"]
    config = compose_config("train", *overrides, f"root={tmp_path}")
    first = run_path(config, overrides, {"seed"})
    assert first != run_path(config, overrides)
    first.mkdir(parents=True)
    assert run_path(config, overrides) == first
    assert run_path(config, overrides, {"evaluation.seed"}) == first


def test_a_run_of_an_earlier_version_is_continued_where_it_lies(
    tmp_path: Path, compose_config: Callable[..., DictConfig]
) -> None:
    overrides = ["task.mixture={G1:0.5,G2:0.5}", "seed=1"]
    config = compose_config("train", *overrides, f"root={tmp_path}")
    new = run_path(config, overrides)
    old = tmp_path / "train" / "seed=1__task.mixture=-G1-0.5__G2-0.5-"
    old.mkdir(parents=True)
    assert run_path(config, overrides) == new
    (old / "config.yaml").write_text(yaml.safe_dump(plain(config)))
    assert run_path(config, overrides) == old
    # Another value that an earlier version gave the same name.
    stored = plain(config)
    stored["task"]["mixture"]["G2"] = 0.25
    (old / "config.yaml").write_text(yaml.safe_dump(stored))
    assert run_path(config, overrides) == new
