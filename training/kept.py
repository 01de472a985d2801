"""Functions whose compiled programs outlive the process, and that compile beside the rest of a start.

`jax.jit` traces and lowers a function in every process, even if the compiled program lies in the persistent
compilation cache. A `KeptFunction` takes the executable itself from a `Shelf`, and so skips all of it.
"""

from __future__ import annotations

import concurrent.futures
import functools
import io
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax._src import compilation_cache
from jax._src import config as jax_settings
from jax.experimental import serialize_executable
from jax.sharding import NamedSharding
from jaxlib import _jax, xla_client

from training.mesh import PER_SEED, Grid

cached = threading.local()
"""`entry`: the entry of JAX's compilation cache that this thread read or wrote last, None if it was missing;
set by who hooks the cache."""


class Shelf(Protocol):
    """Storage of the compiled programs of one configuration, by name.

    `load` returns None for a program that is not stored. `drop` removes a program that does not load, and
    says so. No method raises.
    """

    def load(self, name: str) -> bytes | None: ...

    def save(self, name: str, data: bytes) -> None: ...

    def drop(self, name: str, reason: str) -> None: ...


class KeptFunction:
    """A jitted function that is loaded from a shelf, or compiled at the first call and saved there.

    The executable is the one that the compiler made, so donated arguments, shardings and every bit of the
    results are those of `jitted`. Arguments of other shapes or shardings than the stored program's are
    compiled for, once each.

    Args:
        jitted: result of `jax.jit`.
        name: name on the shelf.
        shelf: where the program is kept.
        devices: devices that the program runs on, in the mesh's order.
    """

    def __init__(self, jitted: Any, name: str, shelf: Shelf, devices: Sequence[jax.Device]) -> None:
        self._jitted, self._name, self._shelf, self._devices = jitted, name, shelf, tuple(devices)
        self._compiled: list[Any] = []
        self._begun: concurrent.futures.Future[Any] | None = None
        self._sought = False

    def __call__(self, *args: Any) -> Any:
        """The function's value."""
        self._settle()
        for index, compiled in enumerate(self._compiled):
            try:
                result = compiled(*args)
            except (TypeError, ValueError):
                # Refused before anything ran: other shapes, types or shardings.
                continue
            if index:
                self._compiled.insert(0, self._compiled.pop(index))
            return result
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(args)):
            return self._jitted(*args)
        compiled = self._compile(args)
        self._compiled.insert(0, compiled)
        return compiled(*args)

    def fetch(self) -> None:
        """Load the program in the background."""
        if not self._sought:
            self._sought, self._begun = True, _threads().submit(self._load)

    def prepare(self, arguments: Callable[[], tuple[Any, ...]]) -> None:
        """Compile in the background for `arguments()`, shapes with shardings, unless the program is stored.

        The next call waits for it. Nothing happens if this thread traces under settings of its own.
        """
        here = jax_settings.trace_context()

        def load_or_compile() -> Any:
            found = self._load()
            if found is not None or jax_settings.trace_context() != here:
                return found
            return self._compile(arguments())

        self._sought, self._begun = True, _threads().submit(load_or_compile)

    def shapes(self, *args: Any) -> Any:
        """`jax.eval_shape(jitted, *args)`, without tracing if the program is stored."""
        self._settle()
        return self._compiled[0].out_shapes if self._compiled else self.traced(*args)

    def traced(self, *args: Any) -> Any:
        """`jax.eval_shape(jitted, *args)`. Waits for nothing, so that a background thread may call it."""
        return jax.eval_shape(self._jitted, *args)

    def _settle(self) -> None:
        self.fetch()
        begun, self._begun = self._begun, None
        compiled = begun.result() if begun is not None else None
        if compiled is not None:
            self._compiled.append(compiled)

    def _compile(self, args: tuple[Any, ...]) -> _Program:
        traced = self._jitted.trace(*args)
        cached.entry = None
        compiled = traced.lower().compile()
        out = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), traced.out_info)
        # Without an entry the program came from JAX's memory or cannot be serialised. One program is kept, so
        # that calls with several shapes do not replace it time and again.
        if cached.entry is not None and not self._compiled:
            _threads().submit(self._save, compiled, out, cached.entry)
        return _Program(compiled, out)

    def _save(self, compiled: Any, out: Any, entry: bytes) -> None:
        try:
            executable, inputs = _serialized(compiled, entry)
            # Trees cannot be pickled, containers of their structure can.
            places = jax.tree.unflatten(inputs, range(inputs.num_leaves))
            shapes = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(out)]
            results = jax.tree.map(lambda _: 0, out)
            data = pickle.dumps((executable, places, results, shapes))
        except Exception:
            # A backend without serialisation, or a container that cannot be pickled: compiled each time.
            return
        self._shelf.save(self._name, data)

    def _load(self) -> _Program | None:
        data = self._shelf.load(self._name)
        if data is None:
            return None
        try:
            executable, places, results, shapes = pickle.loads(data)
            out = jax.tree.unflatten(
                jax.tree.structure(results), [jax.ShapeDtypeStruct(*shape) for shape in shapes]
            )
            compiled = serialize_executable.deserialize_and_load(
                executable,
                jax.tree.structure(places),
                jax.tree.structure(out),
                execution_devices=self._devices,
            )
        except Exception as error:
            self._shelf.drop(self._name, f"{type(error).__name__}: {error}")
            return None
        return _Program(compiled, out)


