"""Cycles, bytes, memory and compile time of six programs on chips that are not here.

    python -m benchmarks.compiled --check results/benchmarks/compiled.json

The compilers of the chips need no device (`covlab.plan`). XLA's TPU compiler estimates cycles, its GPU
compiler does not. With --check, what grew against an earlier record of the same versions of the compilers is
named, and the exit status is 1. A target whose compiler is not installed is left out, in one line.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import common
from benchmarks.program import compose_config, setup_of
from covlab.plan.programs import Compiled, Compiler, at_once, traced_programs
from covlab.plan.store import versions
from covlab.plan.target import NotInstalledError, Target, target_of
from training.mesh import Hardware

TARGETS = ("v5e", "h100")
GROWTH = 1.02
"""Ratio to the record above which a quantity has grown."""
QUANTITIES = ("cycles", "bytes", "temporary_bytes", "code_bytes")
"""The record is compared in these; not in the time to compile, which depends on the machine."""


class Asked(NamedTuple):
    """A program of a run: overrides of conf/train.yaml, the phase's number, and the program's name."""

    overrides: tuple[str, ...]
    phase: int
    name: str


_FEW = "evaluation.num_examples=4"
PROGRAMS: Mapping[str, Asked] = {
    "step": Asked((_FEW,), 0, "training step"),
    "eight_seeds": Asked((_FEW, "seeds=8"), 0, "training step"),
    "evaluation": Asked((), 0, "evaluation"),
    "samples": Asked((_FEW,), 0, "table of samples"),
    "reinforcement": Asked((_FEW, "+source=on_policy", "objective=grpo"), 0, "training step"),
    "figure1_paper": Asked((_FEW, "experiment=figure1_paper", "seeds=1"), 1, "training step"),
}


def begin(asked: Asked, target: Target, compiler: Compiler, tiny: bool) -> Callable[[], dict[str, float]]:
    """Begin to compile one program on a target, and return a function that waits for its quantities.

    Raises:
        UsageError: in that function, if the program does not compile or fit.
    """
    overrides = [*(common.TINY if tiny else ()), "tracking.wandb=disabled", *asked.overrides]
    setup, config = setup_of(overrides), compose_config(overrides)
    devices = target.devices()
    layout = setup.layout(config, Hardware(target.chip.platform, 1, len(devices)))
    wanted = setup.phases[asked.phase].name, asked.name
    finished = compiler.begin(
        next(
            each
            for each in traced_programs(setup, layout, devices, setup.held_out())
            if (each.phase, each.name) == wanted
        )
    )
    return lambda: _quantities(finished(), target)


def _quantities(found: Compiled, target: Target) -> dict[str, float]:
    if found.memory is None or found.costs is None:
        raise common.UsageError(f"{target.name}: {found.name}: {found.problem}")
    return {
        "cycles": found.costs.cycles,
        "bytes": found.costs.bytes,
        "gflop": sum(found.flops.values()) / 1e9,
        "argument_bytes": found.memory.arguments,
        "temporary_bytes": found.memory.temporary,
        "code_bytes": found.memory.code,
        "compile_seconds": found.seconds_to_compile,
    }


def grown(
    record: Mapping[str, Mapping[str, Mapping[str, float]]],
    found: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> list[str]:
    """One line for each value that is more than `GROWTH` times that of the record.

    >>> grown({"v5e:1x1": {"step": {"cycles": 100}}}, {"v5e:1x1": {"step": {"cycles": 150}}})
    ['v5e:1x1, step: cycles 100 -> 150']
    """
    lines = []
    for (target, programs), quantity in itertools.product(found.items(), QUANTITIES):
        for program, values in programs.items():
            before = record.get(target, {}).get(program, {}).get(quantity)
            if before is not None and values[quantity] > GROWTH * before:
                lines.append(f"{target}, {program}: {quantity} {before:.0f} -> {values[quantity]:.0f}")
    return lines


def main(arguments: Sequence[str]) -> None:
    """Compile, print, compare, write."""
    parser = common.parser("compiled", "programs on chips that are not here", repeats=1)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), help="as covlab plan's target")
    parser.add_argument(
        "--programs", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS), metavar="PROGRAM"
    )
    parser.add_argument("--check", type=Path, help="record of an earlier run to compare with")
    options = parser.parse_args(arguments)
    cores = common.keep_to(options.cores)
    results: dict[str, dict[str, dict[str, float]]] = {}
    try:
        targets = [target_of(text) for text in options.targets]
    except ValueError as error:
        raise common.UsageError(str(error)) from None
    for target in targets:
        try:
            target.require_compiler()
        except NotInstalledError as error:
            print(f"left out: {error}")
            continue
        with Compiler(target, at_once()) as compiler:
            begun = {name: begin(PROGRAMS[name], target, compiler, options.tiny) for name in options.programs}
            for name, finished in begun.items():
                values = finished()
                results.setdefault(target.name, {})[name] = values
                print(f"{target.name} {name}: {_line(values)}", flush=True)
    if not results:
        return
    lines = _changes(options.check, results)
    common.write(options.out, "compiled", arguments, cores, {"compilers": versions(), "programs": results})
    for line in lines:
        print(f"grown: {line}", file=sys.stderr)
    if lines:
        raise SystemExit(1)


def _line(values: Mapping[str, float]) -> str:
    # A GPU's compiler says neither cycles nor code.
    parts = [f"{values['cycles'] / 1e6:.2f} million cycles"] if values["cycles"] else []
    parts.append(f"{values['bytes'] / 1e6:.1f} MB moved")
    parts.append(f"{values['temporary_bytes'] / 2**20:.1f} MiB temporary")
    parts += [f"{values['code_bytes'] / 2**20:.1f} MiB code"] if values["code_bytes"] else []
    return ", ".join([*parts, f"{values['compile_seconds']:.0f} s to compile"])


def _changes(path: Path | None, results: Mapping[str, Any]) -> list[str]:
    if path is None:
        return []
    if not path.is_file():
        print(f"not compared: there is no {path}; --out {path.parent} makes it")
        return []
    earlier = json.loads(path.read_text(encoding="utf-8"))["results"]
    if earlier["compilers"] != versions():
        print(f"not compared with {path}: it was made by {earlier['compilers']}, not {versions()}")
        return []
    return grown(earlier["programs"], results)


if __name__ == "__main__":
    common.run(main)
