"""Laboratory for the coverage principle, from Python:

    import covlab

    run = covlab.train("task=dyck", steps=300, seeds=4)   # overrides as on the command line, or keywords
    run.metrics                                           # a data frame: a row for each phase, step and seed
    run.plot()                                            # curves; a notebook shows them
    run.sample(4)                                         # responses as text, with log-probabilities in nats
    run.evaluate(num_samples=256)                         # a fresh held-out set, with intervals
    run.select(n=4)                                       # the checkpoint that each selection rule takes

    values = run.train_value(steps=1000)                  # a value function for the run's model
    run.decode("vgb", value=values)                       # fresh prompts, answered by a decoder
    run.train_rl(objective="rloo", steps=200)             # a run that starts from the last checkpoint

    covlab.load("runs/train/name")                        # a run directory
    covlab.sweep("optimizer=adamw,sgd", steps=300)        # a run for each combination of values
    covlab.claim("tournament", scale="cpu")               # a published claim: verdict, checks, page

The code, files and numbers are those of the commands. Invalid input raises a ValueError of one line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from covlab.api import Judgement, Run, claim, load, sweep, train

__all__ = ["Judgement", "Run", "claim", "load", "load_run", "sweep", "train"]


def __getattr__(name: str) -> Any:
    # JAX and Hydra are imported with the first use, and not by every command.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from covlab import api

    return getattr(api, "load" if name == "load_run" else name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
