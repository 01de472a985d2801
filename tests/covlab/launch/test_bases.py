"""Runs built on another run: its checkpoint is known by its contents, and its diverged seeds are left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import DictConfig

from covlab.launch import base_model
from covlab.launch.base_model import base_parameters, rl_config, same_base, value_config
from covlab.launch.build import build, plain
from covlab.launch.runs import train_run
from covlab.launch.trained import open_run
from experiments import compare, decode, evaluate, select, train_rl
from tracking import read_status

Compose = Callable[..., DictConfig]
QUICK = (
    "steps=4", "batch_size=4", "log_every=2", "evaluation.num_examples=4",
    "evaluation.schedule.every=2", "evaluation.table_prompts=0", "tracking.wandb=disabled",
    "tracking.figures=false", "tracking.progress=false", "checkpoint.every_seconds=0",
)  # fmt: skip


@pytest.fixture
def base(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run that may be changed."""
    return Path(shutil.copytree(tiny_run, tmp_path / "base"))


def drop_records(path: Path, seeds: set[int], phase: str, step: int) -> None:
    """Remove the records that a run does not write once these seeds have diverged."""
    file = path / "metrics.jsonl"
    kept = [
        line
        for line in file.read_text().splitlines(keepends=True)
        if (r := json.loads(line))["seed"] not in seeds or r["phase"] != phase or r["step"] < step
    ]
    file.write_text("".join(kept))


@pytest.fixture
def lost(base: Path) -> Path:
    """The run after all seeds have diverged in the second phase."""
    drop_records(base, {0, 1}, "finetune", 10)
    reason = "loss or gradient is not finite: seed 0 at step 8 of finetune, seed 1 at step 9 of finetune"
    (base / "status.json").write_text(json.dumps({"state": "failed", "reason": reason}))
    return base


def asked(compose_config: Compose, run: Any, *overrides: str) -> DictConfig:
    return rl_config(compose_config("train_rl", f"run={run}", *QUICK, *overrides))


