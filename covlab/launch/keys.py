"""Keys of what one start keeps for the next: digests of all that a compiled program depends on.

A key is the SHA-256 of an exact text of the objects, the source text of their classes' packages, the
installed distributions, the constants of the loaded modules, JAX's settings, variables and devices. Where a
part of this cannot be told, there is no key, and nothing is kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import hashlib
import importlib.util
import os
import platform
import sys
import sysconfig
import time
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from covlab.cores import usable_cores

PACKAGES = ("tasks", "models", "decoding", "metrics", "training", "theory", "covlab", "experiments")
"""Packages whose source text is part of every key."""
LIBRARIES = ("jax", "jaxlib", "optax")
"""Installed packages that write the programs: sizes and times of their files are part of every key."""
ENVIRONMENT = (
    *("XLA_", "JAX_", "TF_", "LIBTPU_", "TPU_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "OMP_", "ONEDNN_"),
    "COVLAB_",
)
"""Beginnings of the variables that are part of every key, without the folder of the cache."""
MOST_FILES, MOST_BYTES = 2000, 32 * 2**20
"""Most files and folders, and bytes, of an outside package; nothing is kept for a larger one."""

enabled = True
"""False in a process that keeps nothing, such as one that changes functions of the packages."""
_NO_KEY = ""


class Unknown(Exception):
    """Something that no text describes exactly."""


def key_of(*parts: Any, targets: Iterable[str] = ()) -> str:
    """Digest of the parts and of all that a program of these objects depends on; empty if it is not known.

    Args:
        parts: objects of the packages or of outside packages, and plain values.
        targets: dotted names of functions and classes that the objects were made by.
    """
    if not enabled or jax.process_count() > 1:
        return _NO_KEY
    described = Described()
    try:
        texts = [described.text(part) for part in parts]
        roots = described.roots | {target.split(".")[0] for target in targets}
        outside = sorted(roots - {*PACKAGES, *LIBRARIES, "numpy", "builtins"})
        files = [read for root in outside for read in outside_sources(root)]
        surroundings = [_installation(), *_settings(), *constants()]
    except (Unknown, OSError, UnicodeError):
        return _NO_KEY
    # The installation is remembered from the first key on.
    if patched() or not unchanged():
        return _NO_KEY
    return _digest([*surroundings, *outside, *(text for read in files for text in read), *texts])


@dataclasses.dataclass
class Described:
    """Exact texts of objects; `roots` collects the packages of their classes."""

    roots: set[str] = dataclasses.field(default_factory=set)

    def text(self, value: Any) -> str:
        """Text that no other value has.

        A dataclass is told by all its fields, also by those that its `repr` leaves out, and an array by its
        bytes.

        Raises:
            Unknown: a value without such a text, for example a closure.
        """
        kind = type(value)
        if value is None or kind in (bool, int, float, complex, str, bytes):
            return f"{kind.__name__} {value!r}"
        if isinstance(value, type):
            return f"class {self._name(value)}"
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            array = np.asarray(value)
            if array.dtype.hasobject:
                raise Unknown(value)
            return f"array {array.dtype.str} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
        if isinstance(value, enum.Enum):
            return f"enum {self._name(kind)} {value.name}"
        if dataclasses.is_dataclass(value):
            fields = [
                f"{field.name}={self.text(getattr(value, field.name))}" for field in dataclasses.fields(value)
            ]
            return f"{self._name(kind)}({', '.join(fields)})"
        if isinstance(value, tuple | list):
            return f"{self._name(kind)}[{', '.join(map(self.text, value))}]"
        if isinstance(value, set | frozenset):
            return f"{self._name(kind)}{{{', '.join(sorted(map(self.text, value)))}}}"
        if isinstance(value, Mapping) and kind in (dict, types.MappingProxyType):
            pairs = [f"{self.text(key)}: {self.text(each)}" for key, each in value.items()]
            return f"{kind.__name__}{{{', '.join(pairs)}}}"
        if isinstance(value, functools.partial):
            return f"partial {self.text(value.func)} {self.text(value.args)} {self.text(value.keywords)}"
        if isinstance(value, types.FunctionType | types.BuiltinFunctionType) or hasattr(value, "__wrapped__"):
            return f"function {self._name(value)}"
        raise Unknown(value)

    def _name(self, named: Any) -> str:
        """Dotted name of a class or function that is found by it."""
        module, name = getattr(named, "__module__", None), getattr(named, "__qualname__", "<")
        found: Any = sys.modules.get(module or "")
        if "<" in name or found is None:
            raise Unknown(named)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not named:
            raise Unknown(named)
        self.roots.add(str(module).split(".")[0])
        return f"{module}.{name}"


@functools.cache
def started() -> float:
    """Time at which this process began, in seconds since 1970, at the latest when this module was loaded."""
    loaded = time.time()
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return min(loaded, loaded - age)
    return loaded


started()
_paths: set[str] = set()


def unchanged() -> bool:
    """True if no file that a key was made of has changed since this process began."""
    try:
        # The time of the change cannot be set, other than that of the modification.
        return all(os.stat(path).st_ctime <= started() for path in _paths)
    except OSError:
        return False


def _read(path: str, name: str) -> tuple[str, str]:
    """Name and digest of a source file that has not changed since this process began.

    Raises:
        Unknown: it has changed, so that the code that was loaded may be another than the file's.
    """
    _paths.add(path)
    with open(path, "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_ctime > started():
            raise Unknown(path)
        return name, hashlib.sha256(file.read()).hexdigest()


def sources() -> list[tuple[str, str]]:
    """Names and digests of the source files of `PACKAGES`.

    Raises:
        Unknown: a package without source files, or a file that has changed since this process began.
    """
    found, root = [], str(_root())
    for package in PACKAGES:
        paths = sorted(_below(os.path.join(root, package), ".py"))
        if not paths:
            raise Unknown(package)
        found += [_read(path, path[len(root) :]) for path in paths]
    return found


def outside_sources(root: str) -> list[tuple[str, str]]:
    """Names and digests of the files of an outside package, and of the modules beside it.

    A package outside site-packages may import its neighbours, at any time; they are read too. An installed
    one finds its neighbours among the installed distributions, which are part of every key.

    Raises:
        Unknown: a program's own module (`__main__`), a package without files, a file that has changed since
            this process began, or a folder larger than `MOST_FILES` or `MOST_BYTES`.
    """
    try:
        spec = None if root == "__main__" else importlib.util.find_spec(root)
    except (ImportError, ValueError):
        spec = None
    if root in sys.stdlib_module_names:
        # Part of the interpreter, whose version is in every key.
        return []
    places = list(spec.submodule_search_locations or ()) if spec else []
    if spec is None or not (places or spec.origin) or spec.origin in ("built-in", "frozen"):
        raise Unknown(root)
    alone = str(spec.origin)
    paths: list[str] = [] if places else [alone]
    for folder in {os.path.dirname(place) for place in places or [alone]}:
        if os.path.basename(folder) not in ("site-packages", "dist-packages"):
            paths += _below(folder, ".py")
    for place in places:
        paths += _below(place, "")
    if len(paths) > MOST_FILES or sum(map(os.path.getsize, paths)) > MOST_BYTES:
        raise Unknown(root)
    return [_read(path, path) for path in sorted(set(paths))]


def _below(folder: str, suffix: str) -> list[str]:
    """Files below a folder, without hidden and compiled ones; Unknown if there are too many."""
    found: list[str] = []
    for visited, (parent, folders, files) in enumerate(os.walk(folder)):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        found += [os.path.join(parent, name) for name in files if name.endswith(suffix) and name[0] != "."]
        if max(len(found), visited) > MOST_FILES:
            raise Unknown(folder)
    return found


@functools.cache
def _installation() -> str:
    """Digest of sources, distributions, libraries, interpreter, processor and devices: what stays in a
    process."""
    devices = jax.devices()
    parts = [
        *(text for read in sources() for text in read),
        *_distributions(),
        *(line for name in LIBRARIES for line in _times(name)),
        sys.version,
        str(sys.flags),
        platform.platform(),
        str([(device.platform, device.device_kind, device.id) for device in devices]),
        devices[0].client.platform_version,
        *_processor(),
    ]
    return _digest(parts)


def _settings() -> list[str]:
    """JAX's settings, those of this thread included, and the variables."""
    settings = [
        f"{name}={value!r}"
        for name, value in sorted(jax.config.values.items())
        if "cache" not in name and "log" not in name
    ]
    variables = [
        f"{name}={value}"
        for name, value in sorted(os.environ.items())
        if name.startswith(ENVIRONMENT) and name != "COVLAB_CACHE"
    ]
    return [*settings, *variables]


