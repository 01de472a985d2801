"""The coverage ratio against a phase's start: its numbers, and what a resumed run knows of the start."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles.toy import TabularModel, ToyTask, fuse_step

from metrics.evaluators import DistributionEvaluator, HeldOut, make_held_out
from metrics.prompt_metrics import PromptMetrics
from tracking import ListSink, RunDirectory, RunSink, read_records
from training import CheckpointPolicy, Checkpoints, CrossEntropy, EvaluationSchedule, Phase, Trainer
from training.start import PhaseStart

pytestmark = pytest.mark.usefixtures("shared_programs")
FIRST = Phase("first", ToyTask(), CrossEntropy(), fuse_step(0.5), 6, 4, None, EvaluationSchedule(every=2), 3)
SECOND = Phase(
    "second", ToyTask(easy=0.5), CrossEntropy(), fuse_step(0.1), 4, 4, 6, EvaluationSchedule(every=2), 2
)
EVALUATOR = DistributionEvaluator((2,), (1,), PromptMetrics((2,), (0.5,), (0.05,), (3,)))
KS = 3


@pytest.fixture(scope="module")
def held_out() -> tuple[HeldOut, ...]:
    return tuple(make_held_out(phase.task, 6, 5, 0) for phase in (FIRST, SECOND))


def run(
    held_out: tuple[HeldOut, ...],
    sink: Any,
    directory: Path,
    stop: Callable[[], str | None] = lambda: None,
    phases: tuple[Phase, ...] = (FIRST, SECOND),
) -> None:
    checkpoints = Checkpoints(directory, CheckpointPolicy(every_seconds=0.0))
    Trainer(TabularModel(), phases, (0, 1), (EVALUATOR,), held_out, sink, checkpoints, stop).run()


def stop_after(boundaries: int) -> Callable[[], str | None]:
    calls = iter(range(1, 100))
    return lambda: "asked to" if next(calls) >= boundaries else None


@pytest.fixture(scope="module")
def whole(held_out: tuple[HeldOut, ...], tmp_path_factory: pytest.TempPathFactory) -> ListSink:
    sink = ListSink()
    run(held_out, sink, tmp_path_factory.mktemp("whole"))
    return sink


def ratios(start: np.ndarray, now: np.ndarray, held_out: HeldOut) -> Iterator[tuple[str, float]]:
    """rho_K from ln p(y|x) of both evaluations, prompt by prompt."""
    for label, weights in (
        ("eval/", held_out.weights),
        ("eval/easy/", held_out.groups == 0),
        ("eval/hard/", held_out.groups == 1),
    ):
        lost = gained = 0.0
        for i, weight in enumerate(weights):
            before, after = (
                1
                - (1 - sum(math.exp(x) for x, right in zip(a[i], held_out.correct[i], strict=True) if right))
                ** KS
                for a in (start.astype(float), now.astype(float))
            )
            if 0.05 < before < 0.95:
                lost += weight * max(before - after, 0)
                gained += weight * max(after - before, 0)
        yield f"{label}coverage_ratio/{KS}", lost / gained if gained else math.inf if lost else math.nan


@pytest.mark.long
def test_every_evaluation_is_compared_with_its_own_phase_s_start(
    whole: ListSink, held_out: tuple[HeldOut, ...]
) -> None:
    compared = set()
    for phase, held in (("first", held_out[0]), ("second", held_out[1])):
        start = whole.log_probs[f"{phase}_00000000"]["log_prob"]
        for record in (r for r in whole.records if r["phase"] == phase and "eval/kl" in r):
            now = whole.log_probs[f"{phase}_{record['step']:08d}"]["log_prob"]
            for name, expected in ratios(start[record["seed"]], now[record["seed"]], held):
                if math.isnan(expected):
                    assert name not in record
                else:
                    assert record[name] == pytest.approx(expected, rel=1e-4), (phase, record["step"], name)
                    compared.add((phase, name))
    # Nothing changes at step 0, and something later, in the mixture of each phase and in a class.
    assert {("first", "eval/coverage_ratio/3"), ("second", "eval/coverage_ratio/3")} < compared
    assert all(
        not name.startswith("eval") or r["step"] for r in whole.records for name in r if "ratio" in name
    )


def test_what_is_kept_of_the_start(whole: ListSink) -> None:
    kept = {name: arrays for name, arrays in whole.log_probs.items() if name.endswith("_start")}
    assert set(kept) == {"first_start", "second_start"}
    for arrays in kept.values():
        assert {name: array.shape for name, array in arrays.items()} == {"distribution/start": (2, 12)}


@pytest.mark.long
@pytest.mark.parametrize("boundaries", [1, 3, 6, 7])
def test_a_resumed_run_writes_the_same_bytes(
    whole: ListSink, held_out: tuple[HeldOut, ...], tmp_path: Path, boundaries: int
) -> None:
    """On disk, where the start is read again from the run directory."""
    for times in (1, 2):
        with (
            RunDirectory.open(tmp_path / "run", {"a": 1}) as directory,
            RunSink(directory) as sink,
        ):
            run(held_out, sink, tmp_path / "states", stop_after(boundaries) if times == 1 else lambda: None)
    assert read_records(tmp_path / "run" / "metrics.jsonl") == whole.records


@pytest.mark.long
def test_a_run_without_a_known_start_has_no_ratio(held_out: tuple[HeldOut, ...], tmp_path: Path) -> None:
    """One of an earlier version, which kept none; and a phase that is not evaluated at step 0."""
    sink = ListSink()
    run(held_out, sink, tmp_path / "old", stop_after(3))
    del sink.log_probs["first_start"]
    before = len(sink.records)
    run(held_out, sink, tmp_path / "old")
    rest = [r for r in sink.records[before:] if r["phase"] == "first" and "eval/kl" in r]
    assert rest
    assert not [name for r in rest for name in r if "ratio" in name]
    assert [name for r in sink.records if r["phase"] == "second" for name in r if "ratio" in name]

    sink = ListSink()
    late = dataclasses.replace(FIRST, schedule=EvaluationSchedule(every=2, start=False))
    run(held_out[:1], sink, tmp_path / "late", phases=(late,))
    assert not [name for r in sink.records for name in r if "ratio" in name]
    assert not [name for name in sink.log_probs if name.endswith("_start")]


def test_the_start_of_the_phase_before_is_forgotten() -> None:
    sink = ListSink()
    start = PhaseStart((EVALUATOR,), sink)
    assert start.bytes == 0
    start.arrays = {"distribution": {"start": np.zeros((1, 2))}}
    assert start.bytes > 16
    start.begin("second", resumed=False)
    assert start.arrays == {}
    sink.arrays("second_start", {"a/b/start": np.ones(3)})
    start.begin("second", resumed=True)
    np.testing.assert_array_equal(start.arrays["a/b"]["start"], np.ones(3))
