"""Training steps of another commit and of this one, by the same compilers of chips that are not here.

    git worktree add /tmp/before 298e9ac
    python -m benchmarks.before /tmp/before

Cycles are the compiler's estimate, with loops as often as they run (`covlab.plan.costs`). Both commits are
compiled by one script, `benchmarks/lowered.py`, each with its own packages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import common
from covlab.plan.costs import read
from covlab.plan.store import versions
from covlab.plan.target import NotInstalledError, Target, gpu_configuration, target_of

HERE = Path(__file__).resolve().parent.parent
STEPS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "step": (0, ()),
    "figure1_paper": (1, ("experiment=figure1_paper", "seeds=1")),
    "figure2_paper": (
        0,
        (
            "task=horizon_graph", "task.depth=24", "task.width=4", "task.num_ids=128",
            "task.max_enumerated=0",
            "task.mixture={chain: 0.94, xor: 0.05, uniform: 0.01}", "model=gpt_paper", "batch_size=128",
            "dataset_size=512000", "seeds=1",
        ),
    ),
}  # fmt: skip
"""Number of the phase, and overrides of conf/train.yaml; figure2_paper is that of the longest horizon."""
QUANTITIES = ("cycles", "bytes", "temporary_bytes", "code_bytes", "compile_cpu_seconds")


def measured(checkout: Path, target: Target, name: str, folder: Path) -> dict[str, Any]:
    """Quantities of one step of a checkout.

    Raises:
        UsageError: it does not compile.
    """
    out, phase, overrides = folder / "step", *STEPS[name]
    chip = target.chip.name
    if target.chip.platform == "gpu":
        chip = str(folder / f"{chip}.txt")
        Path(chip).write_text(gpu_configuration(target.chip), encoding="utf-8")
    paths = [str(checkout), *(path for path in (os.environ.get("PYTHONPATH"),) if path)]
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            str(HERE / "benchmarks" / "lowered.py"),
            str(out),
            chip,
            str(phase),
            *overrides,
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:]
        raise common.UsageError(f"{checkout}: {name} for {target.name}: {' '.join(reason)}")
    costs = read(Path(f"{out}.hlo").read_text(encoding="utf-8"))
    said: dict[str, Any] = json.loads(Path(f"{out}.json").read_text(encoding="utf-8"))
    once = sum(each.cycles // each.runs for each in costs.instructions)
    shares = {kind: round(share, 3) for kind, share in costs.shares().items()}
    return said | {"cycles": costs.cycles, "cycles_once": once, "bytes": costs.bytes, "shares": shares}


def ratios(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """Now over before, where before is not 0.

    >>> ratios({"cycles": 4, "code_bytes": 0}, {"cycles": 1, "code_bytes": 0})
    {'cycles': 0.25}
    """
    return {key: now[key] / before[key] for key in QUANTITIES if before.get(key) and key in now}


def main(arguments: Sequence[str]) -> None:
    """Compile both, print, write."""
    parser = common.parser("before", "training steps of another commit and of this one", repeats=1)
    parser.add_argument("checkout", type=Path, help="folder of the other commit")
    parser.add_argument("--targets", nargs="+", default=["v5e", "h100"], help="as covlab plan's target")
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS)[1:], metavar="STEP")
    options = parser.parse_args(arguments)
    cores = common.keep_to(options.cores)
    results: dict[str, dict[str, Any]] = {}
    for text in options.targets:
        try:
            target = target_of(text)
            target.require_compiler()
        except NotInstalledError as error:
            print(f"left out: {error}")
            continue
        except ValueError as error:
            raise common.UsageError(str(error)) from None
        for name in options.steps:
            found: dict[str, dict[str, Any]] = {}
            for label, checkout in (("before", options.checkout.resolve()), ("now", HERE)):
                with tempfile.TemporaryDirectory() as folder:
                    found[label] = measured(checkout, target, name, Path(folder))
                print(f"{target.name} {name} {label}: {found[label]}", flush=True)
            found["ratio"] = ratios(found["before"], found["now"])
            print(f"{target.name} {name} ratio: {found['ratio']}", flush=True)
            results.setdefault(target.name, {})[name] = found
    if results:
        common.write(options.out, "before", arguments, cores, {"compilers": versions(), "steps": results})


if __name__ == "__main__":
    common.run(main)
