"""Reinforcement learning from a checkpoint of a run: python -m experiments.train_rl run=runs/train/demo.

The model answers each prompt of a batch several times, inside the compiled program. The task's verifier
judges every answer. A policy gradient (objective=grpo, rloo or reinforce) compares the answers to a prompt.
Seed s starts from the parameters of seed s, which are also the reference of a divergence
(`objective.kl_weight`). Checkpoints, resuming, metrics, W&B and sweeps are those of experiments.train, where
objective and source may also be those of a later phase of a run.
"""

from __future__ import annotations

from omegaconf import DictConfig

from covlab.launch.cli import command


def train_rl(config: DictConfig) -> int:
    """Train from a checkpoint; returns the exit status of `train`."""
    # Imported here, so that a mistyped key is answered before JAX is loaded.
    from covlab.launch.base_model import rl_config
    from covlab.launch.runs import train

    return train(rl_config(config))


main = command("train_rl", train_rl)

if __name__ == "__main__":
    main()
