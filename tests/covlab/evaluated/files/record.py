"""Writes `forks_2.npz` from the runs of `covlab forks scale=cpu` in `runs`: the right path's probability for
every held-out prompt at four evaluations of fine-tuning with two decisions, for the first two seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from covlab.claims.matrices import run_matrices

RUN = Path("runs/forks/cpu/forks_2")
SHARES = (0, 0.1, 0.35, 1)
"""Of fine-tuning; the nearest evaluation counts."""

matrices = run_matrices(RUN)
assert matrices.log_prob_correct is not None
steps = np.array(matrices.steps)
chosen = [int(np.abs(steps - share * steps[-1]).argmin()) for share in SHARES]
right = matrices.log_prob_correct[:2, chosen].transpose(1, 0, 2).reshape(len(chosen), -1)
np.savez_compressed(Path(__file__).parent / "forks_2.npz", steps=steps[chosen], log_prob=right.astype("f4"))