def _root() -> Path:
    return Path(__file__).parents[2]


def _distributions() -> list[str]:
    """Names and versions of the installed distributions, with the time at which each was installed."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    folders |= {entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))}
    found = []
    for folder in sorted(folders):
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                if entry.name.endswith((".dist-info", ".egg-info")):
                    found.append(f"{entry.name} {entry.stat().st_mtime_ns}")
    return sorted(found)


def _times(name: str) -> Iterator[str]:
    """Files of a library with size and time of modification."""
    spec = importlib.util.find_spec(name)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    while folders:
        for entry in sorted(os.scandir(folders.pop()), key=lambda entry: entry.name):
            if entry.is_dir():
                if entry.name != "__pycache__":
                    folders.append(entry.path)
            elif entry.name.endswith((".py", ".so")):
                at = entry.stat()
                yield f"{entry.path} {at.st_size} {at.st_mtime_ns}"


def _processor() -> list[str]:
    """Model and instruction sets of the processor, and the number of usable cores."""
    found = [platform.machine(), platform.processor(), str(len(usable_cores()))]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines():
            if line.split(":")[0].strip() in ("model name", "flags", "Features", "CPU part"):
                found.append(line)
    return found


def constants() -> list[str]:
    """Constants that the loaded modules of the packages define, with their names.

    Equal to what the sources say, unless a program has set one to another value.
    """
    described, found = Described(), []
    for module in _modules():
        for name, value in sorted(vars(module).items()):
            if name.isupper():
                try:
                    found.append(f"{module.__name__}.{name}={described.text(value)}")
                except Unknown:
                    found.append(f"{module.__name__}.{name}: {type(value)}")
    return found


def patched() -> bool:
    """True if a function or method of the packages has been replaced, by code that is not in their files or,
    in a class, by that of another module."""
    # The benchmarks put clocks around methods.
    own = tuple(str(_root() / package) + os.sep for package in (*PACKAGES, "benchmarks"))
    libraries = (sys.prefix, sys.base_prefix, sysconfig.get_path("purelib"))
    genuine = (*own, *libraries, "<string>", "<frozen")
    for module in _modules():
        for value in list(vars(module).values()):
            inside = isinstance(value, type) and value.__module__ == module.__name__
            for member in list(vars(value).values()) if inside else [value]:
                function = _bare(member)
                if type(function).__module__.startswith("unittest"):
                    return True
                if not isinstance(function, types.FunctionType):
                    continue
                file = function.__code__.co_filename
                if not file.startswith(genuine):
                    return True
                if inside and file.startswith(own[:-1]) and function.__module__ != module.__name__:
                    return True
    return False


def _bare(member: Any) -> Any:
    """The function below decorators, properties and partial applications."""
    while not isinstance(member, type):
        if type(member) is types.FunctionType:
            inner = member.__dict__.get("__wrapped__")
        elif callable(member) or type(member) in _WRAPPERS:
            names = ("__func__", "fget", "func", "__wrapped__")
            inner = next((found for name in names if (found := getattr(member, name, None))), None)
        else:
            return member
        if not callable(inner):
            return member
        member = inner
    return member


_WRAPPERS = (property, classmethod, staticmethod, functools.cached_property)


def _modules() -> Sequence[types.ModuleType]:
    named = PACKAGES[: PACKAGES.index("covlab")]
    return [
        module
        for name, module in sorted(sys.modules.items())
        if name.split(".")[0] in named and isinstance(module, types.ModuleType)
    ]


def _digest(parts: list[str]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode()
        # With its length, so that no two lists have one digest.
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()
