"""Figure 2's command: the configurations of the runs, how training stops, a whole tiny run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from covlab.claims import arms
from covlab.claims.arms import Arm
from covlab.claims.claim import Plan
from covlab.claims.settings import field_checks, read
from covlab.launch.build import build
from covlab.launch.runs import Finished
from covlab.report.verdict import Verdict
from experiments.figure2 import runs
from experiments.figure2.measure import Settings


def planned(config: DictConfig) -> dict[str, Arm]:
    plan = Plan(config, Path("runs/x"), frozenset({"scale", *field_checks(Settings)}))
    return runs.stage(read(Settings, config), plan)


def hard_layers(task: Any) -> int:
    """Branching layers of the hard class."""
    return task.depth // 2


@pytest.mark.parametrize(("scale", "depths"), [("cpu", None), ("paper", [8, 12, 16, 20, 24])])
def test_every_horizon_of_a_scale_is_a_run_of_train(
    scale: str, depths: list[int] | None, compose_config: Callable[..., DictConfig]
) -> None:
    config = compose_config("figure2", f"scale={scale}", f"experiment=figure2_{scale}")
    assert depths is None or list(config.horizons) == depths
    planned_arms = planned(config)
    assert list(planned_arms) == [f"H{depth}" for depth in config.horizons]
    for horizon, arm in zip(config.horizons, planned_arms.values(), strict=True):
        assert not {"scale", *field_checks(Settings)} & set(map(str, arm.config))
        setup = build(arm.config)
        runs.check_run(read(Settings, config), f"H{horizon}", setup)
        task: Any = setup.phases[-1].task
        assert task.depth == horizon
        rare, hard = (0.02, "parities") if scale == "cpu" else (0.01, "xor")
        assert dict(task.mixture) == pytest.approx({"chain": 0.95 - rare, hard: 0.05, "uniform": rare})
        assert hard_layers(task) not in (0, task.uniform_branching) or scale == "paper"
        assert task.num_enumerated == 0
        assert setup.model.prompt_length == task.prompt_length


def test_a_horizon_may_override_its_own_run_alone(compose_config: Callable[..., DictConfig]) -> None:
    config = compose_config(
        "figure2", "horizons=[4,6,10]", "+per_horizon.H10={steps: 77, optimizer: {learning_rate: 0.5}}"
    )
    configs = {name: arm.config for name, arm in planned(config).items()}
    assert (configs["H10"].steps, configs["H10"].optimizer.learning_rate) == (77, 0.5)
    first = configs["H4"]
    assert (first.steps, first.optimizer.learning_rate) == (config.steps, config.optimizer.learning_rate)
    assert first.task.depth == 4


@pytest.mark.parametrize(("state", "status"), [("stopped", 130), ("failed", 1)])
def test_a_horizon_that_does_not_finish_ends_the_command(
    state: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    tiny_config: Callable[[str], DictConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tiny_config("figure2")
    trained = []

    def train_run(own: DictConfig, path: Path, *_: Any) -> Finished:
        trained.append(own.task.depth)
        return Finished(path, state if own.task.depth == 5 else "complete", "SIGTERM", 1.0)

    monkeypatch.setattr(arms, "train_run", train_run)
    monkeypatch.setattr(arms.StopRequest, "install", lambda self: self)
    assert arms.train_arms("figure2", planned(config), Path("runs/x")) == status
    assert trained == [4, 5]
    said = capsys.readouterr().err
    assert "horizon 5, 2 of 3: runs/x/H5" in said
    assert "runs/x/H5: " in said


def test_a_stop_between_horizons_starts_no_other(
    monkeypatch: pytest.MonkeyPatch, tiny_config: Callable[[str], DictConfig]
) -> None:
    config = tiny_config("figure2")
    trained = []

    class Asked:
        def install(self) -> Asked:
            return self

        def __call__(self) -> str | None:
            return "SIGTERM" if trained else None

    def train_run(own: DictConfig, path: Path, *_: Any) -> Finished:
        trained.append(own.task.depth)
        return Finished(path, "complete", "", 1.0)

    monkeypatch.setattr(arms, "train_run", train_run)
    monkeypatch.setattr(arms, "StopRequest", Asked)
    assert arms.train_arms("figure2", planned(config), Path("runs/x")) == 130
    assert trained == [4]


def test_the_tiny_run_trains_three_horizons(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("figure2")
    verdict = Verdict.read(path / "verdict.json")
    assert (verdict.holds, verdict.seeds) == (False, (3, 4))
    assert (path / "report.html").read_text().count("<figure") == 5
    metrics = {depth: (path / f"H{depth}" / "metrics.jsonl").read_bytes() for depth in (4, 5, 6)}
    last = json.loads(metrics[6].splitlines()[-1])
    assert last["step"] == 16
    assert {"eval/kl", "eval/parities/kl", "eval/uniform/cov/3"} <= last.keys()
