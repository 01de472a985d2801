"""A training step of any commit, compiled for a chip that is not here: run by `benchmarks.before`.

    python -P benchmarks/lowered.py OUT TARGET PHASE OVERRIDE...

A script, and not a module: the packages are those of PYTHONPATH, another checkout's. It uses names alone that
every commit since 298e9ac has. Where a checkout asks for JAX's default device while it traces, the answer is
the chip's platform. OUT.json gets the compiler's memory and the times, OUT.hlo the compiled text.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding


def device_of(target: str) -> Any:
    """Description of one device: of a TPU such as `v5e`, or of the GPU whose description is in a file."""
    jax.config.update("jax_platforms", "cpu")
    jax.devices("cpu")
    if not Path(target).is_file():
        os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
        os.environ |= {"TPU_ACCELERATOR_TYPE": f"{target}-1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
        one = {"chips_per_host_bounds": (1, 1, 1)}
        return topologies.get_topology_desc(f"{target}:1x1", platform="tpu", **one).devices[0]
    text = Path(target).read_text(encoding="utf-8")
    known = {"topology": "1x1x1", "target_config": text}
    return topologies.get_topology_desc("1x1x1", platform="cuda", **known).devices[0]


def lowered(device: Any, index: int, overrides: list[str]) -> Any:
    """The training step of a phase, with the evaluators that give it the coverage of its batches."""
    from benchmarks.program import setup_of
    from training import make_program
    from training.mesh import Grid, Layout

    setup = setup_of(["tracking.wandb=disabled", "evaluation.num_examples=4", *overrides])
    if "described" in inspect.signature(Grid).parameters:
        grid = Grid(Layout(1), described=[device])
    else:
        setattr(jax, "default_backend", lambda: device.platform)  # noqa: B010
        grid = Grid(Layout(1))
    held_out = dataclasses.replace(setup.evaluation[0], num_examples=1).held_out(setup.phases[0].task)
    program: Any = make_program(setup.model, setup.phases[index], setup.evaluators, held_out, grid)
    seeds, there = np.asarray(setup.seeds, np.uint32), SingleDeviceSharding(device)
    params = jax.eval_shape(program.init, seeds)
    state = jax.eval_shape(program.begin, params, np.full(len(seeds), -1, np.int32))
    arguments = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=there),
        (state, seeds, np.int32(0), np.int32(1)),
    )
    return program.run.lower(*arguments)


def main(out: str, target: str, phase: str, *overrides: str) -> None:
    """Lower, compile, write."""
    step = lowered(device_of(target), int(phase), list(overrides))
    gpu = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}
    began, used = time.monotonic(), time.process_time()
    compiled = step.compile(compiler_options=gpu if Path(target).is_file() else None)
    found = compiled.memory_analysis()
    said = {
        "argument_bytes": found.argument_size_in_bytes,
        "shared_bytes": found.alias_size_in_bytes,
        "temporary_bytes": found.temp_size_in_bytes,
        "code_bytes": found.generated_code_size_in_bytes,
        "compile_seconds": time.monotonic() - began,
        "compile_cpu_seconds": time.process_time() - used,
    }
    Path(f"{out}.hlo").write_text(compiled.as_text(), encoding="utf-8")
    Path(f"{out}.json").write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
