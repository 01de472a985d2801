"""Meshes of a TPU and of GPUs: a training step compiles for them, and its devices exchange means alone."""

from __future__ import annotations

import pytest

from benchmarks.common import TINY
from benchmarks.program import compose_config, setup_of
from covlab.plan.costs import Costs
from covlab.plan.programs import Compiler, traced_programs
from covlab.plan.target import NotInstalledError, target_of
from training.mesh import Hardware

pytestmark = pytest.mark.slow

MEANS = {"all-reduce", "all-reduce-start"}


def step_on(name: str, seeds: int, shared: int) -> Costs:
    """Costs of the training step of `seeds` seeds, with `shared` devices for the batch of each."""
    target = target_of(name)
    try:
        target.require_compiler()
    except NotInstalledError as error:
        pytest.skip(str(error))
    overrides = [*TINY, "tracking.wandb=disabled", f"seeds={seeds}", f"data_parallel={shared}"]
    setup, config = setup_of(overrides), compose_config(overrides)
    devices = target.devices()
    layout = setup.layout(config, Hardware(target.chip.platform, 1, len(devices)))
    assert (layout.size, layout.data) == (target.count, shared)
    programs = traced_programs(setup, layout, devices, setup.held_out())
    found = Compiler(target)(next(each for each in programs if each.name == "training step"))
    assert not found.problem
    assert found.costs is not None
    return found.costs


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("tpu", "gpu", "count"), [("v5e:1x1", "h100:1", 1), ("v5e:2x2", "h100:4", 4), ("v5e:2x4", "h100:8", 8)]
)
@pytest.mark.parametrize("chip", ["tpu", "gpu"])
def test_seeds_alone_exchange_nothing(tpu: str, gpu: str, count: int, chip: str) -> None:
    assert step_on(tpu if chip == "tpu" else gpu, count, 1).collectives == 0


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("tpu", "gpu", "seeds"), [("v5e:2x2", "h100:4", 2), ("v5e:2x4", "h100:8", 4)])
@pytest.mark.parametrize("chip", ["tpu", "gpu"])
def test_devices_that_share_a_batch_exchange_means_alone(tpu: str, gpu: str, seeds: int, chip: str) -> None:
    """The means of the loss and its gradient, and of what is recorded of the batch."""
    costs = step_on(tpu if chip == "tpu" else gpu, seeds, 2)
    exchanged = [each for each in costs.instructions if each.kind == "collectives"]
    assert exchanged
    assert {each.opcode for each in exchanged} <= MEANS
