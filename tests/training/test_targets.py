"""A training step traced and lowered for accelerators on a machine that has none."""

from __future__ import annotations

import functools
import re

import jax
import numpy as np
import optax
import pytest
from jax.sharding import SingleDeviceSharding
from oracles.toy import ToyTask

from metrics.evaluators import DistributionEvaluator, make_held_out
from models import GPT
from models.target import traced_for
from training import CrossEntropy, EvaluationSchedule, Grid, Layout, Phase, Program, make_program
from training.step import TOKENS_OF_A_PART

pytestmark = pytest.mark.long

TASK = ToyTask()
LENGTH = TASK.prompt_length + TASK.response_length
BATCH = 4 * TOKENS_OF_A_PART // LENGTH
SEEDS = np.asarray([0, 1], np.uint32)
PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}
"""The platform's name as devices have it -> as lowering takes it."""


def program(grid: Grid) -> Program:
    model = GPT(TASK.vocab_size, TASK.prompt_length, TASK.response_length, 1, 2, 8)
    phase = Phase("p", TASK, CrossEntropy(), optax.sgd(0.5), 4, BATCH, None, EvaluationSchedule(every=2), 2)
    held_out = make_held_out(TASK, 2, 2, 0)
    return make_program(model, phase, (DistributionEvaluator((2,), (1,)),), held_out, grid)


def step_on(made: Program):
    params = jax.eval_shape(made.init, SEEDS)
    state = jax.eval_shape(made.begin, params, np.zeros(2, np.int32))
    return made.run.trace(state, SEEDS, 0, 1)  # type: ignore[attr-defined]


@functools.cache
def lowered(platform: str) -> str:
    """StableHLO of a training step, without any plugin of the platform."""
    with traced_for(platform):
        step = step_on(program(Grid(Layout())))
    return step.lower(lowering_platforms=(PLATFORMS[platform],)).as_text()


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_an_accelerators_step_has_nothing_that_is_for_cpus(platform: str) -> None:
    cpu, text = lowered("cpu"), lowered(platform)
    # Parts of the batch, seeds in turn, and products kept apart.
    assert cpu.count("stablehlo.while") > text.count("stablehlo.while")
    assert cpu.count("optimization_barrier") > 1
    # The only block computes its attention weights and GELU's slope again in the backward pass. On a GPU it
    # does so with its norms, and the gradient through GELU is written once, in the activations' dtype.
    assert text.count("optimization_barrier") == {"gpu": 4, "tpu": 2}[platform]
    # The look-up's gradient, of the table and of the positions: a scatter there, a product here.
    assert '"stablehlo.scatter"' in cpu
    added = re.findall(r'"stablehlo.scatter".*?\}\) :', text, re.DOTALL)
    assert not any("stablehlo.add" in each and f"x{8}xf32" in each for each in added)
    # All seeds at once: an activation has the axes of seeds and batch.
    assert f"tensor<2x{BATCH}x" in text


def test_this_machines_program_is_the_one_without_a_target() -> None:
    """The same text, whether the platform is named or that of JAX's default device."""
    plain = program(Grid(Layout()))
    assert step_on(plain).lower().as_text() == lowered("cpu")


@pytest.mark.parametrize("layout", [Layout(1, 1), Layout(2, 1), Layout(1, 2)])
def test_described_devices_take_descriptions_and_compile(layout: Layout) -> None:
    """Devices of this machine, described: the program has their shares, and nothing was placed on them."""
    devices = jax.devices()[: layout.size]
    grid = Grid(layout, described=devices)
    assert not grid.runs
    placed = grid.place(SEEDS)
    assert isinstance(placed, jax.ShapeDtypeStruct)
    assert placed.sharding.device_set == set(devices)
    if layout.size == 1:
        assert placed.sharding == SingleDeviceSharding(devices[0])
    made = program(grid)
    params = grid.place(jax.eval_shape(made.init, placed))
    scored = made.evaluate.lower(params, (), made.batches()).compile()  # type: ignore[attr-defined]
    found = scored.memory_analysis()
    of_seeds = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params)) // layout.seed
    batches = jax.tree.leaves(made.batches())
    of_batches = sum(leaf.size * leaf.dtype.itemsize for leaf in batches) // layout.data
    assert 0.5 * (of_seeds + of_batches) <= found.argument_size_in_bytes <= of_seeds + of_batches
