"""Host loop: reports, and invariance to stopping anywhere and resuming."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from oracles.toy import TabularModel, ToyTask, fuse_step

from metrics.evaluators import DistributionEvaluator, HeldOut, SamplingEvaluator, make_held_out
from tracking import ListSink
from training import (
    CheckpointPolicy,
    Checkpoints,
    CrossEntropy,
    EvaluationSchedule,
    Outcome,
    Phase,
    Trainer,
    TrainingDiverged,
    load_parameters,
    loop,
    saved_parameters,
)
from training.checkpoints import CheckpointError, Position

pytestmark = pytest.mark.usefixtures("shared_programs")
TASK = ToyTask()
FIRST = Phase("first", TASK, CrossEntropy(), fuse_step(0.5), 6, 4, None, EvaluationSchedule(every=2), 3)
SECOND = Phase(
    "second", ToyTask(easy=0.5), CrossEntropy(), fuse_step(0.1), 4, 4, 6, EvaluationSchedule(every=4), 2
)
EVALUATORS = (
    DistributionEvaluator(coverage_ns=(2, 5.7), pass_ns=(1, 4)),
    SamplingEvaluator(num_samples=4, pass_ns=(1, 4)),
)
BOUNDARIES = [("first", step) for step in (0, 2, 3, 4, 6)] + [("second", step) for step in (0, 2, 4)]


@pytest.fixture(scope="module")
def held_out() -> tuple[HeldOut, ...]:
    return tuple(make_held_out(phase.task, 6, 5, 0) for phase in (FIRST, SECOND))


def policy(**options: Any) -> CheckpointPolicy:
    return CheckpointPolicy(**({"every_seconds": 0.0, "parameters": "evaluations"} | options))


def run(
    held_out: tuple[HeldOut, ...],
    sink: ListSink,
    directory: Path | None = None,
    stop: Callable[[], str | None] = lambda: None,
    seeds: tuple[int, ...] = (0, 1),
    model: TabularModel = TabularModel(),  # noqa: B008
    phases: tuple[Phase, ...] = (FIRST, SECOND),
    **options: Any,
) -> Outcome:
    checkpoints = None if directory is None else Checkpoints(directory, policy(**options))
    trainer = Trainer(
        model, phases, seeds, EVALUATORS, held_out[: len(phases)], sink, checkpoints, stop, table_prompts=3
    )
    return trainer.run()


def stop_after(boundaries: int) -> Callable[[], str | None]:
    calls = iter(range(1, 100))
    return lambda: "asked to" if next(calls) >= boundaries else None


@pytest.fixture(scope="module")
def whole(
    held_out: tuple[HeldOut, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[ListSink, Outcome, Path]:
    sink, directory = ListSink(), tmp_path_factory.mktemp("whole")
    return sink, run(held_out, sink, directory), directory


@pytest.mark.long
def test_records_have_the_documented_keys(whole: tuple[ListSink, Outcome, Path]) -> None:
    sink, outcome, _ = whole
    assert outcome.stopped is None
    assert outcome.failed == {}
    exact = {"ce", "kl", "cov/2", "cov/5.7", "bound_excess", "accuracy", "pass/1", "pass/4", "validity"}
    sampled = {"sampled_pass/1", "sampled_pass/4", "sampled_validity"}
    evaluation = {
        f"eval/{n}" for n in exact | sampled | {f"{c}/{n}" for c in ("easy", "hard") for n in exact}
    }
    head = {"phase", "step", "global_step", "seed"}
    train = {"train/loss", "train/gradient_norm", "train/kl", "train/cov/2", "train/cov/5.7"}
    expected = []
    for phase, step in BOUNDARIES:
        evaluated = step in ((0, 2, 4, 6) if phase == "first" else (0, 4))
        keys = (train if step else set()) | (evaluation if evaluated else set())
        expected += [(phase, step, step + 6 * (phase == "second"), seed, keys) for seed in (0, 1)]
    found = [(r["phase"], r["step"], r["global_step"], r["seed"], set(r) - head) for r in sink.records]
    assert found == expected
    assert all(isinstance(v, float) for r in sink.records for k, v in r.items() if k not in head)


def test_everything_else_is_reported_too(
    whole: tuple[ListSink, Outcome, Path], held_out: tuple[HeldOut, ...]
) -> None:
    sink, outcome, _ = whole
    assert set(sink.log_probs) == {f"first_{step:08d}" for step in (0, 2, 4, 6)} | {
        f"second_{step:08d}" for step in (0, 4)
    }
    for arrays in sink.log_probs.values():
        assert arrays["log_prob"].shape == (2, 12, 2)
        assert arrays["num_correct"].shape == (2, 12)
    last = {r["seed"]: r for r in sink.records if (r["phase"], r["step"]) == ("second", 4)}
    for position, seed in enumerate((0, 1)):
        scores = {k: v[position] for k, v in sink.log_probs["second_00000004"].items()}
        for evaluator in EVALUATORS:
            for name, value in evaluator.reduce(scores, held_out[1]):
                assert last[seed][f"eval/{name}"] == value
    assert [(phase, step) for phase, step, *_ in sink.updates] == BOUNDARIES
    shown = ["ce", "kl", "cov/5.7", "pass/4"]
    # Without an evaluation, at step 3 of the first phase, the numbers of the newest one stay.
    for _, step, _, info in sink.updates:
        assert list(info) == (["loss"] if step else []) + shown
    assert [(phase, step) for phase, step, *_ in sink.waits] == [("first", 0), ("second", 0)]
    assert all(text.startswith("compiling") for *_, text in sink.waits)
    assert [(name, step) for name, step, *_ in sink.histograms] == [
        ("eval/log_ratio", step) for step in (0, 2, 4, 6, 6, 10)
    ]
    assert [(name, step, len(rows)) for name, step, _, rows in sink.tables] == [
        ("samples", 6, 3),
        ("samples", 10, 3),
    ]
    for _, _, columns, rows in sink.tables:
        assert all(len(row) == len(columns) for row in rows)
        assert {row[0] for row in rows} == {"easy", "hard"}
    assert {record["event"] for record in sink.timings} == {"step", "phase"}
    assert outcome.params["table"].shape == (2, 6, 2, 6)


def test_training_learns(whole: tuple[ListSink, Outcome, Path]) -> None:
    sink, _, _ = whole
    curves = [[r["eval/ce"] for r in sink.records if r["seed"] == s and "eval/ce" in r][:4] for s in (0, 1)]
    assert all(curve[-1] < curve[0] - 0.1 for curve in curves)


@pytest.mark.long
@pytest.mark.parametrize("boundaries", [1, 3, 5, 6, 7])
def test_stopping_at_a_boundary_and_resuming_changes_no_bit(
    whole: tuple[ListSink, Outcome, Path], held_out: tuple[HeldOut, ...], tmp_path: Path, boundaries: int
) -> None:
    expected, outcome, _ = whole
    sink = ListSink()
    assert run(held_out, sink, tmp_path, stop_after(boundaries)).stopped == "asked to"
    phase, step = BOUNDARIES[boundaries - 1]
    assert (sink.records[-1]["phase"], sink.records[-1]["step"]) == (phase, step)
    sink.metrics([{"phase": "written after the last checkpoint", "step": -1}])
    resumed = run(held_out, sink, tmp_path)
    # The end of one phase and step 0 of the next are one global step, saved once.
    saved = ("first", 6) if (phase, step) == ("second", 0) else (phase, step)
    assert sink.messages[-1] == "resuming in phase {} after step {}".format(*saved)
    assert sink.records == expected.records
    assert resumed.stopped is None
    jax.tree.map(np.testing.assert_array_equal, resumed.params, outcome.params)
    assert sink.log_probs.keys() == expected.log_probs.keys()
    for name, arrays in expected.log_probs.items():
        jax.tree.map(np.testing.assert_array_equal, sink.log_probs[name], arrays)


def test_a_run_that_began_with_other_draws_is_not_continued(
    held_out: tuple[HeldOut, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = ListSink()
    # An older run's checkpoint says nothing of its draws, which counts as 1.
    monkeypatch.setattr(loop, "DRAWS", 1)
    assert run(held_out, sink, tmp_path, stop_after(2)).stopped == "asked to"
    lines = list(sink.records)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"version 1, these are of version 2.*; valid: another name="):
        run(held_out, sink, tmp_path)
    assert sink.records == lines
    assert Position(0, 1, 2).draws == 1


def test_parameters_of_every_evaluation_are_on_disk(whole: tuple[ListSink, Outcome, Path]) -> None:
    _, outcome, directory = whole
    grid = [("first", step) for step in (0, 2, 4, 6)] + [("second", step) for step in (0, 4)]
    assert saved_parameters(directory) == grid
    abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), outcome.params)
    last = load_parameters(directory, "second", 4, abstract)
    jax.tree.map(np.testing.assert_array_equal, last, jax.tree.map(np.asarray, outcome.params))


def test_evaluating_after_every_step_changes_no_training(
    whole: tuple[ListSink, Outcome, Path], held_out: tuple[HeldOut, ...]
) -> None:
    often = dataclasses.replace(FIRST, schedule=EvaluationSchedule(every=1))
    sink = ListSink()
    run(held_out, sink, phases=(often,))
    assert [r["step"] for r in sink.records if r["seed"] == 0] == list(range(7))
    assert all("eval/kl" in record for record in sink.records)
    by_step = {(r["step"], r["seed"]): r["eval/kl"] for r in sink.records}
    for record in whole[0].records:
        if record["phase"] == "first" and "eval/kl" in record:
            assert by_step[record["step"], record["seed"]] == record["eval/kl"]


def test_a_step_without_anything_to_say_writes_no_record(held_out: tuple[HeldOut, ...]) -> None:
    quiet = dataclasses.replace(FIRST, schedule=EvaluationSchedule(every=0, start=False))
    sink = ListSink()
    run(held_out, sink, phases=(quiet,))
    assert [r["step"] for r in sink.records if r["seed"] == 0] == [3, 6]


@pytest.mark.long
@pytest.mark.parametrize("every", [1, 6])
def test_a_seed_that_diverges_is_named_and_the_others_go_on(
    held_out: tuple[HeldOut, ...], every: int
) -> None:
    """Logits of one seed are NaN after step 3; an evaluation there must not stop the other seeds."""
    phase = dataclasses.replace(FIRST, schedule=EvaluationSchedule(every=every), log_every=1)
    sick, healthy = ListSink(), ListSink()
    outcome = run(held_out, sick, seeds=(0, 1, 2), model=TabularModel(poisoned=(1,)), phases=(phase,))
    run(held_out, healthy, seeds=(0, 1, 2), phases=(phase,))
    (seed, (name, step)) = next(iter(outcome.failed.items()))
    assert (seed, name) == (1, "first")
    assert step == (3 if every == 1 else 4)
    (message,) = [text for text in sick.messages if "seed 1" in text]
    assert f"at step {step} of first" in message
    assert [r for r in sick.records if r["seed"] != 1] == [r for r in healthy.records if r["seed"] != 1]
    assert max(r["step"] for r in sick.records if r["seed"] == 1) == step - 1
    assert all(np.isfinite(v) for r in sick.records for v in r.values() if isinstance(v, float))


@pytest.mark.long
def test_when_every_seed_diverges_training_stops_and_says_where(
    held_out: tuple[HeldOut, ...], tmp_path: Path
) -> None:
    phase = dataclasses.replace(FIRST, schedule=EvaluationSchedule(every=0), log_every=2)
    sink = ListSink()
    with pytest.raises(TrainingDiverged, match="seed 0 at step 4 of first, seed 1 at step 4 of first"):
        run(held_out, sink, tmp_path, model=TabularModel(poisoned=(0, 1)), phases=(phase,))
    assert max(record["step"] for record in sink.records) == 2


LONG = dataclasses.replace(FIRST, steps=40, schedule=EvaluationSchedule(every=1), log_every=20)
RARE: dict[str, Any] = {"every_seconds": 1000.0, "parameters": "none"}


@pytest.mark.long
def test_parameter_checkpoints_keep_to_their_budget_of_disk(
    held_out: tuple[HeldOut, ...], tmp_path: Path
) -> None:
    run(held_out, ListSink(), tmp_path, phases=(LONG,), budget_mb=0.1, every_seconds=1000.0)
    found = [path for path in (tmp_path / "parameters").rglob("*") if path.is_file()]
    taken = sum(max(path.stat().st_size, 512 * path.stat().st_blocks) for path in found)
    assert taken <= 0.1e6
    assert taken > 0.05e6
    steps = [step for _, step in saved_parameters(tmp_path)]
    assert len(steps) == len(found)
    assert (steps[0], steps[-1], len(set(np.diff(steps)))) == (0, 40, 1)
    sink = ListSink()
    with pytest.raises(ValueError, match=r"^checkpoint.budget_mb: 0.001 is less than the \S+ MB of the para"):
        run(held_out, sink, tmp_path / "other", phases=(LONG,), budget_mb=0.001)
    assert sink.records == []


@pytest.mark.long
def test_log_probs_keep_to_their_budget_whatever_interrupts_the_run(
    held_out: tuple[HeldOut, ...], tmp_path: Path
) -> None:
    whole, part = ListSink(), ListSink()
    options: dict[str, Any] = {"phases": (LONG,), "log_probs_mb": 0.03} | RARE
    run(held_out, whole, tmp_path / "whole", **options)
    steps = [int(name[-8:]) for name in whole.log_probs]
    assert (steps[0], steps[-1]) == (0, 40)
    assert 2 < len(steps) < 41
    assert len(set(np.diff(steps[:-1]))) == 1
    assert sum(a.nbytes for own in whole.log_probs.values() for a in own.values()) < 0.03e6
    (said,) = [text for text in whole.messages if "log_probs_mb" in text]
    assert said == f"checkpoint.log_probs_mb: 0.03 keeps {len(steps)} of the 41 evaluations of phase first"
    assert run(held_out, part, tmp_path / "part", stop_after(18), **options).stopped
    run(held_out, part, tmp_path / "part", **options)
    assert part.log_probs.keys() == whole.log_probs.keys()
    assert part.records == whole.records
    none = ListSink()
    run(held_out, none, tmp_path / "none", phases=(LONG,), log_probs_mb=0.0001, **RARE)
    assert none.log_probs == {}
    assert none.records == whole.records


@dataclasses.dataclass(frozen=True)
class Peeking(TabularModel):
    """Adds the token that is to be predicted to its own logits."""

    def logits(self, params: Any, prompt: Any, prompt_mask: Any, responses: Any) -> Any:
        known = jax.nn.one_hot(responses, self.vocab_size)
        return super().logits(params, prompt, prompt_mask, responses) + known


def test_a_model_that_reads_what_it_must_predict_is_not_trained(
    held_out: tuple[HeldOut, ...], tmp_path: Path, whole: tuple[ListSink, Outcome, Path]
) -> None:
    sink = ListSink()
    with pytest.raises(ValueError, match="model: Peeking's logits of response token 0 change with response"):
        run(held_out, sink, tmp_path, model=Peeking())
    assert (sink.records, sink.timings, sink.log_probs) == ([], [], {})
    assert list((tmp_path / "state").iterdir()) == []
    # What has been saved was checked when it began.
    assert run(held_out, copy.deepcopy(whole[0]), whole[2], model=Peeking()).stopped is None


class Nothing(CrossEntropy):
    """A loss that is far below the smallest float."""

    def losses(self, scores: Any) -> Any:
        return super().losses(scores) * 1e-30 * 1e-30


@pytest.mark.long
def test_a_seed_without_any_gradient_is_named_once_a_phase(held_out: tuple[HeldOut, ...]) -> None:
    sink = ListSink()
    phases = (dataclasses.replace(FIRST, objective=Nothing()), SECOND)
    run(held_out, sink, phases=phases)
    said = [text for text in sink.messages if "gradient" in text]
    assert said == [
        "seed 0, 1: the gradient was exactly 0 at every update from step 1 to 2 of first: the objective "
        "taught nothing there (its weights underflow, or the responses to every prompt earn the same)"
    ]
