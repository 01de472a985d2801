"""A linear model trained on its own data distribution by the command's machinery, against exact sums."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from covlab.launch.runs import train_run
from covlab.launch.trained import open_run
from experiments import decode
from metrics import mean_interval, proportion_interval
from tasks import AutoregressiveLinear, markov_sums
from tracking import load_log_probs, read_records

SETTINGS = (
    "task=autoregressive_linear", "task.num_prompts=2", "model=linear", "optimizer=sgd",
    "optimizer.learning_rate=0.02", "optimizer.schedule=cosine", "optimizer.final_fraction=0.0",
    "seeds=2", "steps=200", "batch_size=256", "evaluation.num_examples=2000", "evaluation.batch_size=2000",
    "evaluation.schedule.every=20", "checkpoint.parameters=evaluations",
    "tracking.wandb=disabled", "tracking.progress=false", "tracking.figures=false",
    "evaluation.table_prompts=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, compose_config: Callable[..., Any]) -> Path:
    """A complete run. Read only but for `evaluations/`."""
    path = tmp_path_factory.mktemp("runs") / "train" / "linear"
    assert train_run(compose_config("train", *SETTINGS), path).state == "complete"
    return path


@pytest.mark.long
def test_training_finds_the_true_law(run: Path) -> None:
    opened = open_run(run)
    (phase, step), *_ = opened.checkpoints(["last"])
    task = opened.setup.phases[0].task
    assert isinstance(task, AutoregressiveLinear)
    theta = np.asarray(opened.parameters(phase, step)["theta"])
    assert theta.shape == (2, 8)
    found = [task.exact_kl(each) for each in theta]
    # 51,200 sequences and d = 8: the KL of the maximum-likelihood estimate is about d/(2n) = 8e-5.
    assert max(found) < 2e-3
    assert task.exact_kl(np.zeros(8)) > 1


@pytest.mark.long
def test_the_evaluators_kl_and_coverage_are_the_exact_ones_within_their_intervals(run: Path) -> None:
    opened = open_run(run)
    task = opened.setup.phases[0].task
    assert isinstance(task, AutoregressiveLinear)
    assert task.num_enumerated == 0, "this test is about sampled held-out responses"
    arrays, records = load_log_probs(run), read_records(run / "metrics.jsonl")
    reported = {(each["step"], each["seed"]): each for each in records if "eval/kl" in each}
    for step in (0, 20):
        theta = np.asarray(opened.parameters("train", step)["theta"])
        found = arrays[f"train_{step:08d}"]["log_prob"].astype(np.float64)
        for seed in (0, 1):
            ratio = (arrays["train_held_out"]["log_pi"] - found[seed])[:, 0]
            measured, exact = mean_interval(ratio), task.exact_kl(theta[seed])
            assert measured.low <= exact <= measured.high
            assert measured.high - measured.low < 0.5 * exact
            assert reported[step, seed]["eval/kl"] == pytest.approx(measured.estimate, rel=1e-6)
            low, high = markov_sums.coverages(
                task.features, task.theta_star(), theta[seed], (2, 4), bins=2**19
            )
            for column, n in enumerate((2, 4)):
                hits = int(np.sum(ratio >= np.log(n)))
                interval = proportion_interval(hits, len(ratio))
                assert (high - low)[:, column].mean() < 2e-3
                assert interval.low <= high[:, column].mean()
                assert interval.high >= low[:, column].mean()
                assert reported[step, seed][f"eval/cov/{n}"] == pytest.approx(hits / len(ratio))


@pytest.mark.slow
def test_a_decoder_answers_with_it(run: Path, call: Callable[..., Any]) -> None:
    ended = call(
        decode.main, f"run={run}", "decoding=ancestral", "samples=2", "num_prompts=2", "pass_ns=[1]", "show=1"
    )
    assert ended.status == 0, ended.err
    assert "| pass/1   | 1 [1, 1]" in ended.out


def test_another_tasks_features_are_refused_in_one_line(
    run: Path, call: Callable[..., Any], compose_config: Callable[..., Any]
) -> None:
    for overrides, message in (
        ("task_overrides={seed: 1}", "model: linear was made for the features"),
        ("task_overrides={horizon: 7}", "model: linear was made for the features"),
    ):
        ended = call(decode.main, f"run={run}", "decoding=ancestral", overrides)
        assert ended.status == 2
        assert message in ended.err
        assert ended.err.count("\n") == 1
    # Another theta* on the same features is a question about transfer.
    other = open_run(run).task("train", {"theta_seed": 1})
    assert other.features == open_run(run).setup.phases[0].task.features


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=linear"], "model: linear takes its features from the task, and LayeredGraph has none"),
        (["model=linear", "+model.phi=1"], "model.phi: 1 is no setting"),
        (
            ["model=linear", "task=autoregressive_linear", "model.init_radius=-1"],
            "model.init_radius: -1 is not",
        ),
        (
            ["model=linear", "task=autoregressive_linear", "+phases.a={}", "+phases.b={task:{seed:1}}"],
            "model: linear was made for the features",
        ),
    ],
)
def test_bad_runs_are_refused_in_one_line(
    overrides: list[str], message: str, compose_config: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="model") as refused:
        train_run(compose_config("train", *overrides), tmp_path / "run")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run" / "config.yaml").exists()
