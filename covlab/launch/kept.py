"""Entries that one start leaves on disk for the next: compiled programs, held-out sets, checks passed.

They lie in `$COVLAB_CACHE/kept`, a folder that only its owner may write to, because loading a compiled
program runs it. An entry's name is the SHA-256 of all that its content depends on: the configuration without
names, seeds and tracking, the objects built from it, the source text of the packages, the installed
distributions, JAX's settings and variables, and the devices. An entry of anything else is therefore never
found. Where the entries exceed their budget, the least recently used ones are removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import pickle
import platform
import stat
import sys
import sysconfig
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from metrics.evaluators import Candidates, draw_examples
from tasks import Example, Task

PACKAGES = ("tasks", "models", "decoding", "metrics", "training", "theory", "covlab", "experiments")
"""Packages whose source text is part of every key."""
TRUSTED = (*PACKAGES, "optax")
"""Packages of the classes that a configuration may name if its programs are to be kept."""
BUDGET = 512 * 2**20
"""Bytes of all entries together."""
ENVIRONMENT = ("XLA_", "JAX_", "TF_", "LIBTPU_", "TPU_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "OMP_")
"""Beginnings of the variables that are part of every key."""

enabled = True
"""False in a process that keeps nothing, such as one that changes functions of the packages."""


def cache_folder() -> Path | None:
    """`$COVLAB_CACHE`, by default `~/.cache/covlab`; None if the variable is empty."""
    named = os.environ.get("COVLAB_CACHE", str(Path.home() / ".cache" / "covlab"))
    return Path(named) if named else None


@dataclasses.dataclass(frozen=True)
class Kept:
    """Entries that belong to one key; implements `training.kept.Shelf`.

    Attributes:
        key: digest of all that the entries depend on, see `key_of`; empty: nothing is loaded or saved.
        say: prints one line.
    """

    key: str
    say: Callable[[str], None]

    def load(self, name: str) -> bytes | None:
        """The entry's content; None if there is none, or none that can be trusted."""
        folder = _own_folder() if self.key else None
        if folder is None:
            return None
        path = folder / self._file(name)
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_uid != _owner():
                    return None
                digest, data = file.read(32), file.read()
            os.utime(path)
        except OSError:
            return None
        if hashlib.sha256(data).digest() != digest:
            self.drop(name, "damaged")
            return None
        return data

    def save(self, name: str, data: bytes) -> None:
        """Store the entry atomically, then keep to the budget."""
        folder = _own_folder(make=True) if self.key else None
        if folder is None:
            return
        path = folder / self._file(name)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            temporary.write_bytes(hashlib.sha256(data).digest() + data)
            temporary.replace(path)
        except OSError:
            # A full or read-only disk costs the next start its time, never this run.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            return
        keep_to(folder, BUDGET)

    def drop(self, name: str, reason: str) -> None:
        """Remove an entry that cannot be used and say so in one line."""
        folder = _own_folder()
        if folder is not None:
            path = folder / self._file(name)
            self.say(f"{path}: {' '.join(reason.split())[:200]}: removed and made anew")
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _file(self, name: str) -> str:
        return hashlib.sha256(f"{self.key} {name}".encode()).hexdigest()


def kept_examples(task: Task, per_group: int, seed: int, split: str) -> tuple[Example, Candidates]:
    """`draw_examples`, whose result is kept for a task of `PACKAGES`."""
    key = key_of(repr(task), repr((per_group, seed, split))) if known([task], ()) else ""
    kept = Kept(key, _say)
    data = kept.load("held-out")
    if data is not None:
        try:
            example, candidates = pickle.loads(data)
            return example, candidates
        except Exception as error:
            kept.drop("held-out", f"{type(error).__name__}: {error}")
    drawn = draw_examples(task, per_group, seed, split)
    written = pickle.dumps(drawn) if kept.key else b""
    if 0 < len(written) <= BUDGET // 8:
        kept.save("held-out", written)
    return drawn


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def known(objects: Sequence[Any], targets: Iterable[str]) -> bool:
    """True if the text and the sources of `PACKAGES` determine the objects."""
    texts = [repr(each) for each in objects]
    modules = [type(each).__module__ for each in objects if each is not None]
    return not any(" at 0x" in text or "..." in text for text in texts) and all(
        name.split(".")[0] in TRUSTED for name in (*modules, *targets)
    )


