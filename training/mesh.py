"""Device mesh with one axis for seeds and one for the examples of a batch."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from jaxtyping import Array, Float

from models.target import platform, traced_for
from tasks.checks import whole
from tasks.compiling import LIGHT
from training.processes import several
from training.step import TOKENS_OF_A_PART

EMPTY_OPERANDS_CRASH = jax.__version__ == "0.11.2"
"""True where XLA's partitioner (Shardy) ends the process with a segmentation fault while it compiles a
`shard_map` that takes an array without elements. jaxlib 0.11.2 alone does so: 0.11.1 and 0.12.0 do not."""

SEED, DATA = "seed", "data"
PER_SEED, EVERYWHERE, PER_EXAMPLE = PartitionSpec(SEED), PartitionSpec(), PartitionSpec(DATA)


class Hardware(NamedTuple):
    """Available hardware: the name of the platform, the processes, and the devices per process."""

    platform: str
    processes: int
    devices: int

    @classmethod
    def found(cls) -> Hardware:
        """Hardware common to all processes; initialises JAX's devices.

        Raises:
            ValueError: one line, for the devices of several processes that do not run one program, as on a
                TPU pod whose processes were not told of each other: each would write the run's files.
        """
        owners = collections.Counter(device.process_index for device in jax.devices())
        if len(owners) > 1 and not several():
            raise ValueError(
                f"COVLAB_DISTRIBUTED: unset, and the devices belong to {len(owners)} processes; valid: auto, "
                "on all of them"
            )
        return cls(jax.devices()[0].platform, len(owners), min(owners.values()))


@dataclasses.dataclass(frozen=True)
class Layout:
    """Shape of the mesh: `seed` groups with equal shares of the seeds, of `data` devices per group.

    The devices of a group have equal shares of every batch.
    """

    seed: int = 1
    data: int = 1

    @property
    def size(self) -> int:
        """Total number of devices."""
        return self.seed * self.data


RECURRENT_TOKENS = 448
"""`tokens_of_a_device` of a recurrent model, whose devices have less to do at a time. On two cores a GRU of
width 64 takes as long on two devices as on one with 372 tokens each, and 0.83 of the time with 496."""


def choose_layout(
    num_seeds: int,
    batch_sizes: Mapping[str, int],
    devices: int | str = "auto",
    data_parallel: int | str = "auto",
    hardware: Hardware | None = None,
    batch_tokens: Mapping[str, int] | None = None,
    tokens_of_a_device: int = TOKENS_OF_A_PART,
) -> Layout:
    """Mesh for `num_seeds` seeds and, by phase, `batch_sizes`.

    The seed axis has as many devices as divide the seeds evenly, the data axis as many of the remaining
    devices as divide every batch evenly. Seeds have priority, because they need no communication. All
    processes use the same number of devices. On one CPU process "auto" gives every device of the data axis at
    least `tokens_of_a_device` tokens of every batch, because sharing shorter steps does not pay.

    Args:
        num_seeds: number of seeds of the run.
        batch_sizes: batch size by name of the phase.
        devices: largest number of devices to use per process; "auto": all.
        data_parallel: number of devices that share the batch of a seed, or "auto".
        hardware: available hardware; None detects it.
        batch_tokens: tokens of the batch of every phase, prompts included; None: too few to share on a CPU.
        tokens_of_a_device: see above.

    Raises:
        ValueError: in one line, if the values are impossible on this hardware.
    """
    for field, value in (("devices", devices), ("data_parallel", data_parallel)):
        if value != "auto":
            whole(field, value, 1, other="auto")
    kind, processes, available = hardware or Hardware.found()
    if isinstance(devices, int) and devices > available:
        of = " of each process" if processes > 1 else ""
        raise ValueError(f"devices: {devices} is more than the {available} {kind} device(s){of}")
    limit = devices if isinstance(devices, int) else available
    if isinstance(data_parallel, int):
        if data_parallel > limit * processes:
            raise ValueError(
                f"data_parallel: {data_parallel} is more than the {limit * processes} {kind} device(s) in use"
            )
        for phase, size in batch_sizes.items():
            if size % data_parallel:
                raise ValueError(
                    f"data_parallel: {data_parallel} does not divide batch_size {size} of phase {phase}"
                )
    most = limit * processes
    if kind == "cpu" and processes == 1:
        most = max(min((batch_tokens or {"": 0}).values()) // tokens_of_a_device, 1)

    def fits(data: int) -> bool:
        if data_parallel != "auto":
            return data == data_parallel
        return data <= most and all(size % data == 0 for size in batch_sizes.values())

    possible = [
        Layout(seed, count * processes // seed)
        for count in range(1, limit + 1)
        for seed in range(1, num_seeds + 1)
        if num_seeds % seed == 0 and count * processes % seed == 0 and fits(count * processes // seed)
    ]
    if not possible:
        sizes = ", ".join(str(size) for size in sorted(set(batch_sizes.values())))
        raise ValueError(
            f"data_parallel: {data_parallel} with seeds {num_seeds} and batch_size {sizes} gives {processes} "
            f"processes no equal shares; choose seeds or batch_size divisible by {processes}"
        )
    return max(possible, key=lambda layout: (layout.seed, layout.data))


def _without_empty_operands(
    function: Callable[..., Any], spread: Callable[..., Any], mesh: Mesh, inputs: tuple[PartitionSpec, ...]
) -> Callable[..., Any]:
    """`spread(function, in_specs=inputs)` with every array without elements made on the devices, so that
    `shard_map` takes none.

    Such arrays are arguments (the prefix of a latent whose prefix is always empty) and constants, which
    `shard_map` turns into arguments (JAX's index of an update of a whole array, as in `x.at[:].set(y)`).
    """

    def missing(arg: Any, spec: PartitionSpec) -> Any:
        """A device's share of every array without elements, None for the other arrays."""
        share = NamedSharding(mesh, spec).shard_shape
        return jax.tree.map(
            lambda leaf: None if leaf.size else jax.ShapeDtypeStruct(share(leaf.shape), leaf.dtype), arg
        )

    def outside(*args: Any) -> Any:
        shares = tuple(missing(arg, spec) for arg, spec in zip(args, inputs, strict=True))

        def inside(*full: Any) -> Any:
            args = jax.tree.map(
                lambda own, share: own if share is None else jnp.zeros(share.shape, share.dtype),
                full,
                shares,
                is_leaf=lambda node: node is None,
            )
            traced, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
            constants = [const if np.size(const) else jnp.zeros_like(const) for const in traced.consts]
            results = jax.core.eval_jaxpr(traced.jaxpr, constants, *jax.tree.leaves(args))
            return jax.tree.unflatten(jax.tree.structure(shapes), results)

        full = jax.tree.map(lambda leaf: leaf if leaf.size else None, args)
        return spread(inside, in_specs=inputs)(*full)

    return outside


def _description(leaf: Any, sharding: Sharding) -> jax.ShapeDtypeStruct:
    kept = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return jax.ShapeDtypeStruct(kept.shape, kept.dtype, sharding=sharding)


class Grid:
    """Devices of a layout, with methods to shard functions and to transfer arrays.

    Args:
        layout: shape of the mesh. Devices that share a batch are neighbours, if possible of one process.
        local: True to use only the devices of this process.
        described: the devices of another machine, of which only the description is here. Programs can then be
            compiled and not run, and `place` describes arrays.

    Attributes:
        platform: platform that programs are traced for: that of the described devices, else
            `models.target.platform`.
    """

    def __init__(self, layout: Layout, local: bool = False, described: Sequence[jax.Device] = ()) -> None:
        self.layout = layout
        self.global_ = several() and not local and not described
        self.mesh: Mesh | None = None
        processes = jax.process_count() if self.global_ else 1
        each = layout.size // processes
        self._described = described[0] if described else None
        self.platform = platform() if self._described is None else str(self._described.platform)
        if layout.size > 1:
            found = [
                [device for device in jax.devices() if device.process_index == process][:each]
                for process in (range(processes) if self.global_ else (jax.process_index(),))
            ]
            if described:
                found = [list(described[:each])]
            shape = (layout.seed, layout.data)
            self.mesh = Mesh(np.array(found).reshape(shape), (SEED, DATA), axis_types=(AxisType.Auto,) * 2)
        replicated = NamedSharding(self.mesh, EVERYWHERE) if self.mesh and self.global_ else None
        self.replicated: Any = replicated
        """`out_shardings` of arrays that the host reads; every process needs all of them."""
        self._copy = jax.jit(jnp.copy, out_shardings=replicated)

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices in the order of the mesh."""
        return tuple(jax.local_devices()[:1]) if self.mesh is None else tuple(self.mesh.devices.flat)

    @property
    def compiler_options(self) -> dict[str, Any]:
        """Options of XLA's compiler for programs that run often on these devices."""
        if self.platform != "cpu":
            return {}
        # One thread per CPU device: with a device per core, XLA's own threads would only wait for each other.
        return LIGHT if self.mesh is None else LIGHT | {"xla_cpu_multi_thread_eigen": False}

    def shard(
        self, function: Callable[..., Any], inputs: tuple[PartitionSpec, ...], output: Any = PER_SEED
    ) -> Callable[..., Any]:
        """`function` traced for the grid's platform, and sharded over the devices if there are several.

        Replication is not tracked (`check_vma=False`), so that a gradient inside is that of the device's
        share and `mean_over_data` averages it. With tracking, JAX would sum it over the data axis implicitly.
        """

        @functools.wraps(function)
        def traced(*args: Any) -> Any:
            with traced_for(self.platform):
                return function(*args)

        if self.mesh is None:
            return traced
        spread = functools.partial(jax.shard_map, mesh=self.mesh, out_specs=output, check_vma=False)
        if EMPTY_OPERANDS_CRASH:
            return _without_empty_operands(traced, spread, self.mesh, inputs)
        return spread(traced, in_specs=inputs)

    @property
    def runs(self) -> bool:
        """False if the devices are only described."""
        return self._described is None

    def mean_over_data(self, tree: Any) -> Any:
        """Mean over the devices that share a batch; call it inside a sharded function."""
        return tree if self.layout.data == 1 else jax.lax.pmean(tree, DATA)

    def weighted_mean_over_data(self, tree: Any, log_mass: Float[Array, ""]) -> Any:
        """Mean with weights e^`log_mass` over the devices that share a batch; only in a sharded function."""
        if self.layout.data == 1:
            return tree
        share = jax.nn.softmax(jax.lax.all_gather(log_mass, DATA))[jax.lax.axis_index(DATA)]
        return jax.lax.psum(jax.tree.map(lambda leaf: share.astype(leaf.dtype) * leaf, tree), DATA)

    def whole_over_data(self, share: Array) -> Array:
        """A batch's array, in order, from the shares of the devices; call it inside a sharded function."""
        return share if self.layout.data == 1 else jax.lax.all_gather(share, DATA, tiled=True)

    def part(self) -> Any:
        """Index from 0 of this device's share of a batch; call it inside a sharded function."""
        return 0 if self.layout.data == 1 else jax.lax.axis_index(DATA)

    def place(self, tree: Any, spec: PartitionSpec = PER_SEED) -> Any:
        """Host arrays, equal on all processes, sharded over the mesh; descriptions of them for described
        devices."""
        if self._described is not None:
            there: Sharding = SingleDeviceSharding(self._described)
            there = there if self.mesh is None else NamedSharding(self.mesh, spec)
            return jax.tree.map(lambda leaf: _description(leaf, there), tree)
        if self.mesh is None:
            return jax.device_put(tree)
        sharding = NamedSharding(self.mesh, spec)

        def put(leaf: Any) -> jax.Array:
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(put, tree)

    def read(self, tree: Any) -> Any:
        """The full arrays on the host of every process; all processes must call it.

        Arrays are gathered one at a time, which bounds the extra memory on a device by one array.
        """
        return jax.tree.map(lambda leaf: np.asarray(self._copy(leaf) if self.global_ else leaf), tree)
