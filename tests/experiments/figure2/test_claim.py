"""Figure 2's command: its runs' configurations, what it refuses, how it stops, a whole tiny run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from covlab.claims import arms as several_runs
from covlab.claims.old_claim import interval_over_shared_prompts
from covlab.launch.build import build
from covlab.launch.runs import Finished
from covlab.report.verdict import Verdict
from experiments import figure2
from metrics import Interval

TINY = (
    "seed=3", "seeds=2", "name=tiny", "horizons=[4,5,6]", "task.width=2", "task.num_ids=16",
    "model.num_layers=1", "model.num_heads=2", "model.width=16", "steps=16", "batch_size=8", "log_every=16",
    "evaluation.num_examples=16", "evaluation.table_prompts=0", "evaluation.schedule.every=1",
    "branching_examples=16", "branching_checkpoints=2", "tracking.wandb=disabled", "tracking.figures=false",
)  # fmt: skip


def layers_of_xor(task: Any) -> int:
    """Branching layers of class xor."""
    return task.depth // 2


@pytest.mark.parametrize(("scale", "depths"), [("cpu", None), ("paper", [8, 16, 24])])
def test_every_horizon_of_a_scale_is_a_run_of_train(
    scale: str, depths: list[int] | None, compose_config: Callable[..., DictConfig]
) -> None:
    config = compose_config("figure2", f"scale={scale}", f"experiment=figure2_{scale}")
    figure2._check(config)
    assert depths is None or list(config.horizons) == depths
    for horizon in config.horizons:
        own = figure2.horizon_config(config, Path(f"runs/figure2/{scale}"), horizon)
        assert not set(figure2.OWN_KEYS) & set(own)
        setup = build(own)
        figure2._check_setup(setup)
        task: Any = setup.phases[-1].task
        assert task.depth == horizon
        rare = 0.02 if scale == "cpu" else 0.01
        assert dict(task.mixture) == pytest.approx({"chain": 0.95 - rare, "xor": 0.05, "uniform": rare})
        assert layers_of_xor(task) not in (0, task.uniform_branching) or scale == "paper"
        assert task.num_enumerated == 0
        assert setup.model.prompt_length == task.prompt_length


def test_a_horizon_may_override_its_own_run_alone(compose_config: Callable[..., DictConfig]) -> None:
    config = compose_config(
        "figure2", "horizons=[4,6,10]", "+per_horizon.H10={steps: 77, optimizer: {learning_rate: 0.5}}"
    )
    figure2._check(config)
    runs = {h: figure2.horizon_config(config, Path("runs/x"), h) for h in (4, 10)}
    assert (runs[10].steps, runs[10].optimizer.learning_rate) == (77, 0.5)
    assert (runs[4].steps, runs[4].optimizer.learning_rate) == (config.steps, config.optimizer.learning_rate)
    assert runs[4].task.depth == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seeds=1"], "horizon 4: seeds: 1; figure2 needs at least 2"),
        (["horizons=[4,6]"], "horizons: [4, 6]; valid: at least 3 different integers >= 2"),
        (["horizons=[4,6,6]"], "horizons: [4, 6, 6]; valid"),
        (["horizons=[1,4,6]"], "horizons: [1, 4, 6]; valid"),
        (["horizons=5"], "horizons: 5; valid"),
        (["+per_horizon.H5={steps: 1}"], "per_horizon: 'H5' is not one of H4, H6, H10"),
        (["+per_horizon.H4={depth: 1}"], "per_horizon.H4.depth: no such field; valid are task, "),
        (["n=0.5"], "n: 0.5 is not a number >= 1"),
        (["n=three"], "n: 'three' is not a number >= 1"),
        (["branching_examples=0"], "branching_examples: 0 is not an integer >= 16"),
        (["checkpoint.parameters=none"], "horizon 4: checkpoint.parameters: none"),
        (["evaluation.schedule.every=0"], "horizon 4: evaluation.schedule: 2 evaluations in"),
        (["task.num_ids=20"], "horizon 10: phases.train.task: task.num_ids: 20 ids are too few"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(
    overrides: list[str], message: str, call: Callable[..., Any], tmp_path: Path
) -> None:
    ended = call(figure2.main, "horizons=[4,6,10]", "task.width=2", "task.num_ids=24", *overrides)
    assert ended.status == 2
    assert ended.err.startswith(f"error: {message}"), ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("state", "status"), [("stopped", 130), ("failed", 1)])
def test_a_horizon_that_does_not_finish_ends_the_command(
    state: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    compose_config: Callable[..., DictConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = compose_config("figure2", *TINY)
    configs = {h: figure2.horizon_config(config, Path("runs/x"), h) for h in (4, 5, 6)}
    setups = {h: build(own) for h, own in configs.items()}
    trained = []

    def train_run(own: DictConfig, path: Path, *_: Any) -> Finished:
        trained.append(own.task.depth)
        return Finished(path, state if own.task.depth == 5 else "complete", "SIGTERM", 1.0)

    monkeypatch.setattr(several_runs, "train_run", train_run)
    monkeypatch.setattr(several_runs.StopRequest, "install", lambda self: self)
    directories = {h: Path(f"runs/x/H{h}") for h in configs}
    named = (figure2.by_name(configs), figure2.by_name(setups), figure2.by_name(directories))
    assert several_runs.train_runs("figure2", *named) == status
    assert trained == [4, 5]
    said = capsys.readouterr().err
    assert "horizon 5, 2 of 3: runs/x/H5" in said
    assert "runs/x/H5: " in said


def test_a_stop_between_horizons_starts_no_other(
    monkeypatch: pytest.MonkeyPatch, compose_config: Callable[..., DictConfig]
) -> None:
    config = compose_config("figure2", *TINY)
    configs = {h: figure2.horizon_config(config, Path("runs/x"), h) for h in (4, 5, 6)}
    setups = {h: build(own) for h, own in configs.items()}
    trained = []

    class Asked:
        def install(self) -> Asked:
            return self

        def __call__(self) -> str | None:
            return "SIGTERM" if trained else None

    def train_run(own: DictConfig, path: Path, *_: Any) -> Finished:
        trained.append(own.task.depth)
        return Finished(path, "complete", "", 1.0)

    monkeypatch.setattr(several_runs, "train_run", train_run)
    monkeypatch.setattr(several_runs, "StopRequest", Asked)
    directories = {h: Path(f"runs/x/H{h}") for h in configs}
    named = (figure2.by_name(configs), figure2.by_name(setups), figure2.by_name(directories))
    assert several_runs.train_runs("figure2", *named) == 130
    assert trained == [4]


def test_an_interval_over_shared_prompts_keeps_their_width() -> None:
    found = interval_over_shared_prompts([Interval(0.4, 0.3, 0.6), Interval(0.6, 0.5, 0.6)])
    assert (found.estimate, found.low, found.high) == pytest.approx((0.5, 0.4, 0.6))


@pytest.mark.slow
def test_command_trains_three_horizons_and_reuses_them(tmp_path: Path, command_line: Any) -> None:
    arguments, environment = command_line("figure2", [*TINY, f"root={tmp_path}"])
    root = Path(__file__).parents[3]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            arguments, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=1200
        )

    done = run()
    assert done.returncode == 0, done.stderr
    place = tmp_path / "figure2" / "tiny"
    verdict = Verdict.read(place / "verdict.json")
    assert verdict.claim == "figure2"
    assert not verdict.holds
    assert verdict.seeds == (3, 4)
    report = (place / "report.html").read_text()
    assert report.count("<figure") == 4
    for check in verdict.checks:
        assert check.name.split(":")[0] in report
    metrics = {h: (place / f"H{h}" / "metrics.jsonl").read_bytes() for h in (4, 5, 6)}
    last = json.loads(metrics[6].splitlines()[-1])
    assert last["step"] == 16
    assert {"eval/kl", "eval/xor/kl", "eval/uniform/cov/3"} <= last.keys()

    again = run()
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("complete already") == 3
    repeated = Verdict.read(place / "verdict.json")
    assert repeated.checks == verdict.checks
    assert {h: (place / f"H{h}" / "metrics.jsonl").read_bytes() for h in (4, 5, 6)} == metrics
