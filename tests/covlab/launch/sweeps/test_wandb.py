"""The W&B sweep file, without a network: the agent's command line composes, runs, and overwrites nothing."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig
from wandb.sdk.launch.sweeps import utils

from covlab.claims.arms import Arm, train_arms
from covlab.launch import runs
from covlab.launch.build import build
from covlab.launch.run_names import run_name
from covlab.launch.runs import train_run
from covlab.launch.sweeps.sweeper import Job, _check_run_id
from tracking import read_config, read_records
from tracking.wandb_names import wandb_name

FILE = Path(__file__).parents[4] / "conf" / "wandb_sweep.yaml"
LIMIT = 600


def agent_line(**chosen: object) -> list[str]:
    """The command line that W&B's own agent would start."""
    command = yaml.safe_load(FILE.read_text())["command"]
    given = utils.create_sweep_command_args(
        {"args": {name: {"value": value} for name, value in chosen.items()}}
    )
    line, overrides = utils.make_launch_sweep_entrypoint(given, command)
    assert line is not None
    return [*line, *overrides]


def test_the_agents_command_line_composes(compose_config: Callable[..., DictConfig], tiny_run: Path) -> None:
    sweep = yaml.safe_load(FILE.read_text())
    chosen: dict[str, Any] = {}
    for name, how in sweep["parameters"].items():
        chosen[name] = how.get("value", how["values"][-1] if "values" in how else how.get("min"))
    line = agent_line(**chosen)
    assert line[:3] == ["python", "-m", "experiments.train"]
    config = compose_config("train", *line[3:])
    assert config.optimizer.learning_rate == pytest.approx(1e-4)
    assert isinstance(config.optimizer.learning_rate, float)
    assert build(config).seeds == (0,)
    assert run_name(line[3:]).text == "batch_size=128__optimizer.learning_rate=0.0001__seed=0"
    # What W&B is to minimise is something that runs log.
    assert sweep["metric"]["name"] in {
        wandb_name(key) for key in read_records(tiny_run / "metrics.jsonl")[-1]
    }


class Recorder:
    """Stand-in for the mirror that records the requests."""

    made: list[Recorder]

    def __init__(self, *_: object) -> None:
        self.replayed: list[Any] = []
        self.finished = False
        Recorder.made.append(self)

    def replay(self, records: Any) -> None:
        self.replayed = list(records)

    def finish(self) -> None:
        self.finished = True


def test_values_that_were_proposed_before_are_told_again_and_not_trained_again(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != ".lock"}
    monkeypatch.setattr(runs, "WandbMirror", Recorder)
    config = DictConfig(read_config(path))
    for agent in (False, True):
        Recorder.made = []
        if agent:
            monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
        assert train_run(config, path).state == "complete"
        if agent:
            [mirror] = Recorder.made
            assert mirror.replayed == list(read_records(path / "metrics.jsonl"))
            assert mirror.finished
        else:
            assert Recorder.made == []
        assert {file: file.read_bytes() for file in before} == before


def test_an_agent_has_one_wandb_run(
    compose_config: Callable[..., DictConfig],
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    config = compose_config("train", *tiny, "seeds=2", "tracking.per_seed=true")
    with pytest.raises(
        ValueError, match=r"tracking\.per_seed: True; an agent of a W&B sweep has one W&B run"
    ):
        train_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_agents_runs_are_named_by_their_values(
    tiny: tuple[str, ...], command_line: Callable[..., tuple[list[str], dict[str, str]]], tmp_path: Path
) -> None:
    chosen = agent_line(seed=0, **{"optimizer.learning_rate": 0.002})
    given = [text for text in tiny if not text.startswith("tracking.wandb")]
    line, variables = command_line("train", [*given, "tracking.figures=false", *chosen[3:]])
    variables |= {"WANDB_SWEEP_ID": "abcdefgh", "WANDB_MODE": "offline", "HOME": str(tmp_path)}
    variables["COVLAB_CACHE"] = os.environ.get("COVLAB_CACHE", str(Path.home() / ".cache" / "covlab"))
    texts = []
    for trial in ("trial001", "trial002"):
        parameters = tmp_path / f"{trial}.yaml"
        parameters.write_text(yaml.safe_dump({"wandb_version": 1, "seed": {"value": 0}}))
        ended = subprocess.run(
            line, cwd=tmp_path, text=True, capture_output=True, timeout=LIMIT, check=False,
            env=variables | {"WANDB_RUN_ID": trial, "WANDB_SWEEP_PARAM_PATH": str(parameters)},
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        [path] = (tmp_path / "runs" / "train").iterdir()
        texts.append((path / "metrics.jsonl").read_bytes())
        assert "the run goes on without W&B" not in ended.stderr
        assert list((path / "wandb").rglob(f"run-{trial}.wandb")), sorted((path / "wandb").rglob("*"))
    assert texts[0] == texts[1]


def test_an_id_for_several_jobs_is_refused_before_any_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    jobs = [Job(number, (), (f"seed={number}",), wandb="auto") for number in range(2)]
    off = [dataclasses.replace(job, wandb="disabled") for job in jobs]
    with pytest.raises(ValueError, match=r"^WANDB_RUN_ID: 'mine' names one W&B run, but the sweep makes sev"):
        _check_run_id(jobs)
    for allowed in (jobs[:1], off, [off[0], jobs[1]]):
        _check_run_id(allowed)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    _check_run_id(jobs)


def test_an_id_for_a_claim_of_several_runs_is_refused_before_the_first(
    compose_config: Callable[..., DictConfig],
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = compose_config("train", *tiny, "tracking.wandb=offline")
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    with pytest.raises(ValueError, match=r"^WANDB_RUN_ID: 'mine' names one W&B run, but figure2 makes sever"):
        train_arms("figure2", {"a": Arm(config)}, tmp_path)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["tracking.tags=[" + "x" * 65 + "]"], "tracking.tags: "),
        (["tracking.project=a/b"], "tracking.project: 'a/b'; W&B takes a text of 1 to 128 characters"),
    ],
)
def test_what_w_and_b_would_refuse_leaves_nothing_on_disk(
    compose_config: Callable[..., DictConfig], tmp_path: Path, overrides: list[str], line: str
) -> None:
    config = compose_config("train", "tracking.wandb=offline", *overrides)
    with pytest.raises(ValueError, match=f"^{line}"):
        train_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
