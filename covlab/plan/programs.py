"""The compiled programs of a run, for devices of which only the description is here."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from covlab.cores import usable_cores
from covlab.launch.build import Setup
from covlab.plan.costs import Costs, read
from covlab.plan.flops import product_flops
from covlab.plan.store import Store, costs_as_json, costs_of_json, key_of
from covlab.plan.target import Chip, Target
from decoding import sample_responses
from metrics.evaluators import HeldOut
from models.target import traced_for
from tasks import stream
from training import Grid, Layout, make_program
from training.precision import exact_products
from training.sources import base_of

TABLE = "table of samples"
"""Name of the program that runs for one seed on one device."""


class Memory(NamedTuple):
    """Bytes of a compiled program on one device, as the compiler states them.

    Attributes:
        arguments, outputs: arrays that enter and leave.
        shared: outputs that take the memory of arguments.
        temporary: arrays of the computation itself.
        code: the program.
    """

    arguments: int
    outputs: int
    shared: int
    temporary: int
    code: int

    @property
    def total(self) -> int:
        """Bytes while the program runs."""
        return self.arguments + self.outputs - self.shared + self.temporary + self.code


class Traced(NamedTuple):
    """A program of a run, before it is compiled.

    Attributes:
        phase, name: the phase and what the program does there.
        calls: number of times that the run needs the costs of the program: steps of a training step,
            evaluations of an evaluation.
        open_loops: loops whose length is not fixed by design: the chunk of steps.
        shared: bytes of arguments that do not grow with the number of seeds.
        traced: the program with its arguments.
        options: the configuration's options of the compiler for it.
    """

    phase: str
    name: str
    calls: int
    open_loops: int
    shared: int
    traced: Any
    options: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A program of a run, compiled for a target.

    Attributes:
        phase, name, calls: see `Traced`.
        flops: FLOP of the products of one call on one device, by dtype.
        seconds_to_compile: on this machine.
        memory, costs: None if the program was not compiled.
        problem: why the program does not compile or fit, in one line; "" if it does.
        open_loops: number of loops of unknown length besides those that are meant; each counts once.
        shared: bytes of the arguments and the code that do not grow with the number of seeds.
    """

    phase: str
    name: str
    calls: int
    flops: Mapping[str, int]
    seconds_to_compile: float
    memory: Memory | None
    costs: Costs | None
    problem: str
    open_loops: int
    shared: int

    def roofline(self, chip: Chip) -> float | None:
        """Least seconds of one call: the larger of FLOP over peak and bytes over bandwidth; None without
        figures of the chip, or if the program was not compiled."""
        if not chip.peak or chip.bandwidth is None or self.costs is None:
            return None
        products = sum(
            value / chip.peak.get(dtype, min(chip.peak.values())) for dtype, value in self.flops.items()
        )
        return max(products, self.costs.bytes / chip.bandwidth)

    def estimate(self, chip: Chip) -> float | None:
        """Seconds of one call by the compiler's cycles; None where it estimates none."""
        if chip.clock is None or self.costs is None or not self.costs.estimated:
            return None
        return self.costs.cycles / chip.clock

    def seconds(self, chip: Chip) -> float | None:
        """The compiler's estimate of one call, else the roofline."""
        found = self.estimate(chip)
        return self.roofline(chip) if found is None else found


