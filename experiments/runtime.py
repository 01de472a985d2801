"""Process-wide JAX settings, made before the first array."""

from __future__ import annotations

import os
from pathlib import Path

import jax
from jax._src import xla_bridge


def configure(num_seeds: int = 1, devices: int | str = "auto") -> None:
    """Switch on the persistent compilation cache and, on CPU, give seeds a device each as far as there are
    cores.

    The cache lies in `$COVLAB_CACHE`, by default `~/.cache/covlab`; an empty value switches it off. On CPU,
    several seeds of a small model train fastest with one single-threaded XLA device a core. An accelerator's
    devices are what they are. Nothing happens to the devices if JAX has started already.

    Args:
        num_seeds: seeds of the run.
        devices: CPU devices, or "auto": the largest number that divides `num_seeds` and has a core each.

    Raises:
        ValueError: for a number of devices that is neither "auto" nor a positive integer.
    """
    if devices != "auto" and (not isinstance(devices, int) or isinstance(devices, bool) or devices < 1):
        raise ValueError(f"devices: {devices!r} is neither auto nor an integer >= 1")
    cache = os.environ.get("COVLAB_CACHE", str(Path.home() / ".cache" / "covlab"))
    if cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not isinstance(devices, int):
        devices = max(count for count in range(1, cores + 1) if num_seeds % count == 0)
    if devices > 1 and not xla_bridge.backends_are_initialized():
        jax.config.update("jax_num_cpu_devices", devices)
