"""Cost of evaluation as a share of a default run.

    python -m benchmarks.evaluation --cores 2

There are two measurements. The first is `evaluation_seconds` over `wall_seconds` of timings.jsonl, which
counts only the device's work. The second is the difference to a run that evaluates only at the end, which
includes the host's reduction, the files and the mirror. It is scaled by all over omitted evaluations.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import common, runs
from tracking.array_log import recorded_names


def main(arguments: Sequence[str]) -> None:
    """Time, print, write."""
    parser = common.parser("evaluation", "evaluation's share of a default run", repeats=3)
    parser.add_argument("--steps", type=common.positive, help="of the run (default: conf/train.yaml's)")
    options = parser.parse_args(arguments)
    cores = common.keep_to(options.cores)
    overrides = [*(common.TINY if options.tiny else ()), *options.overrides]
    if options.tiny or options.steps:
        overrides += [f"steps={20 if options.tiny else options.steps}"]
    if options.tiny:
        overrides += ["evaluation.schedule.every=5", "tracking.wandb=disabled"]
    never = ["evaluation.schedule.every=0", "evaluation.schedule.start=false"]
    never += ["evaluation.schedule.spacing=linear"]
    found: dict[str, list[runs.Ran]] = {"with": [], "without": []}
    evaluations = {}
    with tempfile.TemporaryDirectory() as folder:
        numbers = itertools.count()

        def run(name: str, more: Sequence[str]) -> float:
            root = Path(folder) / str(next(numbers))
            ran = runs.train([*overrides, *more], root, "run", Path(folder) / "cache")
            found[name].append(ran)
            evaluations[name] = sum(not name.endswith("_held_out") for name in recorded_names(ran.path))
            return sum(float(phase["wall_seconds"]) for phase in ran.timings("phase"))

        # Both commands run once before, so that the timed ones find compiled programs.
        for name, more in (("with", []), ("without", never)):
            run(name, [*more, "steps=1"])
            found[name].clear()
        times = common.in_turn(
            {"with": lambda: run("with", []), "without": lambda: run("without", never)}, options.repeats
        )
        own = [
            sum(float(p["evaluation_seconds"]) for p in ran.timings("phase")) / wall
            for ran, wall in zip(found["with"], times["with"], strict=True)
        ]
    if not evaluations["with"] > evaluations["without"]:
        raise common.UsageError("evaluation.schedule: the run has no evaluation that could be left out")
    scale = evaluations["with"] / (evaluations["with"] - evaluations["without"])
    pairs = list(zip(times["with"], times["without"], strict=True))
    share = common.summary([scale * (a - b) / a for a, b in pairs])
    whole = common.summary(
        [
            scale * (a.seconds - b.seconds) / a.seconds
            for a, b in zip(found["with"], found["without"], strict=True)
        ]
    )
    device = common.summary(own)
    print(f"{evaluations['with']} evaluations against {evaluations['without']}:")
    print(
        f"training loop {common.summary(times['with'])} s with, {common.summary(times['without'])} s without"
    )
    print(f"evaluation's share: {device} of the loop by timings.jsonl,")
    print(f"{share} of the loop by comparison, {whole} of the whole command by comparison")
    results = {
        "share_of_loop_by_comparison": share,
        "share_of_command_by_comparison": whole,
        "share_of_loop_by_timings": device,
        "loop_seconds_with": common.summary(times["with"]),
        "loop_seconds_without": common.summary(times["without"]),
        "evaluations": evaluations,
    }
    common.write(options.out, "evaluation", arguments, cores, results)


if __name__ == "__main__":
    common.run(main)
