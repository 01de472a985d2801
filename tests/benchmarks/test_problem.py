"""The same batch as sequences padded on either side, and the work that a step cannot avoid."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.flops import flops_of
from benchmarks.frameworks import same
from benchmarks.memory import fitting, line
from benchmarks.problem import Problem, sequences

BATCH = {
    "prompt": np.array([[0, 0, 5, 6], [1, 2, 3, 4]]),
    "prompt_mask": np.array([[False, False, True, True], [True] * 4]),
    "response": np.array([[7, 8, 9], [10, 11, 0]]),
    "response_mask": np.array([[True] * 3, [True, True, False]]),
}


def test_padding_on_the_left() -> None:
    made = sequences(BATCH, "left")
    assert made.tokens.tolist() == [[0, 0, 5, 6, 7, 8], [1, 2, 3, 4, 10, 11]]
    assert made.positions.tolist() == [[0, 0, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]
    assert made.places.tolist() == [[3, 4, 5], [3, 4, 5]]
    assert made.target.tolist() == BATCH["response"].tolist()
    assert made.mask is not None
    assert made.mask[1, 0].tolist() == np.tri(6, dtype=bool).tolist()
    # Real positions see real ones alone, padding sees itself.
    visible = [[0], [1], [2], [2, 3], [2, 3, 4], [2, 3, 4, 5]]
    assert [np.flatnonzero(row).tolist() for row in made.mask[0, 0]] == visible


def test_padding_on_the_right_needs_no_mask() -> None:
    made = sequences(BATCH, "right")
    assert made.mask is None
    assert made.tokens[0, :4].tolist() == [5, 6, 7, 8]
    assert made.tokens[1].tolist() == [1, 2, 3, 4, 10, 11]
    assert made.positions.tolist() == [list(range(6))] * 2
    assert made.places.tolist() == [[1, 2, 3], [3, 4, 5]]


@pytest.mark.parametrize("layout", ["left", "right"])
def test_every_target_is_predicted_from_the_token_before_it(layout: str) -> None:
    made = sequences(BATCH, layout)  # type: ignore[arg-type]
    inputs = np.take_along_axis(made.tokens, made.places, axis=1)
    before = np.concatenate([BATCH["prompt"][:, -1:], BATCH["response"][:, :-1]], axis=1)
    assert inputs.tolist() == before.tolist()
    positions = np.take_along_axis(made.positions, made.places, axis=1)
    assert positions.tolist() == [[1, 2, 3], [3, 4, 5]]


def problem(**changes: int) -> Problem:
    sizes = {
        "vocab_size": 13,
        "prompt_length": 4,
        "response_length": 3,
        "num_layers": 3,
        "num_heads": 2,
        "width": 8,
    }
    rates = dict.fromkeys(("learning_rate", "weight_decay", "beta1", "beta2", "epsilon"), 0.1)
    made = Problem(mlp_ratio=4, parameters={}, batches=(BATCH,), **sizes, **rates)  # type: ignore[arg-type]
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{}, {"num_layers": 1}, {"width": 16, "mlp_ratio": 2}])
@pytest.mark.parametrize("full", [False, True])
def test_necessary_work_counted_product_by_product(changes: dict[str, int], full: bool) -> None:
    """Every matrix entry that is read, position by position, in plain loops; three times for the gradient."""
    it = problem(**changes)
    multiplications = 0
    length, first = it.prompt_length + it.response_length - 1, it.prompt_length - 1
    for layer in range(it.num_layers):
        for position in range(length):
            read = layer < it.num_layers - 1 or position >= first
            multiplications += 2 * it.width * it.width  # keys and values
            if read:
                multiplications += 2 * it.width * it.width  # queries, output
                multiplications += 2 * it.width * it.mlp_ratio * it.width
                for key in range(length):
                    if full or key <= position:
                        multiplications += 2 * it.width  # score and weighted value
    multiplications += it.response_length * it.width * it.vocab_size
    assert flops_of(it, full) == 3 * 2 * 2 * multiplications


def test_a_wrong_gradient_is_refused_by_its_leaf() -> None:
    right = (2.0, {"a": np.array([1.0, 1e-9]), "b": np.array([[3.0]])})
    assert same("other", right, (2.0, {"a": np.array([1.0, 2e-9]), "b": np.array([[3.0]])})) < 1e-8
    with pytest.raises(ValueError, match=r"other: not the same problem: b differs by 0\.001"):
        same("other", right, (2.0, right[1] | {"b": np.array([[3.003]])}))
    with pytest.raises(ValueError, match="other: not the same problem: loss differs"):
        same("other", right, (2.001, right[1]))
    with pytest.raises(ValueError, match=r"parameters \['c'\]"):
        same("other", right, (2.0, right[1] | {"c": np.ones(1)}))
    with pytest.raises(ValueError, match="not the same problem: a differs by nan"):
        same("other", right, (2.0, right[1] | {"a": np.array([np.nan, 0.0])}))


def test_memory_lies_on_a_line() -> None:
    intercept, slope = line([1, 2, 4, 8], [130.0, 160.0, 220.0, 340.0])
    assert (intercept, slope) == pytest.approx((100.0, 30.0))
    assert fitting(1000.0, [1, 2, 4, 8], [130.0, 160.0, 220.0, 340.0]) == 30
    assert fitting(50.0, [1, 2], [130.0, 160.0]) == 0
