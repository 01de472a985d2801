"""Sharing one machine among the jobs of a sweep: a slot is the part reserved for one job."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.util
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from covlab.cores import usable_cores

BYTES_OF_A_JOB = 2 * 2**30
"""Expected largest memory of a job, in bytes."""
_POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Slot:
    """Cores and the visible accelerator of one of several concurrent jobs."""

    cores: tuple[int, ...] = ()
    accelerator: str | None = None


def share(
    jobs: int, at_once: int, cores: Sequence[int] | None = None, accelerators: Sequence[str] | None = None
) -> tuple[Slot, ...]:
    """Slots for `jobs` jobs on this machine, with disjoint cores and accelerators.

    Args:
        jobs: number of jobs to do.
        at_once: largest number of concurrent jobs; -1 for one per accelerator, or, without accelerators, one
            per core as far as memory allows.
        cores: usable cores; by default those of this process.
        accelerators: usable accelerators, as in CUDA_VISIBLE_DEVICES; by default those that JAX would take.

    Raises:
        ValueError: a number of jobs that is neither -1 nor a positive integer.
    """
    if at_once != -1 and at_once < 1:
        raise ValueError(f"hydra.launcher.n_jobs: {at_once} is neither -1 nor an integer >= 1")
    cores = usable_cores() if cores is None else cores
    accelerators = _accelerators() if accelerators is None else accelerators
    if at_once == -1:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        at_once = len(accelerators) or min(len(cores), memory // BYTES_OF_A_JOB)
    count = max(1, min(at_once, jobs))
    per_slot = max(1, len(cores) // count)
    slots = []
    for index in range(count):
        slot_cores = tuple(cores[(index * per_slot + i) % len(cores)] for i in range(per_slot))
        slots.append(Slot(slot_cores, accelerators[index % len(accelerators)] if accelerators else None))
    return tuple(slots)


def _accelerators(gpus: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """GPUs that JAX would take. JAX is not asked, because it would reserve their memory."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    if not any(importlib.util.find_spec(plugin) for plugin in plugins):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part.strip() for part in visible.split(",") if part.strip()]
    return [str(index) for index, _ in enumerate(gpus.iterdir())] if gpus.is_dir() else []


@contextlib.contextmanager
def take_slot(folder: Path, slots: Sequence[Slot]) -> Iterator[Slot]:
    """Take a slot that no other worker has, and bind this process and its children to the slot's cores."""
    if not slots:
        yield Slot()
        return
    while True:
        for index, slot in enumerate(slots):
            lock = os.open(folder / f"slot-{index}", os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            try:
                if slot.cores and hasattr(os, "sched_setaffinity"):
                    os.sched_setaffinity(0, slot.cores)
                yield slot
            finally:
                os.close(lock)
            return
        time.sleep(_POLL_SECONDS)