def test_devices_are_made_for_the_runs_seeds_before_the_base_model_is_built(
    base: Path, compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking a Flax module starts JAX with the devices that it then has."""
    done: list[Any] = []

    def opened(path: Any) -> Any:
        done.append("opened")
        return open_run(path)

    monkeypatch.setattr(
        base_model, "configure_run", lambda config: done.append((config.seeds, config.devices))
    )
    monkeypatch.setattr(base_model, "open_run", opened)
    asked(compose_config, base, "devices=3")
    assert done == [(2, 3), "opened"]


@pytest.mark.slow
def test_a_base_trained_again_under_the_same_name_is_refused(
    base: Path, tiny_run: Path, compose_config: Compose, tmp_path: Path
) -> None:
    config = asked(compose_config, base, "objective.kl_weight=0.5")
    path, calls = tmp_path / "rl", iter(range(100))
    ended = train_run(config, path, lambda: "asked to" if next(calls) >= 1 else None)
    assert ended.state == "stopped"
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    # Another seed's training in the base's place: the same name, shapes and steps.
    again = compose_config("train", *yaml_overrides(tiny_run), "seed=5")
    shutil.rmtree(base)
    assert train_run(again, base).state == "complete"
    with pytest.raises(ValueError, match=r"^base: .*began with other parameters than those of") as error:
        train_run(asked(compose_config, base, "objective.kl_weight=0.5", "seed=5"), path)
    assert "\n" not in str(error.value)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    # The old base again, moved: the run goes on.
    moved = shutil.copytree(tiny_run, tmp_path / "moved")
    ended = train_run(asked(compose_config, moved, "objective.kl_weight=0.5"), path)
    assert ended.state == "complete"


def yaml_overrides(path: Path) -> Iterator[str]:
    """The overrides of the tiny run's fixture, from its own configuration."""
    config = yaml.safe_load((path / "config.yaml").read_text())
    for key in ("task", "model", "optimizer"):
        for name, value in config[key].items():
            if name in ("depth", "width", "num_ids", "num_layers", "num_heads", "learning_rate"):
                yield f"{key}.{name}={value}"
    yield from (f"steps={config['steps']}", f"batch_size={config['batch_size']}", f"seeds={config['seeds']}")
    yield from ("evaluation.num_examples=16", "evaluation.schedule.every=5", "evaluation.table_prompts=0")
    yield from ("tracking.wandb=disabled", "tracking.figures=false", "tracking.progress=false")
    yield from ("+phases.pretrain={}", "+phases.finetune={task:{mixture:{G1:0.5,G2:0.2,G3:0.3}}}")


@pytest.mark.long
def test_a_base_is_known_by_its_parameters_and_not_by_how_its_path_is_spelt(
    base: Path, compose_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(base)
    first = plain(asked(compose_config, "base"))
    assert first["base"]["sha256"] == open_run(base).digest("finetune", 20)
    path = tmp_path / "rl"
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump(first))
    for spelt in ("./base", "base/", "link", str(base), "../" + tmp_path.name + "/base"):
        assert same_base(path, plain(asked(compose_config, spelt))) == ("base.run",)
    # A run from before the SHA-256 was kept: the same place is the same base.
    del first["base"]["sha256"]
    (path / "config.yaml").write_text(yaml.safe_dump(first))
    assert same_base(path, plain(asked(compose_config, "./base/"))) == ("base.sha256", "base.run")
    other = shutil.copytree(base, tmp_path / "other")
    assert same_base(path, plain(asked(compose_config, other))) == ("base.sha256",)
    assert same_base(tmp_path / "new", first) == ()


def test_other_parameters_are_refused_before_anything_is_trained(
    base: Path, compose_config: Compose, tmp_path: Path
) -> None:
    config = plain(asked(compose_config, base))
    path = tmp_path / "rl"
    path.mkdir()
    (path / "config.yaml").write_text(
        yaml.safe_dump(config | {"base": config["base"] | {"sha256": "0" * 64}})
    )
    content = (path / "config.yaml").read_bytes()
    with pytest.raises(ValueError, match=r"put the old base back, or choose another run name$") as error:
        train_run(asked(compose_config, base), path)
    assert "\n" not in str(error.value)
    assert (path / "config.yaml").read_bytes() == content


def test_the_checkpoint_that_a_run_began_with_is_named_where_another_is_last(
    tmp_path: Path,
) -> None:
    before = {"run": "base", "phase": "finetune", "step": 10, "sha256": "0" * 64}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"base": before}))
    with pytest.raises(ValueError, match=r": valid: checkpoint_of=finetune:10, or choose another run name$"):
        same_base(tmp_path, {"base": before | {"step": 20, "sha256": "1" * 64}})


