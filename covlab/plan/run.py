"""The plan of a training run on a target: its programs, whether they fit, and the time that they take."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig

from covlab.launch.build import build
from covlab.plan.programs import TABLE, Compiled, Compiler, traced_programs
from covlab.plan.target import Target
from metrics.evaluators import HeldOut
from training import Layout
from training.mesh import Hardware


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """Compiled programs of a run.

    Attributes:
        label: what the run is called.
        target, layout, seeds: the hardware, how it is shared, and the number of seeds.
        programs: every program of the run.
    """

    label: str
    target: Target
    layout: Layout
    seeds: int
    programs: tuple[Compiled, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What does not fit or compile, in one line each."""
        return tuple(f"{each.phase}, {each.name}: {each.problem}" for each in self.programs if each.problem)

    @property
    def estimated(self) -> bool:
        """False if the time of a program is its roofline, which the program needs at least."""
        return all(each.estimate(self.target.chip) is not None for each in self.programs)

    def seconds(self, phase: str | None = None) -> float | None:
        """Seconds of the run, or of one phase, without compilation; None if a program has no estimate."""
        total = 0.0
        for each in self.programs:
            if phase is None or each.phase == phase:
                found = each.seconds(self.target.chip)
                if found is None:
                    return None
                total += each.calls * found
        return total

    @property
    def seeds_that_fit(self) -> tuple[int, str] | None:
        """Number of seeds that fit on the devices, and the program that sets the limit; None if nothing was
        compiled.

        Memory that is not shared by the seeds of a device is taken to grow in proportion to their number.
        """
        limit, each_has = self.target.chip.bytes, self.seeds / self.layout.seed
        found = []
        for program in self.programs:
            if program.memory is None or program.name == TABLE:
                continue
            growing = (program.memory.total - program.shared) / each_has
            if growing > 0:
                count = int((limit - program.shared) // growing) * self.layout.seed
                found.append((max(count, 0), f"{program.phase}, {program.name}"))
        return min(found, default=None)


def begin_run(
    label: str,
    config: DictConfig,
    target: Target,
    compiler: Compiler,
    say: Callable[[str], Any] = lambda _: None,
    held_out: Sequence[HeldOut] | None = None,
) -> Callable[[], RunPlan]:
    """Begin to compile every program of the run that `config` describes.

    Args:
        label: what the run is called.
        config: a configuration of experiments.train.
        target: the hardware.
        compiler: of the target; programs that several runs share are compiled once.
        say: takes a line before each compilation, which may take minutes.
        held_out: the held-out set of each phase; None draws them.

    Returns:
        A function that waits for the end of the compilations.

    Raises:
        ValueError: an invalid configuration, or devices that do not divide seeds and batches; one line.
    """
    setup = build(config)
    devices = target.devices()
    layout = setup.layout(config, Hardware(target.chip.platform, 1, len(devices)))
    if held_out is None:
        say(f"{label}: drawing the held-out sets")
        held_out = setup.held_out()
    begun = [
        compiler.begin(
            traced,
            functools.partial(say, f"{label}: compiling {traced.phase}, {traced.name} for {target.name}"),
        )
        for traced in traced_programs(setup, layout, devices, held_out)
    ]
    return lambda: RunPlan(label, target, layout, len(setup.seeds), tuple(finished() for finished in begun))
