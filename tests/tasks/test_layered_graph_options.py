"""Options of the layered-graph task: valid values, and one-line errors for others."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import PAD, LayeredGraph

SMALL = {"depth": 2, "width": 2, "branching": 1, "num_ids": 8}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"num_ids": 5}, "task.num_ids: 5 ids are too few for 6 nodes (2 + depth x width); need >= 6"),
        (
            {"num_ids": 6, "subset": "label"},
            "task.num_ids: 6 ids are too few for 6 nodes (2 + depth x width) and one spare, which "
            "subset=label needs;"
            " need >= 7",
        ),
        ({"branching": 3}, "task.branching: 3 exceeds task.depth = 2 layers"),
        ({"width": 1}, "task.width: 1 leaves no even and odd node in a branching layer; need >= 2"),
        ({"depth": 0}, "task.depth: 0 is not an integer >= 1"),
        ({"depth": 2.0}, "task.depth: 2.0 is not an integer >= 1"),
        ({"width": True}, "task.width: True is not an integer >= 1"),
        ({"branching": -1}, "task.branching: -1 is not an integer >= 0"),
        ({"subset_seed": "x"}, "task.subset_seed: 'x' is not an integer from 0 to 2147483647"),
        ({"edge_order": "sorted"}, "task.edge_order: 'sorted' is not one of shuffled, by_layer, depth_first"),
        ({"subset": "half"}, "task.subset: 'half' is not one of rank, label"),
        ({"given": "path"}, "task.given: 'path' is not one of prompt, class"),
        (
            {"mixture": {"G1": 0.9, "G2": 0.2}},
            "task.mixture: probabilities {'G1': 0.9, 'G2': 0.2} sum to 1.1, not to 1",
        ),
        (
            {"mixture": {"G9": 1.0}},
            "task.mixture: no class 'G9'; valid are G1, G2, G3, chain, xor, uniform, forks, first_fork, "
            "parities",
        ),
        ({"mixture": {"G1": 1.5, "G2": -0.5}}, "task.mixture.G1: 1.5 is not a number in [0, 1]"),
        ({"mixture": {}}, "task.mixture: probabilities {} sum to 0, not to 1"),
        ({"mixture": {"uniform": 1.0}}, "task.depth: 2; class uniform needs 4 branching layers"),
        (
            {"mixture": {"G1": 0.5, "xor": 0.5}},
            "task.mixture: G1 and xor both have 1 branching layers, and one of them prescribes the bit of "
            "V': valid are mixtures of G1, G2, G3 or of other classes",
        ),
        ({"max_enumerated": -1}, "task.max_enumerated: -1 is not an integer >= 0"),
        ({"fill": 3}, "task.fill: 3 is neither true, false nor an integer from 2 to 2"),
        ({"fill": 1}, "task.fill: 1 is neither true, false nor an integer from 2 to 2"),
        (
            {"fill": 2, "width": 1, "branching": 0},
            "task.width: 1 leaves no even and odd node in a branching layer; need >= 2",
        ),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="task") as refused:
        LayeredGraph(**(SMALL | options))
    message = str(refused.value)
    assert "\n" not in message
    if next(iter(options)) == "mixture" and next(iter(options["mixture"]), "") in ("G1", "G9", ""):
        assert message.startswith(line.split(";")[0])
    else:
        assert message == line


@pytest.mark.parametrize(
    ("options", "ok"), [({"num_ids": 6}, True), ({"num_ids": 7, "subset": "label"}, True)]
)
def test_the_smallest_number_of_ids_is_accepted(options: dict[str, Any], ok: bool) -> None:
    assert (LayeredGraph(**(SMALL | options)).num_ids == options["num_ids"]) is ok


@pytest.mark.long
def test_each_class_has_its_own_number_of_branching_layers() -> None:
    mixture = {"chain": 0.5, "xor": 0.3, "uniform": 0.2}
    task = LayeredGraph(depth=10, width=2, num_ids=30, uniform_branching=2, mixture=mixture)
    assert (task.max_branching, task.num_enumerated) == (5, 32)
    keys = jax.random.split(jax.random.key(0), 8)
    for group, layers in enumerate((0, 5, 2)):
        drawn = jax.vmap(task.sample_group, in_axes=(0, None))(keys, np.asarray(group))
        passable = np.asarray(drawn.latent.passable)
        assert (passable >= 0).all(axis=-1).sum(axis=-1).tolist() == [layers] * 8
        assert set(passable[passable < 1].tolist()) == {-1}


def test_a_class_of_probability_zero_is_no_class() -> None:
    task = LayeredGraph(mixture={"G1": 0.9, "G2": 0.1, "G3": 0.0})
    assert task.groups == ("G1", "G2")
    assert task == LayeredGraph(mixture=[["G1", 0.9], ["G2", 0.1]])
    assert hash(task) == hash(LayeredGraph())


@pytest.mark.parametrize("text", ["12 0", "13", "1 - 2", "-1", "1.5", "x"])
def test_text_that_is_no_token_is_named(text: str) -> None:
    task = LayeredGraph(depth=2, width=2, branching=1, num_ids=12)
    bad = next(word for word in text.split() if not (word.isdecimal() and 1 <= int(word) <= 12))
    with pytest.raises(ValueError, match="text: ") as refused:
        task.encode(text)
    assert str(refused.value) == f"text: {bad!r} is neither an id in 1..12 nor one of | / ="


OPTIONS = st.integers(1, 6).flatmap(
    lambda depth: st.fixed_dictionaries(
        {
            "depth": st.just(depth),
            "width": st.integers(2, 4),
            "branching": st.integers(0, depth),
            "num_ids": st.integers(30, 120),
            "separators": st.booleans(),
            "subset": st.sampled_from(["rank", "label"]),
            "subset_seed": st.integers(0, 99),
        }
    )
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(OPTIONS, st.data())
def test_options_agree_with_each_other(options: dict[str, Any], data: st.DataObject) -> None:
    task = LayeredGraph(**options)
    assert task.num_enumerated == 2**task.branching
    few = dataclasses.replace(task, max_enumerated=3)
    assert few.num_enumerated == (2**task.branching if task.branching < 2 else 0)
    assert task.response_length == task.depth + 2
    assert len(task._subset_positions) == task.num_nodes
    assert task._subset_positions.sum() == task.num_nodes // 2
    assert len(task._subset_labels) == task.num_ids + 1
    assert task._subset_labels[1:].sum() == task.num_ids // 2
    assert not task._subset_labels[0]
    tokens = data.draw(st.lists(st.integers(1, task.vocab_size - 1), max_size=20))
    padded = [PAD, PAD, *tokens]
    assert task.encode(task.decode(np.array(padded))) == tokens


def test_another_subset_seed_is_another_subset() -> None:
    subsets = {tuple(LayeredGraph(subset_seed=seed)._subset_positions.tolist()) for seed in range(5)}
    assert len(subsets) == 5