@pytest.mark.long
@pytest.mark.parametrize(("command", "spell_out"), [("train_rl", rl_config), ("train_value", value_config)])
def test_diverged_seeds_of_a_base_are_left_out_and_named(
    command: str,
    spell_out: Callable[[DictConfig], DictConfig],
    base: Path,
    compose_config: Compose,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drop_records(base, {0}, "finetune", 10)
    config = spell_out(compose_config(command, f"run={base}"))
    assert (config.seed, config.seeds, list(config.base.diverged)) == (0, 2, [0])
    setup = build(config)
    assert setup.seeds == (1,)
    parameters = base_parameters(config, setup)
    assert f"{base}: seed 0 had diverged at finetune:20 and is left out" in capsys.readouterr().out
    whole = open_run(base).parameters("finetune", 20)
    for own, theirs in zip(_leaves(parameters), _leaves(whole), strict=True):
        np.testing.assert_array_equal(own, np.asarray(theirs)[[1]])
    # A seed counts at a checkpoint from before it diverged.
    early = spell_out(compose_config(command, f"run={base}", "checkpoint_of=finetune:5"))
    assert "diverged" not in early.base
    with pytest.raises(ValueError, match="every seed that is asked for had diverged at finetune:20"):
        spell_out(compose_config(command, f"run={base}", "seeds=1"))


OWN = "checkpoint_of={0: 'finetune:20', 1: 'finetune:5'}"


@pytest.mark.long
@pytest.mark.parametrize(("command", "spell_out"), [("train_rl", rl_config), ("train_value", value_config)])
def test_each_seed_starts_from_its_own_checkpoint(
    command: str, spell_out: Callable[[DictConfig], DictConfig], base: Path, compose_config: Compose
) -> None:
    config = spell_out(compose_config(command, f"run={base}", OWN))
    assert (config.base.phase, config.base.step) == ("finetune", 20)
    assert dict(config.base.steps) == {"0": 20, "1": 5}
    run, parameters = open_run(base), base_parameters(config, build(config))
    for seed, step in ((0, 20), (1, 5)):
        for own, theirs in zip(_leaves(parameters), _leaves(run.parameters("finetune", step)), strict=True):
            np.testing.assert_array_equal(own[seed], np.asarray(theirs)[seed])
    # Another assignment of the same checkpoints is another base.
    other = "checkpoint_of={0: 'finetune:5', 1: 'finetune:20'}"
    swapped = spell_out(compose_config(command, f"run={base}", other))
    digests = {config.base.sha256, swapped.base.sha256, run.digest("finetune", 5), run.digest("finetune", 20)}
    assert len(digests) == 4
    # Seeds that are not asked for need no checkpoint.
    one = spell_out(compose_config(command, f"run={base}", "checkpoint_of={1: 'finetune:5'}", "seed=1"))
    assert dict(one.base.steps) == {"1": 5}
    # A seed that diverged is left out, but not where its own checkpoint is from before.
    drop_records(base, {0}, "finetune", 10)
    assert list(spell_out(compose_config(command, f"run={base}", OWN)).base.diverged) == [0]
    assert "diverged" not in spell_out(compose_config(command, f"run={base}", other)).base


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "{0: 'finetune:20'}",
            r"^checkpoint_of: no checkpoint for seed 1; valid: for every seed a checkpoint",
        ),
        ("{0: 'finetune:20', 1: 'pretrain:10'}", r"^checkpoint_of: phases \['finetune', 'pretrain'\]; valid"),
        ("{0: 'finetune:3', 1: 'finetune:5'}", r"^checkpoints: finetune:3 asked of"),
    ],
)
def test_checkpoints_by_seed_that_there_are_not_are_refused(
    given: str, message: str, base: Path, compose_config: Compose
) -> None:
    with pytest.raises(ValueError, match=message):
        rl_config(compose_config("train_rl", f"run={base}", f"checkpoint_of={given}"))


def _leaves(tree: Any) -> list[Any]:
    import jax

    return jax.tree.leaves(tree)


@pytest.mark.long
def test_a_run_whose_seeds_all_diverged_is_one_line_everywhere(
    lost: Path, compose_config: Compose, call: Callable[..., Any]
) -> None:
    for main, arguments in (
        (train_rl.main, (f"run={lost}", *QUICK)),
        (evaluate.main, (f"run={lost}",)),
        (decode.main, (f"run={lost}", "decoding=ancestral", "value=constant")),
        (select.main, (f"run={lost}",)),
        (compare.main, (str(lost), "states=all")),
    ):
        ended = call(main, *arguments)
        assert ended.status == 2, ended.out
        assert "every seed" in ended.err
        assert ended.err.count("\n") == 1
    assert open_run(lost).healthy_seeds("finetune", 5) == (0, 1)
    assert open_run(lost).healthy_seeds("pretrain", 20) == (0, 1)


def test_a_kill_between_parameters_and_records_takes_no_seed_for_diverged(base: Path) -> None:
    drop_records(base, {0, 1}, "finetune", 20)
    (base / "status.json").write_text(json.dumps({"state": "running", "reason": ""}))
    drop_records(base, {1}, "finetune", 10)
    assert open_run(base).healthy_seeds("finetune", 20) == (0,)


@pytest.mark.slow
def test_training_that_loses_seeds_says_so_to_those_that_build_on_it(
    compose_config: Compose, tmp_path: Path
) -> None:
    """An absurd learning rate: every seed diverges, and its run cannot be built on."""
    overrides = ("task.depth=2", "task.width=2", "task.num_ids=8", "model.width=16", "model.num_layers=1")
    config = compose_config(
        "train", *overrides, *QUICK, "model.num_heads=2", "seeds=2", "optimizer=sgd",
        "optimizer.learning_rate=1e30", "checkpoint.parameters=evaluations",
    )  # fmt: skip
    path = tmp_path / "absurd"
    assert train_run(config, path).state == "failed"
    assert read_status(path).reason.startswith("loss or gradient is not finite")
    with pytest.raises(ValueError, match="every seed that is asked for had diverged"):
        asked(compose_config, path)
