"""Training a run: python -m experiments.train task=layered_graph model=gpt_tiny seed=3."""

from __future__ import annotations

from omegaconf import DictConfig

from covlab.launch.cli import command


def train(config: DictConfig) -> int:
    """Train, resume or reuse the run; returns the exit status."""
    # Imported here, so that a mistyped key is answered before JAX is loaded.
    from covlab.launch import runs

    return runs.train(config)


main = command("train", train)

if __name__ == "__main__":
    main()
