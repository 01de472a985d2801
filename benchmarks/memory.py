"""Memory against the number of seeds.

    python -m benchmarks.memory --cores 2

On CPU, the system's largest resident memory of whole training commands. On any device, the compiler's memory
of the compiled program: arguments (the seeds' states) and temporary arrays. On an accelerator, also the
number of seeds that fit.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, runs
from benchmarks.worker import Worker

MIB = 2**20


def line(counts: Sequence[int], values: Sequence[float]) -> tuple[float, float]:
    """Least-squares intercept and slope.

    >>> line([1, 2, 3], [3.0, 5.0, 7.0])
    (1.0, 2.0)
    """
    slope, intercept = np.polyfit(counts, values, 1)
    return round(float(intercept), 6), round(float(slope), 6)


def fitting(limit: float, counts: Sequence[int], values: Sequence[float]) -> int:
    """Number of seeds that fit into `limit` bytes, by the line through `values`."""
    intercept, slope = line(counts, values)
    return max(0, int((limit - intercept) // slope)) if slope > 0 else 0


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write."""
    parser = common.parser("memory", "memory against the number of seeds", repeats=1)
    parser.add_argument(
        "--seeds", type=common.positive, nargs="+", default=[1, 2, 4, 8, 16], help="numbers of seeds"
    )
    options = parser.parse_args(arguments)
    if len(set(options.seeds)) < 2:
        raise common.UsageError(f"--seeds: {options.seeds} are not at least two different numbers")
    cores = common.keep_to(options.cores)
    counts = [1, 2] if options.tiny else sorted(set(options.seeds))
    overrides = [
        *(common.TINY if options.tiny else ()),
        "tracking.wandb=disabled",
        *options.overrides,
        "steps=20",
    ]
    program: list[dict[str, Any]] = []
    device: dict[str, Any] = {}
    for count in counts:
        with Worker(
            "benchmarks.program:Covlab", overrides=[*overrides, "devices=1", f"seeds={count}"]
        ) as worker:
            device = worker.call("device")
            program.append(worker.call("memory"))
    sizes = [float(sum(found.values())) for found in program]
    resident: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def peak(count: int) -> float:
            number = len(list(Path(folder).iterdir()))
            path = Path(folder) / f"runs{number}"
            return (
                runs.train([*overrides, f"seeds={count}"], path, "run", Path(folder) / "cache").peak_bytes
                / MIB
            )

        resident = common.in_turn(
            {str(count): functools.partial(peak, count) for count in counts}, options.repeats
        )
    peaks = {count: common.summary(values) for count, values in resident.items()}
    for count, found in zip(counts, program, strict=True):
        print(
            f"{count:4} seeds: {peaks[str(count)].median:8.0f} MiB resident at most; program of one device: "
            f"{found['argument_bytes'] / MIB:.1f} MiB arguments, "
            f"{found['temporary_bytes'] / MIB:.1f} MiB temporary"
        )
    start, slope = line(counts, [peaks[str(count)].median for count in counts])
    print(
        f"a process: {start:.0f} MiB and {slope:.1f} MiB a seed; "
        f"a program: {line(counts, sizes)[1] / MIB:.1f} MiB a seed"
    )
    ratio = peaks[str(counts[-1])].median / peaks[str(counts[0])].median
    print(f"{counts[-1]} seeds over {counts[0]}: {ratio:.2f} times the memory")
    results: dict[str, Any] = {
        "peak_resident_mib": peaks,
        "resident_mib_first_and_per_seed": [start, slope],
        "most_over_fewest_seeds": ratio,
        "program_bytes": {str(count): found for count, found in zip(counts, program, strict=True)},
        "program_bytes_per_seed": line(counts, sizes)[1],
        "platform": device["platform"],
    }
    if device["limit_bytes"]:
        results["device_bytes"] = device["limit_bytes"]
        results["seeds_that_fit"] = fitting(device["limit_bytes"], counts, sizes)
        print(
            f"{results['seeds_that_fit']} seeds fit on one device of {device['limit_bytes'] / 2**30:.1f} GiB"
        )
    common.write(options.out, "memory", arguments, cores, results)


if __name__ == "__main__":
    common.run(main)
