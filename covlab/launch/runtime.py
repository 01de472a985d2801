"""Process-wide JAX settings, made before the first array."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import jax
from jax._src import xla_bridge
from jax._src.distributed import global_state
from jax._src.lru_cache import LRUCache

from covlab.cores import usable_cores
from covlab.launch.kept import cache_folder
from covlab.launch.processes import send
from tasks.checks import whole
from tasks.streams import pin_settings
from training.kept import cached

_put, _get = LRUCache.put, LRUCache.get


def configure(num_seeds: int = 1, devices: int | str = "auto", data_parallel: int | str = "auto") -> None:
    """Pin the settings of random draws, enable the persistent compilation cache and, on CPU, make devices.

    JAX settings that would change the random numbers (`JAX_THREEFRY_PARTITIONABLE`, `JAX_ENABLE_X64`,
    `JAX_RANDOM_SEED_OFFSET`) are overruled, see `tasks.pin_settings`.

    The cache lies in `$COVLAB_CACHE`, by default `~/.cache/covlab`; an empty value disables it. On CPU, small
    models train fastest with one single-threaded XLA device per core; `training.choose_layout` chooses how
    many of them a run uses. The devices of an accelerator are left alone, and so are all devices if JAX has
    started already. With several processes, the leader does this for all and starts their devices.

    Args:
        num_seeds: number of seeds of the run.
        devices: CPU devices of each process, or "auto", see `cpu_devices`.
        data_parallel: devices that share a seed's batch, or "auto".

    Raises:
        ValueError: a number of devices that is neither "auto" nor a positive integer.
    """
    for field, value in (("devices", devices), ("data_parallel", data_parallel)):
        if value != "auto":
            whole(field, value, 1, other="auto")
    # Objects loaded by now stay, so garbage collection during tracing need not visit them.
    if not gc.get_freeze_count():
        gc.freeze()
    pin_settings()
    if global_state.process_id == 0:
        send(configure=[num_seeds, devices, data_parallel])
    cache = cache_folder()
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        setattr(LRUCache, "put", _put_whole)  # noqa: B010
        setattr(LRUCache, "get", _get_noted)  # noqa: B010
    cores = len(usable_cores())
    if not isinstance(devices, int):
        if global_state.num_processes == 1 and data_parallel == "auto":
            devices = cores
        else:
            together = data_parallel if isinstance(data_parallel, int) else 1
            devices = cpu_devices(num_seeds, together, global_state.num_processes, cores)
    # A command that is configured once more may ask for fewer.
    changed = devices > 1 or jax.config.jax_num_cpu_devices > 1  # type: ignore[attr-defined]
    if changed and not xla_bridge.backends_are_initialized():
        jax.config.update("jax_num_cpu_devices", devices)
    if global_state.num_processes > 1:
        # They only start together.
        jax.devices()


def configure_run(config: Any) -> None:
    """`configure` for a configuration of experiments.train, or of a claim that trains.

    A number of seeds that is not an integer is refused later, where the run is built.
    """
    configure(config.seeds if isinstance(config.seeds, int) else 1, config.devices, config.data_parallel)


def cpu_devices(num_seeds: int, data_parallel: int, processes: int, cores: int) -> int:
    """CPU devices per process: at most one per core, such that all devices divide equally among the seeds,
    with `data_parallel` devices per seed."""
    fitting = [
        count
        for count in range(1, cores + 1)
        if count * processes % data_parallel == 0 and num_seeds % (count * processes // data_parallel) == 0
    ]
    return max(fitting, default=-(-data_parallel // processes))


def _get_noted(cache: LRUCache, key: str) -> bytes | None:
    """Read an entry of the compilation cache, and leave it where `training.kept` looks for it."""
    cached.entry = entry = _get(cache, key)
    return entry


def _put_whole(cache: LRUCache, key: str, value: bytes) -> None:
    """Add an entry to the compilation cache atomically.

    JAX writes entries in place and never replaces one, so a truncated entry would cost a warning and a
    compilation at every later start.
    """
    cached.entry = value
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
