"""Meshes of seeds and data: equality with one device for every shape, and valid shapes."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from omegaconf import DictConfig
from oracles.toy import TabularModel, ToyTask, fuse_step

from covlab.launch.build import build
from covlab.launch.runtime import cpu_devices
from metrics.evaluators import DistributionEvaluator, HeldOut, SamplingEvaluator, make_held_out
from tracking import ListSink
from training import (
    CheckpointPolicy,
    Checkpoints,
    CrossEntropy,
    EvaluationSchedule,
    Grid,
    Layout,
    Phase,
    Program,
    Trainer,
    choose_layout,
    make_program,
)
from training.feed import batch_of_step
from training.mesh import EMPTY_OPERANDS_CRASH, EVERYWHERE, PER_SEED, Hardware

pytestmark = pytest.mark.usefixtures("shared_programs")
TASK = ToyTask()
SEEDS = (3, 4, 5, 6)
SHAPES = (Layout(4, 1), Layout(2, 2), Layout(1, 4))
EVALUATORS = (
    DistributionEvaluator(coverage_ns=(2,), pass_ns=(1,)),
    SamplingEvaluator(num_samples=4, pass_ns=(1, 4)),
)
# What an average gets wrong when it is a sum: momentum, and clipping at a norm that is reached.
OPTIMIZER = optax.chain(optax.clip_by_global_norm(0.3), optax.sgd(0.5, momentum=0.9))


def phase_of(dataset_size: int | None = None, optimizer: Any = OPTIMIZER, steps: int = 20) -> Phase:
    schedule = EvaluationSchedule(every=10)
    return Phase("p", TASK, CrossEntropy(), optimizer, steps, 8, dataset_size, schedule, 5)


@functools.cache
def held_out() -> HeldOut:
    """Ten examples in four batches, the last one half padding."""
    return make_held_out(TASK, 5, 3, 0)


@functools.cache
def program(layout: Layout, dataset_size: int | None = None) -> Program:
    return make_program(TabularModel(), phase_of(dataset_size), EVALUATORS, held_out(), Grid(layout))


def host(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)


@functools.cache
def trained(layout: Layout, dataset_size: int | None = None) -> tuple[Any, Any, Any]:
    """The state after 20 steps, the log of the last 13, the scores of all examples."""
    made, seeds = program(layout, dataset_size), jnp.asarray(SEEDS, jnp.uint32)
    state = made.begin(made.init(seeds), jnp.full(len(SEEDS), -1, jnp.int32))
    state, _ = made.run(state, seeds, 0, 7)
    state, log = made.run(state, seeds, 7, 20)
    scores = jax.tree.map(lambda a: a[:, :10], host(made.score(state.params)))
    return host(state), host(log), scores


def close(mine: Any, other: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), mine, other)


@pytest.mark.long
@pytest.mark.parametrize("dataset_size", [None, 6])
@pytest.mark.parametrize("layout", SHAPES, ids=str)
def test_a_mesh_computes_what_one_device_computes(layout: Layout, dataset_size: int | None) -> None:
    assert jax.local_device_count() == 4, "tests/conftest.py did not get its virtual devices"
    mine, one = trained(layout, dataset_size), trained(Layout(), dataset_size)
    close(mine, one)
    np.testing.assert_array_equal(mine[2]["sampling"]["num_correct"], one[2]["sampling"]["num_correct"])
    assert not np.allclose(one[0].params["table"][0], one[0].params["table"][1])


@pytest.mark.parametrize("layout", SHAPES, ids=str)
def test_every_device_has_its_share(layout: Layout) -> None:
    made, seeds = program(layout), jnp.asarray(SEEDS, jnp.uint32)
    params = made.init(seeds)
    scores = made.score(params)["distribution"]["log_prob"]
    for array, share in ((params["table"], 4 // layout.seed), (scores, 4 // layout.seed)):
        assert len(array.sharding.device_set) == 4
        assert {shard.data.shape[0] for shard in array.addressable_shards} == {share}
    assert {shard.data.shape[1] for shard in scores.addressable_shards} == {12 // layout.data}


@pytest.mark.long
@pytest.mark.parametrize("dataset_size", [None, 6])
def test_the_shares_of_a_batch_are_the_batch(dataset_size: int | None) -> None:
    phase = phase_of(dataset_size)
    of_step = jax.jit(functools.partial(batch_of_step, phase), static_argnums=3)
    whole = of_step(jnp.uint32(3), jnp.int32(5), 0, 1)
    shares = [of_step(jnp.uint32(3), jnp.int32(5), part, 4) for part in range(4)]
    together = jax.tree.map(lambda *parts: np.concatenate(parts), *shares)
    jax.tree.map(np.testing.assert_array_equal, together, host(whole))


def with_empty_arrays(tree: Any, offset: Any) -> Any:
    """Empty arguments, an empty constant and the empty index of an update of a whole array, all of use."""
    whole_update = jnp.zeros((1, 2)).at[:, :2].set(tree["x"])
    constant = jnp.sum(jnp.asarray(np.zeros((0,), np.float32)))
    return {"sum": whole_update + constant + jnp.sum(tree["empty"]) + offset, "none": None}, tree["empty"]


@pytest.mark.parametrize("kept_out", [True, EMPTY_OPERANDS_CRASH], ids=["kept_out", "as_here"])
@pytest.mark.parametrize("layout", [Layout(2, 1), Layout(2, 2)], ids=str)
def test_arrays_without_elements_are_computed_with(
    layout: Layout, kept_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.mesh.EMPTY_OPERANDS_CRASH", kept_out)
    tree = {"x": np.arange(4.0, dtype=np.float32).reshape(2, 2), "empty": np.zeros((2, 0), np.float32)}
    one = jax.vmap(lambda tree: with_empty_arrays(tree, jnp.float32(1)))(tree)
    spread = Grid(layout).shard(with_empty_arrays, (PER_SEED, EVERYWHERE))
    found = jax.jit(spread)(tree, jnp.float32(1))
    assert jax.tree.structure(found) == jax.tree.structure(one)
    np.testing.assert_array_equal(found[0]["sum"], one[0]["sum"][:, 0])
    assert found[1].shape == one[1].shape == (2, 0)
    (sharded,) = jax.make_jaxpr(spread)(tree, jnp.float32(1)).eqns
    sizes = [operand.aval.size for operand in sharded.invars]
    assert (min(sizes) > 0) == kept_out


@pytest.mark.long
def test_divergence_is_agreed_on_by_all_devices_of_a_seed() -> None:
    """One device's share of a batch goes wrong: the seed stops on every device of the data axis."""
    model, runs = TabularModel(poisoned=(4,)), []
    for layout in (Layout(), Layout(2, 2)):
        made = make_program(model, phase_of(optimizer=fuse_step(0.5)), (), held_out(), Grid(layout))
        seeds = jnp.asarray(SEEDS, jnp.uint32)
        state = made.begin(made.init(seeds), jnp.full(4, -1, jnp.int32))
        state, _ = made.run(state, seeds, 0, 10)
        assert np.asarray(state.failed_at).tolist() == [-1, 4, -1, -1]
        for leaf in jax.tree.leaves(state):
            copies = {shard.index[0].start: np.asarray(shard.data) for shard in leaf.addressable_shards}
            for shard in leaf.addressable_shards:
                np.testing.assert_array_equal(shard.data, copies[shard.index[0].start])
        runs.append(host(state))
    close(*runs)


