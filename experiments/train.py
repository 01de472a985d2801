"""The entry point: python -m experiments.train task=layered_graph model=gpt_tiny seed=3."""

from __future__ import annotations

import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from covlab.launch.cli import StopRequest, command
from covlab.launch.run_names import run_path
from covlab.launch.runs import train_run
from covlab.launch.runtime import configure


def train(config: DictConfig) -> int:
    """Train one configuration; exit status 0 if all seeds are complete, 1 if a seed diverged, 130 after a
    signal."""
    configure(config.seeds if isinstance(config.seeds, int) else 1, config.devices, config.data_parallel)
    path = run_path(config, HydraConfig.get().overrides.task)
    finished = train_run(config, path, StopRequest().install())
    if finished.state == "complete" and not finished.reason:
        print(f"{path}: complete in {finished.wall_seconds:.0f} s")
        return 0
    print(f"{path}: {finished.state}: {finished.reason}", file=sys.stderr)
    return 130 if finished.state == "stopped" else 1


main = command("train", train)

if __name__ == "__main__":
    main()
