"""A run from Python: its files are the command's, and its numbers those of the commands that ask it again."""

from __future__ import annotations

import json
import math
import signal
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest

import covlab
from covlab.api import Run
from covlab.launch import runs
from experiments import decode, evaluate, select, train
from tracking import RunSink
from training import Trainer

pytestmark = pytest.mark.long

SETTINGS = (
    "task=parity", "task.length=4", "task.block=2", "model.width=8", "model.num_layers=1",
    "model.num_heads=2", "steps=20", "log_every=10", "batch_size=8", "evaluation.schedule.every=10",
    "evaluation.num_examples=4", "evaluation.table_prompts=0", "checkpoint.parameters=evaluations",
    "tracking.wandb=disabled",
    "tracking.figures=false", "tracking.progress=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two seeds that Ctrl-C stopped at its first boundary, and that the same call in another thread
    continued."""
    root = tmp_path_factory.mktemp("runs")
    before = signal.getsignal(signal.SIGINT)
    shown = RunSink.progress

    def interrupted(sink: RunSink, *place: Any) -> None:
        shown(sink, *place)
        signal.raise_signal(signal.SIGINT)

    trainers: list[weakref.ref[Trainer]] = []

    def made(*given: Any, **named: Any) -> Trainer:
        trainer = Trainer(*given, **named)
        trainers.append(weakref.ref(trainer))
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "Trainer", made)
        patch.setattr(RunSink, "progress", interrupted)
        stopped = covlab.train(*SETTINGS, root=root, name="api", seeds=2)
    assert (stopped.state, stopped.reason) == ("stopped", "SIGINT")
    assert stopped.metrics["step"].max() < 20
    # Neither its programs nor its arrays stay in memory.
    assert [trainer() for trainer in trainers] == [None]
    assert signal.getsignal(signal.SIGINT) is before
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(covlab.train, *SETTINGS, root=root, name="api", seeds=2).result()
    assert (run.state, run.reason) == ("complete", "")
    return run


def test_files_are_those_of_the_command(run: Run, call: Callable[..., Any]) -> None:
    ended = call(train.main, *SETTINGS, "seeds=2", f"root={run.path.parents[1]}", "name=command")
    assert ended.status == 0, ended.err
    beside = run.path.with_name("command")
    for name in ("metrics.jsonl", "log_probs/evaluations.npy"):
        assert (run.path / name).read_bytes() == (beside / name).read_bytes()
    command = covlab.load(beside).config
    assert run.config == command | {"name": "api"}


def test_a_run_shows_its_metrics_and_checkpoints(run: Run) -> None:
    again = covlab.load(str(run.path))
    assert again.metrics.shape[0] == 2 * 3
    assert again.checkpoints == ["train:0", "train:10", "train:20"]
    assert again.task.response_length == 4
    assert again.plot("eval/kl")._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"^phase: 'finetune' has no metrics; there are train$"):
        run.plot(phase="finetune")


def test_samples_have_the_log_probabilities_of_model_and_task(run: Run) -> None:
    frame = run.sample(1, num_samples=64, seed=1)
    for row in frame.itertuples():
        bits = row.response.split()
        # Two blocks of two bits, each even: pi_D is uniform on four of sixteen strings.
        even = len(bits) == 4 and set(bits) <= {"0", "1"} and bits[:1] + bits[2:3] == bits[1:2] + bits[3:]
        assert row.log_pi == (pytest.approx(math.log(1 / 4)) if even else -math.inf)
        assert row.reward == float(even)
    # The sampler's log-probabilities agree with those of whole responses.
    log_prob = by_response(frame)
    assert np.exp(log_prob).sum() < 1
    for other in (run.sample(1, 64, seed=1, temperature=3.0), run.sample(frame["prompt"][0], 64, seed=1)):
        again = by_response(other)
        shared = log_prob.index.intersection(again.index)
        assert len(shared) > 1
        np.testing.assert_allclose(log_prob[shared], again[shared], atol=1e-4)


def by_response(frame: pd.DataFrame) -> pd.Series:
    """ln pi_hat of every response of four words; the text of padding is empty."""
    whole = frame[frame["response"].str.split().str.len() == 4]
    assert (whole.groupby("response")["log_prob"].agg(np.ptp) < 1e-5).all()
    return whole.groupby("response")["log_prob"].first()


def test_evaluate_and_select_are_the_commands(run: Run, call: Callable[..., Any]) -> None:
    asked = {"checkpoints": "all", "coverage_ns": [2, 8], "num_samples": 0, "num_examples": 8}
    frame = run.evaluate(**asked, out="api")
    line = ("checkpoints=all", "coverage_ns=[2,8]", "num_samples=0", "num_examples=8", "out=command")
    assert call(evaluate.main, f"run={run.path}", *line).status == 0
    files = [run.path / "evaluations" / f"{name}.json" for name in ("api", "command")]
    assert frame.attrs["file"] == str(files[0])
    assert files[0].read_bytes() == files[1].read_bytes()
    written = json.loads(files[1].read_bytes())["checkpoints"][-1]
    row = frame.query("step == 20 and seed == 1 and metric == 'cov/8' and `class` == 'mixture'")
    assert row[["estimate", "low", "high"]].iloc[0].to_dict() == written["seeds"]["1"]["cov/8"]
    row = frame.query("step == 20 and seed == 'all' and metric == 'kl' and `class` == 'mixture'")
    assert row[["estimate", "low", "high"]].iloc[0].to_dict() == written["over_seeds"]["kl"]

    table = run.select(n=2, tie_break="latest")
    ours = (run.path / "selection.json").read_bytes()
    assert call(select.main, f"run={run.path}", "n=2", "tie_break=latest").status == 0
    assert ours == (run.path / "selection.json").read_bytes()
    for seed, rows in json.loads(ours)["seeds"].items():
        assert table[table.seed == int(seed)]["step"].tolist() == [row["step"] for row in rows]


SHORT = {
    "steps": 4, "log_every": 2, "batch_size": 4, "tracking.wandb": "disabled", "tracking.figures": False,
    "evaluation.schedule.every": 4, "evaluation.num_examples": 4, "tracking.progress": False,
}  # fmt: skip


def test_values_and_decoding_are_those_of_the_commands(run: Run, call: Callable[..., Any]) -> None:
    root = run.path.parents[1]
    values = run.train_value(**SHORT, root=root, name="value")
    assert (values.path, values.state) == (root / "value" / "value", "complete")
    assert values.config["base"]["run"] == str(run.path)
    asked = {"samples": 4, "num_prompts": 2, "decoding.budget": 16}
    frame = run.decode("vgb", value=values, **asked, out="api")
    line = [f"{key}={value}" for key, value in asked.items()]
    assert call(decode.main, f"run={run.path}", f"value={values.path}", *line, "out=command").status == 0
    files = [run.path / "evaluations" / f"{name}.json" for name in ("api", "command")]
    assert frame.attrs == {"file": str(files[0]), "samples": str(files[0].with_suffix(".samples.jsonl"))}
    assert files[0].read_bytes() == files[1].read_bytes()
    written = json.loads(files[1].read_bytes())
    for place, seed in ((written["seeds"]["1"], 1), (written["over_seeds"], "all")):
        row = frame[(frame.seed == seed) & (frame.metric == "pass/4") & (frame["class"] == "mixture")]
        assert row[["estimate", "low", "high"]].iloc[0].to_dict() == place["pass/4"]


def test_reinforcement_learning_starts_from_the_run(run: Run) -> None:
    asked = {**SHORT, "objective": "rloo", "source.per_prompt": 2, "checkpoint_of": "train:10"}
    asked["checkpoint.parameters"] = "evaluations"
    tuned = run.train_rl(**asked, root=run.path.parents[1], name="tuned")
    assert (tuned.path, tuned.state) == (run.path.parents[1] / "rl" / "tuned", "complete")
    base = tuned.config["base"]
    assert (base["run"], base["phase"], base["step"]) == (str(run.path), "train", 10)
    # Before the first step it is the base model.
    start = tuned.evaluate(checkpoints="train:0", num_examples=8)
    there = run.evaluate(checkpoints="train:10", num_examples=8)
    start, there = (frame[(frame.metric == "kl") & (frame.seed == 1)] for frame in (start, there))
    assert len(there) == 1
    assert start["estimate"].tolist() == there["estimate"].tolist()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda run: run.train_rl(task="dyck"), "task: is the run's; valid: no task"),
        (lambda run: run.train_value(steps=-1), "phases.train.steps: -1"),
        (lambda run: run.decode("vgb", value="nothing"), "value: 'nothing' is neither a run directory nor"),
        (lambda run: run.decode("vbg"), "decoding: no option vbg; valid are .*; did you mean vgb"),
        (
            lambda run: covlab.train(*SETTINGS, root=run.path.parents[1], name="api"),
            r".*seeds was 2, is now 1",
        ),
        (lambda run: run.sample(0), "prompts: 0 is not an integer >= 1"),
        (lambda run: run.sample(checkpoint="train:7"), "checkpoints: train:7 asked of"),
        (lambda run: run.sample(seed=5), "seeds: 5 is not in the run"),
        (lambda run: run.evaluate(coverage=[2]), "coverage: no such key; valid are .* did you mean"),
        (lambda run: run.select(rules="best"), "rules: no rule 'best'"),
        (lambda run: covlab.load(run.path / "figures"), ".*a run directory holds a config.yaml"),
    ],
)
def test_bad_input_is_one_line(run: Run, asked: Callable[[Run], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as error:
        asked(run)
    assert "\n" not in str(error.value)
