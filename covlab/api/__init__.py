"""The commands as Python calls; `import covlab` offers them."""

from covlab.api.calls import claim, load, sweep, train
from covlab.api.results import Judgement, Run

__all__ = ["Judgement", "Run", "claim", "load", "sweep", "train"]
