"""Training a run: python -m experiments.train task=layered_graph model=gpt_tiny seed=3."""

from __future__ import annotations

from covlab.launch.cli import command
from covlab.launch.runs import train

main = command("train", train)

if __name__ == "__main__":
    main()
