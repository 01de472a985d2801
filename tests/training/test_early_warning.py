"""Warnings during training: values of the statistic, one line per alarm, and resuming."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles.toy import TabularModel, ToyTask, fuse_step

from metrics.early_warning import drawn_candidates, strongest_values
from metrics.evaluators import DistributionEvaluator, HeldOut, make_held_out
from tracking import ListSink
from training import (
    CheckpointPolicy,
    Checkpoints,
    CrossEntropy,
    EarlyWarning,
    EvaluationSchedule,
    Phase,
    Trainer,
)
from training.early_warning import Watch

SEEDS, STEPS = (5, 6, 7), (0, 10, 20, 30, 40)
# More evaluations than the room that the history begins with.
MANY = tuple(range(0, 400, 10))
SENSITIVE = EarlyWarning("tournament", 1.05, 0.0)
FIRST = Phase("first", ToyTask(), CrossEntropy(), fuse_step(0.5), 6, 4, 4, EvaluationSchedule(every=1), 3)
SECOND = Phase(
    "second", ToyTask(easy=0.5), CrossEntropy(), fuse_step(0.3), 4, 4, 4, EvaluationSchedule(every=1), 2
)


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return make_held_out(ToyTask(), 6, 5, 0)


def evaluations(held_out: HeldOut, steps: tuple[int, ...] = STEPS, seed: int = 0) -> list[np.ndarray]:
    """(seeds, examples with padding, candidates) per step; cross-entropy falls irregularly."""
    rng = np.random.default_rng(seed)
    shape = (len(SEEDS), held_out.batches.position.size, held_out.candidate_weight.shape[1])
    return [(-3 * rng.exponential(1.0, shape) * np.exp(-step / 300)).astype(np.float32) for step in steps]


def observe(
    watch: Watch, held_out: HeldOut, step: int, log_prob: np.ndarray, sink: ListSink, phase: str = "p"
) -> list[dict[str, Any]]:
    heads: list[dict[str, Any]] = [{"seed": seed} for seed in SEEDS]
    watch.observe(phase, held_out, step, {"distribution": {"log_prob": log_prob}}, heads, range(3), sink)
    return heads


@pytest.mark.parametrize("settings", [SENSITIVE, EarlyWarning(), EarlyWarning("ratio_spread", None, 1.0)])
def test_records_are_the_statistic_on_one_response_a_prompt(
    held_out: HeldOut, settings: EarlyWarning
) -> None:
    watch, sink = Watch(settings), ListSink()
    found = evaluations(held_out, MANY)
    records = [observe(watch, held_out, step, each, sink) for step, each in zip(MANY, found, strict=True)]
    assert records[0] == [{"seed": seed} for seed in SEEDS]
    drawn = drawn_candidates(held_out.candidate_weight)
    for index in range(len(SEEDS)):
        own = np.array([each[index, : held_out.num_examples] for each in found])
        responses = own[:, np.arange(drawn.size), drawn]
        values = strongest_values(settings.statistic, responses, held_out.weights)
        for record, value in zip(records[1:], values[1:], strict=True):
            assert record[index].get("warning/value", -np.inf) == pytest.approx(value)
            assert record[index]["warning/alarm"] == int(value > settings.threshold)
    since = [r["warning/since"] for step in records for r in step if "warning/since" in r]
    assert since
    assert set(since) <= set(MANY)


def test_an_alarm_is_said_once_when_it_starts(held_out: HeldOut) -> None:
    watch, sink = Watch(EarlyWarning("tournament", 2, 0.05)), ListSink()
    shape = evaluations(held_out)[0].shape
    even = np.full(shape, np.log(0.1))
    sharp = np.full(shape, np.log(0.9))
    sharp[:, 0] = np.log(0.01)  # one prompt is given up
    for step, each in ((0, even), (10, sharp), (20, sharp)):
        records = observe(watch, held_out, step, each, sink)
    assert len(sink.messages) == 1
    share = held_out.weights[0] / held_out.weights.sum()
    assert records[1]["warning/value"] == pytest.approx(share)
    assert sink.messages[0] == (
        "p step 10: cross-entropy improves, but coverage probably gets worse: tournament(N = 2) above 0.05: "
        + ", ".join(f"seed {seed} {share:.3g} against step 0" for seed in SEEDS)
        + ", which covered better"
    )
    # Over, and begun again.
    observe(watch, held_out, 30, even, sink)
    observe(watch, held_out, 40, sharp, sink)
    assert len(sink.messages) == 2
    # A new phase has no earlier evaluation.
    assert observe(watch, held_out, 0, sharp, sink, "q") == [{"seed": seed} for seed in SEEDS]


def test_a_watch_that_recalls_goes_on_as_if_nothing_had_happened(held_out: HeldOut) -> None:
    found = evaluations(held_out)
    whole, sink = Watch(SENSITIVE), ListSink()
    records = [observe(whole, held_out, step, each, sink) for step, each in zip(STEPS, found, strict=True)]
    again, silent = Watch(SENSITIVE), ListSink()
    kept = [(step, each[:, : held_out.num_examples]) for step, each in zip(STEPS, found, strict=True)]
    again.recall("p", held_out, kept[:-1])
    assert silent.messages == []
    assert observe(again, held_out, STEPS[-1], found[-1], silent) == records[-1]
    assert silent.messages == [text for text in sink.messages if f"step {STEPS[-1]}:" in text]


def test_what_scores_no_responses_and_seeds_that_broke_are_left_alone(held_out: HeldOut) -> None:
    watch, sink = Watch(SENSITIVE), ListSink()
    heads: list[dict[str, Any]] = [{"seed": 0}]
    for step in (0, 10):
        watch.observe("p", held_out, step, {"value": {"squared_error": np.ones(3)}}, heads, [0], sink)
    assert heads == [{"seed": 0}]
    first, second = evaluations(held_out)[:2]
    second[1] = np.nan
    observe(watch, held_out, 0, first, sink)
    records = observe(watch, held_out, 10, second, sink)
    assert "warning/alarm" not in records[1]
    assert "warning/alarm" in records[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "no"}, "early_warning.kind: 'no'; valid: one of"),
        ({"kind": "cross_entropy_rise", "parameter": None}, "early_warning.kind: cross_entropy_rise; valid"),
        ({"parameter": 1}, "early_warning.parameter: 1 is not a number > 1"),
        ({"threshold": -1}, "early_warning.threshold: -1 is not"),
        ({"threshold": "much"}, "early_warning.threshold: 'much' is not"),
    ],
)
def test_bad_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EarlyWarning(**fields)


# In the loop.


def run(
    sink: ListSink, directory: Path, stop: Callable[[], str | None] = lambda: None, warn: bool = True
) -> None:
    held = tuple(make_held_out(phase.task, 60, 40, 0) for phase in (FIRST, SECOND))
    checkpoints = Checkpoints(directory, CheckpointPolicy(every_seconds=0.0, parameters="none"))
    Trainer(
        TabularModel(), (FIRST, SECOND), (0, 1), (DistributionEvaluator((2,), (1,)),), held, sink,
        checkpoints, stop, early_warning=EarlyWarning("ratio_spread", None, 0.2) if warn else None,
    ).run()  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ListSink:
    sink = ListSink()
    run(sink, tmp_path_factory.mktemp("whole"))
    return sink


@pytest.mark.long
def test_a_run_with_the_warning_has_the_same_numbers_and_some_more(whole: ListSink, tmp_path: Path) -> None:
    silent = ListSink()
    run(silent, tmp_path, warn=False)
    without = [
        {key: value for key, value in record.items() if not key.startswith("warning/")}
        for record in whole.records
    ]
    assert without == silent.records
    assert any(record.get("warning/alarm") == 1 for record in whole.records)
    assert any("coverage probably gets worse" in text for text in whole.messages)
    assert not any("warning/alarm" in record for record in whole.records if record["step"] == 0)


@pytest.mark.long
@pytest.mark.parametrize(
    "boundaries", [pytest.param(n, marks=() if n == 4 else pytest.mark.slow) for n in (2, 4, 6, 8, 10)]
)
def test_stopping_and_resuming_writes_the_same_records(
    whole: ListSink, tmp_path: Path, boundaries: int
) -> None:
    def stop_after() -> Iterator[str | None]:
        return itertools.chain(itertools.repeat(None, boundaries - 1), itertools.repeat("asked to"))

    asked, sink = stop_after(), ListSink()
    run(sink, tmp_path, lambda: next(asked))
    assert len(sink.records) < len(whole.records)
    run(sink, tmp_path)
    assert sink.records == whole.records
    said = [text for text in sink.messages if "coverage probably" in text]
    assert said == [text for text in whole.messages if "coverage probably" in text]


def test_a_budget_without_room_for_all_evaluations_is_refused(tmp_path: Path) -> None:
    """A resumed run recalls evaluations, so it would differ from an uninterrupted run."""
    held = make_held_out(FIRST.task, 60, 40, 0)
    sink = ListSink()
    checkpoints = Checkpoints(tmp_path, CheckpointPolicy(log_probs_mb=0.02))
    trainer = Trainer(
        TabularModel(), (FIRST,), (0, 1), (DistributionEvaluator((2,), (1,)),), (held,), sink, checkpoints,
        early_warning=EarlyWarning("ratio_spread", None, 0.2),
    )  # fmt: skip
    with pytest.raises(
        ValueError, match=r"^checkpoint.log_probs_mb: 0\.02 keeps \d of the 7 evaluations of phase"
    ):
        trainer.run()
    assert sink.records == []
