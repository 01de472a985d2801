"""The PyTorch and Flax loops compute what covlab computes: loss, gradient and the first updates."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from benchmarks.common import TINY, UsageError
from benchmarks.frameworks import same
from benchmarks.program import Covlab, setup_of
from training.batch_loss import batch_loss
from training.feed import batch_of_step
from training.sources import demonstrations

OVERRIDES = (*TINY, "model.num_layers=2", "seed=3")
UPDATES = 8
WITHOUT = "not in .venv: `make bench` makes an environment with it"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def covlab() -> Covlab:
    return Covlab(OVERRIDES)


@pytest.fixture(scope="module")
def problem(covlab: Covlab) -> Any:
    return covlab.problem(UPDATES)


@pytest.fixture(scope="module")
def answers(covlab: Covlab) -> tuple[Any, list[float]]:
    return covlab.loss_and_gradient(), covlab.losses(UPDATES)


def test_the_timed_programs_gradient_is_the_losss(covlab: Covlab, answers: tuple[Any, list[float]]) -> None:
    phase, model = covlab.phase, covlab.setup.model
    params = jax.tree.map(lambda a: a[0], covlab.program.init(covlab.seeds))
    batch = jax.jit(lambda: batch_of_step(phase, covlab.seeds[0], jax.numpy.int32(0)))()
    loss, gradient = jax.value_and_grad(
        lambda p: batch_loss(model, phase.objective, p, demonstrations(batch))
    )(params)
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    named = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves
    }
    assert same("program", (float(loss), named), answers[0], 1e-5) <= 1e-5
    assert answers[1][0] == pytest.approx(answers[0][0], rel=1e-6)


def check(loop: Any, answers: tuple[Any, list[float]]) -> None:
    same(type(loop).__name__, answers[0], loop.loss_and_gradient())
    assert loop.losses(UPDATES) == pytest.approx(answers[1], rel=1e-4)
    loop.steps(2)
    assert loop.losses(2) == pytest.approx(answers[1][:2], rel=1e-4), "reset goes back to the start"


SETTINGS = (
    {},
    {"layout": "left"},
    {"attention": "math"},
    {"optimizer": "foreach"},
    {"skip_unused": True},
    {"skip_unused": True, "layout": "left"},
)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_pytorch(setting: dict[str, Any], problem: Any, answers: tuple[Any, list[float]]) -> None:
    pytest.importorskip("torch", reason=f"PyTorch is {WITHOUT}")
    from benchmarks.torch_loop import TorchLoop

    check(TorchLoop(problem, threads=1, **setting), answers)


def test_pytorch_without_a_gpu_is_not_timed_against_one(
    problem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason=f"PyTorch is {WITHOUT}")
    from benchmarks.torch_loop import TorchLoop

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"^torch: sees no GPU, but JAX does"):
        TorchLoop(problem, threads=1, device="cuda")


@pytest.mark.parametrize("layout", ["left", "right"])
def test_flax(layout: Any, problem: Any, answers: tuple[Any, list[float]]) -> None:
    pytest.importorskip("flax", reason=f"Flax is {WITHOUT}")
    from benchmarks.flax_loop import FlaxLoop

    check(FlaxLoop(problem, layout), answers)


def test_flax_in_bfloat16_has_the_whole_gradient(problem: Any) -> None:
    """Also that of the embeddings: `frameworks --precision bfloat16` compares it so."""
    from benchmarks.flax_loop import FlaxLoop
    from benchmarks.frameworks import TOLERANCES

    rounded = Covlab((*OVERRIDES, "precision=bfloat16")).loss_and_gradient()
    loop = FlaxLoop(problem, dtype="bfloat16")
    assert same("flax", rounded, loop.loss_and_gradient(), TOLERANCES["bfloat16"]) > 1e-4


def test_a_wrong_decay_would_be_seen(problem: Any, answers: tuple[Any, list[float]]) -> None:
    """The losses of the first updates are a test of the optimizer, not of the first gradient alone."""
    pytest.importorskip("torch", reason=f"PyTorch is {WITHOUT}")
    import dataclasses

    from benchmarks.torch_loop import TorchLoop

    losses = TorchLoop(dataclasses.replace(problem, beta1=0.5), threads=1).losses(UPDATES)
    assert losses != pytest.approx(answers[1], rel=1e-4)


def test_drawn_examples_train_without_the_task() -> None:
    losses = Covlab(OVERRIDES, drawn=4).losses(30)
    assert np.all(np.isfinite(losses))
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_what_the_loops_do_not_repeat_is_refused() -> None:
    with pytest.raises(UsageError, match="optimizer: only the default kind is compared"):
        Covlab([*OVERRIDES, "optimizer=sgd"]).problem(1)
    with pytest.raises(UsageError, match=r"model\.widht: no such key"):
        setup_of(["model.widht=3"])
    with pytest.raises(UsageError, match=r"model\.width"):
        setup_of(["model.width=3"])