def run(layout: Layout, sink: ListSink, directory: Path | None = None, stop_at: int = 99) -> Any:
    """A trainer on a mesh, from the checkpoints in `directory`, to its end or `stop_at` boundaries."""
    calls = iter(range(1, 100))
    policy = CheckpointPolicy(every_seconds=0.0, parameters="ends")
    trainer = Trainer(
        TabularModel(), (phase_of(),), SEEDS, EVALUATORS, (held_out(),), sink,
        None if directory is None else Checkpoints(directory, policy),
        lambda: "asked to" if next(calls) >= stop_at else None,
        table_prompts=2, layout=layout,
    )  # fmt: skip
    return trainer.run()


def same_records(mine: ListSink, other: ListSink) -> None:
    heads = ("phase", "step", "global_step", "seed")
    assert [[r[k] for k in heads] for r in mine.records] == [[r[k] for k in heads] for r in other.records]
    for record, expected in zip(mine.records, other.records, strict=True):
        assert record.keys() == expected.keys()
        for key in expected.keys() - set(heads):
            assert record[key] == pytest.approx(expected[key], rel=1e-4, abs=1e-6), key


@pytest.fixture(scope="module")
def whole() -> ListSink:
    sink = ListSink()
    run(Layout(), sink)
    return sink


@pytest.mark.long
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (Layout(), Layout(2, 2)),
        pytest.param(Layout(4, 1), Layout(2, 1), marks=pytest.mark.slow),
        (Layout(1, 4), Layout(4, 1)),
        pytest.param(Layout(2, 2), Layout(), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_checkpoint_restores_on_another_mesh(
    whole: ListSink, tmp_path: Path, first: Layout, then: Layout
) -> None:
    sink = ListSink()
    assert run(first, sink, tmp_path, stop_at=3).stopped == "asked to"
    assert sink.records[-1]["step"] == 10
    outcome = run(then, sink, tmp_path)
    assert sink.messages[-1] == "resuming in phase p after step 10"
    assert outcome.stopped is None
    assert len(outcome.params["table"].sharding.device_set) == then.size
    same_records(sink, whole)
    assert sink.tables == whole.tables


def hardware(platform: str, processes: int, devices: int) -> Hardware:
    return Hardware(platform, processes, devices)


def test_devices_of_processes_that_do_not_know_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = [types.SimpleNamespace(process_index=index // 4, platform="tpu") for index in range(8)]
    monkeypatch.setattr(jax, "devices", lambda: there)
    with pytest.raises(ValueError, match=r"^COVLAB_DISTRIBUTED: unset, and .* 2 processes; valid: auto"):
        Hardware.found()
    monkeypatch.setattr("training.mesh.several", lambda: True)
    assert Hardware.found() == Hardware("tpu", 2, 4)


@pytest.mark.parametrize(
    ("seeds", "batch", "where", "expected"),
    [
        # One CPU process: seeds alone.
        (4, 64, hardware("cpu", 1, 4), (4, 1)),
        (6, 64, hardware("cpu", 1, 4), (3, 1)),
        (1, 64, hardware("cpu", 1, 4), (1, 1)),
        # Accelerators: seeds first, then the data as far as it divides evenly.
        (1, 64, hardware("gpu", 1, 8), (1, 8)),
        (16, 64, hardware("gpu", 1, 8), (8, 1)),
        (4, 64, hardware("gpu", 1, 8), (4, 2)),
        (3, 64, hardware("gpu", 1, 8), (3, 2)),
        (1, 63, hardware("gpu", 1, 8), (1, 7)),
        (7, 64, hardware("gpu", 1, 4), (1, 4)),
        # Several processes: an equal number of devices of each.
        (2, 64, hardware("cpu", 2, 1), (2, 1)),
        (1, 64, hardware("cpu", 2, 1), (1, 2)),
        (3, 64, hardware("gpu", 2, 4), (3, 2)),
        (16, 64, hardware("gpu", 4, 8), (16, 2)),
    ],
)
def test_auto_gives_seeds_devices_first(
    seeds: int, batch: int, where: Hardware, expected: tuple[int, int]
) -> None:
    assert choose_layout(seeds, {"p": batch}, hardware=where) == Layout(*expected)


@pytest.mark.parametrize(
    ("seeds", "batch", "tokens", "expected"),
    [
        (1, 64, 64 * 136, (1, 4)), (1, 64, 4 * 1536 - 1, (1, 2)), (1, 64, 2 * 1536 - 1, (1, 1)),
        (1, 63, 63 * 136, (1, 3)), (3, 64, 64 * 136, (3, 1)), (2, 64, 64 * 136, (2, 2)),
        (4, 64, 64 * 136, (4, 1)),
    ],
)  # fmt: skip
def test_on_a_cpu_a_batch_is_shared_where_every_share_is_long_enough(
    seeds: int, batch: int, tokens: int, expected: tuple[int, int]
) -> None:
    where = hardware("cpu", 1, 4)
    assert choose_layout(seeds, {"p": batch}, "auto", "auto", where, {"p": tokens}) == Layout(*expected)
    assert choose_layout(seeds, {"p": batch}, "auto", 1, where, {"p": tokens}).data == 1


def test_a_recurrent_model_shares_shorter_batches(compose_config: Callable[..., DictConfig]) -> None:
    """64 examples of 31 tokens are 1,984: one share of 1,536, but four of 448; 24 examples are one."""
    for model, batch, expected in (("gru", 64, 4), ("gru", 24, 1), ("gpt_tiny", 64, 1)):
        config = compose_config("train", f"model={model}", f"batch_size={batch}")
        assert build(config).layout(config, hardware("cpu", 1, 4)) == Layout(1, expected)


def test_what_is_asked_for_is_given() -> None:
    gpus = hardware("gpu", 1, 8)
    assert choose_layout(4, {"p": 64}, 4, "auto", gpus) == Layout(4, 1)
    assert choose_layout(4, {"p": 64}, 4, 2, gpus) == Layout(2, 2)
    assert choose_layout(4, {"p": 64}, "auto", 1, gpus) == Layout(4, 1)
    assert choose_layout(4, {"p": 64}, "auto", 2, hardware("cpu", 1, 4)) == Layout(2, 2)
    assert choose_layout(3, {"p": 64, "q": 6}, "auto", 2, hardware("cpu", 2, 4)) == Layout(3, 2)


@pytest.mark.parametrize(
    ("arguments", "where", "line"),
    [
        ((1, 9, "auto"), hardware("gpu", 1, 8), "devices: 9 is more than the 8 gpu device(s)"),
        (
            (1, 9, "auto"), hardware("gpu", 2, 8),
            "devices: 9 is more than the 8 gpu device(s) of each process",
        ),
        ((1, "auto", 16), hardware("gpu", 1, 8), "data_parallel: 16 is more than the 8 gpu device(s) in use"),
        ((1, 2, 4), hardware("gpu", 1, 8), "data_parallel: 4 is more than the 2 gpu device(s) in use"),
        ((1, "auto", 3), hardware("gpu", 1, 8), "data_parallel: 3 does not divide batch_size 64 of phase p"),
        ((1, "auto", 0), hardware("gpu", 1, 8), "data_parallel: 0 is neither auto nor an integer >= 1"),
        ((1, "some", 1), hardware("gpu", 1, 8), "devices: 'some' is neither auto nor an integer >= 1"),
        (
            (3, "auto", 1), hardware("gpu", 2, 1),
            "data_parallel: 1 with seeds 3 and batch_size 64 gives 2 processes no equal shares; choose seeds "
            "or batch_size divisible by 2",
        ),
    ],
)  # fmt: skip
def test_impossible_values_are_refused_in_one_line(
    arguments: tuple[int, Any, Any], where: Hardware, line: str
) -> None:
    seeds, devices, data_parallel = arguments
    with pytest.raises(ValueError, match=r"devices|data_parallel") as refused:
        choose_layout(seeds, {"p": 64}, devices, data_parallel, where)
    assert str(refused.value) == line


@pytest.mark.long
@pytest.mark.parametrize(
    ("seeds", "data_parallel", "processes", "cores", "expected"),
    [(4, 1, 1, 2, 2), (3, 1, 1, 2, 1), (1, 1, 1, 8, 1), (1, 2, 1, 1, 2), (2, 2, 1, 8, 4), (2, 1, 2, 8, 1),
     (1, 1, 2, 8, 1), (8, 1, 2, 2, 2), (1, 2, 2, 4, 1), (2, 2, 2, 4, 2)],
)  # fmt: skip
def test_cpu_devices_are_made_for_the_seeds(
    seeds: int, data_parallel: int, processes: int, cores: int, expected: int
) -> None:
    assert cpu_devices(seeds, data_parallel, processes, cores) == expected
