"""Running all benchmarks in turn: python -m benchmarks --out results/benchmarks --cores 2."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.common import ROOT

NAMES = (
    "frameworks",
    "flops",
    "profile",
    "seeds",
    "evaluation",
    "sampling",
    "startup",
    "memory",
    "own_module",
)


def main() -> None:
    """Run all benchmarks with the command line's arguments; failed ones are named at the end."""
    failed = []
    for name in NAMES:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], cwd=ROOT).returncode:
            failed.append(name)
    if failed:
        print(f"error: failed: {', '.join(failed)}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
