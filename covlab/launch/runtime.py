"""Process-wide JAX settings, made before the first array."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import jax
from jax._src import xla_bridge
from jax._src.distributed import global_state
from jax._src.lru_cache import LRUCache

from covlab.launch.processes import order
from tasks.checks import whole
from tasks.streams import pin_settings

_put = LRUCache.put


def configure(num_seeds: int = 1, devices: int | str = "auto", data_parallel: int | str = "auto") -> None:
    """Pin what random draws depend on, switch on the persistent compilation cache and, on CPU, make devices.

    Of JAX's own settings, those that would draw other numbers (`JAX_THREEFRY_PARTITIONABLE`,
    `JAX_ENABLE_X64`, `JAX_RANDOM_SEED_OFFSET`) are overruled: see `tasks.pin_settings`.

    The cache lies in `$COVLAB_CACHE`, by default `~/.cache/covlab`; an empty value switches it off. On CPU,
    small models train fastest with one single-threaded XLA device a core; how many of them a run uses is
    `training.choose_layout`'s choice. An accelerator's devices are what they are. Nothing happens to the
    devices if JAX has started already. The first of several processes does this for all of them, and starts
    their devices.

    Args:
        num_seeds: seeds of the run.
        devices: CPU devices of each process, or "auto", see `cpu_devices`.
        data_parallel: devices that share a seed's batch, or "auto".

    Raises:
        ValueError: for a number of devices that is neither "auto" nor a positive integer.
    """
    for field, value in (("devices", devices), ("data_parallel", data_parallel)):
        if value != "auto":
            whole(field, value, 1, other="auto")
    # What is loaded by now stays: collections while programs are traced need not look at it again and again.
    if not gc.get_freeze_count():
        gc.freeze()
    # Tracing makes many objects that live long: at Python's own threshold of 700 a tenth of the time is spent
    # on collections that free nothing.
    gc.set_threshold(50_000, 20, 100)
    pin_settings()
    if global_state.process_id == 0:
        order(configure=[num_seeds, devices, data_parallel])
    cache = os.environ.get("COVLAB_CACHE", str(Path.home() / ".cache" / "covlab"))
    if cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        setattr(LRUCache, "put", _put_whole)  # noqa: B010
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not isinstance(devices, int):
        if global_state.num_processes == 1 and data_parallel == "auto":
            devices = cores
        else:
            together = data_parallel if isinstance(data_parallel, int) else 1
            devices = cpu_devices(num_seeds, together, global_state.num_processes, cores)
    if devices > 1 and not xla_bridge.backends_are_initialized():
        jax.config.update("jax_num_cpu_devices", devices)
    if global_state.num_processes > 1:
        # They only start together.
        jax.devices()


def cpu_devices(num_seeds: int, data_parallel: int, processes: int, cores: int) -> int:
    """CPU devices that each process makes: as many as it has cores, as far as all of them together give the
    seeds equal shares, `data_parallel` devices to a seed."""
    fitting = [
        count
        for count in range(1, cores + 1)
        if count * processes % data_parallel == 0 and num_seeds % (count * processes // data_parallel) == 0
    ]
    return max(fitting, default=-(-data_parallel // processes))


def _put_whole(cache: LRUCache, key: str, value: bytes) -> None:
    """Add an entry to the compilation cache, whole or not at all.

    JAX writes entries in place and never replaces one: what a kill or a full disk cut short would cost a
    warning and a compilation at every later start.
    """
    folder = os.fspath(cache.path)
    entry = Path(folder) / f"{key}-cache"
    if cache.eviction_enabled or "://" in folder:
        _put(cache, key, value)
    elif not entry.exists():
        temporary = entry.with_name(f".{key}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(value)
            temporary.replace(entry)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
