"""Hardware to plan for: the figures of its chip, and descriptions of its devices for XLA's compilers.

A target is a chip and how many of them: `v5e:2x2` is a slice of four TPU v5e, `h100:8` a host of eight GPUs,
`v6e` one chip. The figures of each chip are in a file of `covlab/plan/targets`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import yaml
from jax._src import xla_bridge
from jax.experimental import topologies

GIB = 2**30
_FOLDER = Path(__file__).parent / "targets"
_PLUGINS = {"tpu": ("libtpu",), "gpu": ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13"), "cpu": ()}
_EXTRAS = {"tpu": "tpu", "gpu": "cuda"}


class NotInstalledError(ValueError):
    """The compiler of a target's platform is not installed; one line that says how to install it."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """Figures of one chip, from a file of `covlab/plan/targets`.

    Attributes:
        name: the file's name.
        title: the chip's full name.
        platform: "tpu", "gpu" or "cpu".
        topology: shape of the slice, or number of chips, where a target names none.
        peak: FLOP/s of matrix products by dtype of the operands; empty: not stated.
        bandwidth: bytes/s of the main memory; None: not stated.
        memory: GiB of main memory that programs may use; None: all of this machine's.
        usable: share of `memory` that JAX takes by default.
        multiply_adds_per_cycle: of all matrix units, for a chip whose compiler estimates cycles.
        compiler: figures of a GPU for its compiler, the fields of XLA's `GpuDeviceInfoProto`.
    """

    name: str
    title: str
    platform: str
    topology: str
    peak: Mapping[str, float]
    bandwidth: float | None
    memory: float | None
    usable: float
    multiply_adds_per_cycle: int | None = None
    compiler: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def clock(self) -> float | None:
        """Cycles per second, peak / (2 x multiply-adds a cycle); None where no cycles are estimated."""
        if self.multiply_adds_per_cycle is None:
            return None
        return self.peak["bfloat16"] / (2 * self.multiply_adds_per_cycle)

    @property
    def bytes(self) -> float:
        """Bytes of main memory that a run may use by default."""
        if self.memory is None:
            return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        return self.memory * self.usable * GIB


def known_chips() -> tuple[str, ...]:
    """Names of the chips that have a file."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


@dataclasses.dataclass(frozen=True)
class Target:
    """A chip, and the shape of the slice: one number per axis."""

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The text that `target_of` reads."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def count(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    @property
    def compiler_options(self) -> dict[str, Any]:
        """Options with which the compiler needs no device: it neither times kernels nor tiles for Triton."""
        if self.chip.platform != "gpu":
            return {}
        return {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}

    def require_compiler(self) -> None:
        """Refuse a target whose compiler is not installed.

        Raises:
            NotInstalledError: it is not.
        """
        plugins = _PLUGINS[self.chip.platform]
        if plugins and not any(map(_is_installed, plugins)):
            raise NotInstalledError(
                f"target: {self.name} needs the compiler of the package {' or '.join(plugins)}, which is not "
                f"installed; valid: pip install 'covlab[{_EXTRAS[self.chip.platform]}]', or target=cpu"
            )

    def devices(self) -> tuple[jax.Device, ...]:
        """Descriptions of the devices, without any of them being here.

        Raises:
            NotInstalledError: the platform's compiler is not installed.
            ValueError: the compiler knows no slice of this shape.
        """
        self.require_compiler()
        if not xla_bridge.backends_are_initialized():
            # A plan needs no device; asking a TPU's library for some would make it wait for a network.
            jax.config.update("jax_platforms", "cpu")
            if self.chip.platform == "cpu":
                jax.config.update("jax_num_cpu_devices", self.count)
        here = jax.devices("cpu")
        if self.chip.platform == "cpu":
            if self.count > len(here):
                raise ValueError(f"target: {self.name} has more devices than the {len(here)} of this process")
            return tuple(here[: self.count])
        try:
            return tuple(self._described().devices)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"target: {self.name} is refused by the compiler: {reason}") from error

    def _described(self) -> Any:
        if self.chip.platform == "tpu":
            os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
            # A TPU is for one process, which libtpu enforces by a lock file; two plans at once use none.
            os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
            os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
            os.environ.setdefault("TPU_ACCELERATOR_TYPE", f"{self.chip.name}-{self.count}")
            bounds = {} if self.count > 1 else {"chips_per_host_bounds": (1, 1, 1)}
            return topologies.get_topology_desc(self.name, platform="tpu", **bounds)
        shape = f"1x1x{self.count}"
        return topologies.get_topology_desc(
            shape, platform="cuda", topology=shape, target_config=gpu_configuration(self.chip)
        )


def target_of(text: str) -> Target:
    """The target that a text such as `v5e:2x2`, `h100:8` or `v6e` names.

    Raises:
        ValueError: an unknown chip, or a shape that is not whole numbers >= 1 joined by "x".
    """
    name, colon, shape = str(text).partition(":")
    if name not in known_chips():
        raise ValueError(
            f"target: {text!r} names no known chip; valid: {', '.join(known_chips())}, with the shape of a "
            "slice or a number of chips, as in v5e:2x2 or h100:8"
        )
    raw: dict[str, Any] = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    chip = Chip(name=name, **raw)
    shape = shape if colon else chip.topology
    if not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3})*", shape):
        raise ValueError(f"target: {text!r} has no valid shape; valid: {name}:{chip.topology}, for example")
    sizes = tuple(map(int, shape.split("x")))
    axes = chip.topology.count("x") + 1
    if len(sizes) != axes:
        raise ValueError(f"target: {text!r} has {len(sizes)} axes; valid: {axes}, as in {chip.topology}")
    return Target(chip, sizes)


def gpu_configuration(chip: Chip) -> str:
    """XLA's `GpuTargetConfigProto` of a GPU, as text."""
    info = "\n".join(_field(name, value) for name, value in chip.compiler.items())
    return (
        f"gpu_device_info {{\n{info}\n}}\n"
        'platform_name: "CUDA"\n'
        "dnn_version_info { major: 9 minor: 10 patch: 0 }\n"
        f'device_description_str: "{chip.title}"\n'
    )


def _field(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{name} {{ {' '.join(_field(*item) for item in value.items())} }}"
    return f"{name}: {value}"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
