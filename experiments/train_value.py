"""Training a value function for a run's model: python -m experiments.train_value run=runs/train/demo.

The network's logit of token a after the prefix y_1:h is the logit of V^(x, y_1:h a), the expected reward of
the base model's continuation. It is regressed on rollouts of the base model, which are drawn anew at every
step inside the compiled program. Seed s learns from the base model of seed s. Checkpoints, resuming,
metrics.jsonl, W&B and sweeps are those of experiments.train.
"""

from __future__ import annotations

from omegaconf import DictConfig

from covlab.launch.cli import command


def train_value(config: DictConfig) -> int:
    """Train a value function; returns the exit status of `train`."""
    # Imported here, so that a mistyped key is answered before JAX is loaded.
    from covlab.launch.base_model import value_config
    from covlab.launch.runs import train

    return train(value_config(config))


main = command("train_value", train_value)

if __name__ == "__main__":
    main()
