"""The training runs of a claim: which are trained, and how an error in one is named."""

import types
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from covlab.claims import arms
from covlab.claims.arms import Arm, check_rl_settings, train_arms
from covlab.launch.build import Setup
from covlab.launch.runs import Finished
from covlab.launch.trained import TrainedRun


def built(config: DictConfig) -> Any:
    if config.steps < 0:
        raise ValueError(f"steps: {config.steps}")
    return types.SimpleNamespace(phases=(), tracking=types.SimpleNamespace(wandb=None))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The directories that were trained in; building and training are faked."""
    paths: list[Path] = []

    def train_run(config: DictConfig, path: Path, stop: Any, setup: Setup) -> Finished:
        paths.append(path)
        return Finished(path, "complete", "", 1.0)

    monkeypatch.setattr(arms, "build", built)
    monkeypatch.setattr(arms, "train_run", train_run)
    monkeypatch.setattr(arms, "require_no_run_id", lambda wandb, claim: None)
    monkeypatch.setattr(arms.StopRequest, "install", lambda self: self)
    return paths


def arm(steps: int, **names: str) -> Arm:
    return Arm(OmegaConf.create({"steps": steps}), **names)


def test_a_run_that_is_finished_is_not_trained_again(trained: list[Path]) -> None:
    done = TrainedRun(Path("elsewhere"), {}, built(OmegaConf.create({"steps": 1})))
    runs = train_arms("claim", {"base": done, "new": arm(1)}, Path("runs/claim/x"))
    assert isinstance(runs, dict)
    assert runs["base"] is done
    assert runs["new"].path == Path("runs/claim/x/new")
    assert trained == [Path("runs/claim/x/new")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({}, "steps: -1"),
        ({"label": "horizon 2"}, "horizon 2: steps: -1"),
        ({"where": "zoo.new"}, "zoo.new: steps: -1"),
        ({"label": "horizon 2", "where": "zoo.new"}, "zoo.new: steps: -1"),
    ],
)
def test_an_error_names_its_run(trained: list[Path], names: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        train_arms("claim", {"old": arm(1), "new": arm(-1, **names)}, Path("runs/claim/x"))
    assert not trained


def test_settings_of_reinforcement_learning_are_those_of_its_runs() -> None:
    assert check_rl_settings("rl", None) == {}
    assert check_rl_settings("rl", {"steps": 3}) == {"steps": 3}
    for value, message in (
        ({"task": {}}, "rl.task: no such field; valid are "),
        ({"run": "x"}, "rl.run: no such field; valid are "),
        (3, "rl: 3 is not a mapping; valid keys are "),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            check_rl_settings("rl", value)
