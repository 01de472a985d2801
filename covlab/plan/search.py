"""The number of seeds at once, and of devices that share a batch, with which a run finishes soonest.

S seeds, s of them at once: S / s runs in turn, each as long as a run of s seeds
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from covlab.launch.build import Setup, build
from covlab.plan.run import RunPlan


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to run all seeds.

    Attributes:
        seeds: number of seeds at once.
        data_parallel: devices that share the batch of a seed.
        turns: number of runs in turn.
        run: the plan of one of them.
    """

    seeds: int
    data_parallel: int
    turns: int
    run: RunPlan

    @property
    def seconds(self) -> float | None:
        """Seconds of all runs; None if one does not fit, or has no estimate."""
        own = None if self.run.problems else self.run.seconds()
        return None if own is None else self.turns * own


def candidates(
    config: DictConfig, devices: int, plan: Callable[[DictConfig], RunPlan]
) -> Iterator[Candidate]:
    """Every way to share the run of `config` out, fewer seeds first.

    `seeds` takes the divisors of the run's number of seeds, `data_parallel` those divisors of the number of
    devices that divide every batch. With more seeds than ones that do not fit on a device, nothing is
    compiled.

    Args:
        config: a configuration of experiments.train.
        devices: number of devices of the target.
        plan: compiles the programs of a configuration.

    Raises:
        ValueError: an invalid configuration; one line.
    """
    setup = build(config)
    total = len(setup.seeds)
    for shared in _shares(setup, devices):
        full = False
        for count in divisors(total):
            if full:
                break
            own = copy.deepcopy(config)
            OmegaConf.update(own, "seeds", count)
            OmegaConf.update(own, "data_parallel", shared)
            found = plan(own)
            yield Candidate(count, shared, total // count, found)
            full = bool(found.problems)


def _shares(setup: Setup, devices: int) -> list[int]:
    sizes = [phase.batch_size for phase in setup.phases]
    return [shared for shared in divisors(devices) if all(size % shared == 0 for size in sizes)]


def divisors(number: int) -> list[int]:
    """All divisors, in order.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [each for each in range(1, number + 1) if number % each == 0]


def soonest(found: Sequence[Candidate]) -> Candidate | None:
    """The candidate that finishes first, of equal ones the first; None if none fits and has an estimate."""
    timed: list[tuple[float, int, Any]] = [
        (each.seconds, index, each) for index, each in enumerate(found) if each.seconds is not None
    ]
    return min(timed)[2] if timed else None
