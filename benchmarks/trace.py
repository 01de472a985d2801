"""Time and kind of each instruction of a compiled program on CPU, by XLA's profiler."""

from __future__ import annotations

import collections
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)$")


class Instruction(NamedTuple):
    """An instruction that a program runs, including instructions fused into it.

    Attributes:
        scope: origin in JAX's transformations and `jax.named_scope`s; "" if XLA lost it.
        flops: floating-point operations of the matrix products, 2 for a multiplication and addition.
        batched: True if one of the products is of batches of matrices.
    """

    scope: str
    flops: float
    batched: bool


class Spent(NamedTuple):
    """Number of runs of an instruction, and their total seconds without the instructions that it calls."""

    runs: int
    seconds: float


def instructions(text: str) -> dict[str, Instruction]:
    """The instructions of a compiled program's text (`Compiled.as_text()`), by name.

    A product of [..., m, k] and [..., k, n] counts 2 m k n per matrix of the batch.

    >>> found = instructions('''
    ... %inside (a: f32[8,2,3], b: f32[8,3,5]) -> f32[8,2,5] {
    ...   %a = f32[8,2,3]{2,1,0} parameter(0)
    ...   %b = f32[8,3,5]{2,1,0} parameter(1)
    ...   ROOT %dot.1 = f32[8,2,5]{2,1,0} dot(%a, %b), lhs_batch_dims={0}, lhs_contracting_dims={2}
    ... }
    ... ENTRY %main (x: f32[8,2,3], y: f32[8,3,5]) -> f32[8,2,5] {
    ...   %x = f32[8,2,3]{2,1,0} parameter(0)
    ...   %y = f32[8,3,5]{2,1,0} parameter(1)
    ...   ROOT %both = f32[8,2,5]{2,1,0} fusion(%x, %y), calls=%inside, metadata={op_name="jit(f)/mul"}
    ... }''')
    >>> "dot.1" in found, found["both"]
    (False, Instruction(scope='jit(f)/mul', flops=480.0, batched=True))
    """
    shapes: dict[str, list[int]] = {}
    lines: list[tuple[str, str, str, str]] = []
    computation = ""
    for line in text.splitlines():
        if opened := _COMPUTATION.match(line):
            computation = opened[1]
        elif found := _INSTRUCTION.match(line):
            name, type_, operation, rest = found.groups()
            shape = re.search(r"\[([\d,]*)\]", type_)
            shapes[name] = _numbers(shape[1]) if shape else []
            lines.append((computation, name, operation, rest))
    products: dict[str, list[tuple[float, bool]]] = collections.defaultdict(list)
    fused: dict[str, str] = {}
    for computation, name, operation, rest in lines:
        if operation == "dot":
            summed = _found(r"lhs_contracting_dims=\{([\d,]*)\}", rest)
            left = shapes[_found(r"%?([\w.-]+)", rest)]
            flops = 2.0 * math.prod(shapes[name]) * math.prod(left[axis] for axis in _numbers(summed))
            own = flops, "lhs_batch_dims={" in rest
            products[name].append(own)
            products[computation].append(own)
        elif operation == "fusion":
            fused[name] = _found(r"calls=%?([\w.-]+)", rest)
    inside = set(fused.values())
    answer = {}
    for computation, name, _, rest in lines:
        if computation not in inside:
            own_products = products[fused.get(name, name)]
            answer[name] = Instruction(
                _found(r'op_name="([^"]*)"', rest),
                sum(flops for flops, _ in own_products),
                any(batched for _, batched in own_products),
            )
    return answer


def spent(events: Iterable[tuple[float, float, str]]) -> dict[str, Spent]:
    """Time of each name among one thread's nested events (begin, seconds, name), without events inside.

    >>> spent([(0.0, 10.0, "loop"), (1.0, 3.0, "dot"), (5.0, 4.0, "dot"), (11.0, 1.0, "dot")])
    {'loop': Spent(runs=1, seconds=3.0), 'dot': Spent(runs=3, seconds=8.0)}
    """
    counts: dict[str, int] = {}
    seconds: dict[str, float] = {}
    around: list[tuple[float, str]] = []
    for begin, length, name in sorted(events, key=lambda event: (event[0], -event[1])):
        while around and around[-1][0] <= begin:
            around.pop()
        counts[name] = counts.get(name, 0) + 1
        seconds[name] = seconds.get(name, 0.0) + length
        if around:
            seconds[around[-1][1]] -= length
        around.append((begin + length, name))
    return {name: Spent(counts[name], seconds[name]) for name in counts}


def traced(work: Callable[[], Any], names: Iterable[str]) -> tuple[float, dict[str, Spent]]:
    """Seconds of `work`, and seconds of the instructions `names` in it on all CPU devices together."""
    wanted = set(names)
    total: dict[str, Spent] = {}
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            began = time.perf_counter()
            work()
            seconds = time.perf_counter() - began
        (path,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(path))
    for plane in profile.planes:
        for line in plane.lines:
            events = (
                (event.start_ns / 1e9, event.duration_ns / 1e9, event.name)
                for event in line.events
                if event.name in wanted
            )
            for name, own in spent(events).items():
                before = total.get(name, Spent(0, 0.0))
                total[name] = Spent(before.runs + own.runs, before.seconds + own.seconds)
    return seconds, total


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]