def _serialized(compiled: Any, entry: bytes) -> tuple[bytes, Any]:
    """The executable and the tree of its arguments.

    `serialize_executable.serialize` would serialise the executable once more. On a CPU that fails for a
    program with a sort that has run, and loses the machine code of one that was read from a cache.

    Args:
        compiled: a compiled program.
        entry: the entry of JAX's cache that holds the program.
    """
    code = compilation_cache.extract_executable_and_time(compilation_cache.decompress_executable(entry))[0]

    class Pickler(serialize_executable._JaxPjrtPickler):
        def persistent_id(self, obj: Any) -> Any:
            executable = isinstance(obj, xla_client.LoadedExecutable | _jax.Executable)
            return ("exec", code) if executable else super().persistent_id(obj)

    leaves, inputs = jax.tree.flatten(compiled.args_info)
    if compiled._params.const_args:
        raise NotImplementedError("constants as arguments")
    file = io.BytesIO()
    Pickler(file).dump((compiled._executable._unloaded_executable, leaves, compiled._no_kwargs))
    return file.getvalue(), inputs


class _Program:
    """A compiled program and the shapes of its results."""

    def __init__(self, compiled: Any, out_shapes: Any) -> None:
        self.compiled, self.out_shapes = compiled, out_shapes

    def __call__(self, *args: Any) -> Any:
        return self.compiled(*args)


def kept(
    jitted: Mapping[str, Any], prefix: str, shelf: Shelf | None, devices: Sequence[jax.Device]
) -> dict[str, Any]:
    """The functions as `KeptFunction`s, named `<prefix> <name>`; unchanged without a shelf."""
    if shelf is None:
        return dict(jitted)
    return {
        name: KeptFunction(function, f"{prefix} {name}", shelf, devices) for name, function in jitted.items()
    }


def fetch(functions: Mapping[str, KeptFunction], seeds: int, grid: Grid, compiling: bool) -> None:
    """Load all functions of a phase in the background, `run` first.

    Args:
        functions: the functions by name.
        seeds: number of seeds.
        grid: devices of the functions.
        compiling: True to compile `run` if it is not stored, for a phase without a base model.
    """
    if compiling:
        functions["run"].prepare(lambda: _arguments(functions, seeds, grid))
    for function in functions.values():
        function.fetch()


def _arguments(functions: Mapping[str, KeptFunction], seeds: int, grid: Grid) -> tuple[Any, ...]:
    """Shapes and shardings of the arguments of `run` for that many seeds, without a base model."""
    sharding = None if grid.mesh is None else NamedSharding(grid.mesh, PER_SEED)

    def on_devices(shape: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)

    numbers = on_devices(jax.ShapeDtypeStruct((seeds,), jnp.uint32))
    failed_at = on_devices(jax.ShapeDtypeStruct((seeds,), jnp.int32))
    params = jax.tree.map(on_devices, functions["init"].traced(numbers))
    state = jax.tree.map(on_devices, functions["begin"].traced(params, failed_at))
    return state, numbers, 0, 1, ()


def once(shelf: Shelf | None, name: str, check: Callable[[], None]) -> None:
    """Call `check()`, unless it has returned for this shelf and name before."""
    if shelf is None:
        check()
    elif shelf.load(name) is None:
        check()
        shelf.save(name, b"passed")


def shapes_of(function: Callable[..., Any], *args: Any) -> Any:
    """`jax.eval_shape(function, *args)`, without tracing a function that is stored."""
    return function.shapes(*args) if isinstance(function, KeptFunction) else jax.eval_shape(function, *args)


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    """Two threads: one compiles the training step while the other loads or saves."""
    return concurrent.futures.ThreadPoolExecutor(2, "programs")