def key_of(*parts: str) -> str:
    """SHA-256 of the parts and of all that every entry depends on; empty if nothing is to be kept here."""
    surroundings = _surroundings() if enabled and cache_folder() is not None else ""
    if not surroundings or patched():
        return ""
    return _digest([surroundings, *constants(), *parts])


@functools.cache
def _surroundings() -> str:
    """Digest of sources, distributions, variables, settings and devices; empty with several processes."""
    import jax

    if jax.process_count() > 1:
        return ""
    settings = [
        f"{name}={getattr(jax.config, name, None)}"
        for name in sorted(jax.config.values)
        if "cache" not in name and "log" not in name
    ]
    devices = jax.devices()
    return _digest(
        [
            *(path + text for path, text in _sources()),
            *_distributions(),
            *(
                f"{name}={value}"
                for name, value in sorted(os.environ.items())
                if name.startswith(ENVIRONMENT)
            ),
            *settings,
            sys.version,
            platform.platform(),
            str([(device.platform, device.device_kind, device.id) for device in devices]),
            devices[0].client.platform_version,
            *_processor(),
        ]
    )


def _root() -> Path:
    return Path(__file__).parents[2]


def _sources() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted((_root() / package).rglob("*.py")):
            yield str(path.relative_to(_root())), path.read_text(encoding="utf-8")


def _distributions() -> list[str]:
    """Names and versions of the installed distributions, by the names of their folders."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    folders |= {entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))}
    names = [name for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)]
    return sorted(name for name in names if name.endswith((".dist-info", ".egg-info")))


def _processor() -> list[str]:
    """Model and instruction sets of the processor, and the number of usable cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = [platform.machine(), platform.processor(), str(cores)]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines():
            if line.split(":")[0].strip() in ("model name", "flags", "Features", "CPU part"):
                found.append(line)
    return found


def constants() -> list[str]:
    """Numbers, texts and tuples of them that the loaded modules of the packages define, with their names.

    Equal to what the sources say, unless a program has set one to another value.
    """
    return [
        f"{module.__name__}.{name}={value!r}"
        for module in _modules()
        for name, value in sorted(vars(module).items())
        if name.isupper() and isinstance(value, int | float | str | bool | tuple)
    ]


def patched() -> bool:
    """True if a function or method of the packages has been replaced by code that is not in their files."""
    # The benchmarks put clocks around methods.
    own = tuple(str(_root() / package) + os.sep for package in (*PACKAGES, "benchmarks"))
    libraries = (sys.prefix, sys.base_prefix, sysconfig.get_path("purelib"))
    genuine = (*own, *libraries, "<string>", "<frozen")
    for module in _modules():
        for value in list(vars(module).values()):
            members = [value]
            if isinstance(value, type) and value.__module__ == module.__name__:
                members = list(vars(value).values())
            for member in members:
                bare = getattr(member, "__func__", getattr(member, "fget", member))
                if isinstance(bare, types.FunctionType):
                    if not bare.__code__.co_filename.startswith(genuine):
                        return True
                elif type(bare).__module__.startswith("unittest"):
                    return True
    return False


def _modules() -> list[types.ModuleType]:
    named = PACKAGES[: PACKAGES.index("covlab")]
    return [
        module
        for name, module in sorted(sys.modules.items())
        if name.split(".")[0] in named and isinstance(module, types.ModuleType)
    ]


def _own_folder(make: bool = False) -> Path | None:
    """The folder of the entries, if it is this user's and no other user may write to it."""
    cache = cache_folder()
    if cache is None:
        return None
    folder = cache / "kept"
    try:
        if make:
            cache.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
    except OSError:
        return None
    if found.st_uid != _owner() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None
    return folder


def _owner() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def keep_to(folder: Path, budget: int) -> None:
    """Remove the least recently used entries until at most `budget` bytes are left."""
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError):
                at = entry.stat()
                found.append((at.st_mtime, at.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= budget:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size


def _digest(parts: list[str]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode()
        # With its length, so that no two lists have one digest.
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()
