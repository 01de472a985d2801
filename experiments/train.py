"""Training a run: python -m experiments.train task=layered_graph model=gpt_tiny seed=3.

python -m experiments.train task=dyck steps=500 seeds=4
python -m experiments.train model=gpt_small optimizer=sgd optimizer.learning_rate=0.1
python -m experiments.train --multirun optimizer=adamw,sgd seed=0,1

All seeds of a run are trained in one program. Cross-entropy, KL, coverage and Pass@N are measured on held-out
prompts along the way. Everything is written to runs/train/<name>. The same command continues a stopped run.
"""

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