def traced_programs(
    setup: Setup, layout: Layout, devices: Sequence[jax.Device], held_out: Sequence[HeldOut]
) -> Iterator[Traced]:
    """Every program that a run of `setup` compiles on `devices`, in the order of their first calls."""
    grid = Grid(layout, described=devices)
    seeds = grid.place(np.asarray(setup.seeds, np.uint32))
    failed_at = grid.place(np.zeros(len(setup.seeds), np.int32))
    base = base_of([phase.source for phase in setup.phases])
    fixed: Any = ()
    if base is not None:
        fixed = grid.place(jax.eval_shape(jax.vmap(lambda seed: base.init(stream(seed, "init"))), seeds))
    for index, (phase, held) in enumerate(zip(setup.phases, held_out, strict=True)):
        program = make_program(setup.model, phase, setup.evaluators, held, grid)
        options = phase.options
        params = grid.place(jax.eval_shape(program.init, seeds))
        if index == 0 and not setup.start_from_base:
            yield _traced(phase.name, "initialisation", 1, program.init, seeds)
        yield _traced(phase.name, "optimizer state", 1, program.begin, params, failed_at)
        state = grid.place(jax.eval_shape(program.begin, params, failed_at))
        evaluations = len(phase.schedule.steps(phase.steps))
        if phase.steps:
            step = program.run.trace(state, seeds, 0, 1, fixed)  # type: ignore[attr-defined]
            yield Traced(phase.name, "training step", phase.steps, 1, 0, step, options)
        if evaluations:
            traced = program.evaluate.trace(params, fixed, program.batches())  # type: ignore[attr-defined]
            shared = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.batches()))
            yield Traced(phase.name, "evaluation", evaluations, 0, shared // layout.data, traced, options)
        prompts = setup.evaluation[-1].table_prompts
        if prompts:
            yield _sampling(setup, phase.name, prompts, params, devices[0], grid.platform)


def _traced(phase: str, name: str, calls: int, function: Any, *arguments: Any) -> Traced:
    return Traced(phase, name, calls, 0, 0, function.trace(*arguments))


def _sampling(
    setup: Setup, phase: str, prompts: int, params: Any, device: jax.Device, platform: str
) -> Traced:
    """The table of sampled responses at the end of a phase: of the first seed, on one device."""
    there = SingleDeviceSharding(device)

    def described(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=there)

    model = setup.model
    one = jax.tree.map(lambda leaf: described(leaf.shape[1:], leaf.dtype), params)
    rows = (max(prompts, len(setup.phases[-1].task.groups)), model.prompt_length)
    key = jax.eval_shape(lambda: stream(0, "table"))
    with traced_for(platform), exact_products(platform):
        traced = sample_responses.trace(
            model,
            one,
            described(rows, jnp.int32),
            described(rows, jnp.bool_),
            described(key.shape, key.dtype),
            1,
        )
    return Traced(phase, TABLE, 1, 0, 0, traced)


AT_ONCE = 4
"""Most programs that are compiled at once: each may need a gigabyte or two."""


class Compiler:
    """Compiles programs for a target, equal ones once. At the end of a `with` block what waits is left out.

    Args:
        target: the hardware.
        at_once: number of programs that are compiled at once, see `at_once`.
        store: quantities of programs that were compiled before; by default none are loaded or saved.
    """

    def __init__(self, target: Target, at_once: int = 1, store: Store = Store()) -> None:  # noqa: B008
        self.target = target
        self._store = store
        self._pool = ThreadPoolExecutor(at_once)
        self._made: dict[str, Future[_Made]] = {}

    def __enter__(self) -> Compiler:
        return self

    def __exit__(self, *_: object) -> None:
        # Without it a command that is refused or interrupted would compile all the rest before it ends.
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __call__(self, it: Traced) -> Compiled:
        """Compile a program; what the compiler refuses becomes `Compiled.problem`."""
        return self.begin(it)()

    def begin(self, it: Traced, say: Callable[[], Any] = lambda: None) -> Callable[[], Compiled]:
        """Begin to compile a program.

        Args:
            it: the program.
            say: is called when its compilation begins, and not if an equal one has been compiled before.

        Returns:
            A function that waits for the end of the compilation, see `__call__`.
        """
        began = time.monotonic()
        flops = product_flops(it.traced.jaxpr)
        lowered = it.traced.lower()
        key = key_of(lowered.as_text(), self.target, it.options)
        if key not in self._made:
            self._made[key] = self._pool.submit(self._find, key, lowered, time.monotonic() - began, say)
        made = self._made[key]

        def finished() -> Compiled:
            seconds, memory, costs, problem = made.result()
            unknown = 0 if costs is None else max(0, len(costs.unknown) - it.open_loops)
            shared = it.shared + (0 if memory is None else memory.code)
            return Compiled(
                it.phase, it.name, it.calls, flops, seconds, memory, costs, problem, unknown, shared
            )

        return finished

    def _find(self, key: str, lowered: Any, seconds: float, say: Callable[[], Any]) -> _Made:
        found: _Made | None = self._store.load(key, _Made.of_json)
        if found is None:
            say()
            found = self._compile(lowered, seconds)
            self._store.save(key, found.as_json())
        return found

    def _compile(self, lowered: Any, seconds: float) -> _Made:
        """Compile, `seconds` after the program began to be lowered."""
        began = time.monotonic() - seconds
        try:
            compiled = lowered.compile(compiler_options=self.target.compiler_options or None)
        except jax.errors.JaxRuntimeError as error:
            return _Made(time.monotonic() - began, None, None, _first_line(error))
        seconds, found = time.monotonic() - began, compiled.memory_analysis()
        memory = Memory(
            found.argument_size_in_bytes,
            found.output_size_in_bytes,
            found.alias_size_in_bytes,
            found.temp_size_in_bytes,
            found.generated_code_size_in_bytes,
        )
        limit, problem = self.target.chip.bytes, ""
        if memory.total > limit:
            problem = f"needs {memory.total / 2**30:.2f} GiB of {limit / 2**30:.2f} GiB of a device"
        return _Made(seconds, memory, read(compiled.as_text()), problem)


class _Made(NamedTuple):
    """The part of `Compiled` that equal programs share."""

    seconds: float
    memory: Memory | None
    costs: Costs | None
    problem: str

    def as_json(self) -> Any:
        return [self.seconds, self.memory, costs_as_json(self.costs), self.problem]

    @classmethod
    def of_json(cls, content: Any) -> _Made:
        seconds, memory, costs, problem = content
        kept = None if memory is None else Memory(*memory)
        return cls(float(seconds), kept, costs_of_json(costs), str(problem))


def at_once() -> int:
    """Number of programs that this machine compiles at once: one a core, at most `AT_ONCE`."""
    return min(len(usable_cores()), AT_ONCE)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
