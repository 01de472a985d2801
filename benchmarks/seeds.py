"""Many seeds in one program against one run per seed.

    python -m benchmarks.seeds --cores 2

The first part times whole commands in turn, including start-up, with cached compilation: one
`python -m experiments.train seeds=16` against sixteen commands with one seed each. The second part is the
steady state: time per seed and step of both programs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import common, runs
from benchmarks.worker import Worker, steps_in_turn

COVLAB = "benchmarks.program:Covlab"


def main(arguments: Sequence[str]) -> None:
    """Time, print, write."""
    parser = common.parser("seeds", "many seeds in one program against runs in turn", repeats=3)
    parser.add_argument("--seeds", type=common.positive, default=16)
    parser.add_argument("--steps", type=common.positive, default=100)
    parser.add_argument("--rounds", type=common.positive, default=15, help="of the steady state")
    options = parser.parse_args(arguments)
    cores = common.keep_to(options.cores)
    seeds, steps = (2, 4) if options.tiny else (options.seeds, options.steps)
    # Without W&B, whose start-up would count sixteen times.
    overrides = [
        *(common.TINY if options.tiny else ()),
        "tracking.wandb=disabled",
        *options.overrides,
        f"steps={steps}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        cache, count = Path(folder) / "cache", iter(range(10**9))

        def command(*more: str) -> float:
            number = next(count)
            return runs.train([*overrides, *more], Path(folder) / f"runs{number}", "run", cache).seconds

        def together() -> float:
            return command("seed=0", f"seeds={seeds}")

        def in_turn() -> float:
            return sum(command(f"seed={seed}", "seeds=1") for seed in range(seeds))

        for warm_up in (("seed=0", f"seeds={seeds}"), ("seed=0", "seeds=1")):
            command(*warm_up)
        times = common.in_turn({"together": together, "in_turn": in_turn}, options.repeats)
    share = common.ratio(times["together"], times["in_turn"])
    print(f"{seeds} seeds of {steps} steps in one program: {common.summary(times['together'])} s")
    print(f"{seeds} runs of one seed in turn: {common.summary(times['in_turn'])} s")
    print(f"share: {share} (start-up included, compilation cached)")
    steady, devices = steady_state(overrides, seeds, options.rounds, 0.01 if options.tiny else 1.0)
    print(f"steady state, one seed's step alone over one of {seeds} together: {steady}")
    results = {
        "seeds": seeds,
        "steps": steps,
        "seconds_together": common.summary(times["together"]),
        "seconds_in_turn": common.summary(times["in_turn"]),
        "together_over_in_turn": share,
        "steady_state_speedup_per_seed_step": steady,
        "devices_of_many_seeds": devices,
    }
    common.write(options.out, "seeds", arguments, cores, results)


def steady_state(
    overrides: Sequence[str], seeds: int, rounds: int, seconds: float
) -> tuple[common.Summary, int]:
    """Time per step of a single seed over time per step and seed of many seeds, and the devices used."""
    with (
        Worker(COVLAB, overrides=[*overrides, "seeds=1"]) as one,
        Worker(COVLAB, overrides=[*overrides, f"seeds={seeds}"]) as many,
    ):
        devices = many.call("device")["count"]
        times, _ = steps_in_turn({"one": one, "many": many}, seconds, rounds)
    together = [value / seeds for value in times["many"]]
    return common.ratio(times["one"], together), devices


if __name__ == "__main__":
    common.run(main)
