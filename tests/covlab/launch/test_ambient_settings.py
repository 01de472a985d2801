"""JAX's settings from outside that would draw other numbers: a command's data are the same under all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

AMBIENT = {
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_ENABLE_X64": "1",
    "JAX_RANDOM_SEED_OFFSET": "3",
    "JAX_USE_HIGH_DYNAMIC_RANGE_GUMBEL": "1",
}
RUN = (
    *("task.depth=2", "task.num_ids=10", "model.num_layers=1", "model.width=8", "model.num_heads=2"),
    *("batch_size=4", "evaluation.num_examples=4", "evaluation.num_samples=2", "evaluation.pass_ns=[1]"),
    *("devices=1", "tracking.wandb=disabled", "tracking.progress=false", "tracking.figures=false", "name=x"),
    "evaluation.table_prompts=1",
)


def train(root: Path, steps: int, **environment: str) -> bytes:
    command = [sys.executable, "-m", "experiments.train", f"root={root}", f"steps={steps}", *RUN]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (root / "train" / "x" / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_a_run_is_the_same_whatever_jax_is_told_from_outside(tmp_path: Path) -> None:
    plain = train(tmp_path / "plain", 3)
    for name, value in AMBIENT.items():
        assert train(tmp_path / name, 3, **{name: value}) == plain, name
    assert train(tmp_path / "all", 3, **AMBIENT) == plain
