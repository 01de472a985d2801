"""Precision of training and of metrics, read off traced programs, and its effect on the coverage profile."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles.toy import TabularModel, ToyTask

from decoding import sample_responses
from metrics.evaluators import DistributionEvaluator, make_held_out
from models import GPT, sequence_log_probs
from models.target import traced_for
from training import CrossEntropy, EvaluationSchedule, Grid, Layout, Phase, make_program, table
from training.precision import Precision, on, require_bfloat16, said, trained, used

TASK = ToyTask()
MODEL = GPT(TASK.vocab_size, TASK.prompt_length, TASK.response_length, 1, 2, 8)


def texts(platform: str, precision: Precision) -> tuple[str, str]:
    """The lowered training step and evaluation."""
    phase = Phase(
        "p", TASK, CrossEntropy(), optax.sgd(0.5), 4, 4, None, EvaluationSchedule(), 2, precision=precision
    )
    held_out = make_held_out(TASK, 2, 2, 0)
    with traced_for(platform):
        made: Any = make_program(MODEL, phase, (DistributionEvaluator((2,), (1,)),), held_out, Grid(Layout()))
    seeds = np.asarray([0], np.uint32)
    params = jax.eval_shape(made.init, seeds)
    state = jax.eval_shape(made.begin, params, np.zeros(1, np.int32))
    step = made.run.trace(state, seeds, 0, 1).lower(lowering_platforms=("cpu",)).as_text()
    scored = made.evaluate.trace(params, (), made.batches()).lower(lowering_platforms=("cpu",)).as_text()
    return step, scored


def products(text: str) -> list[str]:
    return [line for line in text.splitlines() if "dot_general" in line]


@pytest.mark.long
@pytest.mark.parametrize(
    ("precision", "rounded", "highest"),
    [("auto", True, False), ("float32", False, False), ("bfloat16", True, False), ("highest", False, True)],
)
def test_an_accelerator_trains_as_asked_and_evaluates_exactly(
    precision: Precision, rounded: bool, highest: bool
) -> None:
    step, scored = texts("gpu", precision)
    assert any("xbf16" in line for line in products(step)) == rounded
    assert any("HIGHEST" in line for line in products(step)) == highest
    assert products(scored)
    assert all("HIGHEST" in line and "bf16" not in line for line in products(scored))


@pytest.mark.long
def test_responses_are_drawn_and_scored_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by callers that have no program, such as `Run.sample`."""
    seen: list[tuple[str, str | None]] = []

    def spy(name: str, found: Any) -> Any:
        def called(*arguments: Any) -> Any:
            seen.append((name, jax.config.jax_default_matmul_precision))  # type: ignore[attr-defined]
            return found(*arguments)

        return called

    monkeypatch.setattr(table, "sample_responses", spy("drawn", sample_responses))
    monkeypatch.setattr(table, "_scored", spy("scored", table._scored))
    examples = make_held_out(TASK, 2, 2, 0)
    example = examples.flat(examples.batches.example)
    for name, expected in (("gpu", "highest"), ("cpu", None)):
        seen.clear()
        with traced_for(name):
            # At another temperature they are scored again.
            table.draw_responses(
                MODEL, TASK, MODEL.init(jax.random.key(0)), example, jax.random.key(1), 2, 2.0
            )
        assert seen == [("drawn", expected), ("scored", expected)]


@pytest.mark.long
def test_a_cpu_computes_as_before() -> None:
    """No attribute of precision and no rounding, and the same text with and without the setting."""
    step, scored = texts("cpu", "auto")
    assert not any("HIGHEST" in line or "bf16" in line for line in products(step) + products(scored))
    assert (step, scored) == texts("cpu", "float32")


