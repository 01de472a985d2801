"""Training runs of a claim: what is refused before the first, and whom a request to stop reaches."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from covlab.claims import arms
from covlab.claims.arms import Arm, train_arms
from covlab.launch.build import Setup
from covlab.launch.cli import StopRequest
from covlab.launch.runs import Finished


@pytest.fixture
def config(compose_config: Callable[..., DictConfig], tiny: tuple[str, ...]) -> DictConfig:
    return compose_config("train", *tiny)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Any]]:
    """The directories that would have been trained in, and what may stop each."""
    found: list[tuple[Path, Any]] = []

    def train_run(own: DictConfig, path: Path, stop: Any, setup: Setup) -> Finished:
        found.append((path, stop))
        return Finished(path, "complete", "", 1.0)

    monkeypatch.setattr(arms, "train_run", train_run)
    monkeypatch.setattr(arms.StopRequest, "install", lambda self: self)
    return found


def test_runs_that_cannot_be_compared_are_refused_before_the_first(
    config: DictConfig, trained: list[tuple[Path, Any]], tmp_path: Path
) -> None:
    def refuse(setups: Mapping[str, Setup]) -> None:
        raise ValueError(f"arms: {', '.join(setups)}; valid: others")

    with pytest.raises(ValueError, match=r"^arms: a, b; valid: others$"):
        train_arms("claim", {"a": Arm(config), "b": Arm(config, label="B")}, tmp_path, check_all=refuse)
    assert trained == []


def test_a_run_in_the_claims_own_directory_may_have_an_id(
    compose_config: Callable[..., DictConfig],
    tiny: tuple[str, ...],
    trained: list[tuple[Path, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = compose_config("train", *tiny, "tracking.wandb=offline")
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert isinstance(train_arms("figure1", {"run": Arm(config, directory=".")}, tmp_path), dict)
    assert [path for path, _ in trained] == [tmp_path]
    assert capsys.readouterr().err == ""


def test_one_request_to_stop_serves_all_stages(
    config: DictConfig, trained: list[tuple[Path, Any]], tmp_path: Path
) -> None:
    asked = StopRequest()
    for name in ("base", "value"):
        train_arms("claim", {name: Arm(config)}, tmp_path, stop=lambda: asked)
    assert [(path.name, stop is asked) for path, stop in trained] == [("base", True), ("value", True)]
