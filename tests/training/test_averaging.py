"""Averages of iterates: the mean of the iterates of the phase without averaging, kept on resuming."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles.toy import TabularModel, ToyTask, fuse_step

from metrics.evaluators import DistributionEvaluator, make_held_out
from tracking import ListSink
from training import (
    Averaging,
    CheckpointPolicy,
    Checkpoints,
    CrossEntropy,
    EvaluationSchedule,
    Outcome,
    Phase,
    Trainer,
    load_parameters,
)

STEPS = 6
PLAIN = Phase(
    "first", ToyTask(), CrossEntropy(), fuse_step(0.5), STEPS, 4, None, EvaluationSchedule(every=1), 3
)
EVALUATORS = (DistributionEvaluator(coverage_ns=(2,), pass_ns=(1,)),)


AVERAGING = Averaging("uniform", start=1)
AVERAGED = dataclasses.replace(PLAIN, averaging=AVERAGING)
SECOND = dataclasses.replace(PLAIN, name="second", steps=1)


def run(
    phases: Sequence[Phase],
    directory: Path,
    stop: Callable[[], str | None] = lambda: None,
    sink: ListSink | None = None,
) -> tuple[ListSink, Outcome]:
    sink = sink or ListSink()
    held_out = [make_held_out(phase.task, 6, 5, 0) for phase in phases]
    kept = Checkpoints(directory, CheckpointPolicy(every_seconds=0.0, parameters="evaluations"))
    return sink, Trainer(TabularModel(), phases, (0, 1), EVALUATORS, held_out, sink, kept, stop).run()


def tables(directory: Path, phase: str = "first", steps: int = STEPS) -> list[np.ndarray]:
    """Parameters kept at every step, one table per seed."""
    abstract = jax.eval_shape(jax.vmap(TabularModel().init), jax.random.split(jax.random.key(0), 2))
    return [
        np.asarray(load_parameters(directory, phase, step, abstract)["table"]) for step in range(steps + 1)
    ]


def by_hand(iterates: Sequence[Any], averaging: Averaging) -> list[Any]:
    """The average after each update, from the parameters after 0, 1, ... updates."""
    found = []
    for step, last in enumerate(iterates):
        taken = iterates[averaging.start + 1 : step + 1]
        if not taken:
            found.append(last)
        elif averaging.kind == "uniform":
            found.append(np.mean(taken, axis=0))
        else:
            mean = taken[0]
            for later in taken[1:]:
                mean = averaging.decay * mean + (1 - averaging.decay) * later
            found.append(mean)
    return found


@pytest.mark.parametrize("kind", ["uniform", "ema"])
@pytest.mark.parametrize("start", [0, 3, 9])
def test_the_average_is_the_mean_of_the_iterates(kind: Any, start: int) -> None:
    averaging = Averaging(kind, 0.75, start)
    rule, params = averaging.of(optax.sgd(0.1)), jnp.array([1.0, -2.0])
    state = rule.init(params)
    iterates, averages = [np.asarray(params)], [np.asarray(state.average)]
    for gradient in np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32):
        updates, state = rule.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        iterates.append(np.asarray(params))
        averages.append(np.asarray(state.average))
    np.testing.assert_allclose(averages, by_hand(iterates, averaging), rtol=1e-5)
    np.testing.assert_allclose(iterates[1:], iterates[0] + np.cumsum(np.diff(iterates, axis=0), axis=0))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[ListSink, Outcome, Path]:
    """A phase that averages, then one that does not."""
    directory = tmp_path_factory.mktemp("averaged")
    return *run((AVERAGED, SECOND), directory), directory


@pytest.mark.long
def test_the_average_is_evaluated_kept_and_passed_on(
    whole: tuple[ListSink, Outcome, Path], tmp_path: Path
) -> None:
    """The next phase starts where the average stood: its first evaluation repeats the last one."""
    sink, _, directory = whole
    plain, outcome = run((PLAIN,), tmp_path)
    wanted = by_hand(tables(tmp_path), AVERAGING)
    for found, mean in zip(tables(directory), wanted, strict=True):
        np.testing.assert_allclose(found, mean, rtol=1e-5, atol=1e-6)
    assert np.abs(wanted[-1] - outcome.params["table"]).max() > 0.05, "it must differ from the last iterate"
    np.testing.assert_array_equal(tables(directory, "second", 0)[0], tables(directory)[-1])
    ends, starts = (
        [r["eval/ce"] for r in sink.records if (r["phase"], r["step"]) == place]
        for place in (("first", STEPS), ("second", 0))
    )
    assert ends == starts
    last = [r["eval/ce"] for r in plain.records if r["step"] == STEPS]
    assert np.abs(np.subtract(last, ends)).min() > 1e-3


@pytest.mark.long
def test_resuming_keeps_the_average(whole: tuple[ListSink, Outcome, Path], tmp_path: Path) -> None:
    expected, outcome, _ = whole
    calls = iter(range(1, 100))
    sink, first = run((AVERAGED, SECOND), tmp_path, lambda: "asked to" if next(calls) >= 4 else None)
    assert first.stopped == "asked to"
    _, second = run((AVERAGED, SECOND), tmp_path, sink=sink)
    assert sink.records == expected.records
    assert second.stopped is None
    for one, other in zip(jax.tree.leaves(outcome.params), jax.tree.leaves(second.params), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_a_rule_does_is_not_changed_by_averaging() -> None:
    params = {"w": jnp.array([1.0, -2.0])}
    plain, wrapped = optax.adam(0.1), Averaging("ema", 0.5).of(optax.adam(0.1))
    one, other = plain.init(params), wrapped.init(params)
    for scale in (1.0, -3.0):
        gradient = {"w": scale * jnp.array([0.3, 0.1])}
        first, one = plain.update(gradient, one, params)
        second, other = wrapped.update(gradient, other, params)
        np.testing.assert_array_equal(first["w"], second["w"])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"kind": "median"}, "averaging.kind: 'median' is not one of uniform, ema"),
        ({"decay": 1.0}, "averaging.decay: 1.0 is not a number in [0, 1)"),
        ({"start": -1}, "averaging.start: -1 is not an integer >= 0"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="averaging") as refused:
        Averaging(**options)
    assert str(refused.value) == line