@pytest.mark.parametrize(
    ("platform", "asked", "expected"),
    [
        ("cpu", "auto", "float32"),
        ("tpu", "auto", "bfloat16"),
        ("gpu", "auto", "bfloat16"),
        ("tpu", "float32", "float32"),
        ("cpu", "bfloat16", "bfloat16"),
        ("gpu", "highest", "highest"),
    ],
)
def test_what_a_precision_means_is_said(platform: str, asked: str, expected: str) -> None:
    assert on(platform, asked) == expected
    stored = said({"seed": 1, "precision": asked}, platform, MODEL)
    assert stored == ({"seed": 1} if expected == "float32" else {"seed": 1, "precision": expected})
    model = trained(MODEL, platform, asked)
    assert model.dtype == ("bfloat16" if expected == "bfloat16" else "float32")


def test_an_unknown_precision_is_one_line() -> None:
    with pytest.raises(
        ValueError, match="precision: 'double' is not one of auto, float32, bfloat16, highest"
    ):
        texts("cpu", "double")  # type: ignore[arg-type]


def test_a_model_without_bfloat16_is_said_to_train_in_float32() -> None:
    """Also on an accelerator: by "auto" it gets no other precision."""
    plain = TabularModel(TASK.vocab_size, TASK.prompt_length, TASK.response_length)
    assert said({"seed": 1}, "tpu", plain) == {"seed": 1}
    assert said({"seed": 1, "precision": "highest"}, "tpu", plain) == {"seed": 1, "precision": "highest"}
    assert used(MODEL, "tpu", "auto") == "bfloat16"


def test_a_model_without_bfloat16_refuses_it() -> None:
    require_bfloat16(MODEL)
    require_bfloat16(dataclasses.replace(MODEL, dtype="bfloat16"))
    with pytest.raises(ValueError, match="precision: bfloat16, and TabularModel has float32 activations"):
        require_bfloat16(TabularModel(TASK.vocab_size, TASK.prompt_length, TASK.response_length))


NS = (1.25, 1.5, 2, 4, 16)


def profile_after(precision: Precision, steps: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """Parameters after training in a precision, ln of the ratio pi_D / pi of fresh examples with the exact
    model, and the same with the rounded one."""
    phase = Phase(
        "p", TASK, CrossEntropy(), optax.adam(1e-2), steps, 16, None, EvaluationSchedule(), steps,
        precision=precision,
    )  # fmt: skip
    made = make_program(MODEL, phase, (), make_held_out(TASK, 2, 2, 0), 1)
    seeds = jnp.zeros(1, jnp.uint32)
    state = made.begin(made.init(seeds), jnp.full(1, -1, jnp.int32))
    state, _ = made.run(state, seeds, 0, steps)
    params = jax.tree.map(lambda leaf: leaf[0], state.params)
    example = jax.jit(jax.vmap(TASK.sample))(jax.random.split(jax.random.key(7), 2048))

    def log_ratio(model: GPT) -> np.ndarray:
        scores = jax.jit(sequence_log_probs, static_argnums=0)(
            model, params, example.prompt, example.prompt_mask, example.response[:, None],
            example.response_mask[:, None],
        )  # fmt: skip
        assert scores.dtype == jnp.float32
        return np.asarray(example.log_prob - scores[:, 0])

    return params, log_ratio(MODEL), log_ratio(MODEL.computing("bfloat16"))


def profile(log_ratio: np.ndarray) -> np.ndarray:
    return np.mean(log_ratio[:, None] >= np.log(NS), axis=0)


def require_within(found: np.ndarray, reference: np.ndarray, nats: float) -> None:
    """Cov_N between those at N e^nats and at N e^-nats: a profile is a step function, whose steps move."""
    assert np.all(profile(reference - nats) <= profile(found))
    assert np.all(profile(found) <= profile(reference + nats))


@pytest.mark.long
def test_bfloat16s_coverage_profile_is_float32s_up_to_its_rounding() -> None:
    """Training in bfloat16 gives other parameters and nearly the same profile; so does evaluation in it."""
    params, exact, rounded = profile_after("bfloat16", 60)
    other, reference, _ = profile_after("float32", 60)
    assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(other), strict=True))
    # Neither empty nor full, so that the comparison can fail.
    assert 0.02 < profile(reference)[0] < 0.98
    require_within(exact, reference, 0.1)
    assert np.any(exact != rounded)
    require_within(rounded, exact, 0.05)
